"""What ranks bring: parts of a step on one and two, what a loss costs, and a model for more.

Trainings by `xharmonize.train` on the workers of a cluster on this machine, one thread each, the
same batch in all: so on two cores the best is half the time. ``seconds`` of a step and what of them
is exchange come from the log. A worker is killed (``kill -9``) in the middle, and the time until
the first step after that is taken. Then a model: computing as measured, and a ring all-reduce that
sends 2 (n - 1) / n of the gradients' bytes in 2 (n - 1) messages, not overlapped with computing.
``python benchmarks/ranks.py [--small] [--figure FILE]``. Needs two idle cores.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import xharmonize as xh
from xharmonize import testing, training
from xharmonize.training.log import Log

FINE = ("blue", "green", "red", "nir", "nir08", "swir16", "swir22")
COARSE = ("blue", "green", "red", "nir08", "swir16", "swir22")
RANKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network: seconds from one message to its answer, and bytes in a second."""

    latency: float
    bandwidth: float


NETWORKS = {
    "10 Gbit/s Ethernet": Network(latency=50e-6, bandwidth=1.25e9),
    "EDR InfiniBand, 1 GPU a node (DEEP)": Network(latency=5e-6, bandwidth=12.5e9),
    "HDR InfiniBand, 1 card a GPU (JUWELS Booster)": Network(latency=5e-6, bandwidth=25e9),
}
"""By their specification, not measured here."""
FULL = 4 * (41_835_392 + 2_770_000)
"""Bytes of gradients of MGAN as the paper has it: U-Net and PatchGAN."""
PAPER = {"16 A100, JUWELS": 14.0, "16 V100, DEEP": 12.0}
"""Speed-up that the paper of MGAN reports, each GPU with a batch of its own (doi of the paper in
docs/explanation/networks.md). Its epochs, 175 and 200 s on one and 12 and 14 s on 16, give 14.6 and
14.3."""
PAPER_NETWORKS = {
    "16 A100, JUWELS": "HDR InfiniBand, 1 card a GPU (JUWELS Booster)",
    "16 V100, DEEP": "EDR InfiniBand, 1 GPU a node (DEEP)",
}


def methods(*, small: bool = False) -> dict[str, training.Config]:
    """Configurations by name; batches of one size for any number of ranks."""
    sizes: dict[str, Any] = {"steps": 8 if small else 40, "evaluate": 10**6, "batch": 8}
    width = 4 if small else 16
    adversary = {"warm_up": 0, "ramp": 0, "discriminator_width": width}
    found = {
        "small-conv": training.SmallConv(width=width, **sizes),
        "mgan": training.Mgan(width=width, **adversary, **sizes),
    }
    data = training.Data(patch=16 if small else 32, stride=16)
    run = training.Run(log=1, save=10**6, tensorboard=False)
    return {name: training.Config(method=one, data=data, run=run) for name, one in found.items()}


def make_pairs(side: int = 64) -> Any:
    """Pairs of made-up cubes: what is learned is of no interest here."""
    dates = [f"2021-06-{day:02d}T10:30" for day in (1, 6, 11, 16)]
    source = testing.example_cube(bands=FINE, dates=dates, shape=(3 * side, 3 * side), missing=0)
    coarse = np.asarray(source)[..., ::2, ::2]  # bands of 20 m are held on the grid of 10 m
    source = source.copy(data=coarse.repeat(2, -2).repeat(2, -1))
    target = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=COARSE,
        dates=dates,
        shape=(side, side),
        resolution=30.0,
        missing=0,
    )
    return xh.collect_pairs(source, target, tolerance="1D")


def measure(config: training.Config, pairs: Any, n: int) -> dict[str, float]:
    """Parts of a step [ms], medians without the first steps, and the memory of a rank [MB]."""
    with (
        tempfile.TemporaryDirectory() as folder,
        xh.cluster.local(n_workers=n, threads_per_worker=1, gpu=False, dashboard=False) as client,
    ):
        out = Path(folder) / "model"
        result = xh.train(
            config.method.name, pairs, config=config, client=client, out=out, progress=False
        )
        memory = max(client.run(peak_memory).values())
    table = result.history.dropna(subset=["seconds"]).iloc[3:]
    whole, data, ranks = (
        1e3 * float(table[name].median()) for name in ("seconds", "seconds_data", "seconds_ranks")
    )
    return {
        "step": whole,
        "computing": whole - data - ranks,
        "ranks": ranks,
        "samples": data,
        "memory": memory,
    }


