"""Linear functions per pixel and band, fitted on the matched observations of each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr
from odc.geo.crs import CRS

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, select_bands
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import describe_grid, geobox_of, is_same_crs
from xharmonize.cube.pairs import match_pairs
from xharmonize.errors import BandError, FitError, GridError
from xharmonize.harmonizers import base
from xharmonize.harmonizers.paired import Pairs, common_bands, fit_attrs, read_pairs
from xharmonize.harmonizers.protocol import Checked, Fitted
from xharmonize.harmonizers.sums import require_samples
from xharmonize.kernels import regression
from xharmonize.types import AnyArray, BoolArray, Duration, Float64Array, IntArray

Fallback: TypeAlias = Literal["line", "difference"]
PIXELWISE = "pixelwise"
FALLBACK = 255
"""Value of ``stage`` for pixels that use the band's common line."""
_POOLED_MINIMUM = 30


def fit_pixelwise(
    source: xr.Dataset | xr.DataArray | xr.DataTree,
    target: xr.DataArray | xr.Dataset | None = None,
    *,
    days: Sequence[int] = (0, 1),
    n_min: int = 4,
    min_spread: float = 0.005,
    min_r2: float = 0.5,
    fallback: Fallback = "difference",
    interpolate: Duration | None = None,
    neighbours: bool = False,
    allow_mixed_levels: bool = False,
) -> xr.Dataset:
    """Fit a linear function per pixel and band on the pixel's own pairs, lazily.

    A pixel uses its same-day pairs and, if these are fewer than `n_min`, also those one day apart.
    Where they are still too few, or do not define a line, dates of the target without a pair can be
    compared with the source interpolated in time (`interpolate`), and then the pairs of the eight
    pixels around be used too (`neighbours`). What is left gets a common line of the band (see
    `fallback`). ``stage`` tells which was used.

    Parameters
    ----------
    source : Dataset, DataTree or cube
        Pairs from `xharmonize.match_pairs` or `xharmonize.collect_pairs`, or the cube to harmonise;
        a cube requires `target`.
    target : cube, optional
        Reference cube on the grid of `source`.
    days : sequence of int
        Maximum lag of each stage, ascending [day].
    n_min : int
        Minimum number of pairs per pixel (4 in the published code of Shang and Zhu).
    min_spread : float
        Minimum standard deviation of the source over a pixel's pairs [1].
    min_r2 : float
        Minimum squared correlation over a pixel's pairs [1]. If a pixel hardly varies, its pairs
        differ by noise, and a line through them would flatten the series. 0 accepts every rising
        line; the published code accepts every line.
    fallback : {"difference", "line"}
        Common line for pixels with too few pairs, per band over all pixels and pairs.
        ``difference``: slope 1 and the mean difference, which cannot flatten a series. ``line``:
        the fitted line.
    interpolate : str or Timedelta, optional
        Longest gap between the two observations of the source, before and after one of the target,
        that are interpolated linearly [day]: ``"16D"``. It takes two cubes, not pairs, and reads
        all dates of the source.
    neighbours : bool
        Whether pixels with too few pairs use those of the 3 x 3 pixels around.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.

    Returns
    -------
    Dataset
        ``slope`` and ``intercept`` (band, y, x) [1]; ``n`` (band, y, x), number of pairs used;
        ``stage`` (band, y, x), index into the attribute ``stages`` (`days`, then ``interpolated``
        and ``neighbours`` where asked for), 255 for the common line; ``fallback_slope`` and
        ``fallback_intercept`` (band).

    Raises
    ------
    FitError
        If there are no pairs, or, when computed, a band has fewer than 30 samples in total.

    References
    ----------
    Shang, R., & Zhu, Z. (2019). Harmonizing Landsat 8 and Sentinel-2: A time-series-based
    reflectance adjustment approach. Remote Sensing of Environment 235.
    doi:10.1016/j.rse.2019.111439
    """
    source, target = at_door(source), at_door(target)
    if fallback not in ("line", "difference"):
        raise FitError(
            "is unknown", cure="choose 'line' or 'difference'", argument="fallback", value=fallback
        )
    stages = np.array(days, np.int64)
    if stages.size == 0 or (np.diff(stages) <= 0).any():
        raise FitError("must ascend, such as (0, 1)", argument="days", value=tuple(days))
    data = read_pairs(
        _as_pairs(source, target, int(stages[-1])), allow_mixed_levels=allow_mixed_levels
    )
    if not (data.lag <= stages[-1]).any():
        raise FitError(f"no pair is at most {stages[-1]} days apart", cure="allow more with days=")
    names = common_bands(data)
    known = _Stages(
        source=data.source.sel(source_band=names).drop_vars("source_band"),
        target=data.target.sel(band=names).drop_vars("band").rename(band="source_band"),
        lag=data.lag,
        limits=tuple(map(int, stages)),
        names=tuple(map(str, stages)),
    )
    keep = data.lag <= stages[-1]
    solve = partial(_solve, names=tuple(names), fallback=fallback)
    constant = _fallback(known.source.data, known.target.data, keep=keep, solve=solve)
    if interpolate is not None:
        known = _with_interpolated(known, source, target, data, names, interpolate)
    known = _with_neighbours(known) if neighbours else known
    needs = (n_min, min_spread, min_r2)
    limits = np.array(known.limits, np.int64)
    lines = _lines(known.source.data, known.target.data, constant, known.lag, limits, needs)
    dates = [d for d, is_used in zip(data.dates, keep) if is_used]
    attrs = fit_attrs(PIXELWISE, data.facts, dates, min_valid=0.5)
    extra = {
        "days": list(map(int, stages)),
        "stages": ", ".join(known.names),
        "n_min": n_min,
        "min_spread": min_spread,
        "min_r2": min_r2,
        "fallback": fallback,
    }
    return _dataset(lines, constant, data, names).assign_attrs({**attrs, **extra})


