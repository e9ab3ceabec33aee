"""Figures of results without pixels: scores, fitted lines, steps between sensors, fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.door import at_door, label_text
from xharmonize.errors import ContractError, MetricError
from xharmonize.plot.style import (
    BLUE,
    GREEN,
    MERGED,
    ORANGE,
    PURPLE,
    SKY,
    capital,
    label_dates,
    literal,
    new_figure,
    tidy,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


T = TypeVar("T")

_COLUMNS = 3
_MOST_PANELS = 24
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, MERGED, "#E69F00", "#F0E442")

# What draws what is no cube, by the name of its class.
_INSTEAD = {
    "Training": "call plot.training(training.history), or plot.samples(training, pairs)",
    "FieldTable": "call plot.values(table.to_xarray())",
    "DataFrame": "pandas draws tables: table.plot()",
    "DataTree": "pairs hold several cubes: take one, as in pairs['target']['reflectance']",
    "CropClassifier": "draw the map: plot.maps(xh.crops.classify(features, classifier))",
}


def values(
    result: xr.DataArray | xr.Dataset,
    *,
    variables: Sequence[str] | str | None = None,
    title: str = "",
) -> Figure:
    """Plot a result that has no pixels, one panel per variable.

    For scores, fits of lines, steps between sensors, agreement of tiles, confusion matrices, and
    the series of fields. Results with pixels are drawn by `xharmonize.plot.maps`.

    Parameters
    ----------
    result : DataArray or Dataset
        Variables of at most two dimensions beside ``y`` and ``x``, which they must not have. Values
        are drawn along dates if there are any, else along the longest dimension, with a colour for
        each label of the other; NaN leaves a gap. Computed here.
    variables : str or sequence of str, optional
        Which to draw; all numbers by default.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        If `result` is no DataArray or Dataset, or has pixels only.
    MetricError
        If a variable is not there, or there are more than 24.

    Examples
    --------
    >>> import xharmonize as xh
    >>> figure = values(xh.score(prediction, reference, ["rmse", "bias"]))  # doctest: +SKIP
    """
    cube: Any = require_cube(result)
    if isinstance(cube, xr.DataArray):
        cube = cube.to_dataset(name=str(cube.name or "value"))
    names = _chosen(cube, [variables] if isinstance(variables, str) else variables)
    whole = cube[names].compute()
    n_columns, n_rows = min(len(names), _COLUMNS), -(-len(names) // _COLUMNS)
    figure = new_figure(3.8 * n_columns + 0.4, 2.7 * n_rows + 0.4)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes, name in zip(panels.flat, names):
        _draw(axes, whole[name])
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return literal(figure)


def require_cube(cube: T) -> T:
    """Return a cube as `at_door` does; refuse what is none, and say what draws it."""
    if isinstance(cube, xr.DataArray | xr.Dataset):
        return at_door(cube)
    name = type(cube).__name__
    cure = _INSTEAD.get(name, "give a DataArray or a Dataset")
    raise ContractError(f"this figure is of cubes, not of a {name}", cure=cure)


def _chosen(cube: xr.Dataset, asked: Sequence[str] | None) -> list[str]:
    """Variables to draw."""
    there = [
        str(name)
        for name, array in cube.data_vars.items()
        if not {"y", "x"} & set(array.dims) and array.ndim <= 2 and array.dtype.kind in "fiubM"
    ]
    lacking = [name for name in asked or () if name not in there]
    if lacking:
        raise MetricError(
            f"no variable {lacking[0]!r} without pixels and of at most two dimensions",
            cure=f"there are {there}",
        )
    names = list(asked or there)
    if not names:
        raise ContractError(
            "no variable is without pixels and of at most two dimensions",
            cure="call plot.maps, or select along the others with .sel",
        )
    if len(names) > _MOST_PANELS:
        raise MetricError(
            f"{len(names)} variables in one figure", cure=f"choose some: variables={names[:2]}"
        )
    return names


def _draw(axes: Axes, array: xr.DataArray) -> None:
    """One variable: along dates as a line, along labels as marks."""
    along = _along(array)
    others = [dim for dim in array.dims if dim != along]
    lines = array.transpose(*others, *([along] if along else [])).values
    lines = lines.reshape(-1, lines.shape[-1] if along else 1)
    labels = array[others[0]].values if others else [None]
    is_time = along is not None and array[along].dtype.kind == "M"
    places = array[along].values if is_time else np.arange(lines.shape[1])
    style: dict[str, Any] = {
        "marker": "o",
        "markersize": 3 if is_time else 5,
        "linestyle": "-" if is_time else " ",
    }
    for number, (line, label) in enumerate(zip(lines, labels)):
        known = ~np.isnat(line) if line.dtype.kind == "M" else np.isfinite(line.astype(float))
        colour = _COLOURS[number % len(_COLOURS)]
        text = None if label is None else label_text(label)
        axes.plot(places[known], line[known], color=colour, linewidth=0.8, label=text, **style)
    if is_time:
        label_dates(axes)
    elif along is not None:
        texts = [label_text(value) for value in array[along].values]
        stride = -(-len(texts) // 12)
        axes.set_xticks(places[::stride], texts[::stride], rotation=45, ha="right")
        axes.set_xlabel(str(along), fontsize=8)
    else:
        axes.set_xticks([])
    if others and len(labels) <= len(_COLOURS):
        axes.legend(fontsize=6, frameon=False, title=str(others[0]), title_fontsize=6)
    name = str(array.name)
    axes.set_title(capital(name), fontsize=9, loc="left")
    label = str(array.attrs.get("long_name", capital(name)))
    axes.set_ylabel(with_unit(label, array.attrs.get("units", "1")), fontsize=7)
    axes.tick_params(labelsize=7)
    tidy(axes)


def _along(array: xr.DataArray) -> Any:
    """The dimension to draw along: dates, else the longest; None for a single number."""
    times = [dim for dim in array.dims if array[dim].dtype.kind == "M"]
    return times[0] if times else max(array.dims, key=lambda dim: array.sizes[dim], default=None)
