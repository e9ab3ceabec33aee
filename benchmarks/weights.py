"""Weights from a file: our reader beside the safetensors library, in time and memory.

Ours hashes the file on its way into one buffer and checks that all values are finite; the library
is given the same duties: read, hash, load, check. Each runs in a process of its own.

Run ``python benchmarks/weights.py``; the number of megabytes may be given.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from xharmonize.models import (
    GeneratorCard,
    Input,
    Lattice,
    Output,
    read_weights,
    write_bundle,
)
from xharmonize.models.bundle import open_bundle

N_TENSORS = 50


def write(folder: Path, megabytes: float) -> str:
    """A bundle of weights of that size."""
    card = GeneratorCard(
        name="big",
        title="Big",
        architecture="mgan-unet",
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=(Input(name="a", bands=("red",), gsd=30.0, mean=(0.0,), scale=(1.0,)),),
        output=Output(bands=("red",), mean=(0.0,), scale=(1.0,)),
        lattice=Lattice(resolution=30.0, tile=128, buffer=32),
    )
    n = int(megabytes * 1e6 / 4 / N_TENSORS)
    random = np.random.default_rng(0)
    weights = {f"layer{i}.weight": random.random(n, np.float32) for i in range(N_TENSORS)}
    return write_bundle(folder / "big", card, weights).location


def ours(location: str) -> float:
    """Sum of the weights by our reader; opening the bundle is not timed."""
    return sum(float(array[0]) for array in read_weights(open_bundle(location).ref).values())


def library(location: str) -> float:
    """The same by the library, with the same checks on opening and on reading."""
    from safetensors.numpy import load

    def checked() -> dict[str, np.ndarray]:
        data = (Path(location) / "weights.safetensors").read_bytes()
        hashlib.sha256(data).hexdigest()
        arrays = load(data)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("not finite")
        return arrays

    checked()  # what `open_bundle` does: it would have to be read as a whole
    return sum(float(array[0]) for array in checked().values())


def bare(location: str) -> float:
    """The process without any weights, for its memory."""
    return float(len(location))


def peak_memory() -> float:
    """Peak memory of this process [MB]; that of `resource` counts the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def measure(name: str, location: str) -> tuple[float, float]:
    """Seconds and peak memory [MB] of one reader in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, name, location], capture_output=True, text=True, check=True
    )
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def main(megabytes: float = 100.0) -> dict[str, tuple[float, float]]:
    """Print one line for each reader."""
    with tempfile.TemporaryDirectory() as folder:
        location = write(Path(folder), megabytes)
        found = {name: measure(name, location) for name in ("bare", "ours", "library")}
    print(f"{megabytes:g} MB of weights in {N_TENSORS} tensors, opened and read")
    for name, (seconds, peak) in found.items():
        more = peak - found["bare"][1]
        print(f"{name:8} {seconds:6.2f} s, {more:6.0f} MB more than the bare process")
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3:
        readers = {"bare": bare, "ours": ours, "library": library}
        start = time.perf_counter()
        readers[sys.argv[1]](sys.argv[2])
        took = time.perf_counter() - start
        print(took, peak_memory())
    else:
        main(*map(float, sys.argv[1:]))
