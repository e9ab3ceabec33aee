"""Codecs of stores: a whole tile from Zarr to Zarr, and what chunks and codecs cost.

``python benchmarks/codecs.py [--table] [--side N]``. Without ``--table`` a Gaofen-1 tile (4 × 6863²
pixels of uint16) is mapped by a table, from a store to a store: with zarr-python's codecs and with
zarrs, and both kinds of `compression`, beside reading and writing the same bytes and nothing else,
by zarrs too. With ``--table``
a quarter of the tile, as digital numbers and as reflectance, is written and read whole with other
chunks, shards and codecs, by two threads and zarrs.

Pixels are those of `flanders-2018` (Sentinel-2, blue, green, red, nir; clouds included): its 118
dates of 64 × 64 pixels, turned and mirrored, side by side in random order. Nothing stands twice in
the part of a chunk that a codec can look back upon; borders of patches make it a little rougher
than a landscape. Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``); without
them drawn values are taken, and it says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from lut import make_tile

import xharmonize as xh
from xharmonize.io.zarr.codecs import by_zarrs, read_whole, unit_of, write_whole

SIDE, SHARD, PATCH = 6863, 1024, 64
COMPRESSIONS = ("small", "fast")
BANDS = ["blue", "green", "red", "nir"]


def patches(folder: Path) -> np.ndarray | None:
    """Digital numbers (patch, band, 64, 64) of all dates; None where there are no real ones."""
    path = folder / "flanders-2018" / "catalog.json"
    if not path.exists():
        return None
    import pystac

    items = list(pystac.Catalog.from_file(str(path)).get_child("sentinel-2-l2a").get_items())
    cube = xh.open_stac(items, bands=BANDS, resolution=10, decode=False)
    dn = np.asarray((cube["reflectance"] if isinstance(cube, xr.Dataset) else cube).values)
    dn = dn[:, :, :PATCH, :PATCH].astype("uint16")
    turned = [np.rot90(side, k, (2, 3)) for side in (dn, dn[..., ::-1]) for k in range(4)]
    return np.concatenate(turned)


def mosaic(real: np.ndarray, side: int) -> np.ndarray:
    """Patches side by side, each once before any comes again."""
    random, n = np.random.default_rng(0), -(-side // PATCH)
    order = np.concatenate([random.permutation(len(real)) for _ in range(-(-n * n // len(real)))])
    rows = [np.concatenate(real[order[r * n : (r + 1) * n]], axis=2) for r in range(n)]
    return np.concatenate(rows, axis=1)[None, :, :side, :side]


def tile(side: int) -> tuple[xr.Dataset, str]:
    """A tile in memory, and where its pixels are from."""
    import rioxarray  # noqa: F401  (registers .rio)

    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    cube, real = make_tile(side, SHARD), patches(Path(folder))
    if real is None:
        return cube.compute(), "drawn"
    pixels = cube["reflectance"].copy(data=mosaic(real, side))
    return cube.assign(reflectance=pixels), "flanders-2018"


def on_threads(function: Callable[..., Any], pieces: Iterable[Any], n_threads: int = 2) -> None:
    """Run a function of each piece on Dask's threads."""
    tasks = [dask.delayed(function, pure=False)(piece) for piece in pieces]
    dask.compute(*tasks, scheduler="threads", num_workers=n_threads)


