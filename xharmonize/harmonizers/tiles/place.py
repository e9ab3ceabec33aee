"""Where a cube lies on a model's lattice: the grid it has to be on, and the plan that follows."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isclose

import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.contract import REQUESTED_BOUNDS
from xharmonize.cube.geobox import (
    TOLERANCE,
    describe_grid,
    geobox_of,
    is_same_crs,
    read_crs,
    snap,
    utm_zone,
)
from xharmonize.errors import GridError, ModelError
from xharmonize.harmonizers.tiles.axis import Axis, Cells
from xharmonize.harmonizers.tiles.plan import Plan
from xharmonize.models.kinds.generator import GeneratorCard, Input
from xharmonize.models.lattice import PROJECTED, Lattice
from xharmonize.models.refs import ModelRef, Runtime


def require_on_lattice(box: GeoBox, card: GeneratorCard) -> None:
    """Raise `GridError` unless a cube has the pixels that a model was trained on.

    Parameters
    ----------
    box : GeoBox
        North up.
    card : GeneratorCard
    """
    lattice, source = card.lattice, card.finest
    side = source.gsd
    needs = f"model {card.name!r} needs pixels of {side:g} m with edges at {source.phase[0]:g}, "
    needs += f"{source.phase[1]:g}; the cube has {describe_grid(box)}"
    if lattice.crs != PROJECTED and not is_same_crs(box.crs, read_crs(lattice.crs)):
        raise GridError(
            f"model {card.name!r} was made for {lattice.crs}; the cube has {describe_grid(box)}; "
            f"{_cure(card, lattice.crs)}"
        )
    if not box.crs.projected or box.crs.units[0] not in ("metre", "meter", "m"):
        raise GridError(f"{needs}; {_cure(card, utm_zone(box))}")
    a, e = box.affine.a, box.affine.e
    if not (isclose(a, side, rel_tol=1e-6) and isclose(-e, side, rel_tol=1e-6)):
        raise GridError(f"{needs}; {_cure(card)}")
    off = [(box.affine.c - source.phase[0]) / side, (box.affine.f - source.phase[1]) / side]
    if any(abs(number - round(number)) > TOLERANCE for number in off):
        raise GridError(f"{needs}; {_cure(card)}")


def make_plan(
    box: GeoBox,
    bounds: Sequence[float] | None,
    card: GeneratorCard,
    ref: ModelRef,
    runtime: Runtime,
    *,
    flags: bool,
    chunk: tuple[int, int] | None,
) -> tuple[Plan, GeoBox]:
    """Return the plan of a cube, and the grid of its result.

    Parameters
    ----------
    box : GeoBox
        Grid of the cube, north up, as `require_on_lattice` wants it.
    bounds : (left, bottom, right, top), optional
        Box asked for, where the cube holds a margin around it.
    chunk : (int, int), optional
        Cube pixels a side that a block of the result is to cover; all where there is none.
    """
    lattice = card.lattice
    target = snap(_wanted(box, bounds), lattice.resolution, box.crs, phase=lattice.phase)
    first_row = round((lattice.phase[1] - target.affine.f) / lattice.resolution)
    first_column = round((target.affine.c - lattice.phase[0]) / lattice.resolution)
    starts, sizes = (first_row, first_column), tuple(map(int, box.shape))
    rows, columns = (
        _axis(
            number,
            box,
            card,
            (starts[number], starts[number] + int(target.shape[number])),
            sizes[number],
            None if chunk is None else chunk[number],
        )
        for number in (0, 1)
    )
    plan = Plan(
        ref=ref,
        card=card.slim(),
        domain=card.domain if flags else None,
        runtime=runtime,
        rows=rows,
        columns=columns,
        flags=flags,
    )
    return plan, target


def _axis(
    number: int,
    box: GeoBox,
    card: GeneratorCard,
    span: tuple[int, int],
    size: int,
    chunk: int | None,
) -> Axis:
    lattice, source = card.lattice, card.finest
    side = source.gsd
    # The cube's first pixel, counted from the phase of its input, to the south or to the east.
    edge = (source.phase[1] - box.affine.f, box.affine.c - source.phase[0])[number]
    origin = round(edge / side)
    step = lattice.cells(side)
    if chunk is None:
        per_group = -(-(span[1] - span[0]) // lattice.stride) + 1
    else:
        per_group = max(1, round(chunk / step / lattice.stride))
    return Axis(
        lattice=lattice,
        start=span[0],
        stop=span[1],
        size=size,
        first=lattice.shift(side, source.phase)[number] - origin,
        step=step,
        inputs=tuple(_cells(one, source, lattice, number, origin) for one in card.inputs),
        per_group=per_group,
    )


def _cells(one: Input, fine: Input, lattice: Lattice, number: int, origin: int) -> Cells:
    """Pixels of an input beside the cube's, which are those of the finest input."""
    ratio = Fraction(one.gsd).limit_denominator(10**6) / Fraction(fine.gsd).limit_denominator(10**6)
    shift = (fine.phase[1] - one.phase[1], one.phase[0] - fine.phase[0])[number] / fine.gsd
    if ratio.denominator != 1 or abs(shift - round(shift)) > TOLERANCE:
        raise ModelError(
            f"pixels of input {one.name!r} ({one.gsd:g} m, edges at {one.phase}) hold no whole "
            f"number of those of {fine.name!r} ({fine.gsd:g} m, edges at {fine.phase})"
        )
    cells = lattice.cells(one.gsd)
    return Cells(
        factor=int(ratio),
        offset=round(shift) - origin,
        first=lattice.starts(one.gsd, one.phase)[number],
        stride=int(lattice.stride * cells),
        tile=int(lattice.tile * cells),
    )