def peak_memory() -> float:
    """Most memory that this process has had [MB]."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gradients(config: training.Config) -> int:
    """Bytes that ranks average in a step, over all optimisers."""
    sizes: list[int] = []

    def count(self: Any, parameters: Any) -> None:
        sizes.append(sum(one.grad.nbytes for one in parameters if one.grad is not None))

    one = replace(config, method=replace(config.method, steps=1))
    with mock.patch("xharmonize.training.ranks.Alone.mean_gradients", count):
        xh.train(config.method.name, make_pairs(48), config=one, progress=False)
    return sum(sizes)


def exchange(rank: Any, sizes: Sequence[int], repeats: int) -> dict[int, float]:
    """Seconds of an all-reduce of so many float32, on a rank."""
    import torch

    found = {}
    for size in sizes:
        values = torch.zeros(size)
        seconds = []
        for _ in range(repeats):
            torch.distributed.barrier()
            start = time.perf_counter()
            torch.distributed.all_reduce(values)
            seconds.append(time.perf_counter() - start)
        found[size] = statistics.median(seconds)
    return found


def measure_exchange(*, small: bool = False) -> Network:
    """Gloo between two processes of this machine, as a latency and a bandwidth."""
    sizes = (1, 10**5) if small else (1, 10**5, 10**6, 5 * 10**6)
    with xh.cluster.local(n_workers=2, threads_per_worker=1, gpu=False, dashboard=False) as client:
        found = xh.cluster.run_ranks(exchange, sizes, 5 if small else 30, client=client)[0]
    latency = found[sizes[0]] / 2  # two messages
    return Network(
        latency=latency, bandwidth=4 * sizes[-1] / max(found[sizes[-1]] - 2 * latency, 1e-9)
    )


def resumed_after(config: training.Config, pairs: Any) -> dict[str, float]:
    """Seconds from ``kill -9`` of a worker to the first step after it, on two ranks."""
    run = replace(config.run, save=5, timeout=60.0)
    config = replace(config, run=run)
    begun, told, killed = [], [], []
    begin, tell = Log.begin, Log.tell

    def note_begin(self: Log, step: int) -> None:
        begin(self, step)
        begun.append((time.perf_counter(), step))

    def note_tell(self: Log, step: int, **values: Any) -> None:
        tell(self, step, **values)
        if "seconds" in values:
            told.append((time.perf_counter(), step))

    def kill(pid: int) -> None:
        while not told or told[-1][1] < config.method.steps // 2:
            time.sleep(0.02)
        killed.append((time.perf_counter(), told[-1][1]))
        os.kill(pid, signal.SIGKILL)

    with (
        tempfile.TemporaryDirectory() as folder,
        xh.cluster.local(n_workers=2, threads_per_worker=1, gpu=False, dashboard=False) as client,
        mock.patch.object(Log, "begin", note_begin),
        mock.patch.object(Log, "tell", note_tell),
    ):
        pid = next(iter(client.run(os.getpid).values()))
        thread = threading.Thread(target=kill, args=(pid,))
        thread.start()
        out = Path(folder) / "model"
        xh.train(config.method.name, pairs, config=config, client=client, out=out, progress=False)
        thread.join()
    at, step = killed[0]
    again, first = next(one for one in begun if one[0] > at)
    goes_on = next(when for when, _ in told if when > again)
    return {"seconds": goes_on - at, "of them until ranks met": again - at, "lost": step - first}


def ring(n: int, n_bytes: float, network: Network) -> float:
    """Seconds of a ring all-reduce."""
    return 2 * (n - 1) * (network.latency + n_bytes / n / network.bandwidth) if n > 1 else 0.0


def speed_up(n: int, seconds: float, n_bytes: float, network: Network, *, grows: bool) -> float:
    """Samples a second over those of one rank.

    Parameters
    ----------
    seconds : float
        Of computing a step on one rank.
    grows : bool
        Whether each rank has a batch of its own, or a part of one.
    """
    computing = seconds if grows else seconds / n
    return (n if grows else 1) * seconds / (computing + ring(n, n_bytes, network))


def implied(speed: float, n: int, n_bytes: float, network: Network) -> float:
    """Seconds of computing between exchanges at which each rank's own batch gives this speed-up."""
    return ring(n, n_bytes, network) / (n / speed - 1)


