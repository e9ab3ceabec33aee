"""Scores: metrics of a prediction against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.contract import with_history
from xharmonize.errors import MetricError
from xharmonize.metrics.groups import By
from xharmonize.metrics.inputs import BAND, Dims, read_cubes, reduced_dims
from xharmonize.metrics.registry import Metric, MetricLike, WindowMetric, resolve
from xharmonize.metrics.statistics import FIELDS, collect, merge_over, require_statistics, settings


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
        Along time only the dates that both have count. Any dimensions will do: the ``source`` and
        ``target`` (pair, band, y, x) of `match_pairs`, an index (time, y, x), points.
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
    pred, other = read_cubes(cube, ref, what="score")
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
    from xharmonize.metrics.registry import DEFAULT, DEFAULT_SPECTRAL, METRICS

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
    variables = {m.name: _value(found[m.statistic].variable, m, per_band, units) for m in metrics}
    used = {d for v in variables.values() for d in v.dims}
    coords = {
        name: coord.variable.astype(str) if coord.dtype == object else coord.variable
        for name, coord in found.coords.items()
        if (coord.dims and set(coord.dims) <= used) or (name == "spatial_ref" and "y" in used)
    }
    past = str(found.attrs.get("history", ""))
    line = f"score: {', '.join(variables)}" + ("" if per_band else ", bands pooled")
    return xr.Dataset(variables, coords=coords, attrs=with_history({"history": past}, line))


def _value(rows: xr.Variable, metric: Metric, per_band: bool, units: str) -> xr.Variable:
    """One metric from its statistics (…, [band], field)."""
    has_band = BAND in rows.dims
    is_kept = has_band and metric.has_band and per_band
    is_pooled = has_band and metric.has_band and not per_band
    formula = metric.pool if is_pooled else metric.compute
    dims = [d for d in rows.dims[:-1] if is_kept or d != BAND]
    dropped = [rows.ndim - 1] if is_kept or not has_band else [rows.ndim - 2, rows.ndim - 1]
    data: Any = rows.data
    if isinstance(data, da.Array):
        whole = data.rechunk(dict.fromkeys(dropped, -1))
        values = da.map_blocks(
            partial(_typed, formula, metric.dtype),
            whole,
            drop_axis=dropped,
            dtype=metric.dtype,
            meta=np.empty((0,) * len(dims), metric.dtype),
        )
    else:
        values = _typed(formula, metric.dtype, data)
    return xr.Variable(dims, values, attrs=_attrs(metric, units))


def _typed(formula: Any, dtype: str, rows: Any) -> Any:
    return np.asarray(formula(np.asarray(rows))).astype(dtype)


def _attrs(metric: Metric, units: str) -> dict[str, Any]:
    shown = {
        "of the values": units,
        "square of the values": units if units == "1" else f"({units})2",
    }
    attrs = {"long_name": metric.long_name, "units": shown.get(metric.units, metric.units)}
    if metric.citation:
        attrs["references"] = metric.citation + (f" doi:{metric.doi}" if metric.doi else "")
    return attrs