def regions(shape: tuple[int, ...], unit: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Slices of all shards, those at the end cut off."""
    starts = np.ndindex(*(-(-n // edge) for n, edge in zip(shape, unit)))
    return [
        tuple(slice(i * e, min(n, (i + 1) * e)) for i, e, n in zip(at, unit, shape))
        for at in starts
    ]


def open_array(store: Path, name: str = "reflectance") -> Any:
    import zarr

    return zarr.open_array(store, path=name, mode="r+")


def read_all(array: Any) -> None:
    """Read all shards, each at once, and drop them."""
    whole = by_zarrs(array, None)

    def read(key: tuple[slice, ...]) -> None:
        if whole is None:
            array[key]
        else:
            read_whole(whole, array.shape, key)

    on_threads(read, regions(array.shape, unit_of(array)))


def write_all(array: Any, values: np.ndarray) -> None:
    """Write all shards, each at once."""
    whole = by_zarrs(array, None)

    def write(key: tuple[slice, ...]) -> None:
        if whole is None:
            array[key] = values[key]
        else:
            write_whole(whole, [along.start for along in key], values[key])

    on_threads(write, regions(array.shape, unit_of(array)))


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def map_tile(source: Path, target: Path, tables: xr.Dataset, model: Any) -> None:
    """From a store to a store, through the public functions."""
    cube = xh.open_series(source)
    xh.to_zarr(xh.to_sensor(cube, "gaofen-1-ard", model, tables=tables), target, mode="w")


def compare(side: int = SIDE, n_runs: int = 3) -> dict[str, float]:
    """Median seconds of each contestant, taking turns."""
    from xharmonize.testing import example_cube

    cube, _ = tile(side)
    reference = example_cube("gaofen-1-ard", platform="gaofen-1", bands=BANDS, shape=(200, 200))
    model = xh.harmonizers.fit_histogram(reference, bins=256)
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, dask.config.set(scheduler="threads", num_workers=2):
        cases = [
            one
            for compression in COMPRESSIONS
            for one in contestants(Path(name) / compression, cube, model, compression)
        ]
        for _ in range(n_runs):
            for label, function in cases:
                took.setdefault(label, []).append(seconds(function))
    return {label: statistics.median(runs) for label, runs in took.items()}


def contestants(
    folder: Path, cube: xr.Dataset, model: Any, compression: Any
) -> list[tuple[str, Callable[[], Any]]]:
    """What is timed with one kind of compression; the stores are made, and the kernels compiled."""
    source, target = folder / "in.zarr", folder / "out.zarr"
    with xh.set_options(compression=compression):
        xh.to_zarr(cube.chunk(y=SHARD, x=SHARD), source)
        size = 16.0 * cube.sizes["y"]
        tables = xh.harmonizers.fit_tables(xh.open_series(source), model, tile=size)
        map_tile(source, target, tables, model)
    result = np.asarray(open_array(target)[:])
    for path, values in ((source, cube["reflectance"]), (target, result)):
        held = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        print(f"{compression}: {values.dtype}, {values.nbytes / held:.2f} × smaller on disk")

    def run(codecs: Any) -> None:
        with xh.set_options(codecs=codecs, compression=compression):
            map_tile(source, target, tables, model)

    def copy() -> None:
        read_all(open_array(source))
        write_all(open_array(target), result)

    return [
        (f"Zarr to Zarr, {compression}, zarr-python", lambda: run("zarr-python")),
        (f"Zarr to Zarr, {compression}", lambda: run(None)),
        (f"read alone, {compression}", lambda: read_all(open_array(source))),
        (f"read and write alone, {compression}", copy),
    ]


def ratios(took: dict[str, float]) -> dict[str, float]:
    """What was aimed at: time over that of zarr-python and what was written before, and alone."""
    before = took["Zarr to Zarr, small, zarr-python"]
    found = {}
    for name in COMPRESSIONS:
        ours = took[f"Zarr to Zarr, {name}"]
        found[f"{name}: over zarr-python's, small (aim 0.5)"] = ours / before
        alone = took[f"read and write alone, {name}"]
        found[f"{name}: over reading and writing alone (aim 1.15)"] = ours / alone
    return found


def make_codecs() -> dict[str, Any]:
    """Compressors by name."""
    from zarr.codecs import BloscCodec, ZstdCodec

    found: dict[str, Any] = {f"zstd {level}": ZstdCodec(level=level) for level in (1, 3, 5)}
    for name, level in (("lz4", 5), ("zstd", 1), ("zstd", 3)):
        for shuffle in ("shuffle", "bitshuffle"):
            codec = BloscCodec(cname=name, clevel=level, shuffle=shuffle)
            found[f"blosc {name} {level}, {shuffle}"] = codec
    return found


def measure(values: np.ndarray, chunk: int, shard: int, codec: Any, n_runs: int) -> list[float]:
    """Least processor seconds of writing and of reading all, and bytes on disk."""
    import zarr
    from zarr.codecs import Crc32cCodec

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            folder,
            name="reflectance",
            shape=values.shape,
            dtype=values.dtype,
            chunks=(1, 1, chunk, chunk),
            shards=(1, values.shape[1], shard, shard),
            compressors=[codec, Crc32cCodec()],
            fill_value=0,
        )
        write = min(processor(lambda: write_all(array, values)) for _ in range(n_runs))
        read = min(processor(lambda: read_all(array)) for _ in range(n_runs))
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return [write, read, size]


def processor(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def kinds(dn: np.ndarray) -> dict[str, np.ndarray]:
    """Digital numbers, reflectance in their steps, and reflectance as a mean of three pixels."""
    values = dn * np.float32(1e-4)
    mean = (values + np.roll(values, 1, -1) + np.roll(values, 1, -2)) / np.float32(3)
    return {"uint16": dn, "float32": values, "float32, means": mean}


def table(side: int, n_runs: int = 3) -> None:
    """Print what chunks, shards and codecs cost, in processor time: other work changes it less."""
    cube, origin = tile(side)
    codecs = make_codecs()
    cases = [(256, 1024, name) for name in codecs]
    cases += [(c, s, "zstd 1") for c, s in
              ((128, 1024), (512, 1024), (1024, 1024), (256, 512), (512, 2048))]  # fmt: skip
    print(f"4 × {side}² pixels of {origin}; MB of pixels by second of processor time")
    for kind, values in kinds(np.asarray(cube["reflectance"].values)).items():
        for chunk, shard, name in cases:
            write, read, size = measure(values, chunk, shard, codecs[name], n_runs)
            mb, ratio = values.nbytes / 1e6, values.nbytes / size
            print(
                f"{kind:15} chunk {chunk:4} shard {shard:4} {name:25} {ratio:5.2f} × smaller, "
                f"write {mb / write:6.0f}, read {mb / read:6.0f}",
                flush=True,
            )


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Print times and ratios, or the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--side", type=int)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(argv)
    warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
    if given.table:
        table(given.side or SIDE // 2, given.runs)
        return {}
    side = given.side or SIDE
    took = compare(side, given.runs)
    print(f"4 × {side}² from Zarr to Zarr by a table")
    for name, value in took.items():
        print(f"  {name:36} {value:6.2f} s")
    found = ratios(took)
    for name, value in found.items():
        print(f"  {name:50} {value:5.2f}")
    return found


if __name__ == "__main__":
    main()
