"""What a step of training costs beside a forward pass: ms per sample, for each network.

A step is what the loop does with a batch: all losses of the method, backward and optimisers; with
an adversary that is the discriminator's step too. The forward pass is the generator's alone, in
evaluation mode, as it runs when a model is applied. Both take turns on the same batch of random
samples. On the CPU with ``--threads`` (1 by default: what a thread of Dask's has); where there is a
GPU, also there, in float32 and bfloat16, beside a large matrix product. Paper sizes (``--paper``,
and ``--fusion`` for those of several cubes) take minutes on a CPU. As an asv suite, or alone:
``python benchmarks/training_speed.py [--small] [--paper] [--fusion] [--threads N]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from xharmonize.models import GeneratorCard, Histograms, Input, Lattice, LutCard, Output
from xharmonize.models.architectures import build_empty
from xharmonize.training import config as configs
from xharmonize.training.methods import gan, tables
from xharmonize.training.protocol import Batch, Line, Setup, StepInfo
from xharmonize.training.ranks import Alone

OLI = ("blue", "green", "red", "nir08", "swir16", "swir22")
DUAL = (("10m", ("blue", "green", "red", "nir"), 10.0), ("20m", ("swir16", "swir22"), 20.0))
SAME = (("30m", OLI, 30.0),)
RGB = ("blue", "green", "red")
RADAR = ("vv", "vh")
OVER_TIME = (
    ("reference-10m", RGB, 10.0, "reference"),
    ("sentinel1-10m", RADAR, 10.0, "sentinel1"),
    ("sentinel1_reference-10m", RADAR, 10.0, "sentinel1_reference"),
)
COARSE_AND_FINE = (
    ("30m", OLI, 30.0),
    ("fine-10m", OLI, 10.0, "fine"),
    ("pan-15m", ("pan",), 15.0, "pan"),
)
VISIBLE = ("blue", "green", "red", "nir")
HIGH = (0.3, 0.3, 0.4, 0.65)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method, and the samples it is given."""

    config: Any
    side: int
    batch: int
    inputs: Any = DUAL
    bands: tuple[str, ...] = OLI
    resolution: float = 30.0


def fusion_cases() -> dict[str, Case]:
    """Methods of several cubes at the sizes that their papers print, one sample a step."""
    filled = {"side": 256, "batch": 1, "bands": RGB, "resolution": 10.0}
    sharp = {"side": 96, "batch": 1, "inputs": COARSE_AND_FINE, "resolution": 10.0}
    one_date = filled | {"inputs": OVER_TIME[1:2]}
    return {
        "esrcnn, 96, 64-32": Case(config=configs.Esrcnn.printed(), **sharp),
        "dstfn, 96, width 64, growth 32": Case(config=configs.Dstfn.printed(), **sharp),
        "mccgan, 256, width 64": Case(config=configs.MccGan.printed(), inputs=OVER_TIME, **filled),
        "mtcgan, 256, width 64": Case(config=configs.MtcGan.printed(), inputs=OVER_TIME, **filled),
        "dcstfn-os, 256, width 32": Case(
            config=configs.DcstfnOs.printed(), inputs=OVER_TIME, **filled
        ),
        "rdcstfn-os, 256, width 32": Case(
            config=configs.RdcstfnOs.printed(), inputs=OVER_TIME, **filled
        ),
        "pix2pix from radar, 256": Case(config=configs.Pix2pix.printed(), **one_date),
        "cyclegan, 256, width 64": Case(config=configs.CycleGan.printed(), **one_date),
        "s-cyclegan, 256, width 64": Case(config=configs.SCycleGan.printed(), **one_date),
    }


