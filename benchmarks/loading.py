"""Loading costs what reading costs: `open_stac` beside the bare engines, on COGs written here.

Run ``python benchmarks/loading.py [--small] [--folder DIR]``. Every measurement runs in a process
of its own, in alternation, and reads the same assets (six bands and the scene classification):

- time: ``open_stac(...).compute()``, masked and decoded to float32, over the same engine that reads
  the same assets to float32 and does nothing with them. Target: at most 1.1. The same engine
  reading them to uint16, half the memory to write, is printed too.
  CPU time is printed beside it, because other work on the machine disturbs it less.
- memory: its peak over that of ``stackstac.stack(items)`` with stackstac's defaults (float64).
  Target: at most 0.6.

The full size is 24 dates of 2048 × 2048 pixels, deflated in tiles of 512.

With ``--http`` the same COGs are served on loopback, and read to uint16 by stackstac, odc-stac and
``async-geotiff`` (``pip install async-geotiff obstore``; all tiles of all files at once, as many
files at a time as threads are said). It decodes and nothing else: no mosaic, no other grid.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
CORNER = (600000.0, 5700000.0)
EPSG = 32631
HTTP_CASES = ("uint16 stackstac", "uint16 odc", "async-geotiff")
CASES = (
    "ours stackstac",
    "bare stackstac",
    "uint16 stackstac",
    "default stackstac",
    "ours odc",
    "bare odc",
    "uint16 odc",
)


def write_items(folder: Path, *, n_dates: int, size: int) -> Path:
    """Write COGs of `n_dates` Sentinel-2 dates with `size`² pixels, and their items."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size]
    waves = [1500 + 900 * (1 + np.sin(x / (37 + 5 * b)) * np.cos(y / 53)) for b in range(6)]
    items = []
    for n in range(n_dates):
        assets = {}
        for b, name in enumerate((*BANDS, "scl")):
            if name == "scl":
                values = np.where((x // 64 + y // 64 + n) % 7 == 0, 9, 4).astype("uint8")
            else:
                values = (waves[b] + random.normal(0, 40, (size, size)) + 10 * n).astype("uint16")
            path = folder / f"{n:02d}-{name}.tif"
            _write_cog(path, values)
            assets[name] = _asset(path, values)
        items.append(_item(n, assets, size))
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def _write_cog(path: Path, values: np.ndarray) -> None:
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=f"EPSG:{EPSG}",
        transform=from_origin(*CORNER, 10, 10),
        nodata=0,
        blocksize=512,
        compress="deflate",
        predictor="yes",
        overviews="none",
    ) as file:
        file.write(values, 1)


def _asset(path: Path, values: np.ndarray) -> dict[str, Any]:
    return {
        "href": str(path),
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "proj:shape": list(values.shape),
        "proj:transform": [10, 0, CORNER[0], 0, -10, CORNER[1]],
        "raster:bands": [{"data_type": str(values.dtype), "nodata": 0}],
    }


def _item(n: int, assets: dict[str, Any], size: int) -> dict[str, Any]:
    from pyproj import Transformer

    lonlat = Transformer.from_crs(EPSG, 4326, always_xy=True)
    west, north = lonlat.transform(*CORNER)
    east, south = lonlat.transform(CORNER[0] + 10 * size, CORNER[1] - 10 * size)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    day = f"2022{6 + n // 28:02d}{1 + n % 28:02d}"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_31UFT_{day}_0_L2A",
        "collection": "sentinel-2-l2a",
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "links": [],
        "properties": {
            "datetime": f"{day[:4]}-{day[4:6]}-{day[6:]}T10:50:00Z",
            "platform": "sentinel-2a",
            "proj:epsg": EPSG,
            "s2:processing_baseline": "05.09",
        },
        "assets": assets,
    }


def _ours(items: Path, engine: str) -> Any:
    import xharmonize as xh

    return xh.open_stac(items, engine=engine, bands=BANDS).compute()


def _bare_stackstac(items: Path, dtype: str = "uint16") -> Any:
    import stackstac

    features = json.loads(items.read_text())["features"]
    return stackstac.stack(
        features,
        assets=[*BANDS, "scl"],
        dtype=dtype,
        fill_value=np.dtype(dtype).type(0),
        rescale=False,
        chunksize=(1, -1, 2048, 2048),
        xy_coords="center",
        properties=False,
        band_coords=False,
    ).compute()


