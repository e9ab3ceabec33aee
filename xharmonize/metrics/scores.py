"""Scores: metrics of a prediction against a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import with_history
from xharmonize.cube.door import at_door
from xharmonize.errors import MetricError
from xharmonize.metrics.entries import Metric, WindowMetric
from xharmonize.metrics.groups import By
from xharmonize.metrics.inputs import BAND, Dims, read_cubes, reduced_dims
from xharmonize.metrics.merging import FIELDS, merge_over, require_statistics
from xharmonize.metrics.registry import (
    DEFAULT,
    DEFAULT_SPECTRAL,
    METRICS,
    MetricLike,
    resolve,
)
from xharmonize.metrics.statistics import collect, settings
from xharmonize.types import AnyArray


def score(
    cube: xr.DataArray | xr.Dataset,
    ref: xr.DataArray | xr.Dataset,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    *,
    dim: Dims = None,
    data_range: float | None = 1.0,
    by: By = None,
    per_band: bool = True,
    baseline: xr.DataArray | xr.Dataset | None = None,
) -> xr.Dataset:
    """Score a prediction against a reference, lazily.

    One pass over the pixels feeds all metrics of pixels; sums are in float64 and do not depend on
    chunks. A pixel counts where both are finite; for ``sam`` where all bands are, and neither
    spectrum is zero; for ``skill`` where the baseline is too. A window of ``ssim`` and ``uiqi``
    counts where half its weight is valid, with the moments of its valid pixels.

    Parameters
    ----------
    cube, ref : DataArray, or Dataset with ``reflectance`` or one other variable
        Prediction and reference on one grid, of the same bands and units; NaN where missing.
        Along time only the dates that both have count; a cube of one selected date is compared
        with that date, one without any serves all dates only where `dim` keeps them. Any
        dimensions will do: the ``source`` and ``target`` (pair, band, y, x) of `match_pairs`, an
        index (time, y, x), points.
    metrics : str, Metric, or a sequence of these, optional
        Names as in `list_metrics`, or entries of `xharmonize.metrics` where a metric has options
        (``Sam(unit="deg")``). By default count, RMSE, MAE, bias, MRE, R², CC, KGE, PSNR and, of
        several bands, SAM and ERGAS.
    dim : str or collection of str, optional
        Dimensions to reduce over; by default all but ``band``. Reducing over ``band`` too, or
        ``...``, is ``per_band=False``.
    data_range : float, optional
        Largest value less the smallest that the data can have [1]; for PSNR and SSIM.
    by : str, DataArray, or a sequence of these
        Score groups of pixels apart: a coordinate (``"sensor"``, ``"time.month"``), or a map of
        classes (y, x). Each gives a dimension.
    per_band : bool
        One number per band, or one over all bands: moments are pooled (PSNR from the pooled MSE),
        SSIM and UIQI are averaged. SAM and ERGAS have no bands either way.
    baseline : DataArray or Dataset, optional
        Another prediction, for ``skill``.

    Returns
    -------
    Dataset
        One float64 variable per metric (``n`` is int64), lazy where a cube is; NaN where no pixel
        counts or a metric is not defined (see `docs/reference/metrics.md`).

    Raises
    ------
    UnknownMetricError
        If there is no metric of that name.
    MetricError
        If a metric is not defined for the data or the options given.
    GridError, BandError, TimeAxisError, RadiometryError, ContractError
        If the two cannot be compared: other grids, bands, units or dates, or digital numbers.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> reference = example_cube()
    >>> scores = xh.score(reference + 0.01, reference, ["bias", "rmse"], dim=["y", "x"])
    >>> scores["bias"].dims
    ('time', 'band')
    """
    cube, ref, baseline = at_door(cube), at_door(ref), at_door(baseline)
    pred, other = read_cubes(cube, ref, what="score", dim=dim)
    reduced = reduced_dims(dim, pred.dims)
    asked = resolve(metrics, data_range=data_range, has_bands=pred.sizes.get(BAND, 1) > 1)
    per_band = per_band and BAND not in reduced
    pixels = tuple(d for d in reduced if d != BAND)
    found = collect(pred, other, asked, reduced=pixels, by=by, baseline=baseline)
    scores = _evaluate(found, asked, per_band=per_band)
    order = [*(d for d in scores.dims if d not in pred.dims), *pred.dims]
    return scores.transpose(*order, missing_dims="ignore")


def score_statistics(
    statistics: xr.Dataset,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    *,
    dim: str | Sequence[str] = (),
    data_range: float | None = 1.0,
    per_band: bool = True,
) -> xr.Dataset:
    """Turn statistics into metrics.

    Parameters
    ----------
    statistics : Dataset
        From `xharmonize.statistics` or `merge_statistics`, or read from a file.
    metrics : str, Metric, or a sequence of these, optional
        As for `score`; by default the usual ones that the statistics suffice for.
    dim : str or sequence of str
        Dimensions that were kept, or groups, to merge over first.
    data_range : float, optional
        As for `score`; for PSNR. That of SSIM is in its statistics.
    per_band : bool
        As for `score`.

    Raises
    ------
    MetricError
        If the statistics lack what a metric needs, or were made with other settings.
    """
    require_statistics(statistics)
    names = [dim] if isinstance(dim, str) else list(dim)
    cores = [core for core, _ in FIELDS.values()]
    absent = [d for d in names if d not in statistics.dims or d in (BAND, *cores)]
    if absent:
        able = [d for d in statistics.dims if d not in (BAND, *cores)]
        raise MetricError(f"the statistics cannot be merged over {absent}; they can over {able}")
    n_bands = statistics.sizes.get(BAND, 1)
    metrics = _available(statistics) if metrics is None else metrics
    asked = resolve(metrics, data_range=data_range, has_bands=n_bands > 1)
    _require_held(statistics, asked, metrics)
    merged = {
        name: merge_over(array.variable, [d for d in names if d in array.dims])
        for name, array in statistics.data_vars.items()
    }
    kept = {n: c for n, c in statistics.coords.items() if not set(c.dims) & set(names)}
    reduced = xr.Dataset(merged, coords=kept, attrs=statistics.attrs)
    return _evaluate(reduced, asked, per_band=per_band)


def _available(statistics: xr.Dataset) -> list[str]:
    names = (*DEFAULT, *DEFAULT_SPECTRAL, *(n for n, m in METRICS.items() if m.is_windowed))
    has_bands = statistics.sizes.get(BAND, 1) > 1
    held = [n for n in names if METRICS[n].statistic in statistics]
    return [n for n in held if has_bands or not METRICS[n].needs_bands]


def _require_held(
    statistics: xr.Dataset, asked: Sequence[Metric], given: MetricLike | Sequence[MetricLike]
) -> None:
    """Raise unless the statistics are those that the metrics need."""
    for metric in asked:
        if metric.statistic not in statistics:
            raise MetricError(
                f"the statistics do not hold what {metric.name!r} needs ({metric.statistic}); make "
                f"them with statistics(..., metrics=[..., {metric.name!r}])"
            )
    items = [given] if isinstance(given, (str, Metric)) else given
    named = {item.name for item in items if isinstance(item, WindowMetric)}
    for metric in asked:
        if isinstance(metric, WindowMetric) and metric.name in named:
            held = statistics[metric.statistic].attrs
            other = {k: held.get(k) for k, v in settings(metric).items() if held.get(k) != v}
            if other:
                raise MetricError(f"the statistics of {metric.name!r} were made with {other}")


def _evaluate(found: xr.Dataset, metrics: Sequence[Metric], *, per_band: bool) -> xr.Dataset:
    """Apply the formulas."""
    units = str(found.attrs.get("units", "1"))
    parts: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(metric.statistic for metric in metrics):
        rows = found[name].variable
        for is_kept in (True, False):
            alike = [m for m in metrics if m.statistic == name and m.has_band is is_kept]
            if alike:
                parts |= _values(rows, alike, per_band=per_band)
    variables = {m.name: parts[m.name] for m in metrics}
    for metric in metrics:
        variables[metric.name].attrs = _attrs(metric, units)
    used = {d for v in variables.values() for d in v.dims}
    coords = {
        name: coord.astype(str) if coord.dtype == object else coord
        for name, coord in found.coords.variables.items()
        if (coord.dims and set(coord.dims) <= used) or (name == "spatial_ref" and "y" in used)
    }
    past = str(found.attrs.get("history", ""))
    line = f"score: {', '.join(variables)}" + ("" if per_band else ", bands pooled")
    return xr.Dataset(variables, coords=coords, attrs=with_history({"history": past}, line))


def _values(
    rows: xr.Variable, metrics: Sequence[Metric], *, per_band: bool
) -> dict[str, xr.Variable]:
    """Metrics of one kind from their statistics (…, [band], field): one task for all of them."""
    has_band = BAND in rows.dims
    is_kept = has_band and metrics[0].has_band and per_band
    is_pooled = has_band and metrics[0].has_band and not per_band
    dims = [d for d in rows.dims[:-1] if is_kept or d != BAND]
    n_dropped = 1 if is_kept or not has_band else 2
    formulas = tuple(m.pool if is_pooled else m.compute for m in metrics)
    stacked = map_blocks(
        partial(_stacked, formulas=formulas),
        f"...{'bf'[-n_dropped:]}->...m",
        rows.data,
        new={"m": len(metrics)},
        dtype=np.float64,
        name="score-formulas",
    )
    return {m.name: xr.Variable(dims, _picked(stacked, k, m)) for k, m in enumerate(metrics)}


def _stacked(rows: AnyArray, *, formulas: Sequence[Callable[..., AnyArray]]) -> AnyArray:
    """All metrics of a block of statistics, along a last axis."""
    return np.stack([np.asarray(formula(rows)) for formula in formulas], axis=-1)


def _picked(stacked: Any, k: int, metric: Metric) -> Any:
    """One metric of a stack."""
    pick = partial(_pick, k=k, dtype=metric.dtype)
    return map_blocks(pick, "...m->...", stacked, dtype=metric.dtype, name=f"score-{metric.name}")


def _pick(block: AnyArray, *, k: int, dtype: str) -> AnyArray:
    return np.asarray(block[..., k], dtype)


def _attrs(metric: Metric, units: str) -> dict[str, Any]:
    shown = {
        "of the values": units,
        "square of the values": units if units == "1" else f"({units})2",
    }
    attrs = {"long_name": metric.long_name, "units": shown.get(metric.units, metric.units)}
    if metric.citation:
        attrs["references"] = metric.citation + (f" doi:{metric.doi}" if metric.doi else "")
    return attrs