@dataclass(frozen=True, kw_only=True)
class _Stages:
    """Pairs of all stages; those that come later count as farther apart.

    Attributes
    ----------
    source, target : (pair, source_band, y, x) DataArray
        Reflectance [1]; NaN where missing.
    lag : (pair,) int64 array
        Days between the two observations; above those of `days` for pairs of later stages.
    limits, names
        Largest lag of each stage, and what it is called.
    """

    source: xr.DataArray
    target: xr.DataArray
    lag: IntArray
    limits: tuple[int, ...]
    names: tuple[str, ...]

    def joined(self, sides: Sequence[xr.DataArray], name: str) -> _Stages:
        """Add a stage of further pairs: source and target."""
        source, target = sides
        last = self.limits[-1] + 1
        # Pairs that no stage so far takes must not come with the new one.
        lag = np.where(self.lag > self.limits[-1], np.iinfo(np.int64).max, self.lag)
        return _Stages(
            source=_stacked(self.source, source),
            target=_stacked(self.target, target),
            lag=np.concatenate([lag, np.full(source.sizes["pair"], last)]),
            limits=(*self.limits, last),
            names=(*self.names, name),
        )


def _stacked(*parts: xr.DataArray) -> xr.DataArray:
    bare = [part.drop_vars([n for n in part.coords if "pair" in part[n].dims]) for part in parts]
    return xr.concat(bare, "pair", coords="minimal", compat="override", join="override")


def _with_neighbours(known: _Stages) -> _Stages:
    """Add the pairs of the eight pixels around each."""
    used = np.flatnonzero(known.lag <= known.limits[-1])
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    sides = []
    for side in (known.source, known.target):
        own = side.isel(pair=used)
        sides.append(_stacked(*(own.shift(y=dy, x=dx) for dy, dx in steps)))
    return known.joined(sides, "neighbours")


def _with_interpolated(
    known: _Stages, source: Any, target: Any, data: Pairs, names: Sequence[str], longest: Duration
) -> _Stages:
    """Add the dates of the target that no stage has, with the source interpolated to their time."""
    if target is None:
        raise FitError(
            "needs the dates between the pairs",
            cure="give the source and the target cube, not pairs",
            argument="interpolate",
            value=longest,
        )
    gap = duration_in_days(longest, argument="interpolate", least=0)
    cubes = [one if isinstance(one, xr.DataArray) else one[REFLECTANCE] for one in (source, target)]
    before, wanted = (select_bands(cube, names) for cube in cubes)
    paired = data.target_time[data.lag <= known.limits[-1]]
    wanted = wanted.isel(time=np.flatnonzero(~np.isin(wanted["time"].values, paired)))
    order = np.argsort(before["time"].values, kind="stable")
    start = before["time"].values.min()
    days = [
        (one / np.timedelta64(1, "D")).astype(np.float64)
        for one in (before["time"].values[order] - start, wanted["time"].values - start)
    ]
    values = map_blocks(
        partial(_interpolated, days=days[0], at=days[1], longest=gap),
        "tbyx->pbyx",
        before.isel(time=order).data,
        new={"p": wanted.sizes["time"]},
        whole="t",
        dtype=np.float32,
        name="fit-pixelwise-interpolated",
    )
    dims = ("pair", "source_band", "y", "x")
    sides = [xr.DataArray(one, dims=dims) for one in (values, wanted.data)]
    return known.joined(sides, "interpolated")


