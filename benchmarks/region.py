"""A region rehearsed: a tile from a STAC API to stores, on two worker processes with little memory.

``tile``: one MGRS tile (10980² pixels of 10 m, six bands) with six dates of Sentinel-2.
``year``: a sixteenth of it with a year of Sentinel-2 and Landsat. Files lie on disk, the STAC API
on loopback; dates are links to a few files. Each case runs on a `LocalCluster` of its own:

- ``copy``: reads the same files and writes as many bytes of the same kind, and does nothing else.
- ``line``, ``table``, ``network``: ``open_stac``, mask, harmonise, write (``tile``); and with
  ``densify``, NDVI, write, ``smooth`` every ten days, write (``year``).

Told: tasks and seconds until the graph is built, wall time, seconds and MB/s (read and written) per
date, the scheduler's share of one core, peak memory per worker, bytes spilled to disk, and wall
time beside ``copy`` (aim: at most 1.5 for line and table).

``python benchmarks/region.py [tile|year] [line ...] [--pixels N] [--dates N] [--json FILE]``;
scaled down: ``--pixels 1098 --dates 3``. ``graph`` builds the graph of 1,000 whole-tile dates,
``jobs`` runs four tiles as jobs on the workers, and block by block.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
from growth import make_model

import xharmonize as xh
from xharmonize.simulate import Simulation
from xharmonize.simulate.catalog import item_assets, make_item

S2, LANDSAT = "sentinel-2-l2a", "landsat-c2-l2"
BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
CORNER = (499_980.0, 5_700_000.0)
"""North-west corner of tile 31UES."""

CASES = ("copy", "line", "table", "network")
WHOLE = 10_980
MEMORY = "4GiB"
VARIANTS = 2
"""Files of an asset that differ; dates are links to them."""


def simulation(pixels: int, start: str, end: str) -> Simulation:
    """Orbits and grids over the north-west corner of the tile."""
    side = pixels * 10.0
    return Simulation(
        center=(CORNER[0] + side / 2, CORNER[1] - side / 2),
        size=(side, side),
        start=start,
        end=end,
        sensors=(S2, LANDSAT),
    )


def write_scenes(folder: Path, pixels: int, n_dates: int | None) -> list[dict[str, Any]]:
    """Write files and return items: `n_dates` of each sensor, or a year."""
    place = simulation(pixels, "2022-01-01", "2022-12-31")
    items = []
    for sensor in (S2, LANDSAT):
        passes = [one for one in place.passes() if one.orbit.sensor == sensor]
        # One orbit of each pair: every fifth day for Sentinel-2, every eighth for Landsat.
        first = passes[0].orbit.relative_orbit
        passes = [one for one in passes if one.orbit.relative_orbit == first][:n_dates]
        for number, acquisition in enumerate(passes):
            item = make_item(place, acquisition)
            grids = {k: w for k, w in item_assets(place, acquisition).items() if k in _wanted()}
            for key, window in grids.items():
                path = folder / f"{sensor}-{key}-{number % VARIANTS}.tif"
                if not path.exists():
                    _write_file(path, sensor, key, window, number % VARIANTS)
                item["assets"][key]["href"] = str(path)
            item["assets"] = {key: item["assets"][key] for key in grids}
            item["links"] = []
            items.append(item)
    return items


def _wanted() -> tuple[str, ...]:
    return (*BANDS, "scl", "qa_pixel")


def _write_file(path: Path, sensor: str, key: str, window: Any, variant: int) -> None:
    """A tiled, deflated file of noise over waves; a fifth of it is cloud."""
    import rasterio
    from rasterio.transform import from_origin

    random = np.random.default_rng(variant)
    shape = (window.height, window.width)
    rows, columns = np.indices((512, 512), dtype=np.float32)
    if key == "scl":
        block = np.where((rows + 200 * variant) % 512 < 100, 9, 4).astype("u1")
    elif key == "qa_pixel":
        block = np.where((rows + 200 * variant) % 512 < 100, 22280, 21824).astype("u2")
    else:
        mean = 0.1 + 0.05 * (2 + np.sin(columns / 37) * np.cos(rows / 53))
        mean += random.normal(0, 0.004, mean.shape)
        scaled = mean * 1e4 + 1000 if sensor == S2 else (mean + 0.2) / 2.75e-5
        block = scaled.astype("u2")
    tiles = [-(-side // 512) for side in shape]
    pixels = np.tile(block, tiles)[: shape[0], : shape[1]]
    step = window.step
    with rasterio.open(
        path, "w", driver="GTiff", width=shape[1], height=shape[0], count=1, dtype=pixels.dtype,
        nodata=1 if key == "qa_pixel" else 0, crs="EPSG:32631", tiled=True, blockxsize=512,
        blockysize=512, compress="deflate", predictor=2, num_threads=2, zlevel=6,
        transform=from_origin(window.left, window.top, step, step),
    ) as file:  # fmt: skip
        file.write(pixels, 1)


class Job:
    """What a case does: opens, harmonises and writes, and how long it took to build graphs."""

    def __init__(self, url: str, folder: Path, models: dict[str, Any], box: Any = None) -> None:
        self.url, self.folder, self.models, self.box = url, folder, models, box
        self.built = 0.0
        self.graph = 0

    def open(self, sensor: str) -> Any:
        return xh.open_stac(
            self.url, collection=sensor, bands=BANDS, bbox=self.box, schemes=("file",)
        )

    def write(self, make: Callable[[], Any], name: str) -> None:
        """Build a graph, and run it."""
        start = time.perf_counter()
        cube = make()
        self.built += time.perf_counter() - start
        self.graph += len(cube.__dask_graph__())
        xh.to_zarr(cube, self.folder / name, mode="w")

    def tile(self, case: str) -> None:
        """Sentinel-2 harmonised on its own pixels; a network brings it to 30 m."""
        model = self.models[case]
        self.write(lambda: xh.to_landsat(self.open(S2), model), "harmonised.zarr")

    def year(self, case: str) -> None:
        """The dense series of NDVI on Landsat's pixels, and smoothed."""
        self.write(lambda: self.series(case), "ndvi.zarr")
        stored = self.folder / "ndvi.zarr"
        along_time = {
            "time": -1,
            "y": 256,
            "x": 256,
        }  # a series of years fits into no shard's block
        self.write(
            lambda: xh.series.smooth(xh.open_series(stored, chunks=along_time), step="10D"),
            "smooth.zarr",
        )

    def series(self, case: str) -> Any:
        l8 = self.open(LANDSAT)
        s2_as_l8 = xh.to_landsat(self.open(S2), self.models[case], like=l8)
        return xh.index(xh.densify(l8, s2_as_l8), "ndvi")


