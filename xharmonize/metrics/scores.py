"""Scores of a prediction against a reference, and statistics that can be saved and merged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import element, map_blocks
from xharmonize.cube.contract import with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.indices import INDICES, bands_of
from xharmonize.errors import MetricError
from xharmonize.kernels.reflectance import RatioTerms
from xharmonize.metrics.blocks import (
    FIELDS,
    VERSION,
    VERSION_ATTR,
    IndexRow,
    StatisticsPlan,
    Table,
    Window,
    kind_of,
    merge_over,
    require_statistics,
    tabulate,
    tabulate_windows,
)
from xharmonize.metrics.inputs import (
    BAND,
    By,
    Dims,
    Groups,
    read_cubes,
    read_groups,
    reduced_dims,
    unify,
)
from xharmonize.metrics.registry import (
    ANGLES,
    DEFAULT,
    DEFAULT_SPECTRAL,
    ERRORS,
    METRICS,
    MOMENTS,
    Metric,
    MetricLike,
    Ssim,
    WindowMetric,
    resolve,
)
from xharmonize.types import AnyArray


def statistics(
    cube: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    *,
    dim: Dims = None,
    data_range: float | None = 1.0,
    by: By = None,
    baseline: xr.DataArray | xr.Dataset | None = None,
) -> xr.Dataset:
    """Compute the statistics behind metrics (counts, means, sums of squares; float64), lazily.

    Takes one pass over the pixels, and another one for window metrics (SSIM, UIQI). Statistics can
    be written to a file, merged with those of other areas, dates or runs by `merge_statistics`, and
    converted to metrics by `score_statistics`.

    Parameters
    ----------
    cube, reference : DataArray or Dataset
        Prediction and reference on one grid, as for `score`; NaN where missing.
    metrics : str, Metric, or a sequence of these, optional
        Metrics to compute later; by default those of `score`.
    dim, data_range, by, baseline
        As for `score`; bands are always kept.

    Returns
    -------
    Dataset
        Lazy if a cube is. ``moments`` (…, band, moment) of each band; ``ndvi_moments``
        (…, moment) of an index; ``angles`` (…, angle_sum); ``baseline_errors``
        (…, band, error_sum); ``ssim_windows`` and ``uiqi_windows`` (…, band, window_sum). The
        labels of the last dimension name the statistics. None is NaN; all are zero if no pixel
        counts. The leading dimensions are the kept ones, then those of the groups.

    Raises
    ------
    MetricError, UnknownMetricError, GridError, BandError, TimeAxisError, RadiometryError
        As `score`.
    """
    cube, reference, baseline = at_door(cube), at_door(reference), at_door(baseline)
    pred, other = read_cubes(cube, reference, what="score", dim=dim)
    reduced = reduced_dims(dim, pred.dims)
    if BAND in reduced:
        raise MetricError(
            "statistics keep the bands", cure="score_statistics(per_band=False) pools them"
        )
    asked = resolve(metrics, data_range=data_range, has_bands=pred.sizes.get(BAND, 1) > 1)
    return _as_objects(collect(pred, other, asked, reduced=reduced, by=by, baseline=baseline))


def _as_objects(found: xr.Dataset) -> xr.Dataset:
    """Labels as variable-length strings: Zarr v3 has no stable format for fixed-length ones."""
    text = {
        name: coord.variable.astype(object)
        for name, coord in found.coords.items()
        if coord.dtype.kind == "U"
    }
    return found.assign_coords(text)


def collect(
    pred: xr.DataArray,
    reference: xr.DataArray,
    metrics: Sequence[Metric],
    *,
    reduced: Sequence[str],
    by: By,
    baseline: xr.DataArray | xr.Dataset | None,
) -> xr.Dataset:
    """Compute the statistics that metrics need from aligned cubes."""
    table = _table(pred, metrics)
    arrays = _with_baseline(pred, reference, baseline, reduced=reduced, needed=table.errors)
    pred, reference = arrays[:2]
    groups = read_groups(by, pred, reduced)
    variables: dict[str, Any] = {}
    if table.rows:
        found = tabulate(arrays, groups.codes, _plan(pred, reduced, groups), table)
        start = 0
        for name, n_rows, n_fields in table.rows:
            part = found[..., start : start + n_rows, :n_fields]
            start += n_rows
            has_band = BAND in pred.dims and name in (MOMENTS, ERRORS)
            variables[name] = _variable(part, name, pred, reduced, groups, has_band=has_band)
    for metric in metrics:
        if isinstance(metric, WindowMetric):
            window = _window(metric, pred, reduced)
            plan = _plan(pred, reduced, groups, tail=("y", "x"))
            found = tabulate_windows((pred, reference), groups.codes, plan, window)
            name = metric.statistic
            variables[name] = _variable(
                found, name, pred, reduced, groups, has_band=BAND in pred.dims
            )
            variables[name].attrs = settings(metric)
    return _dataset(variables, pred, reference, reduced, groups)


def settings(metric: WindowMetric) -> dict[str, Any]:
    """Settings that window statistics depend on, as attributes."""
    c1, c2 = metric.constants
    sigma = metric.sigma if isinstance(metric, Ssim) and metric.window == "gaussian" else 0.0
    return {
        "window": metric.window,
        "window_size": int(metric.size),
        "window_sigma": float(sigma),
        "c1": float(c1),
        "c2": float(c2),
        "min_valid": float(metric.min_valid),
    }


def _table(pred: xr.DataArray, metrics: Sequence[Metric]) -> Table:
    """Rows of the table that pixel metrics use."""
    needed = {metric.statistic for metric in metrics}
    indices = []
    for name in sorted({metric.index for metric in metrics if metric.index}):
        names = [str(band) for band in pred[BAND].values]
        spec = INDICES[name]
        positions = tuple(names.index(band) for band in bands_of(pred, spec))
        indices.append(IndexRow(name=name, positions=positions, terms=cast(RatioTerms, spec.terms)))
    return Table(
        n_bands=pred.sizes.get(BAND, 1),
        moments=MOMENTS in needed,
        angles=ANGLES in needed,
        errors=ERRORS in needed,
        indices=tuple(indices),
    )


def _with_baseline(
    pred: xr.DataArray,
    reference: xr.DataArray,
    baseline: xr.DataArray | xr.Dataset | None,
    *,
    reduced: Sequence[str],
    needed: bool,
) -> tuple[xr.DataArray, ...]:
    """Prediction and reference, and the baseline if needed, in the same chunks."""
    if needed and baseline is None:
        raise MetricError("skill compares with another cube", cure="pass it as baseline=")
    if not needed and baseline is not None:
        raise MetricError("baseline= is for the metric 'skill', which is not asked for")
    if baseline is None:
        return pred, reference
    matched, other = read_cubes(pred, baseline, what="baseline=", dim=reduced)
    if matched.sizes != pred.sizes:
        raise MetricError(
            f"baseline= has not all that is scored: {dict(other.sizes)} of {dict(pred.sizes)}"
        )
    return tuple(unify(matched, reference, other))


def _plan(
    pred: xr.DataArray,
    reduced: Sequence[str],
    groups: Groups,
    tail: tuple[str, ...] | None = None,
) -> StatisticsPlan:
    dims = tuple(map(str, pred.dims))
    if tail is None:
        # Dimensions before the band are merged after the kernel, to avoid copying blocks.
        start = dims.index(BAND) + 1 if BAND in dims else max(len(dims) - 2, 0)
        tail = tuple(d for d in dims[start:] if d in reduced)
    codes = groups.codes
    return StatisticsPlan(
        dims=dims,
        reduced=tuple(reduced),
        code_dims=None if codes is None else tuple(map(str, codes.dims)),
        n_groups=groups.n,
        tail=tail,
    )


def _window(metric: WindowMetric, pred: xr.DataArray, reduced: Sequence[str]) -> Window:
    kept = [d for d in ("y", "x") if d not in reduced]
    if kept:
        state = "has no" if not {"y", "x"} <= set(pred.dims) else "is to keep"
        raise MetricError(
            f"{metric.name!r} slides windows over y and x, and the score {state} "
            f"{' and '.join(kept)}",
            cure="name both in dim=",
        )
    c1, c2 = metric.constants
    return Window(
        weights=metric.window,
        size=int(metric.size),
        sigma=metric.sigma if isinstance(metric, Ssim) else 0.0,
        c1=c1,
        c2=c2,
        min_valid=metric.min_valid,
    )


def _variable(
    found: Any,
    name: str,
    pred: xr.DataArray,
    reduced: Sequence[str],
    groups: Groups,
    *,
    has_band: bool,
) -> xr.Variable:
    """Part of a table (kept, group, row, field) as a variable with its own dimensions."""
    kept = [str(d) for d in pred.dims if d not in reduced and d != BAND]
    core, labels = FIELDS[kind_of(name)]
    if not has_band:
        found = found[..., 0, :]
    middle = [*groups.labels, *([BAND] if has_band else [])]
    sizes = [pred.sizes[d] for d in kept]
    last = [*groups.shape, *([pred.sizes[BAND]] if has_band else []), len(labels)]
    return xr.Variable([*kept, *middle, core], found.reshape(*sizes, *last))


def _dataset(
    variables: dict[str, Any],
    pred: xr.DataArray,
    reference: xr.DataArray,
    reduced: Sequence[str],
    groups: Groups,
) -> xr.Dataset:
    kept = {d for d in pred.dims if d not in reduced and d != BAND}
    coords: dict[Hashable, Any] = {
        name: coord
        for name, coord in pred.coords.variables.items()
        if coord.dims and set(coord.dims) <= kept and name not in groups.labels
    }
    if {"y", "x"} <= kept and "spatial_ref" in pred.coords:
        coords["spatial_ref"] = pred["spatial_ref"].variable
    if BAND in pred.dims:
        coords[BAND] = [str(name) for name in pred[BAND].values]
    coords |= {name: (name, values) for name, values in groups.labels.items()}
    for name in variables:
        core, labels = FIELDS[kind_of(name)]
        coords[core] = list(labels)
    units = pred.attrs.get("units", reference.attrs.get("units", "1"))
    line = f"statistics: over {', '.join(reduced) or 'nothing'}"
    attrs = {VERSION_ATTR: VERSION, "units": str(units), **with_history({}, line)}
    used = {d for v in variables.values() for d in v.dims} | {"spatial_ref"}
    coords = {k: v for k, v in coords.items() if k in used or getattr(v, "dims", None)}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def score(
    cube: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    *,
    dim: Dims = None,
    data_range: float | None = 1.0,
    by: By = None,
    per_band: bool = True,
    baseline: xr.DataArray | xr.Dataset | None = None,
) -> xr.Dataset:
    """Score a prediction against a reference, lazily.

    All pixel metrics are computed in one pass over the pixels; sums are in float64 and do not
    depend on chunks. A pixel counts if both values are finite; for ``sam`` if all bands are finite
    and neither spectrum is zero; for ``skill`` if the baseline is finite too. A window of ``ssim``
    or ``uiqi`` counts if half of its weight is valid, and uses its valid pixels.

    Parameters
    ----------
    cube, reference : DataArray, or Dataset with ``reflectance`` or one other variable
        Prediction and reference on one grid, with the same bands and units; NaN where missing. Any
        dimensions are allowed: the ``source`` and ``target`` (pair, band, y, x) of `match_pairs`,
        an index (time, y, x), or points. Along time, the common dates are compared. A cube of one
        selected date is compared with that date; a cube without dates is compared with all dates,
        if `dim` keeps them.
    metrics : str, Metric, or a sequence of these, optional
        Names from `list_metrics`, or objects of `xharmonize.metrics` for metrics with options
        (``Sam(unit="deg")``). By default count, RMSE, MAE, bias, MRE, R², CC, KGE, PSNR and, for
        several bands, SAM and ERGAS.
    dim : str or collection of str, optional
        Dimensions to reduce; by default all except ``band``. Including ``band``, or giving ``...``,
        implies ``per_band=False``.
    data_range : float, optional
        Difference between the largest and smallest possible value [1], for PSNR and SSIM.
    by : str, DataArray, or a sequence of these
        Groups of pixels to score separately: a coordinate (``"sensor"``, ``"time.month"``), or a
        class map (y, x). Each adds a dimension to the result.
    per_band : bool
        Whether to return one value per band, or one over all bands: moments are then pooled (PSNR
        from the pooled MSE), and SSIM and UIQI are averaged. SAM and ERGAS never have bands.
    baseline : DataArray or Dataset, optional
        Another prediction, for ``skill``.

    Returns
    -------
    Dataset
        One float64 variable per metric (``n`` is int64), lazy if a cube is; NaN if no pixel counts
        or a metric is undefined (see `docs/reference/metrics.md`).

    Raises
    ------
    UnknownMetricError
        If there is no metric of that name.
    MetricError
        If a metric is not defined for the data or the options given.
    GridError, BandError, TimeAxisError, RadiometryError, ContractError
        If the two cannot be compared: different grids, bands, units or dates, or digital numbers.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> reference = example_cube()
    >>> scores = xh.score(reference + 0.01, reference, ["bias", "rmse"], dim=["y", "x"])
    >>> scores["bias"].dims
    ('time', 'band')
    """
    cube, reference, baseline = at_door(cube), at_door(reference), at_door(baseline)
    pred, other = read_cubes(cube, reference, what="score", dim=dim)
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
    """Compute metrics from statistics.

    Parameters
    ----------
    statistics : Dataset
        From `xharmonize.metrics.statistics` or `merge_statistics`, or read from a file.
    metrics : str, Metric, or a sequence of these, optional
        As for `score`; by default those default metrics that the statistics support.
    dim : str or sequence of str
        Kept dimensions, or groups, to merge first.
    data_range : float, optional
        As for `score`, for PSNR. That of SSIM is stored in its statistics.
    per_band : bool
        As for `score`.

    Raises
    ------
    MetricError
        If the statistics a metric needs are missing, or were made with other settings.
    """
    require_statistics(statistics)
    names = [dim] if isinstance(dim, str) else list(dim)
    cores = [core for core, _ in FIELDS.values()]
    absent = [d for d in names if d not in statistics.dims or d in (BAND, *cores)]
    if absent:
        able = [d for d in statistics.dims if d not in (BAND, *cores)]
        raise MetricError(
            f"the statistics cannot be merged over {absent}", cure=f"they can over {able}"
        )
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
    """Raise unless the statistics include those that the metrics need."""
    for metric in asked:
        if metric.statistic not in statistics:
            raise MetricError(
                f"the statistics do not hold what {metric.name!r} needs ({metric.statistic})",
                cure=f"make them with statistics(..., metrics=[..., {metric.name!r}])",
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
    """Metrics of one kind from their statistics (…, [band], field), in a single task."""
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
    return {
        m.name: xr.Variable(dims, element(stacked, k, dtype=m.dtype, name=f"score-{m.name}"))
        for k, m in enumerate(metrics)
    }


def _stacked(rows: AnyArray, *, formulas: Sequence[Callable[..., AnyArray]]) -> AnyArray:
    """All metrics of a block of statistics, along a last axis."""
    return np.stack([np.asarray(formula(rows)) for formula in formulas], axis=-1)


def _attrs(metric: Metric, units: str) -> dict[str, Any]:
    shown = {
        "of the values": units,
        "square of the values": units if units == "1" else f"({units})2",
    }
    attrs = {"long_name": metric.long_name, "units": shown.get(metric.units, metric.units)}
    if metric.citation:
        attrs["references"] = metric.citation + (f" doi:{metric.doi}" if metric.doi else "")
    return attrs