def cases(*, small: bool = False, paper: bool = False, fusion: bool = False) -> dict[str, Case]:
    """Methods by name: sizes that a CPU can train, or those of the papers."""
    at_once = {"warm_up": 0, "ramp": 0}
    if fusion:
        return fusion_cases()
    if paper:
        return {
            "mgan, 384/192 -> 128, width 64": Case(
                config=configs.Mgan.printed(), side=128, batch=1
            ),
            "hls-gan, 128, width 64": Case(
                config=configs.HlsGan.printed(), side=128, batch=1, inputs=SAME
            ),
            "pix2pix, 256, width 64": Case(
                config=configs.Pix2pix.printed(), side=256, batch=1, inputs=SAME
            ),
            "tile-lut-conv, 512": Case(config=configs.TileLutConv.printed(), side=512, batch=1),
        }
    side, n, width = (32, 2, 4) if small else (64, 4, 32)
    sizes = {"width": width, "discriminator_width": width}
    mgan = configs.Mgan(**sizes, **at_once)
    return {
        "small-conv": Case(config=configs.SmallConv(width=width), side=side, batch=n),
        "mgan": Case(config=mgan, side=side, batch=n),
        "mgan, L1 alone": Case(config=replace(mgan, adversary="none"), side=side, batch=n),
        "mgan, 1:1": Case(config=mgan, side=side, batch=n, inputs=SAME),
        "hls-gan": Case(config=configs.HlsGan(**sizes, **at_once), side=side, batch=n, inputs=SAME),
        "pix2pix": Case(
            config=configs.Pix2pix(**sizes, **at_once), side=side, batch=n, inputs=SAME
        ),
        "global-lut": Case(config=configs.GlobalLut(), side=side, batch=n),
        "global-lut-conv": Case(config=configs.GlobalLutConv(), side=side, batch=n),
        "tile-lut": Case(config=configs.TileLut(), side=side, batch=n),
        "tile-lut-conv": Case(config=configs.TileLutConv(), side=side, batch=n),
    }