def copy_tile(job: Job, _: str) -> None:
    """Read Sentinel-2's files, write float32 of the same shape."""
    job.graph += copy_to(bare(job, S2) * np.float32(1e-4), job.folder / "copy.zarr")


def copy_year(job: Job, _: str) -> None:
    """Read both sensors' files, write one float32 and one byte for each of Landsat's pixels."""
    import dask.array as da

    fine, coarse = bare(job, S2), bare(job, LANDSAT)
    rows, columns = coarse.shape[2:]
    thin = fine[:, 2:3, 1::3, 1::3][..., :rows, :columns]
    thin = da.pad(thin, ((0, 0), (0, 0), (0, rows - thin.shape[2]), (0, columns - thin.shape[3])))
    both = da.concatenate([thin, coarse[:, 2:3]]).rechunk((1, 1, 1024, 1024))
    values = both * np.float32(1e-4)
    job.graph += copy_to(values, job.folder / "copy.zarr")
    job.graph += copy_to((both > 3000).astype("u1"), job.folder / "origin.zarr")
    job.graph += copy_to(values[:36], job.folder / "smooth.zarr")


def bare(job: Job, sensor: str) -> Any:
    """Digital numbers of all assets as stackstac reads them, without the quality layer."""
    import pystac_client
    import stackstac

    items = pystac_client.Client.open(job.url).search(collections=[sensor]).item_collection()
    features = [_told_crs(item.to_dict()) for item in items]
    quality = "scl" if sensor == S2 else "qa_pixel"
    step = 10 if sensor == S2 else 30
    stack = stackstac.stack(
        features, assets=[*BANDS, quality], dtype="uint16", fill_value=np.uint16(0),
        rescale=False, chunksize=(1, -1, 2048, 2048), xy_coords="center", properties=False,
        band_coords=False, resolution=step, epsg=32631, sortby_date=False,
    )  # fmt: skip
    return stack.data[:, : len(BANDS)]


