"""Statistics of a prediction and a reference that can be kept, and merged with others."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import xarray as xr

from xharmonize.cube.contract import with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.indices import INDICES, bands_of
from xharmonize.errors import MetricError
from xharmonize.metrics.blocks import IndexRow, Plan, Table, Window
from xharmonize.metrics.entries import ANGLES, ERRORS, MOMENTS, Metric, Ssim, WindowMetric
from xharmonize.metrics.graph import tabulate, tabulate_windows
from xharmonize.metrics.groups import By, Groups, read_groups
from xharmonize.metrics.inputs import BAND, Dims, read_cubes, reduced_dims, unify
from xharmonize.metrics.merging import FIELDS, VERSION, VERSION_ATTR, kind_of
from xharmonize.metrics.registry import MetricLike, resolve


def statistics(
    cube: xr.DataArray | xr.Dataset,
    ref: xr.DataArray | xr.Dataset,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    *,
    dim: Dims = None,
    data_range: float | None = 1.0,
    by: By = None,
    baseline: xr.DataArray | xr.Dataset | None = None,
) -> xr.Dataset:
    """Return what metrics are formulas of: counts, means, sums of squares, in float64.

    One pass over the pixels; statistics of windows (SSIM, UIQI) take another. They can be written
    to a file, merged with those of other areas, dates or runs by `merge_statistics`, and turned
    into metrics by `score_statistics`.

    Parameters
    ----------
    cube, ref : DataArray or Dataset
        Prediction and reference on one grid, as for `score`.
    metrics : str, Metric, or a sequence of these, optional
        Metrics that are to be computed later; by default those of `score`.
    dim, data_range, by, baseline
        As for `score`; bands are always kept.

    Returns
    -------
    Dataset
        Lazy where a cube is. ``moments`` (…, band, moment): of each band. ``ndvi_moments``
        (…, moment): of an index. ``angles`` (…, angle_sum), ``baseline_errors``
        (…, band, error_sum), ``ssim_windows`` and ``uiqi_windows`` (…, band, window_sum). The
        labels of the last dimension name the numbers; none is NaN, and where no pixel counts all
        are zero. Dimensions before these are those that are kept, then those of the groups.

    Raises
    ------
    MetricError, UnknownMetricError, GridError, BandError, TimeAxisError, RadiometryError
        As `score`.
    """
    cube, ref, baseline = at_door(cube), at_door(ref), at_door(baseline)
    pred, other = read_cubes(cube, ref, what="score", dim=dim)
    reduced = reduced_dims(dim, pred.dims)
    if BAND in reduced:
        raise MetricError("statistics keep the bands; score_statistics(per_band=False) pools them")
    asked = resolve(metrics, data_range=data_range, has_bands=pred.sizes.get(BAND, 1) > 1)
    return _as_objects(collect(pred, other, asked, reduced=reduced, by=by, baseline=baseline))


def _as_objects(found: xr.Dataset) -> xr.Dataset:
    """Labels as strings of any length: Zarr v3 has no stable form for those of a fixed one."""
    text = {
        name: coord.variable.astype(object)
        for name, coord in found.coords.items()
        if coord.dtype.kind == "U"
    }
    return found.assign_coords(text)


def collect(
    pred: xr.DataArray,
    ref: xr.DataArray,
    metrics: Sequence[Metric],
    *,
    reduced: Sequence[str],
    by: By,
    baseline: xr.DataArray | xr.Dataset | None,
) -> xr.Dataset:
    """Find the statistics that metrics need, of aligned cubes."""
    table = _table(pred, metrics)
    arrays = _with_baseline(pred, ref, baseline, reduced=reduced, needed=table.errors)
    pred, ref = arrays[:2]
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
            found = tabulate_windows((pred, ref), groups.codes, plan, window)
            name = metric.statistic
            variables[name] = _variable(
                found, name, pred, reduced, groups, has_band=BAND in pred.dims
            )
            variables[name].attrs = settings(metric)
    return _dataset(variables, pred, ref, reduced, groups)


def settings(metric: WindowMetric) -> dict[str, Any]:
    """What statistics of windows depend on, as attributes."""
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
    """Rows of the table that metrics of pixels read."""
    needed = {metric.statistic for metric in metrics}
    indices = []
    for name in sorted({metric.index for metric in metrics if metric.index}):
        names = [str(band) for band in pred[BAND].values]
        spec = INDICES[name]
        positions = tuple(names.index(band) for band in bands_of(pred, spec))
        indices.append(IndexRow(name=name, positions=positions, terms=spec.terms))
    return Table(
        n_bands=pred.sizes.get(BAND, 1),
        moments=MOMENTS in needed,
        angles=ANGLES in needed,
        errors=ERRORS in needed,
        indices=tuple(indices),
    )


def _with_baseline(
    pred: xr.DataArray,
    ref: xr.DataArray,
    baseline: xr.DataArray | xr.Dataset | None,
    *,
    reduced: Sequence[str],
    needed: bool,
) -> tuple[xr.DataArray, ...]:
    """Prediction and reference, and the baseline where it is needed, in the same chunks."""
    if needed and baseline is None:
        raise MetricError("skill compares with another cube; pass it as baseline=")
    if not needed and baseline is not None:
        raise MetricError("baseline= is for the metric 'skill', which is not asked for")
    if baseline is None:
        return pred, ref
    matched, other = read_cubes(pred, baseline, what="baseline=", dim=reduced)
    if matched.sizes != pred.sizes:
        raise MetricError(
            f"baseline= has not all that is scored: {dict(other.sizes)} of {dict(pred.sizes)}"
        )
    return tuple(unify(matched, ref, other))


def _plan(
    pred: xr.DataArray,
    reduced: Sequence[str],
    groups: Groups,
    tail: tuple[str, ...] | None = None,
) -> Plan:
    dims = tuple(map(str, pred.dims))
    if tail is None:
        # Dimensions before the band are merged after the kernel, so that no block is copied.
        start = dims.index(BAND) + 1 if BAND in dims else max(len(dims) - 2, 0)
        tail = tuple(d for d in dims[start:] if d in reduced)
    codes = groups.codes
    return Plan(
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
            f"{' and '.join(kept)}; name both in dim="
        )
    c1, c2 = metric.constants
    return Window(
        kind=metric.window,
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
    ref: xr.DataArray,
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
    units = pred.attrs.get("units", ref.attrs.get("units", "1"))
    line = f"statistics: over {', '.join(reduced) or 'nothing'}"
    attrs = {VERSION_ATTR: VERSION, "units": str(units), **with_history({}, line)}
    used = {d for v in variables.values() for d in v.dims} | {"spatial_ref"}
    coords = {k: v for k, v in coords.items() if k in used or getattr(v, "dims", None)}
    return xr.Dataset(variables, coords=coords, attrs=attrs)
