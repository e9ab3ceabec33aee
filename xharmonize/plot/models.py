"""Figures of look-up tables, of shifts and of training losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.errors import MetricError, ModelError
from xharmonize.metrics import get_metric, list_metrics
from xharmonize.plot.style import (
    BLUE,
    GREEN,
    MISSING,
    ORANGE,
    PURPLE,
    SKY,
    literal,
    new_figure,
    tidy,
    with_unit,
)
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Losses: TypeAlias = pd.DataFrame | xr.Dataset | str | Path


_COLUMNS = 3


def tables(fit: xr.Dataset, *, title: str = "") -> Figure:
    """Plot look-up tables, one panel per band.

    Each table is a thin line, the median of all tiles and dates a thick one, and no change a dashed
    one. The grey histogram shows the values of the cube, whose range limits the panels.

    Parameters
    ----------
    fit : Dataset
        From `fit_tables` or `fit_lut`; computed here. Tables of NaN (empty tiles) are not shown.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModelError
        If the Dataset holds no tables.

    Examples
    --------
    >>> figure = tables(xh.harmonizers.fit_tables(cube, model))  # doctest: +SKIP
    """
    there = set(fit.variables) if isinstance(fit, xr.Dataset) else set()
    name = next((key for key in ("tables", "table") if key in there), None)
    if name is None or "knot_value" not in there:
        raise ModelError("this holds no look-up tables", cure="give a fit of fit_tables or fit_lut")
    fit = fit.compute()
    bands = [str(band) for band in fit["band"].values]
    n_rows = -(-len(bands) // _COLUMNS)
    n_columns = min(len(bands), _COLUMNS)
    figure = new_figure(3.2 * n_columns + 0.4, 3.0 * n_rows + 0.5)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    counts = fit["histograms" if "histograms" in fit else "histogram"]
    for axes, band in zip(panels.flat, bands):
        values = fit[name].sel(band=band).transpose(..., "knot").values
        pixels = counts.sel(band=band).transpose(..., "bin").values
        lines = values.reshape(-1, values.shape[-1])
        _draw(axes, fit["knot_value"].sel(band=band).values, lines, pixels)
        axes.set_title(band, fontsize=9, loc="left")
    for axes in panels.flat[len(bands) :]:
        axes.set_visible(False)
    _label(figure, panels, title, is_single=name == "table")
    return literal(figure)


def shifts(fit: xr.Dataset, *, title: str = "") -> Figure:
    """Plot how far the dates of a cube lie from their place, a colour for each platform and orbit.

    Parameters
    ----------
    fit : Dataset
        From `xharmonize.fit_shifts`, or a fit of ``auto`` on registered pairs. Where it says how
        sure each shift is, bars show one standard deviation.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ModelError
        If the Dataset holds no shifts.

    Examples
    --------
    >>> figure = shifts(xh.fit_shifts(cube))  # doctest: +SKIP
    """
    there = set(fit.variables) if isinstance(fit, xr.Dataset) else set()
    if not {"shift_x", "shift_y", "group"} <= there:
        raise ModelError("this holds no shifts", cure="give a fit of fit_shifts, or one of auto")
    fit = fit.compute()
    figure = new_figure(5.0, 4.6)
    axes = figure.subplots()
    groups = fit["group"].values.astype(str)
    error = fit["shift_se"].values if "shift_se" in fit else np.zeros(groups.size)
    for k, name in enumerate(np.unique(groups)):
        own = groups == name
        x, y = (fit[f"shift_{axis}"].values[own] for axis in "xy")
        axes.errorbar(
            x,
            y,
            xerr=error[own],
            yerr=error[own],
            label=str(name),
            fmt="o",
            markersize=4,
            elinewidth=0.7,
            color=f"C{k % 10}",
        )
    axes.axhline(0, color="#555555", linewidth=0.8)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("shift to the east [m]")
    axes.set_ylabel("shift to the north [m]")
    axes.legend(title="platform / phase", fontsize=8, frameon=False)
    axes.set_title(title)
    tidy(axes)
    return literal(figure)


def _draw(axes: Axes, knots: AnyArray, lines: AnyArray, counts: AnyArray) -> None:
    """Tables (table, knot) of one band over the histogram of its values, within their range."""
    lines = lines[np.isfinite(lines).all(axis=1)]
    total = counts.reshape(-1, counts.shape[-1]).sum(axis=0)
    edges = np.linspace(knots[0], knots[-1], total.size + 1)
    left, right = _where_values_lie(edges, total)
    drawn = lines[:, (knots >= left) & (knots <= right)]
    bottom = float(min(drawn.min(initial=left), left))
    top = float(max(drawn.max(initial=right), right))
    height = bottom + 0.25 * (top - bottom) * total / max(int(total.max()), 1)
    axes.stairs(height, edges, baseline=bottom, fill=True, color=MISSING, zorder=0)
    collection: Any = require("matplotlib.collections", extra="plot").LineCollection
    if len(lines) > 1:
        paths = [np.column_stack([knots, line]) for line in lines]
        opacity = float(np.clip(12 / len(lines), 0.04, 0.5))
        axes.add_collection(collection(paths, colors=BLUE, linewidths=0.6, alpha=opacity))
    if len(lines):
        axes.plot(knots, np.median(lines, axis=0), color=ORANGE, linewidth=1.6)
    axes.plot(knots[[0, -1]], knots[[0, -1]], color="#555555", linewidth=0.8, linestyle="--")
    axes.locator_params(nbins=5)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    tidy(axes)


def _where_values_lie(edges: AnyArray, counts: AnyArray) -> tuple[float, float]:
    """Range without one value in a thousand at either end, extended by a tenth on each side."""
    if not counts.sum():
        return float(edges[0]), float(edges[-1])
    level = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    first = int(np.searchsorted(level, 0.001, side="right")) - 1
    last = int(np.searchsorted(level, 0.999))
    margin = (edges[last] - edges[first]) / 10
    low, high = max(edges[first] - margin, edges[0]), min(edges[last] + margin, edges[-1])
    return float(low), float(high)


def _label(figure: Figure, panels: AnyArray, title: str, *, is_single: bool) -> None:
    """Axes, legend and title for all panels."""
    line: Any = require("matplotlib.lines", extra="plot").Line2D
    patch: Any = require("matplotlib.patches", extra="plot").Patch
    middle = "table" if is_single else "median of the tables"
    handles = [
        line([], [], color=ORANGE, linewidth=1.6, label=middle),
        line([], [], color="#555555", linewidth=0.8, linestyle="--", label="no change"),
        patch(color=MISSING, label="values of the cube"),
    ]
    if not is_single:
        handles.insert(0, line([], [], color=BLUE, linewidth=0.8, label="one tile and date"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    for axes in panels[-1]:
        axes.set_xlabel("input reflectance", fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel("output reflectance", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    for axes in panels.flat:
        axes.tick_params(labelsize=7)


STEP, EPOCH, VALIDATION = "step", "epoch", "validation"
SECONDS = ("seconds", "seconds_data", "seconds_ranks")
"""Time of a step, and what of it went into waiting for samples and for other ranks."""
PREFIXES = ("validation_", "val_")
_LINES = (
    (BLUE, "-"),
    (ORANGE, "--"),
    (GREEN, "-."),
    (PURPLE, ":"),
    (SKY, "-"),
)
_LOWER = ("rmse", "mse", "mae", "mre", "mre_total", "sam", "ergas")
_HIGHER = ("r2", "r2_pearson", "cc", "kge", "kge_2012", "psnr", "ssim", "uiqi", "skill")


def training(losses: Losses, *, title: str = "") -> Figure:
    """Plot losses per step or epoch, with a panel for each validation metric below.

    Parameters
    ----------
    losses : DataFrame, Dataset, or path of a CSV or JSON-lines file
        The ``history`` of `xharmonize.train`, its ``log.jsonl``, or a table of your own: one row
        per step or epoch, numbered by the column (or coordinate) ``step``, else ``epoch``, else
        from 1. ``validation``, columns that start with ``validation_`` or ``val_``, and those with
        the name of a metric in `xharmonize.metrics.list_metrics` are metrics with a panel each.
        ``seconds`` of a step are drawn last, with what of them went into waiting for samples
        (``seconds_data``) and for other ranks (``seconds_ranks``), where there are these columns.
        All other numeric columns are losses and share one panel. Several rows of one number
        (ranks, steps) are averaged; NaN is ignored.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MetricError
        If there is no numeric column.

    Examples
    --------
    >>> figure = training("losses.csv")  # doctest: +SKIP
    """
    table = read_losses(losses)
    metrics = [name for name in table.columns if _is_metric(name)]
    own = [name for name in table.columns if name not in [*metrics, *SECONDS]]
    is_timed = set(SECONDS) <= set(table.columns)
    n = len(metrics) + bool(own) + is_timed
    figure = new_figure(7.5, 1.9 * n + 0.9)
    panels = list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])
    if own:
        _draw_losses(panels[0], table, own)
    for axes, name in zip(panels[bool(own) :], metrics):
        _draw_metric(axes, table, name)
    if is_timed:
        _draw_seconds(panels[-1], table[list(SECONDS)].dropna())
    panels[-1].set_xlabel(str(table.index.name))
    panels[-1].locator_params(axis="x", integer=True)
    panels[0].set_title(title, fontsize=10, loc="left")
    return literal(figure)


def read_losses(losses: Losses) -> pd.DataFrame:
    """Read a table of numbers by step, or by epoch."""
    import pandas as pd

    if isinstance(losses, (str, Path)):
        is_log = Path(losses).suffix == ".jsonl"
        table = pd.read_json(losses, lines=True) if is_log else pd.read_csv(losses)
    elif isinstance(losses, xr.Dataset):
        table = losses.compute().to_dataframe().reset_index()
    else:
        table = losses.reset_index() if losses.index.name in (STEP, EPOCH) else losses
    by = STEP if STEP in table.columns else EPOCH
    if by not in table.columns:
        table = table.assign(**{by: np.arange(1, len(table) + 1)})
    numbers = table.select_dtypes("number").groupby(by).mean().dropna(axis=1, how="all")
    if by == STEP:  # a log of `xharmonize.train`
        numbers = numbers.drop(columns=[EPOCH, "is_best"], errors="ignore")
        if not set(SECONDS) <= set(numbers.columns):
            numbers = numbers.drop(columns=list(SECONDS), errors="ignore")
    if numbers.empty or not len(numbers.columns):
        raise MetricError(
            "no column of numbers to draw",
            cure=f"there are {list(map(str, table.columns))}; give losses per step or epoch",
        )
    numbers.columns = numbers.columns.map(str)
    return numbers


def _draw_seconds(axes: Axes, table: pd.DataFrame) -> None:
    """Parts of a step's time, one on the other: of the steps that were told."""
    whole, data, ranks = (1e3 * table[name].to_numpy(float) for name in SECONDS)
    parts = {"computing": whole - data - ranks, "waiting for ranks": ranks}
    parts["waiting for samples"] = data
    axes.stackplot(
        table.index,
        *parts.values(),
        labels=list(parts),
        colors=[GREEN, ORANGE, SKY],
        step="mid",
        linewidth=0,
    )
    axes.set_ylabel("time of a step [ms]", fontsize=8)
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=8, ncols=3)
    tidy(axes)