def _told_crs(item: dict[str, Any]) -> dict[str, Any]:
    """The item as stackstac understands it (``proj:epsg``)."""
    item["properties"]["proj:epsg"] = 32631
    return item


def copy_to(values: Any, path: Path) -> int:
    """Write an array in shards and chunks like ours, by xarray; return its tasks."""
    import xarray as xr
    import zarr

    values = values.rechunk((1, values.shape[1], 1024, 1024))
    cube = xr.Dataset({"copy": (("time", "band", "y", "x"), values)})
    shards = (1, values.shape[1], 1024, 1024)
    encoding = {
        "copy": {
            "chunks": (1, 1, 256, 256),
            "shards": shards,
            "compressors": [zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
        }
    }
    cube.to_zarr(path, mode="w", encoding=encoding, zarr_format=3, consolidated=False)
    return len(values.__dask_graph__())


class Watch(threading.Thread):
    """Looks at workers twice a second: most memory and most bytes on disk of one of them."""

    def __init__(self, client: Any) -> None:
        super().__init__(daemon=True)
        self.client, self.ended = client, threading.Event()
        self.memory = self.spilled = 0

    def run(self) -> None:
        while not self.ended.wait(0.5):
            for worker in self.client.scheduler_info(n_workers=-1)["workers"].values():
                told = worker["metrics"]
                self.memory = max(self.memory, int(told.get("memory", 0)))
                disk = told.get("spilled_bytes", {}).get("disk", 0)
                self.spilled = max(self.spilled, int(disk))


@contextmanager
def cluster(folder: Path) -> Iterator[Any]:
    """Two processes of one thread, with a limit of memory each."""
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"temporary-directory": str(folder)}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=MEMORY, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as workers,
        Client(workers) as client,
    ):  # fmt: skip
        yield client


def measure(work: Callable[[Job, str], None], case: str, job: Job, place: Path) -> dict[str, float]:
    """Run a case on a cluster of its own; return what it took."""
    with cluster(place) as client:
        client.run(_warm)
        if case != "copy":  # kernels are compiled and imports made in both workers first
            for number in range(2):
                work(Job(job.url, job.folder / f"warm-{number}", job.models, corner()), case)
            for warm in job.folder.glob("warm-*"):
                shutil.rmtree(warm)
        watch = Watch(client)
        watch.start()
        before = sum(client.run(_executed).values())
        loop = client.run_on_scheduler(time.thread_time)
        start = time.perf_counter()
        work(job, case)
        seconds = time.perf_counter() - start
        busy = client.run_on_scheduler(time.thread_time) - loop
        peaks = client.run(_peak)
        tasks = sum(client.run(_executed).values()) - before
        restarts = len(peaks) - 2
        watch.ended.set()
    stored = sum(f.stat().st_size for f in job.folder.rglob("*") if f.is_file())
    return {
        "seconds": seconds,
        "build": job.built,
        "tasks": float(job.graph),
        "executed": float(tasks),
        "scheduler": busy / seconds,
        "peak": max(peaks.values()) / 2**20,
        "spilled": watch.spilled / 2**20,
        "restarts": float(restarts),
        "written": sum(map(_pixel_bytes, job.folder.glob("*.zarr"))) / 1e6,
        "stored": stored / 1e6,
    }


def _warm() -> None:
    import stackstac  # noqa: F401
    import torch

    import xharmonize  # noqa: F401

    torch.set_num_threads(1)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _executed(dask_worker: Any = None) -> int:
    return int(dask_worker.state.executed_count)


WORK: dict[str, dict[str, Callable[[Job, str], None]]] = {
    "tile": {"copy": copy_tile, **dict.fromkeys(CASES[1:], Job.tile)},
    "year": {"copy": copy_year, **dict.fromkeys(CASES[1:], Job.year)},
}


