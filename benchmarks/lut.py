"""Look-up tables beside np.interp, histograms beside np.histogram, both beside plain copies.

Six bands of 3000 × 3000 pixels, from float32 reflectance and from uint16 digital numbers, with the
kernels on two Dask threads (they are single-threaded), into memory that is there already: what is
timed is the map, not the zeroing of new pages, for us and for the copies alike.

``python benchmarks/lut.py [--small] [--tile [--bundle PATH]]``. With ``--tile`` a whole Gaofen-1
tile (6863 × 6863 pixels, four bands) goes from Zarr to Zarr through the public functions, by
matching its histograms or by the tables of a UNet-LUT.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.kernels import lut, patches

KNOTS, BINS = 256, 256
LOW, HIGH, SCALE = 0.0, 0.5, 1e-4
A6000_SECONDS = 4.1  # per tile, thumbnail included; doi:10.3390/rs15102563, section 3.3.2


class Case:
    """Pixels, tables and room for results."""

    def __init__(self, side: int, bands: int = 6) -> None:
        random = np.random.default_rng(0)
        self.dn = random.normal(1500, 500, (bands, side, side)).clip(1, 9999).astype("uint16")
        self.values = self.dn * np.float32(SCALE)
        self.table = np.sort(random.random((bands, KNOTS)), axis=1) * 0.5
        self.knots = np.linspace(LOW, HIGH, KNOTS)
        self.out = np.zeros_like(self.values)
        self.side = side

    def pieces(self) -> Iterator[tuple[int, slice]]:
        """Half a band at a time: twelve tasks for two threads."""
        half = self.side // 2
        return ((b, s) for b in range(len(self.dn)) for s in (slice(0, half), slice(half, None)))

    def on_threads(self, function: Callable[[int, slice], Any], n_threads: int = 2) -> None:
        """Run a function of band and rows over all pieces."""
        tasks = [dask.delayed(function, pure=False)(b, rows) for b, rows in self.pieces()]
        dask.compute(*tasks, scheduler="threads", num_workers=n_threads)

    def copy(self, band: int, rows: slice) -> None:
        np.copyto(self.out[band, rows], self.values[band, rows])

    def interp(self) -> None:
        for band, table in enumerate(self.table):
            self.out[band] = np.interp(self.values[band], self.knots, table)

    def arguments(self, band: int, rows: slice) -> tuple[Any, ...]:
        """Table, limits, and all pixels in one tile."""
        limits = np.array([LOW]), np.array([HIGH])
        n_rows = self.dn[band, rows].shape[0]
        places = np.zeros(n_rows, int), np.zeros(self.side, int)
        return self.table[None, None, None, band : band + 1], *limits, *places

    def from_float(self, band: int, rows: slice) -> None:
        out = self.out[None, band : band + 1, rows]
        lut.apply_tables(
            self.values[None, band : band + 1, rows], *self.arguments(band, rows), out=out
        )

    def from_dn(self, band: int, rows: slice) -> None:
        line = {"scale": SCALE, "offset": 0.0, "nodata": 0.0}
        lut.apply_tables_to_dn(
            self.dn[None, band : band + 1, rows],
            *self.arguments(band, rows),
            **{name: np.full((1, 1), value) for name, value in line.items()},
            out=self.out[None, band : band + 1, rows],
        )

    def count(self, band: int, rows: slice) -> None:
        _, low, high, *places = self.arguments(band, rows)
        patches.count_values(self.values[None, band : band + 1, rows], low, high, BINS, *places)

    def count_dn(self, band: int, rows: slice) -> None:
        _, low, high, *places = self.arguments(band, rows)
        line = {"scale": SCALE, "offset": 0.0, "nodata": 0.0}
        lines = {name: np.full((1, 1), value) for name, value in line.items()}
        patches.count_dn(self.dn[None, band : band + 1, rows], low, high, BINS, *places, **lines)

    def numpy_histogram(self) -> None:
        for plane in self.values:
            np.histogram(plane, BINS, (LOW, HIGH))


def measure(side: int, n_runs: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds and least processor seconds of each contestant, runs taking turns."""
    case = Case(side)
    contestants = {
        "copy, one thread": lambda: case.on_threads(case.copy, 1),
        "copy, two threads": lambda: case.on_threads(case.copy),
        "np.interp": case.interp,
        "table on float32": lambda: case.on_threads(case.from_float),
        "table on uint16": lambda: case.on_threads(case.from_dn),
        "np.histogram": case.numpy_histogram,
        "histogram, one thread": lambda: case.on_threads(case.count, 1),
        "histogram of uint16, one thread": lambda: case.on_threads(case.count_dn, 1),
    }
    walls: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(n_runs + 1):
        for name, function in contestants.items():
            start, used = time.perf_counter(), time.process_time()
            function()
            if run:  # the first one compiles
                walls[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - used)
    return (
        {name: statistics.median(took) for name, took in walls.items()},
        {name: min(took) for name, took in processor.items()},
    )


def ratios(took: dict[str, float]) -> dict[str, float]:
    """What is promised, as ratios within one run."""
    copied, interp = took["copy, two threads"], took["np.interp"]
    single = took["copy, one thread"]
    return {
        "uint16: time over a two-threaded copy (limit 3)": took["table on uint16"] / copied,
        "uint16: np.interp over ours (at least 100)": interp / took["table on uint16"],
        "float32: np.interp over ours (at least 30)": interp / took["table on float32"],
        "histogram: time over a copy, one thread (limit 6)": took["histogram, one thread"] / single,
        "histogram of uint16: the same": took["histogram of uint16, one thread"] / single,
    }