def _default_stackstac(items: Path) -> Any:
    import stackstac

    features = json.loads(items.read_text())["features"]
    return stackstac.stack(features, assets=[*BANDS, "scl"]).compute()


def _bare_odc(items: Path, dtype: str = "uint16") -> Any:
    import odc.stac
    import pystac

    features = json.loads(items.read_text())["features"]
    return odc.stac.load(
        [pystac.Item.from_dict(item) for item in features],
        bands=[*BANDS, "scl"],
        crs=f"EPSG:{EPSG}",
        resolution=10,
        groupby="id",
        dtype=dtype,
        nodata=0,
        chunks={"time": 1, "y": 2048, "x": 2048},
    ).compute()


def _async_geotiff(items: Path, at_once: int = 8) -> np.ndarray:
    """All files as (time, band, y, x) uint16, a few of them at a time."""
    from async_geotiff import GeoTIFF
    from obstore.store import HTTPStore

    features = json.loads(items.read_text())["features"]
    urls = [[item["assets"][name]["href"] for name in (*BANDS, "scl")] for item in features]
    server = urls[0][0].rpartition("/")[0]
    store = HTTPStore.from_url(server, client_options={"allow_http": True})
    shape = features[0]["assets"][BANDS[0]]["proj:shape"]
    out = np.empty((len(urls), len(BANDS) + 1, *shape), "uint16")

    async def read_all() -> None:
        free = asyncio.Semaphore(at_once)

        async def read(t: int, b: int, name: str) -> None:
            async with free:
                file = await GeoTIFF.open(name, store=store)
                out[t, b] = (await file.read()).data[0]

        places = [(t, b) for t in range(len(urls)) for b in range(len(BANDS) + 1)]
        await asyncio.gather(*(read(t, b, urls[t][b].rpartition("/")[2]) for t, b in places))

    asyncio.run(read_all())
    return out


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files and ranges of bytes of them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(is_body=False)

    def do_GET(self) -> None:
        self._answer(is_body=True)

    def _answer(self, *, is_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size, asked = path.stat().st_size, self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first or 0)
        stop = min(size, int(last or size - 1) + 1)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if is_body:
            with path.open("rb") as file:
                file.seek(start)
                self.wfile.write(file.read(stop - start))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback from a process of its own; give its URL."""
    command = [sys.executable, __file__, "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def serve(folder: str) -> None:
    """Serve a folder until the process that asked for it has ended."""
    import os

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: _Ranges(*args, directory=folder)
    )
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.2)


def measure_http(folder: Path, *, n_dates: int, size: int, n_runs: int) -> dict[str, float]:
    """Seconds of each reader over HTTP; all must give the same pixels."""
    runs: dict[str, list[dict[str, float]]] = {case: [] for case in HTTP_CASES}
    write_items(folder, n_dates=n_dates, size=size)
    (folder / "warm-up").mkdir(exist_ok=True)
    write_items(folder / "warm-up", n_dates=1, size=64)
    with served(folder) as url:
        for part, base in ((folder, url), (folder / "warm-up", f"{url}/warm-up")):
            text = (part / "items.json").read_text().replace(str(part) + "/", f"{base}/")
            (part / "items.json").write_text(text)
        for _ in range(n_runs):
            for case in HTTP_CASES:
                runs[case].append(_in_own_process(case, folder / "items.json"))
    found = {}
    for case, values in runs.items():
        if len({round(run["sum"]) for each in runs.values() for run in each}) > 1:
            raise SystemExit(f"pixels differ: {runs}")
        took, cpu = (statistics.median(run[key] for run in values) for key in ("seconds", "cpu"))
        found[case] = took
        print(f"{case:<20} {took:7.2f} s   CPU {cpu:7.2f} s")
    return found


def run_case(case: str, items: Path) -> dict[str, float]:
    """Run one measurement here: wall and CPU time [s], peak memory of the process [MiB]."""
    functions: dict[str, Callable[[Path], Any]] = {
        "ours stackstac": lambda path: _ours(path, "stackstac"),
        "ours odc": lambda path: _ours(path, "odc"),
        "bare stackstac": lambda path: _bare_stackstac(path, "float32"),
        "bare odc": lambda path: _bare_odc(path, "float32"),
        "uint16 stackstac": _bare_stackstac,
        "uint16 odc": _bare_odc,
        "default stackstac": _default_stackstac,
        "async-geotiff": _async_geotiff,
    }
    _warm_up(functions[case], items)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, cpu = time.perf_counter(), time.process_time()
    result = functions[case](items)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": took, "cpu": cpu, "peak": peak, "growth": peak - before}
    if case in HTTP_CASES:
        values = result.to_dataarray().values if hasattr(result, "to_dataarray") else result
        found["sum"] = float(np.asarray(values, "float64").sum())
    return found


def _warm_up(function: Callable[[Path], Any], items: Path) -> None:
    """Import and compile on one small date, so that reading is what is measured."""
    function(items.parent / "warm-up" / "items.json")


def _touch_memory(n_bytes: int) -> None:
    """Use as much memory as a case will, in a process of its own, and give it back.

    On a virtual machine the first use of a page after a pause is paid to the host; without this
    the case that follows a small one is charged for it, whichever it is.
    """
    code = f"import numpy; numpy.ones({n_bytes // 8})"
    subprocess.run([sys.executable, "-c", code], check=True)


def _in_own_process(case: str, items: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", case, "--items", str(items)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(folder: Path, *, n_dates: int, size: int, n_runs: int) -> dict[str, float]:
    """Write the COGs, run every case `n_runs` times in alternation, and return the ratios."""
    (folder / "warm-up").mkdir(parents=True, exist_ok=True)
    write_items(folder / "warm-up", n_dates=1, size=64)
    items = write_items(folder, n_dates=n_dates, size=size)
    runs: list[dict[str, dict[str, float]]] = [{} for _ in range(n_runs)]
    for run in runs:
        for case in CASES:
            _touch_memory(3 * 4 * n_dates * len(BANDS) * size**2)
            run[case] = _in_own_process(case, items)
    found = {
        case: {
            name: statistics.median(run[case][name] for run in runs)
            for name in ("seconds", "cpu", "peak", "growth")
        }
        for case in CASES
    }
    for case, values in found.items():
        print(
            f"{case:<18} {values['seconds']:7.2f} s   CPU {values['cpu']:7.2f} s   "
            f"peak {values['peak']:6.0f} MiB   above start {values['growth']:6.0f} MiB"
        )
    ratios = {
        "time stackstac": _ratio(found, "seconds", "ours stackstac", "bare stackstac"),
        "time odc": _ratio(found, "seconds", "ours odc", "bare odc"),
        "CPU stackstac": _ratio(found, "cpu", "ours stackstac", "bare stackstac"),
        "CPU odc": _ratio(found, "cpu", "ours odc", "bare odc"),
        "memory stackstac": _ratio(found, "peak", "ours stackstac", "default stackstac"),
        "memory odc": _ratio(found, "peak", "ours odc", "default stackstac"),
    }
    for name, ratio in ratios.items():
        target = 0.6 if name.startswith("memory") else 1.1
        print(f"{name:<18} {ratio:7.2f}     target at most {target}")
    return ratios


def _ratio(found: dict[str, dict[str, float]], name: str, one: str, other: str) -> float:
    return found[one][name] / found[other][name]


class Loading:
    """asv: one case at a time, 4 dates of 1024 × 1024 pixels."""

    params = CASES
    param_names = ("case",)

    def setup(self, case: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        folder = Path(self.folder.name)
        (folder / "warm-up").mkdir()
        write_items(folder / "warm-up", n_dates=1, size=64)
        self.items = write_items(folder, n_dates=4, size=1024)

    def teardown(self, case: str) -> None:
        self.folder.cleanup()

    def time_compute(self, case: str) -> None:
        run_case(case, self.items)

    def track_peak_mib(self, case: str) -> float:
        return _in_own_process(case, self.items)["peak"]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print times, peaks and ratios, and return the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="6 dates of 1024 × 1024 pixels")
    parser.add_argument(
        "--tiny", action="store_true", help="2 dates of 128 × 128 pixels, for tests"
    )
    parser.add_argument("--dates", type=int)
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the COGs go; temporary by default")
    parser.add_argument("--http", action="store_true", help="beside async-geotiff, on loopback")
    parser.add_argument("--case", choices=(*CASES, *HTTP_CASES), help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--items", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return {}
    if options.case:
        print(json.dumps(run_case(options.case, options.items)))
        return {}
    n_dates, size = (2, 128) if options.tiny else (6, 1024) if options.small else (24, 2048)
    with tempfile.TemporaryDirectory() as temporary:
        return (measure_http if options.http else measure)(
            options.folder or Path(temporary),
            n_dates=options.dates or n_dates,
            size=options.size or size,
            n_runs=options.runs,
        )


if __name__ == "__main__":
    main()