def compare(
    part: str, cases: Sequence[str], *, pixels: int, dates: int | None, place: Path
) -> dict[str, dict[str, float]]:
    """Run cases of a part; print and return what they took."""
    from xharmonize.cli.server import serve

    scenes = place / f"scenes-{part}-{pixels}"
    scenes.mkdir(parents=True, exist_ok=True)
    items = write_scenes(scenes, pixels, dates)
    read = _read_bytes(items, S2 if part == "tile" else None)
    n_dates = sum(item["collection"] == S2 or part == "year" for item in items)
    results = {}
    with serve(items) as url:
        models = make_models(url, place)
        for case in cases:
            folder = place / f"{part}-{case}"
            folder.mkdir()
            took = measure(WORK[part][case], case, Job(url, folder, models), place)
            shutil.rmtree(folder)
            took |= {"dates": n_dates, "pixels": pixels, "read": read / 1e6}
            results[case] = took
            _print(part, case, took, results.get("copy"))
    return results


def _read_bytes(items: list[dict[str, Any]], sensor: str | None) -> float:
    """Bytes of the pixels of all files that are read, once for each date."""
    chosen = [item for item in items if sensor in (None, item["collection"])]
    sizes = (a["proj:shape"] for item in chosen for a in item["assets"].values())
    return float(sum(2 * rows * columns for rows, columns in sizes))


def _pixel_bytes(store: Path) -> int:
    """Bytes of the pixels of a store, as they are in memory."""
    import zarr

    arrays = (array for _, array in zarr.open_group(store, mode="r").arrays())
    return sum(array.nbytes for array in arrays if array.ndim > 2)


def make_models(url: str, place: Path) -> dict[str, Any]:
    """Published coefficients, a table fitted to a corner, and a small network."""
    folder = Path(tempfile.mkdtemp(dir=place))
    job = Job(url, place, {}, corner())
    l8, s2 = (job.open(name).isel(time=slice(0, 2)) for name in (LANDSAT, S2))
    pairs = xh.match_pairs(xh.regrid(s2, like=l8), l8, tolerance="30D")
    fit = xh.fit_lut(pairs, limits=(0.0, 0.7))
    network = make_model("generator", folder)
    return {"copy": None, "line": "hls-v2", "table": fit, "network": network}


def corner() -> Any:
    """A corner of the scenes, of 340² pixels."""
    from odc.geo.geom import BoundingBox

    west, north = CORNER
    return BoundingBox(west + 600, north - 4_000, west + 4_000, north - 600, crs="EPSG:32631")


def _print(part: str, case: str, took: dict[str, float], copy: dict[str, float] | None) -> None:
    dates, seconds = took["dates"], took["seconds"]
    ratio = f", {seconds / copy['seconds']:.2f}x copy" if copy else ""
    print(
        f"{part} {case:8} {took['pixels']:.0f}² x {dates:.0f} dates: {seconds:.1f} s{ratio}, "
        f"{seconds / dates:.2f} s per date, read {took['read'] / seconds:.0f} and wrote "
        f"{took['written'] / seconds:.0f} MB/s of pixels; graph {took['tasks']:.0f} tasks built in "
        f"{took['build']:.1f} s, {took['executed']:.0f} run; scheduler {took['scheduler']:.1%}; "
        f"peak {took['peak']:.0f} MiB, spilled {took['spilled']:.0f} MiB, restarts "
        f"{took['restarts']:.0f}",
        flush=True,
    )


def graph(n_dates: int = 1_000, pixels: int = WHOLE) -> dict[str, float]:
    """Build the graph of whole-tile dates to the store, and count its tasks; nothing is read."""
    place = simulation(pixels, "2000-01-01", "2019-12-31")
    passes = [one for one in place.passes() if one.orbit.sensor == S2][:n_dates]
    items = []
    for acquisition in passes:
        item = make_item(place, acquisition)
        for key, asset in item["assets"].items():
            asset["href"] = f"https://example.org/{key}.tif"
        items.append(item)
    start = time.perf_counter()
    cube = xh.to_landsat(xh.open_stac(items, bands=BANDS), "hls-v2")
    opened = time.perf_counter() - start
    n_tasks = len(cube.__dask_graph__())
    (array,) = dask.optimize(cube.data)
    seconds = time.perf_counter() - start
    n_fused = len(array.__dask_graph__())
    print(
        f"{len(items)} dates of {pixels}²: graph of {n_tasks} tasks built in {opened:.1f} s, "
        f"{n_fused} after fusion, {seconds:.1f} s with it"
    )
    return {"dates": len(items), "build": opened, "tasks": n_tasks, "fused": n_fused,
            "optimized": seconds}  # fmt: skip


