"""Parts of a cube: time steps of one sensor, read, masked and decoded, then joined along time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask import array as da

from xharmonize import __version__
from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import (
    BAND_COORDS,
    REFLECTANCE,
    TIME_COORDS,
    Step,
    on_reflectance,
    read_contract,
    with_history,
    write_contract,
)
from xharmonize.cube.encode import decode, nan_for_nodata
from xharmonize.cube.geobox import write_grid
from xharmonize.cube.masks import QA_ATTRS, Mask, pack_qa, qa_layers
from xharmonize.cube.masks import mask as apply_mask
from xharmonize.cube.quality import flag_saturated, settable
from xharmonize.cube.radar import ORBIT_STATE, RELATIVE_ORBIT
from xharmonize.cube.regrid import regrid_to
from xharmonize.errors import MaskError, RadiometryWarning, warn
from xharmonize.io.stac.fields import Scene
from xharmonize.io.stac.grid import PixelPhase, native_grid, place
from xharmonize.io.stac.identity import is_own
from xharmonize.io.stac.pixels import Load, Pixels, default_chunks, load_pixels
from xharmonize.io.stac.settle import ANGLES, ATTRIBUTES, angles_of_item, orbit_of_item
from xharmonize.sensors.qa import layout_of
from xharmonize.sensors.spec import UNKNOWN, Flag, Names, QALayer, Sensor
from xharmonize.types import AnyArray, Engine

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def join_parts(parts: Sequence[xr.Dataset], numbers: Sequence[Sequence[int]]) -> xr.Dataset:
    """Join parts along time, lazily; steps loaded in pieces become one.

    Parameters
    ----------
    parts : sequence of Dataset
        With ``reflectance`` (time, band, y, x) and maybe ``qa`` (time, y, x), on one grid.
    numbers : sequence of sequence of int
        For each part, the place of each of its steps in the result; a number that occurs twice is
        a step in pieces (items of one pass in two UTM zones), of which each pixel is taken from
        the first piece that has all bands there, else the first that has any.
    """
    if len(parts) == 1:
        return parts[0]
    flat = [number for part in numbers for number in part]
    order = np.argsort(flat, kind="stable")
    joined = xr.concat(
        parts,
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        combine_attrs="override",
        join="override",
    )
    joined = joined.isel(time=order)
    named = joined[REFLECTANCE].assign_attrs(history=_histories(parts))
    joined = joined.assign({REFLECTANCE: named})
    sizes = [len(list(group)) for _, group in groupby(sorted(flat))]
    return joined if max(sizes) == 1 else _merge_pieces(joined, sizes)


def _histories(parts: Sequence[xr.Dataset]) -> str:
    """History of each part in one line, since they differ."""
    lines = [part[REFLECTANCE].attrs.get("history", "") for part in parts]
    return "\n".join(dict.fromkeys(line.replace("\n", "; ") for line in lines))


def merge_steps(steps: Sequence[Step]) -> Step:
    """Return the contract of items that became one step: the first's, with every item named.

    Items of one step share sensor, platform, scale, offset and nodata. Item ids and tiles are
    joined by `Names`; a baseline they do not share is unknown.
    """
    first = steps[0]
    if len(steps) == 1:
        return first
    baselines = {step.processing_baseline for step in steps}
    return replace(
        first,
        item_id=str(Names.of(step.item_id for step in steps)),
        tile=str(Names.of(step.tile for step in steps)),
        processing_baseline=first.processing_baseline if len(baselines) == 1 else UNKNOWN,
    )


def _merge_pieces(cube: xr.Dataset, sizes: Sequence[int]) -> xr.Dataset:
    cube = cube.chunk({"time": tuple(sizes), "band": -1})
    values, flags = cube[REFLECTANCE].data, cube["qa"].data if "qa" in cube else None
    firsts = np.cumsum([0, *sizes[:-1]])
    steps = read_contract(cube[REFLECTANCE])
    merged = [merge_steps(steps[i : i + n]) for i, n in zip(firsts, sizes)]
    result = cube.isel(time=firsts)
    result[REFLECTANCE] = result[REFLECTANCE].copy(data=_merge(values, flags, values))
    if flags is not None:
        result["qa"] = result["qa"].copy(data=_merge(values, flags, flags))
    renewed = write_contract(result[REFLECTANCE], merged)
    return result.assign_coords({n: renewed.coords[n] for n in (*TIME_COORDS, *BAND_COORDS)})


def _merge(values: da.Array, flags: da.Array | None, what: da.Array) -> Any:
    index = "tbyx" if what.ndim == 4 else "tyx"
    others = [] if flags is None else [flags]
    return map_blocks(
        _merge_block,
        f"tbyx,{index}{',tyx' * len(others)}->{index}",
        values,
        what,
        *others,
        sizes={"t": 1},
        dtype=what.dtype,
        name="merge-pieces",
    )


def _merge_block(values: AnyArray, what: AnyArray, flags: AnyArray | None = None) -> AnyArray:
    if len(values) == 1:
        return what
    is_valid = ~np.isnan(values)
    two = np.uint8(2)
    score = two * is_valid.all(axis=1) + two * is_valid.any(axis=1)
    if flags is not None:
        score = score + (flags & np.uint16(Flag.FILL) == 0)
    choice = score.argmax(axis=0)[None]
    if what.ndim == 4:
        choice = choice[:, None]
    taken: AnyArray = np.take_along_axis(what, choice, axis=0)
    return taken


_LONG_NAMES = {
    "TOA": "top-of-atmosphere reflectance",
    "SR": "surface reflectance",
    "NBAR": "nadir BRDF-adjusted surface reflectance",
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `open_stac` was asked for, checked.

    Attributes
    ----------
    bands : tuple of str
    geobox : GeoBox
        Grid of the result, rows from north to south.
    engine : {"stackstac", "odc"}
    chunks : tuple or None
        Dask chunks (time, band, y, x); None for the default.
    mask : Mask or None
    qa, decode, skips : bool
        Whether the packed quality layer is kept, numbers become reflectance, and assets that
        cannot be read become nodata.
    resampling : str or None
        GDAL method; None picks by nearest, and averages where the grid is coarser.
    source : str
        Catalogue and query, for the history.
    """

    bands: tuple[str, ...]
    geobox: GeoBox
    engine: Engine
    chunks: tuple[Any, Any, Any, Any] | None
    mask: Mask | None
    qa: bool
    decode: bool
    skips: bool
    resampling: str | None
    source: str


