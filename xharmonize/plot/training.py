"""How a training went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.errors import MetricError
from xharmonize.metrics import get_metric, list_metrics
from xharmonize.plot.style import BLUE, GREEN, ORANGE, PURPLE, SKY, literal, new_figure, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Losses: TypeAlias = pd.DataFrame | xr.Dataset | str | Path

EPOCH = "epoch"
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
    """Draw losses per epoch, and below them each metric of the validation.

    Parameters
    ----------
    losses : DataFrame, Dataset, or path of a CSV file
        One row per epoch, in the column (or coordinate) ``epoch``, counted from 1 where there is
        none. Columns that begin with ``validation_`` or ``val_``, or are named as a metric of
        `xharmonize.list_metrics`, are metrics, and each is drawn apart; all other numbers are
        losses and share one panel. Several rows of one epoch (ranks, steps) count with their mean;
        NaN is left out.
    title : str
        Put above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MetricError
        If there is no column of numbers.

    Examples
    --------
    >>> figure = training("losses.csv")  # doctest: +SKIP
    """
    table = read_losses(losses)
    metrics = [name for name in table.columns if _is_metric(name)]
    own = [name for name in table.columns if name not in metrics]
    n = len(metrics) + bool(own)
    figure = new_figure(7.5, 1.9 * n + 0.9)
    panels = list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])
    if own:
        _draw_losses(panels[0], table, own)
    for axes, name in zip(panels[bool(own) :], metrics):
        _draw_metric(axes, table, name)
    panels[-1].set_xlabel("epoch")
    panels[-1].locator_params(axis="x", integer=True)
    panels[0].set_title(title, fontsize=10, loc="left")
    return literal(figure)


def read_losses(losses: Losses) -> pd.DataFrame:
    """Return a table of numbers by epoch."""
    import pandas as pd

    if isinstance(losses, (str, Path)):
        table = pd.read_csv(losses)
    elif isinstance(losses, xr.Dataset):
        table = losses.compute().to_dataframe().reset_index()
    else:
        table = losses.reset_index() if losses.index.name == EPOCH else losses
    if EPOCH not in table.columns:
        table = table.assign(**{EPOCH: np.arange(1, len(table) + 1)})
    numbers = table.select_dtypes("number").groupby(EPOCH).mean().dropna(axis=1, how="all")
    if numbers.empty or not len(numbers.columns):
        raise MetricError(
            f"no column of numbers to draw; there are {list(map(str, table.columns))}; give losses "
            "per epoch"
        )
    numbers.columns = numbers.columns.map(str)
    return numbers


def _bare(name: str) -> str:
    """Name of a metric without what says that it is of the validation."""
    prefix = next((p for p in PREFIXES if name.startswith(p)), "")
    return name.removeprefix(prefix)


def _is_metric(name: str) -> bool:
    return name.startswith(PREFIXES) or name in list_metrics()


def _draw_losses(axes: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        colour, dashes = _LINES[k % len(_LINES)]
        _line(axes, table[name], color=colour, linestyle=dashes, label=name.replace("_", " "))
    values = table[list(names)].to_numpy(float)
    finite = values[np.isfinite(values)]
    # Adversarial losses lie orders of magnitude below a weighted absolute error.
    if finite.size and finite.min() > 0 and finite.max() > 50 * finite.min():
        axes.set_yscale("log")
    axes.set_ylabel("loss [1]")
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)


def _draw_metric(axes: Axes, table: pd.DataFrame, name: str) -> None:
    values = table[name]
    _line(axes, values, color=BLUE, label=name)
    bare = _bare(name)
    known = bare in list_metrics()
    unit = get_metric(bare).units.replace("of the values", "1") if known else "1"
    axes.set_ylabel(f"{bare} [{unit}]\n(validation)", fontsize=8)
    if bare not in _LOWER + _HIGHER:
        bare = bare.split("_", 1)[-1]
    if bare in _LOWER + _HIGHER and values.notna().any():
        best = values.idxmin() if bare in _LOWER else values.idxmax()
        axes.plot([best], [values[best]], "o", color=ORANGE, markersize=5)
        text = f"best {values[best]:.4g}, epoch {best:g}"
        axes.set_title(text, fontsize=7, loc="right", color=ORANGE)
    tidy(axes)


def _line(axes: Axes, values: pd.Series[Any], **style: Any) -> None:
    known = values.dropna()
    marker = "o" if len(known) < 2 else ""
    axes.plot(known.index, known.to_numpy(float), linewidth=1.3, marker=marker, **style)