def _bare(name: str) -> str:
    """Name of a metric without the prefix for validation."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), "")
    return name.removeprefix(prefix)


def _is_metric(name: str) -> bool:
    return name == VALIDATION or name.startswith(PREFIXES) or name in list_metrics()


def _draw_losses(axes: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        colour, dashes = _LINES[k % len(_LINES)]
        _line(axes, table[name], color=colour, linestyle=dashes, label=name.replace("_", " "))
    values = table[list(names)].to_numpy(float)
    finite = values[np.isfinite(values)]
    # Adversarial losses are orders of magnitude smaller than a weighted absolute error.
    if finite.size and finite.min() > 0 and finite.max() > 50 * finite.min():
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def _draw_metric(axes: Axes, table: pd.DataFrame, name: str) -> None:
    values = table[name]
    _line(axes, values, color=BLUE, label=name)
    bare = _bare(name)
    known = bare in list_metrics()
    unit = get_metric(bare).units.replace("of the values", "1") if known else "1"
    if name == VALIDATION:  # what the loop of `xharmonize.train` scores
        bare, unit = "relative error", "%"
    axes.set_ylabel(with_unit(bare, unit) + "\n(validation)", fontsize=8)
    if name == VALIDATION:
        bare = "rmse"
    elif bare not in _LOWER + _HIGHER:
        bare = bare.split("_", 1)[-1]
    if bare in _LOWER + _HIGHER and values.notna().any():
        numbers = values.to_numpy(float)
        place = int(np.nanargmin(numbers) if bare in _LOWER else np.nanargmax(numbers))
        epoch, best = float(values.index[place]), numbers[place]
        axes.plot([epoch], [best], "o", color=ORANGE, markersize=5)
        text = f"best {best:.4g}, {values.index.name} {epoch:g}"
        axes.set_title(text, fontsize=7, loc="right", color=ORANGE)
    tidy(axes)


def _line(axes: Axes, values: pd.Series[Any], **style: Any) -> None:
    known = values.dropna()
    marker = "o" if len(known) < 2 else ""
    axes.plot(known.index, known.to_numpy(float), linewidth=1.3, marker=marker, **style)