def make_line(tile: Any, url: str) -> Any:
    """A tile of a region: Sentinel-2 by line."""
    cube = xh.open_stac(url, collection=S2, bands=BANDS, bbox=tile.box, schemes=("file",))
    return xh.to_landsat(cube, "hls-v2")


def jobs(place: Path, pixels: int = WHOLE // 5, dates: int = 4, n_runs: int = 2) -> dict[str, Any]:
    """Four tiles as four tasks, by ``run(client)``, beside all their blocks as tasks, by ``run()``.

    Each case writes stores of its own, in turn; seconds are the least of all runs.
    """
    from xharmonize import region
    from xharmonize.cli.server import serve

    scenes, side = place / f"scenes-jobs-{pixels}", pixels * 5.0
    scenes.mkdir(parents=True, exist_ok=True)
    west, north = CORNER
    quarters = [(west + i * side, north - (j + 1) * side) for i in range(2) for j in range(2)]
    tiles = [
        region.Tile(name=f"{n}", crs="EPSG:32631", bounds=(x, y, x + side, y + side))
        for n, (x, y) in enumerate(quarters)
    ]
    took: dict[str, list[float]] = {"tiles": [], "blocks": []}
    tasks: dict[str, float] = {}
    with serve(write_scenes(scenes, pixels, dates)) as url, cluster(place) as client:
        client.run(_warm)
        for case in ("tiles", *("tiles", "blocks") * n_runs):  # the first compiles and imports
            with tempfile.TemporaryDirectory(dir=place) as out:
                planned = region.plan(partial(make_line, url=url), tiles=tiles, out=Path(out))
                before, start = sum(client.run(_executed).values()), time.perf_counter()
                status = planned.run(client if case == "tiles" else None)
                took[case].append(time.perf_counter() - start)
                tasks[case] = sum(client.run(_executed).values()) - before
            if set(status["state"]) != {"whole"}:
                raise RuntimeError(status["reason"].to_list())
    least = {case: min(runs) for case, runs in took.items()}
    print(
        f"4 tiles of {pixels // 2}² x {dates} dates: run(client) {least['tiles']:.1f} s "
        f"({tasks['tiles']:.0f} tasks), run() {least['blocks']:.1f} s ({tasks['blocks']:.0f}): "
        f"{least['tiles'] / least['blocks']:.2f}x"
    )
    return {**least, "tasks": tasks}


class Region:
    """asv suite, scaled down."""

    params = ("tile", "year")
    param_names = ("part",)
    timeout = 900

    def track_line_beside_copy(self, part: str) -> float:
        with tempfile.TemporaryDirectory() as place:
            took = compare(part, CASES[:2], pixels=1098, dates=6, place=Path(place))
        return took["line"]["seconds"] / took["copy"]["seconds"]


def main(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="tile, year, graph, jobs; and cases")
    parser.add_argument("--pixels", type=int)
    parser.add_argument("--dates", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", help="keep the scenes here, for the next run")
    given = parser.parse_args(arguments)
    parts = [one for one in given.parts if one in (*WORK, "graph", "jobs")] or [*WORK, "graph"]
    cases = [one for one in CASES if one in given.parts] or list(CASES)
    results: dict[str, Any] = {}
    with nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory() as place:
        sizes = {"tile": (given.pixels or WHOLE, given.dates or 6),
                 "year": (given.pixels or WHOLE // 4, given.dates)}  # fmt: skip
        runs = {part: partial(compare, part, cases, pixels=sizes[part][0], dates=sizes[part][1],
                              place=Path(place)) for part in WORK}  # fmt: skip
        runs["jobs"] = lambda: jobs(Path(place), given.pixels or WHOLE // 5, given.dates or 4)
        for part in parts:
            results[part] = runs[part]() if part in runs else graph(given.dates or 1_000)
    if given.json is not None:
        known = json.loads(given.json.read_text()) if given.json.exists() else {}
        for part, took in results.items():
            known.setdefault(part, {}).update(took)
        given.json.write_text(json.dumps(known, indent=1))
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
