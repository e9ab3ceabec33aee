"""Look-up tables per band, fitted on pairs by least squares or matched to a reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, read_contract, require_contract
from xharmonize.cube.door import at_door
from xharmonize.errors import FitError
from xharmonize.harmonizers.lut.harmonizers import HISTOGRAM, LUT
from xharmonize.harmonizers.lut.histograms import count_tiles, whole
from xharmonize.harmonizers.paired import common_bands, fit_attrs, read_pairs
from xharmonize.harmonizers.sums import (
    MIN_SAMPLES_PER_COEFFICIENT,
    require_samples,
    require_spread,
    sum_pairs,
    weighted,
)
from xharmonize.kernels import lut
from xharmonize.sensors import Names
from xharmonize.types import AnyArray, Float64Array, IntArray


def fit_lut(
    pairs: xr.Dataset,
    *,
    knots: int = 256,
    limits: tuple[float, float] | Mapping[str, tuple[float, float]] = (0.0, 1.0),
    smooth: float = 1.0,
    monotone: bool = True,
    weight: Literal["pixel", "pair"] = "pixel",
    n_min: int | None = None,
    min_valid: float = 0.5,
    allow_mixed_levels: bool = False,
) -> xr.Dataset:
    """Fit one look-up table per band on matched pairs, in closed form; computes.

    The table is linear between evenly spaced knots, so that its values at the knots solve a linear
    least-squares problem with a banded matrix. This is the exact solution of what a network of one
    trained table ("GlobalLUTs" in Liu et al. 2023) approaches by gradient descent, except for the
    penalty: squared *second* differences, which pull a table without data towards a straight line
    instead of a constant.

    One pass over the pairs accumulates integer sums, which are the same in any order, so that the
    result does not depend on chunks or the scheduler.

    Parameters
    ----------
    pairs : Dataset
        ``source`` and ``target`` (pair, band, y, x) on one grid, from `xharmonize.match_pairs`.
    knots : int
        Number of knots of a table.
    limits : (float, float), or mapping of band to (float, float)
        Reflectance of the first and last knot [1]; the table is constant beyond them.
    smooth : float
        Weight of the sum of squared second differences relative to the mean squared error. With 1,
        a knot with 1 % of the pixels is tied to about three knots on each side.
    monotone : bool
        Whether to constrain tables not to decrease; the fit is then the constrained optimum.
    weight : {"pixel", "pair"}
        Whether each pixel or each pair has the same weight.
    n_min : int, optional
        Minimum number of samples per band; by default 30.
    min_valid : float
        Minimum valid fraction of a target pixel [1] when a cube is regridded before the fit is
        applied.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.

    Returns
    -------
    Dataset
        ``table`` (band, knot) [1] at ``knot_value`` (band, knot) [1]; ``histogram`` (band, bin):
        number of samples between neighbouring knots; ``n``, ``rmse`` [1] and ``r2`` (band) on the
        samples.

    Raises
    ------
    FitError
        If there are fewer than `n_min` samples, a source band does not vary, or an option has an
        invalid value.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """
    pairs = at_door(pairs)
    if knots < 2 or not smooth > 0:
        raise FitError(f"knots={knots} must be 2 or more and smooth={smooth} positive")
    data = read_pairs(pairs, allow_mixed_levels=allow_mixed_levels)
    names = common_bands(data)
    low, high = _limits(names, limits)
    source, target = data.source.sel(source_band=names), data.target.sel(band=names)
    block = partial(_block, low=low, high=high, knots=knots)
    shape = (len(names), 6 * knots)
    sums = np.asarray(sum_pairs(block, source, target, shape, dtype=np.int64))
    moments = _in_units(sums.reshape(-1, len(names), 6, knots))
    counts = moments[:, :, lut.COUNT].sum(axis=-1)
    require_samples(counts.sum(axis=0), names, n_min or 2 * MIN_SAMPLES_PER_COEFFICIENT)
    total = weighted(moments, counts, weight)
    solved = [lut.solve_table(part, smooth, monotone=monotone) for part in total]
    tables = np.stack([table for table, _, _ in solved])
    require_spread(names, np.asarray(np.isfinite(tables).all(axis=1)))
    facts = {**data.facts, "method": "least squares", "weight": weight}
    attrs = fit_attrs(LUT, facts, data.dates, min_valid=min_valid)
    variables: dict[str, Any] = {
        "table": (("band", "knot"), tables, {"units": "1", "long_name": "look-up table"}),
        "histogram": (("band", "bin"), moments[..., lut.COUNT, :-1].sum(axis=0).astype(int)),
        "n": ("band", counts.sum(axis=0).astype(np.int64)),
        "rmse": ("band", [rmse for _, rmse, _ in solved], {"units": "1"}),
        "r2": ("band", [r2 for _, _, r2 in solved]),
    }
    coords = {
        "band": names,
        "low": ("band", low, {"units": "1"}),
        "high": ("band", high, {"units": "1"}),
        "knot_value": (("band", "knot"), np.linspace(low, high, knots, axis=-1), {"units": "1"}),
    }
    fit = xr.Dataset(variables, coords, attrs)
    return fit.assign_attrs(smooth=smooth, monotone=int(monotone))


def _limits(names: list[str], limits: Any) -> tuple[Float64Array, Float64Array]:
    """First and last knot of each band."""
    if isinstance(limits, Mapping):
        lost = [name for name in names if name not in limits]
        if lost:
            raise FitError(f"limits= says nothing of band {', '.join(lost)}")
        pairs = np.array([limits[name] for name in names], float)
    else:
        pairs = np.array([limits] * len(names), float)
    low, high = pairs.T
    if not (low < high).all():
        raise FitError("must ascend", argument="limits", value=limits)
    return low, high


def _block(
    source: AnyArray, target: AnyArray, *, low: Float64Array, high: Float64Array, knots: int
) -> IntArray:
    """Moments (pair, 1, 1, band, 6 * knot) of a block."""
    sums = [
        lut.table_moments(x.reshape(len(x), -1), y.reshape(len(y), -1), low, high, knots)
        for x, y in zip(source, target)
    ]
    return np.stack(sums).reshape(len(sums), 1, 1, low.size, -1)


def _in_units(sums: IntArray) -> Float64Array:
    """Sums (pair, band, 6, knot) in units of 1."""
    moments = sums / lut.ONE
    moments[:, :, lut.COUNT] = sums[:, :, lut.COUNT]
    return np.asarray(moments, np.float64)


def fit_histogram(
    cube: xr.DataArray | xr.Dataset,
    *,
    source: xr.DataArray | xr.Dataset | None = None,
    bins: int = 1000,
    limits: tuple[float, float] = (0.0, 1.0),
    per: Literal["series", "date"] = "series",
) -> xr.Dataset:
    """Compute the histogram of a reference cube for histogram matching, lazily.

    Parameters
    ----------
    cube : cube
        Reference reflectance [1]; NaN where missing. Results get the distribution of all its dates
        and pixels.
    source : cube, optional
        Cube whose values are matched. If given, the fit holds both histograms and is applied as a
        pointwise map, with the same result for any area. Otherwise the histogram of the cube to
        which the fit is applied is computed in the same graph, and the result depends on the
        requested area and dates.
    bins : int
        Number of evenly spaced bins.
    limits : (float, float)
        Range of the bins [1]; values outside count in the first or last bin and are clipped to it.
    per : {"series", "date"}
        Without `source`: whether to use one table for all dates, or one for each date.

    Returns
    -------
    Dataset
        Counts ``reference`` (band, bin) and, with `source`, ``source`` (band, bin); ``bin`` holds
        the centres [1].

    Raises
    ------
    FitError
        If `limits` are not ascending, or source and reference have no band in common.

    References
    ----------
    Gonzalez, R. C., & Woods, R. E. (2018). Digital Image Processing, 4th ed., section 3.3.
    """
    cube, source = at_door(cube), at_door(source)
    low, high = map(float, limits)
    if not low < high or bins < 2 or per not in ("series", "date"):
        raise FitError(f"limits={limits} must ascend, bins={bins} be 2 or more, per={per!r} known")
    reference = _reflectance(cube)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    fit = xr.Dataset(
        {"reference": (("band", "bin"), _counts(reference, low, high, bins))},
        coords={"band": reference["band"].values, "bin": centres},
    )
    attrs = {**_facts(reference, "target"), "per": per, "low": low, "high": high}
    if source is not None:
        other = _reflectance(source)
        names = [n for n in reference["band"].values if n in other["band"].values]
        if not names:
            raise FitError(f"no band in common: {reference['band'].values}, {other['band'].values}")
        counts = _counts(other.sel(band=names), low, high, bins)
        fit = fit.sel(band=names).assign(source=(("band", "bin"), counts))
        attrs |= _facts(other, "source")
    source_name = attrs.setdefault("source_bandpass", "")
    attrs["direction"] = f"{source_name or 'any'} to {attrs['target_bandpass']}"
    attrs |= {"model": HISTOGRAM, "title": f"histogram matching, {attrs['direction']}"}
    attrs["history"] = f"fit_histogram: {reference.sizes['time']} reference dates, {bins} bins"
    return fit.assign_attrs(attrs)


def _reflectance(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    require_contract(array)
    return array.transpose("time", "band", "y", "x")


def _facts(array: xr.DataArray, side: str) -> dict[str, Any]:
    steps = read_contract(array)
    return {
        f"{side}_bandpass": str(Names.of(step.bandpass for step in steps)),
        f"{side}_sensor": str(Names.of(step.sensor for step in steps)),
        f"{side}_level": str(Names.of(step.level for step in steps)),
    }


def _counts(array: xr.DataArray, low: float, high: float, bins: int) -> Any:
    """Histogram of all dates and pixels (band, bin), int64."""
    n = array.sizes["band"]
    counts = count_tiles(array, *whole(array), np.full(n, low), np.full(n, high), bins)
    return counts.sum(axis=(0, 1, 2))
