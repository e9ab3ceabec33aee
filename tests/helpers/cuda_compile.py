"""Compiles the CUDA kernels for GPUs that are not here, and prints what each takes of them.

The signatures are those that the functions of `xharmonize.kernels.cuda` launch their kernels with,
so none can be forgotten. NVVM makes PTX, and NVIDIA's assembler machine code of it; neither needs
a device or a driver, only numba-cuda and the compiler that its extra brings (`gpu` extra). Run it
in a process of its own: a stand-in tells numba for which device it compiles.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ARCHITECTURES = ("70", "75", "80", "86", "89", "90", "100", "120")
"""From Volta (V100) to Blackwell (B200, RTX 50)."""

KERNELS = ("_apply", "_apply_dn", "_affine", "_blend", "_flag_outside", "_fill", "_count_plane")
DEVICE_FUNCTIONS = ("_place", "_locate", "_line")
CODES = ("uint8", "int16", "uint16")

Signature = tuple[str, tuple[Any, ...]]


def find_assembler() -> Path | None:
    """NVIDIA's ``ptxas`` among the installed wheels; None where they are not installed."""
    try:
        importlib.import_module("numba_cuda")
        roots = map(Path, importlib.import_module("nvidia").__path__)
    except ImportError:
        return None
    return next((path for root in roots for path in sorted(root.glob("*/bin/ptxas"))), None)


def known_to(assembler: Path) -> set[str]:
    """Architectures that an assembler knows: those of old GPUs go in time."""
    done = subprocess.run([assembler, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"'sm_(\d+)'", done.stdout))


class Recorder:
    """Stands where a kernel is, notes with what it is launched, and computes nothing."""

    def __init__(self, kernel: Any, found: dict[Signature, Any]) -> None:
        self.kernel, self.found = kernel, found

    def __getitem__(self, configuration: Any) -> Any:
        from numba import typeof

        def launch(*arguments: Any) -> None:
            name = self.kernel.py_func.__name__
            self.found[name, tuple(map(typeof, arguments))] = self.kernel

        return launch


def signatures() -> dict[Signature, Any]:
    """Kernels by name and types of their arguments, from every case of the simulation."""
    from helpers import cuda_simulation
    from xharmonize.kernels import cuda as twins

    found: dict[Signature, Any] = {}
    kernels = {name: getattr(twins, name) for name in KERNELS}
    for name, kernel in kernels.items():
        setattr(twins, name, Recorder(kernel, found))
    cuda_simulation.compare = lambda *_, **__: None  # nothing was computed
    for dtype in CODES:
        cuda_simulation.DN = np.zeros(cuda_simulation.SHAPE, dtype)
        for case in cuda_simulation.CASES.values():
            case(np.asarray, np.asarray)
    return found


def compile_all(architecture: str, kernels: dict[Signature, Any], assembler: Path) -> list[Any]:
    """Rows of kernel, types, target of the PTX and what the assembler says."""
    from numba import cuda
    from numba.cuda import dispatcher

    from xharmonize.kernels import cuda as twins

    capability = int(architecture[:-1]), int(architecture[-1])
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    for name in DEVICE_FUNCTIONS:
        getattr(twins, name).overloads.clear()  # compiled for the architecture before
    rows = []
    for (name, types), kernel in kernels.items():
        ptx, _ = cuda.compile_ptx(kernel.py_func, types, cc=capability)
        command = [assembler, f"-arch=sm_{architecture}", "-v", "-o", "/dev/null", "-"]
        done = subprocess.run(command, input=ptx, capture_output=True, text=True, check=False)
        rows.append(
            {
                "kernel": name,
                "types": list(map(str, types)),
                "target": re.findall(r"\.target (\w+)", ptx),
                "status": done.returncode,
                "said": done.stderr,
            }
        )
    return rows


def main() -> None:
    """Print one JSON object, rows by architecture."""
    assembler = find_assembler()
    assert assembler is not None
    kernels, known = signatures(), known_to(assembler)
    names = [name for name in ARCHITECTURES if name in known]
    print(json.dumps({name: compile_all(name, kernels, assembler) for name in names}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