def open_part(
    steps: Sequence[Sequence[Scene]], lattice: PixelPhase | None, request: Request
) -> xr.Dataset:
    """Open time steps of one sensor.

    Parameters
    ----------
    steps : sequence of sequence of Scene
        The scenes of each step.
    lattice : Lattice or None
        Native pixels to read and then to average; None reads the target grid.
    request : Request
        What is asked for.

    Returns
    -------
    Dataset
        ``reflectance`` (time, band, y, x), and ``qa`` (time, y, x) where asked for.
    """
    scenes = [scene for step in steps for scene in step]
    geobox = request.geobox
    if lattice is not None:
        geobox = native_grid(lattice, scenes, request.bands, request.geobox)
    chunks = request.chunks if lattice is None else None
    load = Load(
        bands=request.bands,
        layers=_layers(scenes, request),
        geobox=geobox,
        engine=request.engine,
        chunks=chunks or default_chunks(len(request.bands)),
        resampling=request.resampling or "nearest",
        skips=request.skips,
    )
    placed = [[(scene, place(scene, request.bands, geobox)) for scene in step] for step in steps]
    pixels = load_pixels(placed, load)
    cube = _encoded(pixels, steps, load, request.source).to_dataset()
    if load.layers or request.qa:
        cube["qa"] = _packed(pixels, cube[REFLECTANCE], scenes, request)
    if request.qa and pixels.numbers.dtype.kind in "iu":
        # Once decoded, nothing tells it any more: a mask applied later has to find it in qa.
        cube["qa"] = flag_saturated(cube["qa"], cube[REFLECTANCE])
    if request.mask is not None and load.layers:
        cube = apply_mask(cube, request.mask)
    if not request.qa:
        cube = cube[[REFLECTANCE]]
    cube = on_reflectance(cube, nan_for_nodata)
    if request.decode:
        cube = decode(cube)
    if lattice is not None:
        cube = regrid_to(cube, request.geobox)
    return cube


def _layers(scenes: Sequence[Scene], request: Request) -> tuple[QALayer, ...]:
    """Quality layers to read: those that the mask uses, or all with `qa`."""
    sensor = scenes[0].sensor
    needed = () if request.mask is None else qa_layers(sensor, request.mask)
    _require_quality(sensor, request.mask)
    for layer in needed:
        lacking = [scene.id for scene in scenes if layer.name not in scene.assets]
        if lacking and request.skips:
            _warn_of_layer(layer, lacking)
        elif lacking:
            cure = "pass mask=None" if layer.is_primary else "mask without the flags it sets"
            raise MaskError(
                f"({sensor.name}) has no quality layer {layer.name!r} (asset "
                f"{' or '.join(layer.assets)}), which the mask needs",
                cure=f"leave the item out, {cure}",
                item=lacking[0],
            )
    there = {name for scene in scenes for name in scene.assets}
    # Layers that say more about what is removed: pixels must not depend on whether qa is kept.
    asked = Flag(0) if request.mask is None else request.mask.flags(sensor) & ~settable(needed)
    return tuple(
        layer
        for layer in sensor.qa
        if layer.name in there
        and (request.qa or layer in needed or layout_of(layer).flags & asked & ~Flag.FILL)
    )