def _interpolated(
    values: AnyArray, *, days: Float64Array, at: Float64Array, longest: float
) -> AnyArray:
    """Values (time, …) at other times (pair, …): between the valid ones before and after."""
    found = np.full((at.size, *values.shape[1:]), np.nan, np.float32)
    column = days.reshape(-1, *(1,) * (values.ndim - 1))
    is_valid = np.isfinite(values)
    for k, time in enumerate(at):
        before = np.where(is_valid & (column <= time), column, -np.inf).argmax(axis=0)[None]
        after = np.where(is_valid & (column >= time), column, np.inf).argmin(axis=0)[None]
        first, last = (np.take_along_axis(values, n, 0)[0] for n in (before, after))
        start, end = days[before[0]], days[after[0]]
        share = (time - start) / np.maximum(end - start, 1e-9)
        is_known = np.isfinite(first) & np.isfinite(last) & (start <= time) & (end >= time)
        is_known &= end - start <= longest
        found[k] = np.where(is_known, first + share * (last - first), np.nan)
    return found


def _as_pairs(
    source: xr.Dataset | xr.DataArray | xr.DataTree,
    target: xr.DataArray | xr.Dataset | None,
    days: int,
) -> xr.Dataset | xr.DataTree:
    if target is not None and not isinstance(source, xr.DataTree):
        pairs = match_pairs(source, target, tolerance=f"{days + 1}D")
        return pairs.assign_coords(spatial_ref=target["spatial_ref"])  # with the CRS
    if isinstance(source, xr.DataTree) or (isinstance(source, xr.Dataset) and "source" in source):
        return source
    raise FitError("fit_pixelwise needs pairs from xh.match_pairs, or a source and a target cube")


def _fallback(
    source: Any, target: Any, *, keep: BoolArray, solve: Callable[[Float64Array], Float64Array]
) -> Any:
    """Slope and intercept (band, 2) over all pixels and the pairs selected by `keep`."""
    sums = map_blocks(
        partial(_pool, keep=keep),
        "pbyx,pbyx->bkyx",
        source,
        target,
        new={"k": 6},
        sizes={"y": 1, "x": 1},
        whole="b",
        dtype=np.float64,
        name="fit-pixelwise-pool",
    )
    total = sums.sum(axis=(2, 3))
    return map_blocks(
        solve, "bk->bn", total, new={"n": 2}, whole="b", dtype=np.float64, name="fit-pixelwise"
    )


def _lines(
    source: Any,
    target: Any,
    fallback: Any,
    lag: IntArray,
    stages: IntArray,
    needs: tuple[int, float, float],
) -> Any:
    """Slope, intercept, number of pairs and stage: (4, band, y, x) float32."""
    return map_blocks(
        partial(_fit_block, lag=lag, stages=stages, needs=needs),
        "pbyx,pbyx,bk->qbyx",
        source,
        target,
        fallback,
        new={"q": 4},
        dtype=np.float32,
        name="fit-pixelwise",
    )


def _pool(source: AnyArray, target: AnyArray, keep: BoolArray) -> Float64Array:
    """Band moments (band, 6, 1, 1) of a block."""
    return regression.pooled_moments(source, target, keep)[:, :, None, None]


def _solve(total: Float64Array, *, names: Sequence[str], fallback: Fallback) -> Float64Array:
    """Slope and intercept (band, 2); raises if there are too few samples."""
    n = total[:, regression.COUNT]
    require_samples(n, names, _POOLED_MINIMUM)
    if fallback == "line":
        return np.stack(regression.solve_ols(total), axis=-1)
    difference = (total[:, regression.Y] - total[:, regression.X]) / n
    return np.stack([np.ones_like(difference), difference], axis=-1)


def _fit_block(
    source: AnyArray,
    target: AnyArray,
    fallback: Float64Array,
    *,
    lag: IntArray,
    stages: IntArray,
    needs: tuple[int, float, float],
) -> AnyArray:
    """Lines of a block, stacked: (4, band, y, x)."""
    x, y = np.ascontiguousarray(source), np.ascontiguousarray(target)
    found = regression.pixel_lines(x, y, lag, stages, *needs, fallback)
    return np.stack([array.astype(np.float32) for array in found])


