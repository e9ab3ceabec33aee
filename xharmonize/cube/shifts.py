"""Shifts of dates against each other and against another sensor, to a fraction of a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize._progress import computing
from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.contract import main_layer, read_coordinate, require_bands
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import describe_grid, geobox_of, is_same_crs
from xharmonize.cube.orbits import in_metres, metres_per_unit, orbit_groups
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, FitError, GridError, OptionError, require_fraction
from xharmonize.kernels.regrid import AxisMap
from xharmonize.kernels.shifts import Edges, Solved, View, measure_shift, solve_network
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, BoolArray, Duration, Float64Array, FloatArray, IntArray

BANDS = ("green", "red", "nir", "nir08", "swir16", "blue")
"""Bands that shifts are found in, in order of preference."""

N_BANDS = 4
BLUR = 1.0
"""Standard deviation of the Gaussian through which images of one grid are compared [pixel]."""


def shift(cube: xr.DataArray | xr.Dataset, fit: xr.Dataset, *, like: Any = None) -> Any:
    """Bring the content of each date to its place, lazily.

    The same as `xharmonize.regrid` with ``shifts=fit``, onto `like` or the cube's own grid. On its
    own grid each pixel is interpolated linearly, which blurs a little; with ``like=`` the area
    means of the target take the shift along, and nothing is resampled twice.

    Parameters
    ----------
    cube : DataArray or Dataset
        (time, …, y, x), NaN where missing.
    fit : Dataset
        From `fit_shifts`.
    like : DataArray, Dataset or GeoBox, optional
        Grid of the result. Default: the cube's own.
    """
    given: Any = at_door(cube)
    return regrid(given, like=geobox_of(given) if like is None else like, shifts=fit)


def fit_shifts(
    cube: xr.DataArray | xr.Dataset,
    *,
    reference: xr.DataArray | xr.Dataset | None = None,
    exclude: Sequence[Any] = (),
    bands: Sequence[str] | None = None,
    max_gap: Duration = "45D",
    reference_gap: Duration = "16D",
    neighbours: int = 8,
    min_valid: float = 0.5,
    max_shift: float = 30.0,
    psf: float = 3.0,
    size: int = 512,
    progress: bool | None = None,
) -> xr.Dataset:
    """Find by how much the dates of a cube are shifted, among themselves or against a sensor.

    Each date is compared with those near in time, and each pair gives a difference of shifts with
    its covariance (`xharmonize.kernels.shifts.measure_shift`). Robust least squares adjusts the
    network of all differences; a date with few or poor ones is drawn to the mean of its platform
    and orbit, by as much as the estimated variances say. This reads pixels and computes.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        NaN where missing; clouds should be masked.
    reference : (time, band, y, x) cube, optional
        Another sensor, on any grid of the same CRS. The finer of both is averaged to the coarser's
        grid, with exact area weights that carry the shift. The mean of the reference's shifts is
        then zero; without it, that of the cube's.
    exclude : sequence of dates
        Days of the reference, such as ``"2018-07-01"``, whose pixels are not read: those on which a
        model is scored.
    bands : sequence of str, optional
        Bands to compare. Default: up to four of those that both have.
    max_gap, reference_gap : str or Timedelta
        Largest time between two dates of the cube, and between a date and one of the reference.
    neighbours : int
        Comparisons of each date with later ones, nearest first; the same with the reference's.
    min_valid : float
        Minimum valid fraction of a date within the window [1]; others are not compared.
    max_shift : float
        Longest difference to believe [m].
    psf : float
        Standard deviation of the Gaussian in averages to the coarser grid [m].
    size : int
        Longest side of the window in the middle of the cube that is read [pixel of the cube].
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).

    Returns
    -------
    Dataset
        Along ``time``: ``shift_x`` and ``shift_y`` [m], how far east and north of its place the
        content lies; ``shift_se`` [m], one standard deviation per axis; ``n_edges``, ``group``
        (platform and orbit), ``group_x``, ``group_y`` (mean of the group [m]). Along ``edge``: the
        differences, ``edge_x``, ``edge_y``, ``edge_se`` [m], their dates, and ``left_out_x``,
        ``left_out_y``: what each differs by from a fit to the others [m]. With a reference also
        ``reference_shift_x``, … along ``reference_time``, without the excluded days.

    Raises
    ------
    FitError
        If no two dates can be compared.
    GridError
        If the CRSs differ.
    BandError
        If no band is in both.
    """
    values = main_layer(at_door(cube), what="fit_shifts")
    other = None
    if reference is not None:
        other = _without(main_layer(at_door(reference), what="fit_shifts"), exclude)
    _require_options(neighbours, min_valid, max_shift, psf, size)
    names = _bands(values, other, bands)
    with computing("Reading dates", progress):
        own = _read(values.sel(band=names), size, min_valid)
    found = list(_among(own, duration_in_days(max_gap, argument="max_gap"), neighbours, max_shift))
    images = own
    if other is not None:
        with computing("Reading dates of the reference", progress):
            seen = _read(_around(other.sel(band=names), own.grid), None, min_valid)
        gap = duration_in_days(reference_gap, argument="reference_gap")
        found += list(_between(own, seen, gap, neighbours, max_shift, psf))
        images = own.joined(seen)
    if not found:
        raise FitError(
            f"no two dates within {max_gap} can be compared",
            cure="raise max_gap=, lower min_valid=, or give more dates",
            argument="max_gap",
            value=max_gap,
        )
    return _fitted(images, found, n_own=len(own.times), bands=names)


@dataclass(frozen=True, kw_only=True)
class _Images:
    """Dates of a cube within a window, in memory.

    Attributes
    ----------
    pixels : tuple of (band, y, x) float array, or None
        None for dates of which too little is clear.
    """

    times: AnyArray
    ids: AnyArray
    groups: AnyArray
    pixels: tuple[FloatArray | None, ...]
    grid: GeoBox

    @property
    def clear(self) -> list[int]:
        """Numbers of the clear dates, in order of time."""
        return [i for i in np.argsort(self.times, kind="stable") if self.pixels[i] is not None]

    def joined(self, other: _Images) -> _Images:
        """Dates of both, on the grid of the first."""
        return _Images(
            times=np.concatenate([self.times, other.times]),
            ids=np.concatenate([self.ids, other.ids]),
            groups=np.concatenate([self.groups, other.groups]),
            pixels=(*self.pixels, *other.pixels),
            grid=self.grid,
        )


@dataclass(frozen=True, kw_only=True)
class _Edge:
    """A difference of shifts between two dates: east and north [m], covariance [m²]."""

    first: int
    second: int
    value: Float64Array
    covariance: Float64Array


def _read(cube: xr.DataArray, size: int | None, min_valid: float) -> _Images:
    """Read the window in the middle of a cube, date by date."""
    part = cube.isel({dim: _middle(cube.sizes[dim], size) for dim in ("y", "x")})
    part = part.transpose("time", "band", "y", "x")
    pixels: list[FloatArray | None] = []
    for batch in _batches(part):
        block = batch.compute() if is_lazy(batch.variable) else batch
        for image in np.asarray(block.values, np.float32):
            clear = np.isfinite(image).all(axis=0).mean()
            pixels.append(image.copy() if clear >= min_valid and clear > 0 else None)
    ids = [
        read_coordinate(cube, "item_id").astype(str)
        if "item_id" in cube.coords
        else np.full(cube.sizes["time"], UNKNOWN)
    ][0]
    return _Images(
        times=cube["time"].values.astype("datetime64[ns]"),
        ids=ids,
        groups=orbit_groups(cube),
        pixels=tuple(pixels),
        grid=geobox_of(part),
    )


def _batches(cube: xr.DataArray, n_bytes: int = 2**28) -> Iterator[xr.DataArray]:
    """Dates whose pixels fit into memory together."""
    one = max(4 * cube.size // max(cube.sizes["time"], 1), 1)
    step = max(n_bytes // one, 1)
    for start in range(0, cube.sizes["time"], step):
        yield cube.isel(time=slice(start, start + step))


def _middle(n_pixels: int, size: int | None) -> slice:
    if size is None or n_pixels <= size:
        return slice(None)
    start = (n_pixels - size) // 2
    return slice(start, start + size)


def _around(cube: xr.DataArray, grid: GeoBox) -> xr.DataArray:
    """Part of a cube that overlaps a grid of the same CRS."""
    own = geobox_of(cube)
    if not is_same_crs(own.crs, grid.crs):
        raise GridError(
            f"the reference ({describe_grid(own)}) and the cube ({describe_grid(grid)}) have "
            "different CRSs",
            cure="bring the reference to the cube's with reference.harmonize.regrid(crs=...)",
        )
    box = grid.boundingbox
    x, y = cube["x"].values, cube["y"].values
    columns = np.flatnonzero((x > box.left) & (x < box.right))
    rows = np.flatnonzero((y > box.bottom) & (y < box.top))
    if not (columns.size > 1 and rows.size > 1):
        raise GridError(
            f"the reference ({describe_grid(own)}) does not meet the cube ({describe_grid(grid)})",
            cure="check the coordinates of both",
        )
    return cube.isel(
        y=slice(int(rows[0]), int(rows[-1]) + 1), x=slice(int(columns[0]), int(columns[-1]) + 1)
    )


def _among(images: _Images, gap: float, neighbours: int, max_shift: float) -> Iterator[_Edge]:
    """Compare each clear date with those that follow it."""
    size = images.grid.shape
    axes = [AxisMap(first=0.0, step=1.0, n_source=int(n), sigma=BLUR) for n in size]
    view = View(y=axes[0], x=axes[1], shape=(int(size[0]), int(size[1])), halve=True)
    order = images.clear
    for place, i in enumerate(order):
        for j in order[place + 1 : place + 1 + neighbours]:
            if _gap(images.times[i], images.times[j]) <= gap:
                yield from _edge(images, i, images.pixels[j], j, view, images.grid, max_shift)


def _between(
    own: _Images, other: _Images, gap: float, neighbours: int, max_shift: float, psf: float
) -> Iterator[_Edge]:
    """Compare each date of the reference with the nearest of the cube."""
    is_finer = abs(own.grid.affine.a) <= abs(other.grid.affine.a)
    fine, coarse = (own, other) if is_finer else (other, own)
    view = _view(fine.grid, coarse.grid, psf)
    for k in other.clear:
        near = sorted(own.clear, key=lambda i: _gap(own.times[i], other.times[k]))
        for i in near[:neighbours]:
            if _gap(own.times[i], other.times[k]) > gap:
                break
            moving, still = (i, other.pixels[k]) if is_finer else (k, own.pixels[i])
            for edge in _edge(fine, moving, still, -1, view, fine.grid, max_shift):
                sign = 1.0 if is_finer else -1.0
                yield _Edge(
                    first=i,
                    second=len(own.times) + k,
                    value=sign * edge.value,
                    covariance=edge.covariance,
                )


def _view(fine: GeoBox, coarse: GeoBox, psf: float) -> View:
    """How a fine grid is averaged to a coarse one."""
    one, other = fine.affine, coarse.affine
    metres_x, metres_y = metres_per_unit(fine)
    y = AxisMap(
        first=(other.f - one.f) / one.e,
        step=other.e / one.e,
        n_source=int(fine.shape[0]),
        sigma=psf / abs(one.e * metres_y),
    )
    x = AxisMap(
        first=(other.c - one.c) / one.a,
        step=other.a / one.a,
        n_source=int(fine.shape[1]),
        sigma=psf / abs(one.a * metres_x),
    )
    return View(y=y, x=x, shape=(int(coarse.shape[0]), int(coarse.shape[1])), halve=False)


def _edge(
    images: _Images,
    i: int,
    still: FloatArray | None,
    j: int,
    view: View,
    grid: GeoBox,
    max_shift: float,
) -> Iterator[_Edge]:
    """Measure one difference; nothing where none is found."""
    moving = images.pixels[i]
    if moving is None or still is None:
        return
    scale = in_metres(grid)
    found = measure_shift(moving, still, view, max_shift=max_shift / float(np.abs(scale).max()))
    if np.isfinite(found.shift).all():
        yield _Edge(
            first=i,
            second=j,
            value=scale @ found.shift,
            covariance=scale @ found.covariance @ scale.T,
        )


def _fitted(
    images: _Images, found: Sequence[_Edge], *, n_own: int, bands: Sequence[str]
) -> xr.Dataset:
    """Adjust the network and tell it as a Dataset."""
    first, second = (
        np.array([getattr(edge, end) for edge in found]) for end in ("first", "second")
    )
    value = np.array([edge.value for edge in found])
    variance = np.array([np.diag(edge.covariance) for edge in found])
    group, is_fixed = _numbered(images.groups, n_own)
    solved = _solved(first, second, value, variance, group, is_fixed)
    count = np.bincount(np.concatenate([first, second]), minlength=len(images.times))
    layers = _of_dates(solved, count, "", slice(0, n_own))
    if n_own < len(images.times):
        layers |= _of_dates(solved, count, "reference_", slice(n_own, None))
    for axis, one in zip("xy", solved):
        layers[f"group_{axis}"] = ("time", one.mean[group[:n_own]], _METRES)
        layers[f"left_out_{axis}"] = ("edge", one.left_out, _METRES)
    layers |= {f"edge_{axis}": ("edge", value[:, k], _METRES) for k, axis in enumerate("xy")}
    layers["edge_se"] = ("edge", np.sqrt(variance.mean(axis=1)), _METRES)
    coords: dict[str, Any] = {
        "time": images.times[:n_own],
        "item_id": ("time", images.ids[:n_own]),
        "group": ("time", images.groups[:n_own]),
        "first_time": ("edge", images.times[first]),
        "second_time": ("edge", images.times[second]),
        "is_reference": ("edge", is_fixed[second]),
    }
    if n_own < len(images.times):
        coords["reference_time"] = images.times[n_own:]
        coords["reference_item_id"] = ("reference_time", images.ids[n_own:])
        coords["reference_group"] = ("reference_time", images.groups[n_own:])
    attrs = {
        "history": f"fit_shifts: {len(found)} differences in {', '.join(bands)}",
        "spread_x": solved[0].spread,
        "spread_y": solved[1].spread,
        "noise_x": solved[0].noise.tolist(),
        "noise_y": solved[1].noise.tolist(),
    }
    return xr.Dataset(layers, coords=coords, attrs=attrs)


def _of_dates(
    solved: Sequence[Solved], count: IntArray, prefix: str, part: slice
) -> dict[str, Any]:
    """Shifts of some of the dates, how well they are known, and from how many differences."""
    dim = f"{prefix}time"
    deviation = np.hypot(solved[0].deviation, solved[1].deviation) / np.sqrt(2)
    return {
        f"{prefix}shift_x": (dim, solved[0].value[part], _METRES),
        f"{prefix}shift_y": (dim, solved[1].value[part], _METRES),
        f"{prefix}shift_se": (dim, deviation[part], _METRES),
        f"{prefix}n_edges": (dim, count[part]),
    }


def _numbered(groups: AnyArray, n_own: int) -> tuple[IntArray, BoolArray]:
    """Number of each date's group, and which dates are the reference's.

    The reference's dates are groups of their own, even where both are of one platform.
    """
    names, group = np.unique(groups, return_inverse=True)
    is_fixed = np.arange(len(groups)) >= n_own
    group = np.unique(group.ravel() + len(names) * is_fixed, return_inverse=True)[1].ravel()
    return group.astype(np.int64), is_fixed


def _solved(
    first: IntArray,
    second: IntArray,
    value: Float64Array,
    variance: Float64Array,
    group: IntArray,
    is_fixed: BoolArray,
) -> list[Solved]:
    """Adjust the network along both axes; `value` and `variance` are (edge, axis)."""
    kind = is_fixed[second].astype(np.int64)
    return [
        solve_network(
            Edges(
                first=first,
                second=second,
                value=value[:, k],
                variance=variance[:, k],
                kind=kind,
            ),
            group,
            is_fixed,
        )
        for k in range(2)
    ]


def without_reference(fit: xr.Dataset, days: AnyArray) -> xr.Dataset | None:
    """Adjust the network of `xharmonize.fit_shifts` again without some dates of the reference.

    No pixel is read: the differences from those dates are dropped, and nothing that is left
    depends on them.

    Parameters
    ----------
    fit : Dataset
        From `xharmonize.fit_shifts`.
    days : datetime64 array
        Days of the reference to leave out.

    Returns
    -------
    Dataset or None
        As `fit_shifts` gives it, without statistics of edges; None if no difference is left.
    """
    if "reference_time" not in fit.dims:
        return fit
    away = np.asarray(days).astype("datetime64[D]")
    kept = ~np.isin(fit["reference_time"].values.astype("datetime64[D]"), away)
    used = fit["is_reference"].values.astype(bool)
    is_lost = used & np.isin(fit["second_time"].values.astype("datetime64[D]"), away)
    edges = fit.isel(edge=np.flatnonzero(~is_lost))
    if not edges.sizes["edge"]:
        return None
    reference = fit["reference_time"].values[kept]
    first, second = _ends(edges, fit["time"].values, reference)
    n_own = fit.sizes["time"]
    names = [fit["group"].values.astype(str)]
    if "reference_group" in fit.coords:
        names.append(fit["reference_group"].values.astype(str)[kept])
    group, is_fixed = _numbered(np.concatenate(names), n_own)
    value = np.stack([edges[f"edge_{axis}"].values.astype(float) for axis in "xy"], axis=1)
    variance = np.repeat(edges["edge_se"].values.astype(float)[:, None] ** 2, 2, axis=1)
    layers = {}
    for axis, solved in zip("xy", _solved(first, second, value, variance, group, is_fixed)):
        layers[f"shift_{axis}"] = ("time", solved.value[:n_own])
        layers[f"group_{axis}"] = ("time", solved.mean[group[:n_own]])
        if reference.size:
            layers[f"reference_shift_{axis}"] = ("reference_time", solved.value[n_own:])
    coords = {"time": fit["time"].values, "group": ("time", fit["group"].values)}
    if reference.size:
        coords["reference_time"] = reference
    return xr.Dataset(layers, coords=coords)


def _ends(edges: xr.Dataset, own: AnyArray, reference: AnyArray) -> tuple[IntArray, IntArray]:
    """Numbers of the dates of each difference, those of the reference after the cube's."""
    place = {time: i for i, time in reversed(list(enumerate(own.tolist())))}
    beside = {time: len(own) + i for i, time in reversed(list(enumerate(reference.tolist())))}
    ends = zip(edges["second_time"].values.tolist(), edges["is_reference"].values)
    first = [place[time] for time in edges["first_time"].values.tolist()]
    second = [(beside if is_reference else place)[time] for time, is_reference in ends]
    return np.array(first, np.int64), np.array(second, np.int64)


