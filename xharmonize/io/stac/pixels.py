"""From scenes to integer arrays on one grid: digital numbers and quality layers, lazily.

Scenes of one time step are merged per pixel: the first that has all bands there, else the first
that has any. All bands and quality layers of a pixel come from the same scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import dask.array as da
import numpy as np

from xharmonize.cube.blockwise import map_blocks
from xharmonize.errors import RadiometryError
from xharmonize.io.stac.engines import FAILED, read_stack
from xharmonize.io.stac.fields import Scene, crs_stated
from xharmonize.io.stac.readers import AssetRef, Chunks, ItemAssets, Reading
from xharmonize.sensors.spec import QALayer
from xharmonize.types import AnyArray, BoolArray, Engine, IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


Placed: TypeAlias = tuple[Scene, tuple[float, float, float, float]]
"""A scene and its footprint (left, bottom, right, top) in the CRS of the target grid."""

NO_QUALITY = 65535
"""Value of quality layers [uint16] outside an asset or where it is missing: no product uses it."""

OWN_FILL = -(2**30)
"""Missing digital numbers where the scenes agree on no value; exact in int32 and in float32."""

BLOCK_BYTES = 128 * 2**20
"""Size of a decoded default chunk [byte] above which chunks get 1024 pixels a side, not 2048."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Bands, method and grid for loading a group of scenes.

    Attributes
    ----------
    bands : tuple of str
        Spectral bands.
    layers : tuple of QALayer
        Quality layers.
    geobox : GeoBox
        Target grid, rows from north to south.
    engine : {"stackstac", "odc"}
    chunks : tuple
        Dask chunks along time, band, y and x, as dask reads them.
    resampling : str
        GDAL method for the spectral bands; quality layers are always picked by nearest.
    skips : bool
        Whether assets that cannot be read become nodata instead of an error.
    """

    bands: tuple[str, ...]
    layers: tuple[QALayer, ...]
    geobox: GeoBox
    engine: Engine
    chunks: tuple[Any, Any, Any, Any]
    resampling: str = "nearest"
    skips: bool = False


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Integers of a group of time steps.

    Attributes
    ----------
    numbers : (time, band, y, x) dask array
        Digital numbers; `fill` where missing.
    layers : mapping of str to (time, y, x) dask array
        Quality layers in their own type; their fill where missing.
    failed : (time, y, x) dask array or None
        True where an asset could not be read.
    fill : int
        Value of missing digital numbers.
    """

    numbers: da.Array
    layers: Mapping[str, da.Array]
    failed: da.Array | None
    fill: int


def default_chunks(n_bands: int) -> tuple[int, int, int, int]:
    """Chunks of one date, all bands, and 2048 or 1024 pixels a side."""
    side = 2048 if n_bands * 2048 * 2048 * 4 <= BLOCK_BYTES else 1024
    return (1, -1, side, side)


def load_pixels(
    steps: Sequence[Sequence[Placed]],
    load: Load,
) -> Pixels:
    """Read scenes and merge those of one time step, lazily.

    Parameters
    ----------
    steps : sequence of sequence of (Scene, bounds)
        The scenes of each time step, in order of preference, with their footprints in the CRS of
        the grid.
    load : Load
        What is loaded.
    """
    placed = [pair for step in steps for pair in step]
    sizes = tuple(len(step) for step in steps)
    dtype, fill = number_type([scene for scene, _ in placed], load.bands)
    wide = np.dtype("int32") if load.skips and dtype.kind in "iu" else dtype
    chunks = _reading_chunks(sizes, len(load.bands), load)
    numbers = _read(placed, load, load.bands, chunks, wide, fill, load.resampling)
    layers = None
    if load.layers:
        wide = np.dtype("int32" if load.skips else "uint16")
        chunks = (chunks[0], (len(load.layers),), *chunks[2:])
        names = tuple(layer.name for layer in load.layers)
        layers = _read(placed, load, names, chunks, wide, NO_QUALITY, "nearest")
    if max(sizes) > 1:
        choice = _choose(numbers, fill)
        numbers = _take(numbers, choice)
        layers = None if layers is None else _take(layers, choice)
    split = {} if layers is None else _split(layers, load.layers)
    if not load.skips:
        return Pixels(numbers=numbers, layers=split, failed=None, fill=fill)
    failed = _failed(numbers) if layers is None else _failed(numbers) | _failed(layers)
    return Pixels(numbers=_repair(numbers, fill, dtype), layers=split, failed=failed, fill=fill)


def number_type(scenes: Sequence[Scene], bands: Sequence[str]) -> tuple[np.dtype[Any], int]:
    """Return the type that holds the digital numbers of all scenes, and their common nodata.

    Where the scenes do not agree on nodata, the result is int32 with a value of its own, because
    one scene's nodata may be another's digital number.
    """
    radiometry = {scene.sensor.name: scene.sensor.radiometry for scene in scenes}
    stated = {
        np.dtype(scene.dtypes.get(band) or radiometry[scene.sensor.name].dtype)
        for scene in scenes
        for band in bands
    }
    found = {float(scene.step.nodata[band]) for scene in scenes for band in bands}
    known = {value for value in found if np.isfinite(value)}
    dtype = np.result_type(*stated)
    if dtype.itemsize > 4 and dtype.kind != "f":
        raise RadiometryError(f"assets hold {dtype}", cure="integers of up to 32 bits can be read")
    if dtype.kind == "f":
        return np.dtype("float32"), int(known.pop()) if len(known) == 1 else OWN_FILL
    if len(known) > 1:
        return np.dtype("int32"), OWN_FILL
    fill = int(known.pop()) if known else 0
    info = np.iinfo(dtype)
    return (dtype if info.min <= fill <= info.max else np.dtype("int32")), fill