def draw(cases: Mapping[str, tuple[float, float, Network, bool]], path: str) -> None:
    """Draw speed-up over ranks: seconds of a step, bytes, network, and whether batches grow."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    ranks = np.array(RANKS)
    axes.plot(ranks, ranks, color="#999999", linewidth=0.8, label="as many times as ranks")
    for name, (seconds, n_bytes, network, grows) in cases.items():
        values = [speed_up(n, seconds, n_bytes, network, grows=grows) for n in RANKS]
        axes.plot(ranks, values, "-" if grows else "--", label=name)
    for (name, value), marker in zip(PAPER.items(), "os"):
        axes.plot([16], [value], marker, color="black", label=f"paper: {name}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("ranks")
    axes.set_ylabel("samples a second, over one rank")
    axes.legend(frameon=False, fontsize=7)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ranks"}):
        figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, where asked for, draw."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    small = "--small" in arguments
    loads = [os.getloadavg()[0]]
    seconds = measure_all(small=small)
    sizes = {name: gradients(config) for name, config in methods(small=small).items()}
    loads.append(os.getloadavg()[0])
    print(f"load of the machine before and after: {loads[0]:.1f}, {loads[1]:.1f}")
    cases = model(seconds, sizes) | model_of_paper()
    if "--figure" in arguments:
        draw(cases, arguments[arguments.index("--figure") + 1])


def measure_all(*, small: bool) -> dict[str, float]:
    """Print what is measured; seconds of computing a step on one rank."""
    pairs, configs = make_pairs(48 if small else 64), methods(small=small)
    seconds = {}
    print("| | ranks | step | computing | exchange | samples | speed-up | memory of a rank |")
    print("|---|---|---|---|---|---|---|---|")
    for name, config in configs.items():
        alone, both = (measure(config, pairs, n) for n in (1, 2))
        seconds[name] = alone["computing"] / 1e3
        for n, one in ((1, alone), (2, both)):
            parts = " | ".join(f"{one[part]:.1f}" for part in ("computing", "ranks", "samples"))
            print(
                f"| {name} | {n} | {one['step']:.1f} ms | {parts} | "
                f"{alone['step'] / one['step']:.2f} | {one['memory']:.0f} MB |",
                flush=True,
            )
    network = measure_exchange(small=small)
    print(
        f"gloo between two processes: {network.latency * 1e6:.0f} us a message, "
        f"{network.bandwidth / 1e9:.2f} GB/s"
    )
    lost = resumed_after(configs["small-conv"], pairs)
    print("kill -9 of a worker: " + ", ".join(f"{k} {v:.1f}" for k, v in lost.items()))
    return seconds


def model(
    seconds: Mapping[str, float], sizes: Mapping[str, int]
) -> dict[str, tuple[float, float, Network, bool]]:
    """What is drawn of measured trainings: computing as measured, on a network assumed."""
    cases = {}
    ethernet = NETWORKS["10 Gbit/s Ethernet"]
    for name, n_bytes in sizes.items():
        print(f"{name}: {n_bytes / 1e6:.1f} MB of gradients a step")
        for text, grows in (("one batch shared", False), ("a batch each", True)):
            case = (seconds[name], n_bytes, ethernet, grows)
            cases[f"{name}, {text}, 10 Gbit/s"] = case
            found = [speed_up(n, *case[:3], grows=grows) for n in RANKS]
            print(f"model, {text}: " + ", ".join(f"{n}: {v:.1f}" for n, v in zip(RANKS, found)))
    return cases


def model_of_paper() -> dict[str, tuple[float, float, Network, bool]]:
    """Lines through what the paper reports, and what they imply."""
    cases = {}
    for name, value in PAPER.items():
        network = NETWORKS[PAPER_NETWORKS[name]]
        seconds = implied(value, 16, FULL, network)
        cases[f"MGAN as printed, through {name}"] = (seconds, FULL, network, True)
        print(
            f"paper, {name}: {value:g} times follows if a step of each rank computes "
            f"{1e3 * seconds:.0f} ms ({FULL / 1e6:.0f} MB of gradients, "
            f"{1e3 * ring(16, FULL, network):.0f} ms of exchange)"
        )
    return cases


if __name__ == "__main__":
    main()