def _wanted(box: GeoBox, bounds: Sequence[float] | None) -> tuple[float, float, float, float]:
    """Bounds of the result: the cube's, within what was asked for."""
    own = (*box.boundingbox,)
    left, bottom, right, top = (float(value) for value in own)
    if bounds is None:
        return left, bottom, right, top
    found = (
        max(left, bounds[0]),
        max(bottom, bounds[1]),
        min(right, bounds[2]),
        min(top, bounds[3]),
    )
    if not (found[2] > found[0] and found[3] > found[1]):
        raise GridError(
            f"the cube ({describe_grid(box)}) does not meet the box it was opened for, "
            f"{tuple(bounds)}; drop that from cube.attrs[{REQUESTED_BOUNDS!r}] where it was cut "
            "since"
        )
    return found


def _cure(card: GeneratorCard, crs: str | None = None) -> str:
    """How a cube comes onto the grid; bands of coarser pixels by themselves, as they are held."""
    fine = card.finest
    coarse = [source for source in card.inputs if source.gsd != fine.gsd]
    is_named = any(source.phase != (0.0, 0.0) for source in card.inputs)
    origin = "; snap is that of xharmonize.cube.geobox" if is_named else ""
    if not coarse:
        return f"call cube.{_regrid(fine, crs)} first{origin}"
    held = "".join(
        f"; held{source.gsd:g} = cube.sel(band={list(source.bands)}).{_regrid(source, crs)}"
        ".harmonize.regrid(like=fine, how='nearest')"
        for source in coarse
    )
    names = ", ".join(f"held{source.gsd:g}" for source in coarse)
    equal = [band for source in card.inputs if source.gsd == fine.gsd for band in source.bands]
    return (
        f"give xr.concat([fine, {names}], 'band'), bands of each pixel size put there by "
        f"themselves: fine = cube.sel(band={equal}).{_regrid(fine, crs)}{held}{origin}"
    )


def _regrid(source: Input, crs: str | None) -> str:
    """Call that puts a cube on the grid of an input."""
    if source.phase == (0.0, 0.0):
        where = "" if crs is None else f"crs={crs!r}, "
        return f"harmonize.regrid({where}resolution={source.gsd:g})"
    of = "crs" if crs is None else repr(crs)
    return f"harmonize.regrid(like=snap(bounds, {source.gsd:g}, {of}, phase={source.phase}))"


def north_up(array: xr.DataArray) -> tuple[xr.DataArray, bool]:
    """Return the cube with rows from north to south, and whether it was turned round."""
    if geobox_of(array).affine.e < 0:
        return array, False
    return array.isel(y=slice(None, None, -1)), True
