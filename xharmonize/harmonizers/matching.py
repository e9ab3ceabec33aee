"""Fit histogram matching: count a reference."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, read_contract, require_contract
from xharmonize.cube.door import at_door
from xharmonize.errors import FitError
from xharmonize.harmonizers.lut.counting import count_tiles
from xharmonize.harmonizers.lut.harmonizers import HISTOGRAM
from xharmonize.harmonizers.lut.tiles import whole
from xharmonize.sensors import Names


def fit_histogram(
    cube: xr.DataArray | xr.Dataset,
    *,
    source: xr.DataArray | xr.Dataset | None = None,
    bins: int = 1000,
    limits: tuple[float, float] = (0.0, 1.0),
    per: Literal["series", "date"] = "series",
) -> xr.Dataset:
    """Count the reflectance of a reference cube, for histogram matching; lazy on dask arrays.

    Parameters
    ----------
    cube : cube
        Reference: the distribution that results are to have, over all its dates and pixels.
    source : cube, optional
        Whose values are to be matched. With it the fit holds both histograms, and applying it is a
        pure map: the same for any area. Without it, the histogram of the cube it is applied to is
        counted in the same graph, and the result depends on the area and dates asked for.
    bins : int
        Number of evenly spaced bins.
    limits : (float, float)
        Range of the bins [1]; values beyond count in the end bins and are held there.
    per : {"series", "date"}
        Without `source`: one table for all dates together, or one for each.

    Returns
    -------
    Dataset
        ``reference`` (band, bin) and, with `source`, ``source`` (band, bin): counts; ``bin`` holds
        the centres [1].

    Raises
    ------
    FitError
        If `limits` do not ascend, or source and reference share no band.

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