def _reading_chunks(sizes: Sequence[int], n_bands: int, load: Load) -> Chunks:
    """Chunks to read in: whole time steps where several scenes are merged."""
    shape = (len(sizes), n_bands, *load.geobox.shape.yx)
    chunks: Chunks = da.core.normalize_chunks(load.chunks, shape, dtype=np.float32)
    if max(sizes) == 1:
        return chunks if not load.skips else (chunks[0], (n_bands,), *chunks[2:])
    return (tuple(sizes), (n_bands,), *chunks[2:])


def _read(
    placed: Sequence[Placed],
    load: Load,
    names: tuple[str, ...],
    chunks: Chunks,
    dtype: np.dtype[Any],
    fill: int,
    resampling: str,
) -> da.Array:
    failed = FAILED if load.skips else None
    sources = [
        ItemAssets(
            item_id=scene.id,
            time=scene.datetime,
            bounds=bounds,
            assets={n: _asset(scene, n, failed) for n in names if n in scene.assets},
        )
        for scene, bounds in placed
    ]
    reading = Reading(
        names=names,
        geobox=load.geobox,
        chunks=chunks,
        dtype=dtype,
        fill=fill,
        resampling=resampling,
    )
    return read_stack(sources, reading, engine=load.engine)


def _asset(scene: Scene, name: str, failed: int | None) -> AssetRef:
    key = scene.assets[name]
    asset = scene.item["assets"][key]
    own = crs_stated(asset, f"item {scene.id!r}: asset {key!r}")
    nodata = scene.step.nodata.get(name, np.nan)
    return AssetRef(
        href=asset["href"],
        item_id=scene.id,
        asset=key,
        nodata=int(nodata) if np.isfinite(nodata) else None,
        failed=failed,
        grid=scene.grids.get(name),
        crs=own or scene.crs,
        drivers=scene.drivers,
    )


def _choose(numbers: da.Array, fill: int) -> da.Array:
    """Number of the scene that each pixel of a time step is taken from: (time, y, x) uint8."""
    choice: da.Array = map_blocks(
        partial(_choose_block, fill=fill),
        "tbyx->tyx",
        numbers,
        sizes={"t": 1},
        dtype=np.uint8,
        name="choose-scene",
    )
    return choice


def _choose_block(numbers: IntArray, *, fill: int) -> AnyArray:
    if len(numbers) == 1:
        return np.zeros((1, *numbers.shape[2:]), np.uint8)
    is_failed = numbers == FAILED
    is_valid = (numbers != fill) & ~is_failed
    two = np.uint8(2)
    score = two * is_valid.all(axis=1) + two * is_valid.any(axis=1) + is_failed.any(axis=1)
    choice: AnyArray = score.argmax(axis=0).astype(np.uint8)[None]
    return choice


def _take(stack: da.Array, choice: da.Array) -> da.Array:
    # Blocks are whole time steps: of several scenes in the stack, of one in the choice.
    taken: da.Array = map_blocks(
        _take_block,
        "tbyx,syx->tbyx",
        stack,
        choice,
        paired={"s": ("t", choice.chunks[0])},
        sizes={"t": 1},
        dtype=stack.dtype,
        name="merge-scenes",
    )
    return taken


def _take_block(stack: AnyArray, choice: AnyArray) -> AnyArray:
    if len(stack) == 1:
        return stack
    taken: AnyArray = np.take_along_axis(stack, choice[:, None].astype(np.intp), axis=0)
    return taken


def _split(stack: da.Array, layers: Sequence[QALayer]) -> dict[str, da.Array]:
    """Give each quality layer its own type and fill."""
    return {
        layer.name: map_blocks(
            partial(_split_block, number=number, fill=layer.fill, kind=np.dtype(layer.dtype)),
            "tbyx->tyx",
            stack,
            dtype=layer.dtype,
            name=f"quality-layer-{layer.name}",
        )
        for number, layer in enumerate(layers)
    }


def _split_block(stack: AnyArray, *, number: int, fill: int, kind: np.dtype[Any]) -> AnyArray:
    values = stack[:, number]
    is_missing = (values == NO_QUALITY) | (values == FAILED)
    layer: AnyArray = np.where(is_missing, fill, values).astype(kind)
    return layer


def _failed(stack: da.Array) -> da.Array:
    failed: da.Array = map_blocks(_failed_block, "tbyx->tyx", stack, dtype=bool, name="find-failed")
    return failed


def _failed_block(stack: AnyArray) -> BoolArray:
    found: BoolArray = (stack == FAILED).any(axis=1)
    return found


def _repair(stack: da.Array, fill: int, dtype: np.dtype[Any]) -> da.Array:
    repair = partial(_repair_block, fill=fill, kind=dtype)
    whole: da.Array = map_blocks(repair, "tbyx->tbyx", stack, dtype=dtype, name="fill-failed")
    return whole


def _repair_block(stack: AnyArray, *, fill: int, kind: np.dtype[Any]) -> AnyArray:
    repaired: AnyArray = np.where(stack == FAILED, fill, stack).astype(kind)
    return repaired
