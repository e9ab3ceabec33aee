"""Metrics by name, and the ones a call asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np

from xharmonize.cube.indices import INDICES
from xharmonize.errors import MetricError, UnknownMetricError
from xharmonize.metrics import formulas
from xharmonize.metrics.entries import (
    Count,
    Ergas,
    Metric,
    Psnr,
    Sam,
    Skill,
    Ssim,
    Uiqi,
    settled,
)
from xharmonize.metrics.formulas import Formula

MetricLike: TypeAlias = str | Metric
OF_VALUES = "of the values"


def _metric(
    name: str, formula: Formula, long_name: str, units: str = "1", citation: str = "", doi: str = ""
) -> Metric:
    return Metric(
        name=name, formula=formula, long_name=long_name, units=units, citation=citation, doi=doi
    )


_GUPTA = ("Gupta et al. 2009", "10.1016/j.jhydrol.2009.08.003")
_KLING = ("Kling, Fuchs and Paulin 2012", "10.1016/j.jhydrol.2012.01.011")
_PIXEL = (
    Count(),
    _metric("rmse", formulas.rmse, "root mean square error", OF_VALUES),
    _metric("mse", formulas.mse, "mean squared error", "square of the values"),
    _metric("mae", formulas.mae, "mean absolute error", OF_VALUES),
    _metric("bias", formulas.bias, "mean error", OF_VALUES),
    _metric("mre", formulas.mre, "mean relative error"),
    _metric("mre_total", formulas.mre_total, "sum of errors over sum of the reference"),
    _metric("r2", formulas.r2, "coefficient of determination, 1 - SSE/SST"),
    _metric("r2_pearson", formulas.r2_pearson, "squared correlation"),
    _metric("cc", formulas.cc, "correlation coefficient"),
    _metric("kge", formulas.kge, "Kling-Gupta efficiency (2009)", "1", *_GUPTA),
    _metric("kge_2012", formulas.kge_2012, "Kling-Gupta efficiency (2012)", "1", *_KLING),
    _metric("slope", formulas.slope, "slope of prediction on reference"),
    _metric("intercept", formulas.intercept, "intercept of prediction on reference", OF_VALUES),
)
METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_PIXEL, Psnr(), Sam(), Ergas(), Uiqi(), Ssim(), Skill())
}
DEFAULT = ("n", "rmse", "mae", "bias", "mre", "r2", "cc", "kge", "psnr")
DEFAULT_SPECTRAL = ("sam", "ergas")


def list_metrics() -> list[str]:
    """Return the names that `score` knows.

    Any of the spectral indices of `list_indices` can stand before a metric of pixels:
    ``ndvi_rmse``, ``evi2_bias``, ``nbr_r2``.

    Examples
    --------
    >>> [name for name in list_metrics() if name.startswith("kge")]
    ['kge', 'kge_2012']
    """
    return sorted([*METRICS, *(f"ndvi_{metric.name}" for metric in _PIXEL)])


def get_metric(name: str) -> Metric:
    """Return a metric by name.

    Raises
    ------
    UnknownMetricError
        If there is none of that name; the message says which names come near.
    """
    if name in METRICS:
        return METRICS[name]
    index, _, rest = name.partition("_")
    base = METRICS.get(rest)
    if index in INDICES and base is not None and base.formula is not None:
        long_name = f"{base.long_name} of {index.upper()}"
        return replace(base, name=name, index=index, long_name=long_name)
    near = get_close_matches(str(name).lower(), list_metrics(), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UnknownMetricError(
        f"metric {name!r} is unknown{hint} xh.list_metrics() has all names"
        if hint
        else f"metric {name!r} is unknown; xh.list_metrics() has all names"
    )


def _named(name: object) -> Metric:
    if isinstance(name, str):
        return get_metric(name)
    raise MetricError(
        f"{name!r} is neither the name of a metric nor an entry; give a name such as 'rmse', or an "
        "entry such as Ssim(kind='uniform')"
    )


def resolve(
    metrics: MetricLike | Sequence[MetricLike] | None,
    *,
    data_range: float | None,
    has_bands: bool,
) -> tuple[Metric, ...]:
    """Return the metrics asked for, with their data range settled.

    Raises
    ------
    MetricError
        If a name comes twice, or a metric needs a data range or bands that are not there.
    """
    if metrics is None:
        metrics = (*DEFAULT, *(DEFAULT_SPECTRAL if has_bands else ()))
    if isinstance(metrics, (str, Metric)):
        metrics = (metrics,)
    found = [m if isinstance(m, Metric) else _named(m) for m in metrics]
    names = [metric.name for metric in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MetricError(
            f"metric {', '.join(twice)} is asked for twice; give each variant a name of its own, "
            "as in Ssim(name='ssim_uniform', kind='uniform')"
        )
    if not names:
        raise MetricError("metrics= is empty; leave it out for the usual ones")
    bare = [m.name for m in found if (m.needs_bands or m.index) and not has_bands]
    if bare:
        raise MetricError(
            f"{', '.join(bare)} needs at least two bands along the dimension 'band'; "
            "ask for other metrics"
        )
    return tuple(_with_range(metric, data_range) for metric in found)


def _with_range(metric: Metric, data_range: float | None) -> Metric:
    if not isinstance(metric, (Psnr, Ssim)):
        return metric
    if metric.data_range is None:
        metric = replace(metric, data_range=data_range)
    value = settled(metric.data_range, metric.name)
    if not 0 < value < np.inf:
        raise MetricError(
            f"data_range={value} of {metric.name!r} is not positive; give the largest value less "
            "the smallest that the data can have: 1 for reflectance, 2 for NDVI"
        )
    return metric