def _dataset(lines: Any, fallback: Any, data: Pairs, names: Sequence[str]) -> xr.Dataset:
    dims = ("band", "y", "x")
    coords = {"band": list(names), "y": data.target["y"], "x": data.target["x"]}
    stage = lines[3].astype(np.int16)
    stage = np.where(stage < 0, FALLBACK, stage)
    fit = xr.Dataset(
        {
            "slope": (dims, lines[0]),
            "intercept": (dims, lines[1]),
            "n": (dims, lines[2].astype(np.int32)),
            "stage": (dims, stage.astype(np.uint8)),
            "fallback_slope": ("band", fallback[:, 0]),
            "fallback_intercept": ("band", fallback[:, 1]),
        },
        coords=coords,
    )
    if "spatial_ref" in data.target.coords:
        fit = fit.assign_coords(spatial_ref=data.target["spatial_ref"])
    fit["stage"].attrs["flag_meanings"] = f"index into stages; {FALLBACK} common line of the band"
    return fit


@dataclass(frozen=True, kw_only=True)
class PixelwiseHarmonizer(Fitted):
    """Apply a fit of `fit_pixelwise` on its grid or a part of it."""

    name: str = "pixelwise fit"
    citation: str = "Shang and Zhu (2019), doi:10.1016/j.rse.2019.111439"

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply the lines of each pixel."""
        return base.change_steps(cube, checked.is_due, self._map)

    def _map(self, cube: xr.Dataset) -> xr.Dataset:
        array = cube[REFLECTANCE]
        names = self._names(array)
        fit = self._on_grid_of(array).sel(band=names)
        data = map_blocks(
            _apply_pixel_lines,
            "tbyx,byx,byx->tbyx",
            select_bands(array, names).data,
            fit["slope"].data,
            fit["intercept"].data,
            dtype=np.float32,
            name="harmonize-linear",
        )
        target = base.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names),
            sources=tuple(names),
            history=f"{self.name}: {self.fit.attrs['direction']}, one line per pixel on "
            f"{self.fit.attrs['dates']}{base.drop_note(array, names)}",
        )
        result = base.rebuild(array, data, target).to_dataset(name=REFLECTANCE)
        if base.UNCERTAINTY not in cube:
            return result
        sigma = cube[base.UNCERTAINTY].sel(band=names)
        own = (sigma * abs(fit["slope"]).drop_vars(["y", "x"])).transpose(*sigma.dims)
        return result.assign({base.UNCERTAINTY: own.astype("float32")})

    def _names(self, array: xr.DataArray) -> list[str]:
        names = [str(name) for name in array["band"].values if str(name) in self.bands]
        if not names:
            raise BandError(
                f"{self.name} has lines for {self.bands}",
                cure=f"the cube has {array['band'].values}",
            )
        return names

    def _on_grid_of(self, array: xr.DataArray) -> xr.Dataset:
        """Return the fit on the pixels of a cube that is aligned with it and inside it."""
        step = abs(float(array["x"][1] - array["x"][0])) if array.sizes["x"] > 1 else 1.0
        try:
            part = self.fit.sel(y=array["y"], x=array["x"], method="nearest", tolerance=1e-3 * step)
        except KeyError:
            part = None
        if part is None or not _is_same_crs(self.fit, array):
            raise GridError(
                f"{self.name} holds for the pixels of the grid it was made on, and the cube "
                f"({describe_grid(geobox_of(array))}) has others",
                cure="pass like= with a cube on that grid",
            )
        return part


def _is_same_crs(fit: xr.Dataset, array: xr.DataArray) -> bool:
    """Whether the CRSs agree; pairs without a CRS are matched by their coordinates."""
    if "spatial_ref" not in fit.coords or "crs_wkt" not in fit["spatial_ref"].attrs:
        return True
    return is_same_crs(CRS(fit["spatial_ref"].attrs["crs_wkt"]), geobox_of(array).crs)


def _apply_pixel_lines(values: AnyArray, slope: AnyArray, intercept: AnyArray) -> AnyArray:
    """Apply slope and intercept (band, y, x) to reflectance (time, band, y, x)."""
    return np.asarray(values * slope + intercept, dtype=np.float32)
