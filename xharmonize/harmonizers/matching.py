"""Histogram matching to a reference cube or to stored histograms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    read_contract,
    require_contract,
    select_bands,
)
from xharmonize.errors import BandError, FitError
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.linear import require_level
from xharmonize.harmonizers.protocol import FittedProperties
from xharmonize.kernels import histogram
from xharmonize.types import AnyArray, Float64Array, IntArray

HISTOGRAM = "histogram"


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
    low, high = map(float, limits)
    if not low < high or bins < 2 or per not in ("series", "date"):
        raise FitError(f"limits={limits} must ascend, bins={bins} be 2 or more, per={per!r} known")
    reference = _reflectance(cube)
    centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
    fit = xr.Dataset(
        {"reference": (("band", "bin"), _counts(reference, low, high, bins).sum(axis=0))},
        coords={"band": reference["band"].values, "bin": centres},
    )
    attrs = {**_facts(reference, "target"), "per": per, "low": low, "high": high}
    if source is not None:
        other = _reflectance(source)
        names = [n for n in reference["band"].values if n in other["band"].values]
        if not names:
            raise FitError(f"no band in common: {reference['band'].values}, {other['band'].values}")
        counts = _counts(other.sel(band=names), low, high, bins).sum(axis=0)
        fit = fit.sel(band=names).assign(source=(("band", "bin"), counts))
        attrs |= _facts(other, "source")
    source_name = attrs.setdefault("source_bandpass", "")
    attrs["direction"] = f"{source_name or 'any'} to {attrs['target_bandpass']}"
    attrs |= {"model": HISTOGRAM, "title": f"histogram matching, {attrs['direction']}"}
    attrs["history"] = f"fit_histogram: {reference.sizes['time']} reference dates, {bins} bins"
    return fit.assign_attrs(attrs)


def _reflectance(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    return blocks.decoded(array).transpose("time", "band", "y", "x")


def _facts(array: xr.DataArray, side: str) -> dict[str, Any]:
    steps = read_contract(array)
    return {
        f"{side}_bandpass": "/".join(sorted({step.bandpass for step in steps})),
        f"{side}_sensor": "/".join(sorted({step.sensor for step in steps})),
        f"{side}_level": "/".join(sorted({step.level for step in steps})),
    }


def _counts(array: xr.DataArray, low: float, high: float, bins: int) -> Any:
    """Histogram of each date (time, band, bin), int64."""
    if not isinstance(array.data, da.Array):
        return histogram.count_values(array.values, low, high, bins)
    block = partial(_count_block, low=low, high=high, bins=bins)
    partial_counts = da.blockwise(
        block,
        "tbyxk",
        array.data,
        "tbyx",
        adjust_chunks={"y": 1, "x": 1},
        new_axes={"k": bins},
        dtype=np.int64,
        meta=np.empty((0,) * 5, np.int64),
        token="fit-histogram",
    )
    return partial_counts.sum(axis=(2, 3))


def _count_block(values: AnyArray, low: float, high: float, bins: int) -> IntArray:
    counts: IntArray = histogram.count_values(values, low, high, bins)
    return counts[:, :, None, None]


@dataclass(frozen=True, kw_only=True)
class HistogramHarmonizer(FittedProperties):
    """Apply a fit of `fit_histogram`: the value of the same cumulative frequency, per band."""

    fit: xr.Dataset
    name: str = "histogram fit"
    citation: str = "Gonzalez and Woods (2018), Digital Image Processing, section 3.3"

    def __call__(self, cube: blocks.Cube) -> blocks.Cube:
        """Return the cube with the distribution of the reference; drops ``uncertainty``."""
        require_contract(cube)
        return blocks.on_cube(cube, self._apply, None)

    def _apply(self, array: xr.DataArray) -> xr.DataArray:
        is_foreign = blocks.foreign_to_fit(array, self.fit, self.name)
        if "source" in self.fit:
            require_level(array, is_foreign, self.fit, self.name)
        return blocks.change_steps(array, is_foreign, self._map)

    def _map(self, array: xr.DataArray) -> xr.DataArray:
        names = [str(name) for name in array["band"].values if str(name) in self.bands]
        if not names:
            raise BandError(f"{self.name} is for {self.bands}; cube: {list(array['band'].values)}")
        values = select_bands(array, names).transpose("time", "band", "y", "x")
        low, high = float(self.fit.attrs["low"]), float(self.fit.attrs["high"])
        data = blocks.map_blocks(
            partial(_look_up, low=low, high=high),
            values.data,
            "tbyx",
            (self._tables(values, names, low, high), "tbk"),
            name="harmonize-histogram",
        )
        target = blocks.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names),
            sources=tuple(names),
            history=f"{self.name}: {self.fit.attrs['direction']}, {self._extent()}"
            f"{blocks.drop_note(array, names)}",
        )
        return blocks.rebuild(array, data, target)

    def _extent(self) -> str:
        """Whose histogram is matched, in words."""
        return "stored source" if "source" in self.fit else f"per {self.fit.attrs['per']}"

    def _tables(self, values: xr.DataArray, names: list[str], low: float, high: float) -> Any:
        """Look-up tables (time, band, node), one for all dates or one for each."""
        reference = self.fit["reference"].sel(band=names).data[None]
        if "source" in self.fit:
            source = self.fit["source"].sel(band=names).data[None]
        else:
            source = _counts(values, low, high, self.fit.sizes["bin"])
            if self.fit.attrs["per"] == "series":
                source = source.sum(axis=0, keepdims=True)
        if not isinstance(source, da.Array) and not isinstance(reference, da.Array):
            return _match(source, reference, low=low, high=high)
        source, reference = da.asarray(source), da.asarray(reference)
        return da.blockwise(
            partial(_match, low=low, high=high),
            "tbn",
            source,
            "tbk",
            reference.rechunk((-1, source.chunks[1], -1)),
            "ubk",
            new_axes={"n": self.fit.sizes["bin"] + 1},
            concatenate=True,
            dtype=np.float64,
            meta=np.empty((0,) * 3),
            token="harmonize-histogram-table",
        )


def _match(source: IntArray, reference: IntArray, *, low: float, high: float) -> Float64Array:
    """Tables of a block; raises where the reference has no valid pixel."""
    if reference.size and not reference.sum(axis=-1).all():
        raise FitError("a band of the reference has no valid pixel: histogram matching needs some")
    return histogram.match_distributions(source, reference, low, high)


def _look_up(values: AnyArray, table: Float64Array, *, low: float, high: float) -> AnyArray:
    mapped: AnyArray = histogram.apply_table(values, table, low, high)
    return mapped