_METRES = {"units": "m"}


def _gap(one: Any, other: Any) -> float:
    return float(abs(one - other) / np.timedelta64(1, "D"))


def _without(cube: xr.DataArray, days: Sequence[Any]) -> xr.DataArray:
    """Leave out dates by their day, before a pixel of them is read."""
    if isinstance(days, str):
        raise OptionError(
            "is one date", cure=f"give a list, [{days!r}]", argument="exclude", value=days
        )
    try:
        lost = np.array([np.datetime64(pd.Timestamp(day), "D") for day in days], "datetime64[D]")
    except ValueError as error:
        raise OptionError(
            "holds no date", cure="give days such as '2018-07-01'", argument="exclude", value=days
        ) from error
    own = cube["time"].values.astype("datetime64[D]")
    absent = lost[~np.isin(lost, own)]
    if absent.size:
        raise OptionError(
            f"the reference has no date {absent[0]}",
            cure=f"it has {', '.join(map(str, own[:5]))}, …",
            argument="exclude",
            value=list(days),
        )
    kept: BoolArray = ~np.isin(own, lost)
    return cube.isel(time=np.flatnonzero(kept))


def _bands(
    cube: xr.DataArray, other: xr.DataArray | None, wanted: Sequence[str] | None
) -> list[str]:
    """Bands to compare."""
    both = [cube] if other is None else [cube, other]
    if wanted is not None:
        for one in both:
            require_bands(one, list(wanted), what="fit_shifts")
        return list(wanted)
    shared = [str(n) for n in cube["band"].values if all(n in one["band"].values for one in both)]
    if not shared:
        raise BandError("no band is in both cubes", cure="give cubes that share bands")
    ranked = [name for name in BANDS if name in shared] or shared
    return ranked[:N_BANDS]


def _require_options(
    neighbours: int, min_valid: float, max_shift: float, psf: float, size: int
) -> None:
    require_fraction(min_valid, argument="min_valid", error=OptionError)
    for name, value, least in (
        ("neighbours", neighbours, 1),
        ("size", size, 16),
        ("max_shift", max_shift, 1e-9),
        ("psf", psf, 0),
    ):
        if not least <= value < np.inf:
            raise OptionError(cure=f"give {least:g} or more", argument=name, value=value)