def make_card(case: Case) -> Any:
    """The card of a case's network, its units those of reflectance."""
    config = case.config
    common = {
        "name": "timed",
        "title": "Timed",
        "source_bandpass": "msi",
        "target_bandpass": "oli",
    }
    if isinstance(config, configs.TileLutConv):
        return LutCard(
            **common,
            architecture=tables.architecture(config),
            hyperparameters=tables.hyperparameters(config),
            histograms=Histograms(
                bands=VISIBLE, bins=256, knots=256, low=(0.0,) * 4, high=HIGH, tile=1e4
            ),
            output=Output(bands=VISIBLE, mean=(0.0,) * 4, scale=HIGH),
        )
    if isinstance(config, configs.Gan):
        name, options = config.architecture, gan.hyperparameters(config, case.side)
    elif hasattr(config, "passed"):
        name = config.architecture
        options = {option: getattr(config, option) for option in config.passed}
    else:
        name = config.name
        options = {"width": config.width, "depth": config.depth, "base": config.base}
    inputs = tuple(_input(*told) for told in case.inputs)
    n = len(case.bands)
    return GeneratorCard(
        **common,
        architecture=name,
        hyperparameters=options,
        inputs=inputs,
        output=Output(bands=case.bands, mean=(0.15,) * n, scale=(0.5,) * n),
        lattice=Lattice(resolution=case.resolution, tile=case.side, buffer=case.side // 4),
    )


def _input(name: str, bands: tuple[str, ...], gsd: float, source: str = "cube") -> Input:
    n = len(bands)
    return Input(name=name, bands=bands, gsd=gsd, mean=(0.15,) * n, scale=(0.5,) * n, source=source)


def make_method(case: Case, device: torch.device) -> Any:
    """The method, on a line that is the identity of bands that go together."""
    card = make_card(case)
    inputs = getattr(card, "inputs", None)
    source = card.bands if inputs is None else tuple(n for one in inputs for n in one.labels)
    lines = Line(
        source_bands=source,
        bands=card.output.bands,
        matrix=np.eye(len(card.output.bands), len(source)),
        offset=np.zeros(len(card.output.bands)),
    )
    setup = Setup(
        config=case.config,
        card=card,
        line=lines,
        band_lines=lines,
        seed=0,
        device=device,
        ranks=Alone(),
    )
    return import_module(case.config.module).make(setup)


def make_batch(case: Case, card: Any, device: torch.device) -> Batch:
    """Random samples."""
    random = torch.Generator().manual_seed(0)
    n, bands = case.batch, len(card.output.bands)
    histograms = None
    if isinstance(card, LutCard):
        shapes = [(n, bands, case.side, case.side)]
        histograms = torch.rand(n, bands, card.histograms.bins, generator=random)
        histograms /= histograms.sum(2, keepdim=True)
    else:
        sides = [int(case.side * card.lattice.cells(one.gsd)) for one in card.inputs]
        shapes = [(n, len(one.bands), s, s) for one, s in zip(card.inputs, sides)]
    target = torch.rand(n, bands, case.side, case.side, generator=random)
    return Batch(
        inputs=tuple(torch.rand(shape, generator=random) for shape in shapes),
        target=target,
        valid=target > 0.1,
        index=torch.arange(n),
        date=torch.arange(n) % 2,
        histograms=histograms,
    ).to(device)


def run_step(method: Any, batch: Batch, *, half: bool = False) -> None:
    """All that the loop does with a batch."""
    info = StepInfo(step=1, epoch=0, seed=0, ranks=Alone())
    device = batch.target.device.type
    losses = method.losses(batch, info)
    while True:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            found = next(losses, None)
        if found is None:
            return
        optimizer = method.optimizers[found[0]]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found[1].backward(inputs=parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def milliseconds(function: Callable[[], Any], device: torch.device) -> float:
    """Time of one call; on the CPU that of the processor, which other programs disturb less."""
    clock = time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
        clock = time.perf_counter
    start = clock()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (clock() - start)


def measure(case: Case, device: torch.device, n_runs: int, *, half: bool = False) -> dict[str, Any]:
    """Median ms per sample of a forward pass and of a step, and the number of weights."""
    method = make_method(case, device)
    card = make_card(case)
    batch = make_batch(case, card, device)
    functions = {
        "forward": lambda: method.predict(batch),
        "step": lambda: run_step(method, batch, half=half),
    }
    took: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(n_runs + 1):
        for name, function in functions.items():
            value = milliseconds(function, device) / case.batch
            if turn:  # the first one takes memory
                took[name].append(value)
    weights = sum(one.numel() for one in build_empty(card).parameters())
    return {name: statistics.median(values) for name, values in took.items()} | {
        "parameters": weights
    }


class Steps:
    """asv: one step of each method."""

    params = tuple(cases(small=True))
    param_names = ("method",)

    def setup(self, name: str) -> None:
        case, device = cases()[name], torch.device("cpu")
        self.method = make_method(case, device)
        self.batch = make_batch(case, make_card(case), device)
        run_step(self.method, self.batch)

    def time_step(self, name: str) -> None:
        run_step(self.method, self.batch)


def main(argv: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Print a table and return its rows by device and method."""
    argv = sys.argv[1:] if argv is None else argv
    threads = int(argv[argv.index("--threads") + 1]) if "--threads" in argv else 1
    kind = {name: f"--{name}" in argv for name in ("small", "paper", "fusion")}
    n_runs = 1 if any(kind.values()) else 5
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = _on(torch.device("cpu"), kind, n_runs)
        if torch.cuda.is_available():
            for half in (False, True):
                rows |= _on(torch.device("cuda"), kind, 20, half=half)
            _product()
        else:
            print("no GPU: measured on the CPU only")
    finally:
        torch.set_num_threads(before)
    return rows


def _on(
    device: torch.device, kind: dict[str, bool], n_runs: int, *, half: bool = False
) -> dict[str, dict[str, Any]]:
    where = f"{device.type}{', bfloat16' if half else ''}"
    print(f"{where}: {torch.get_num_threads()} threads of torch {torch.__version__}")
    print(f"{'method':32} {'parameters':>11} {'batch':>9} {'forward':>9} {'step':>9} {'ratio':>6}")
    rows = {}
    for name, case in cases(**kind).items():
        row = measure(case, device, n_runs, half=half)
        rows[f"{where}: {name}"] = row
        print(
            f"{name:32} {row['parameters']:11,} {case.batch:3} x {case.side:3}"
            f" {row['forward']:9.2f} {row['step']:9.2f} {row['step'] / row['forward']:6.1f}"
        )
    print("ms per sample")
    return rows


def _product(side: int = 8192) -> None:
    """Rate of a large matrix product on the GPU."""
    for dtype in (torch.float32, torch.bfloat16):
        first, second = torch.randn(2, side, side, device="cuda", dtype=dtype)
        torch.mm(first, second)
        took = milliseconds(lambda one=first, other=second: torch.mm(one, other), first.device)
        print(f"product of {side} x {side} in {dtype}: {2e-9 * side**3 / took:.1f} TFLOP/s")


if __name__ == "__main__":
    main()