def make_tile(side: int, chunk: int) -> xr.Dataset:
    """A tile of four bands as digital numbers, with a gradient and clouds of missing pixels."""
    from xharmonize.testing import example_cube

    small = example_cube(
        bands=("blue", "green", "red", "nir"), dates=["2020-07-01"], shape=(2, 2), is_decoded=False
    )
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 800, side)[:, None] + np.linspace(0, 400, side)
    base = np.array([500, 700, 900, 2600.0]).reshape(1, 4, 1, 1)
    dn = (base + ramp + random.normal(0, 150, (1, 4, side, side))).astype("uint16")
    dn[..., : side // 10, : side // 7] = 0
    axes = {"x": 300_008 + 16.0 * np.arange(side), "y": 5_599_992 - 16.0 * np.arange(side)}
    cube = small.isel(y=0, x=0, drop=True).drop_vars("spatial_ref").expand_dims(axes, (-1, -2))
    cube = cube.transpose("time", "band", "y", "x").copy(data=dn)
    cube = cube.rio.write_crs("EPSG:32631").rio.write_transform()
    return cube.chunk(y=chunk, x=chunk).to_dataset(name="reflectance")


def make_models(folder: Path, tile: float) -> dict[str, Any]:
    """Histogram matching to a stored target, and a UNet-LUT of full width with drawn weights."""
    from xharmonize.models import Histograms, LutCard, Output, write_bundle
    from xharmonize.models.architectures import seeded
    from xharmonize.testing import example_cube

    bands = ("blue", "green", "red", "nir")
    options = {"platform": "gaofen-1", "bands": bands, "shape": (200, 200)}
    reference = example_cube("gaofen-1-ard", **options)
    low, high = (0.0,) * 4, (0.30, 0.30, 0.40, 0.65)
    common = {"source_bandpass": "msi", "target_bandpass": "wfv", "architecture": "unet-lut"}
    found: dict[str, Any] = {"matching": xh.harmonizers.fit_histogram(reference, bins=256)}
    for name, refine in (("UNet-LUT", False), ("UNet-LUT with its convolution", True)):
        card = LutCard(
            name="unet-lut",
            title="UNet-LUT",
            description="Drawn weights",
            hyperparameters={"refine": refine, "base": "ramp"},
            histograms=Histograms(bands=bands, bins=256, knots=256, low=low, high=high, tile=tile),
            output=Output(bands=bands, mean=low, scale=high),
            **common,
        )
        write_bundle(folder / name, card, seeded(card))
        found[name] = xh.load_model(folder / name)
    return found


def run_tile(side: int = 6863, chunk: int = 1024) -> dict[str, float]:
    """Seconds from Zarr to Zarr, by each model."""
    import rioxarray  # noqa: F401  (registers .rio)

    took = {}
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="threads"):
        folder = Path(name)
        # Zarr as any program writes it: one pass over chunks, no contract checks.
        xh.to_zarr(make_tile(side, chunk), folder / "in.zarr")
        for label, model in make_models(folder, 16.0 * side).items():
            start = time.perf_counter()
            cube = xh.open_series(folder / "in.zarr")
            result = xh.to_sensor(cube, "gaofen-1-ard", model, tables=_tables(cube, model, side))
            xh.to_zarr(result, folder / "out.zarr", mode="w")
            took[label] = time.perf_counter() - start
        start = time.perf_counter()
        copied = xh.open_series(folder / "in.zarr")
        xh.to_zarr(copied.harmonize.decode(), folder / "out.zarr", mode="w")
        took["decoding only"] = time.perf_counter() - start
    return took


def _tables(cube: xr.Dataset, model: Any, side: int) -> xr.Dataset | None:
    """Tables of the one tile; a network makes its own."""
    import warnings

    if not isinstance(model, xr.Dataset):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        return xh.harmonizers.fit_tables(cube, model, tile=16.0 * side)


class LookUpTables:
    """asv: times of the kernels on 6 × 1500²."""

    def setup(self) -> None:
        self.case = Case(1500)
        self.case.on_threads(self.case.from_float)
        self.case.on_threads(self.case.from_dn)

    def time_float32(self) -> None:
        self.case.on_threads(self.case.from_float)

    def time_uint16(self) -> None:
        self.case.on_threads(self.case.from_dn)

    def time_histogram(self) -> None:
        self.case.on_threads(self.case.count)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Print times and ratios; return the ratios, or with ``--tile`` the seconds."""
    import warnings

    options = sys.argv[1:] if argv is None else argv
    is_small = "--small" in options
    if "--tile" in options:
        side = 400 if is_small else 6863
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        if not is_small:
            run_tile(200, 100)  # compiles
        took = run_tile(side, 200 if is_small else 1024)
        print(f"4 × {side}² from Zarr to Zarr (on an A6000: {A6000_SECONDS} s, without Zarr)")
        for name, seconds in took.items():
            print(f"  {name:34} {seconds:7.2f} s")
        return took
    side, n_runs = (300, 1) if is_small else (3000, 7)
    took, processor = measure(side, n_runs)
    print(f"6 × {side}²")
    for name, seconds in took.items():
        used = processor[name] * 1e3
        print(f"  {name:34} {seconds * 1e3:8.1f} ms   (processor, least: {used:7.1f} ms)")
    found = ratios(took)
    for name, value in found.items():
        print(f"  {name:52} {value:7.2f}")
    return found


if __name__ == "__main__":
    main()