def _warn_of_layer(layer: QALayer, lacking: Sequence[str]) -> None:
    named = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
    warn(
        f"{len(lacking)} items ({named}) have no quality layer {layer.name!r}, so that nothing of "
        "them is known to be clear: they are missing (NaN) where the mask is applied",
        RadiometryWarning,
    )


def _require_quality(sensor: Sensor, mask: Mask | None) -> None:
    """Raise `MaskError` if flags are named for a product without quality layers."""
    named = Flag(0) if mask is None or sensor.qa else mask.flags() & ~(Flag.FILL | Flag.SKIPPED)
    if named:
        names = ", ".join(flag.label for flag in Flag if flag & named)
        raise MaskError(
            f"{sensor.name} has no quality layer that tells {names}", cure="pass mask=None"
        )


def _encoded(
    pixels: Pixels, steps: Sequence[Sequence[Scene]], load: Load, source: str
) -> xr.DataArray:
    """Digital numbers as a cube with its contract."""
    first = steps[0][0]
    days = sorted(str(scene.datetime)[:10] for step in steps for scene in step)
    read = f"{len(days)} items of {days[0]} to {days[-1]}"
    how = f"{first.sensor.name} by {load.engine}, {load.resampling}"
    cube = xr.DataArray(
        pixels.numbers,
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array([step[0].datetime for step in steps], "datetime64[ns]"),
            "band": list(load.bands),
        },
        name=REFLECTANCE,
        attrs=with_history(
            {
                "long_name": _LONG_NAMES.get(first.step.level, first.sensor.quantity),
                "units": first.units,
                **_lineage(first),
            },
            f"open_stac: {how}, {read} from {source}; xharmonize {__version__}",
        ),
    )
    merged = [merge_steps([scene.step for scene in step]) for step in steps]
    nodata = dict.fromkeys(load.bands, float(pixels.fill))
    cube = write_contract(cube, [replace(step, nodata=nodata) for step in merged])
    seen = [step[0] for step in steps]
    orbits = _orbits(seen) if first.sensor.radiometry.is_power else {}
    return write_grid(cube.assign_coords(_angles(seen) | orbits), load.geobox)


def _lineage(scene: Scene) -> dict[str, str]:
    """History that `to_cogs` kept in the item."""
    text = scene.item["properties"].get("processing:lineage") if is_own(scene.item) else None
    return {"history": str(text)} if text else {}


def _angles(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Mean sun and view angles as coordinates along time; NaN where an item does not say."""
    rows = [angles_of_item(scene.item) for scene in scenes]
    return {
        name: ("time", np.array([row[name] for row in rows]), dict(ATTRIBUTES[name]))
        for name in ANGLES
    }


def _orbits(scenes: Sequence[Scene]) -> dict[str, Any]:
    """From where a radar looked, as coordinates along time."""
    rows = [orbit_of_item(scene.item) for scene in scenes]
    return {
        ORBIT_STATE: ("time", np.array([state for state, _ in rows], str)),
        RELATIVE_ORBIT: ("time", np.array([number for _, number in rows], float)),
    }


def _packed(
    pixels: Pixels, cube: xr.DataArray, scenes: Sequence[Scene], request: Request
) -> xr.DataArray:
    """Pack quality layers; without one, a pixel that no band has is fill."""
    template = cube.isel(band=0, drop=True)
    template.attrs = {}
    if pixels.layers:
        probability = None if request.mask is None else request.mask.cloud_probability
        layers = {name: template.copy(data=data) for name, data in pixels.layers.items()}
        sensor, platforms = scenes[0].sensor, {scene.step.platform for scene in scenes}
        only = platforms.pop() if len(platforms) == 1 else None
        packed = pack_qa(
            layers,
            sensor,
            cloud_probability=probability,
            bands=request.bands,
            platform=only if only in sensor.platforms else None,
        )
    else:
        packed = template.copy(data=_fill_flag(pixels.numbers, pixels.fill)).assign_attrs(QA_ATTRS)
    if pixels.failed is not None:
        data = packed.data | da.where(pixels.failed, np.uint16(Flag.SKIPPED), np.uint16(0))
        packed = packed.copy(data=data)
    return packed.rename("qa")


def _fill_flag(numbers: da.Array, fill: int) -> da.Array:
    flags: da.Array = map_blocks(
        partial(_fill_flag_block, fill=fill),
        "tbyx->tyx",
        numbers,
        dtype=np.uint16,
        name="flag-fill",
    )
    return flags


def _fill_flag_block(numbers: AnyArray, *, fill: int) -> AnyArray:
    flags: AnyArray = (numbers == fill).all(axis=1) * np.uint16(Flag.FILL)
    return flags
