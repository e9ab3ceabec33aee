"""How often a place is seen, month by month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.door import at_door
from xharmonize.errors import TimeAxisError
from xharmonize.plot.style import MERGED, literal, new_figure, style_of, tidy, title_of
from xharmonize.series.frequency import ALL
from xharmonize.series.frequency import frequency as count
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_USEFUL = 0.5


def frequency(
    cube: xr.DataArray | xr.Dataset, *, reference: str | None = None, title: str = ""
) -> Figure:
    """Draw days seen in each month, one row of bars for each sensor and one for all together.

    Darker parts of a bar are days with more valid pixels. The number above a bar of all sensors is
    how many times as many days they saw as the reference alone, of days more than half valid.

    Parameters
    ----------
    cube : DataArray or Dataset
        A series with ``sensor``, which is counted with `xharmonize.frequency`, or what that gave.
    reference : str, optional
        Sensor the number compares with; by default the one with the fewest days.
    title : str
        Put above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        If the series does not say which sensor its dates are from.
    TimeAxisError
        If there is no such `reference`.

    Examples
    --------
    >>> figure = frequency(series)  # doctest: +SKIP
    """
    cube = at_door(cube)
    is_count = isinstance(cube, xr.Dataset) and "scenes" in cube and "level" in cube.dims
    found = cube if is_count else count(cube)
    scenes = found["scenes"].compute().transpose("sensor", "month", "level").sortby("level")
    sensors = [str(name) for name in scenes["sensor"].values]
    own = [name for name in sensors if name != ALL]
    if reference is not None and reference not in own:
        raise TimeAxisError(f"the series holds no {reference!r}; it has {own}")
    shown = sensors if len(own) > 1 else own
    months = scenes["month"].values
    figure = new_figure(max(6.0, 0.42 * months.size + 2.4), 1.5 * len(shown) + 0.9)
    panels = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, shown):
        _draw(axes, scenes.sel(sensor=name), name)
    note = ""
    if len(own) > 1:
        chosen = reference or min(own, key=lambda name: int(scenes.sel(sensor=name).sum()))
        note = _write_ratios(panels[-1], scenes, chosen)
    _label_months(panels[-1], months, note)
    _explain(figure, scenes["level"].values)
    if title:
        figure.suptitle(title, fontsize=10)
    return literal(figure)


def _draw(axes: Axes, scenes: xr.DataArray, name: str) -> None:
    """Bars (month), a narrower and darker one for each higher level."""
    colour = MERGED if name == ALL else style_of(name)[0]
    n = scenes.sizes["level"]
    place = np.arange(scenes.sizes["month"])
    for k in range(n):
        axes.bar(place, scenes.values[:, k], width=0.8, color=shade(colour, (k + 1) / n))
    label = "all sensors" if name == ALL else title_of(name)
    axes.set_title(label, fontsize=9, loc="left")
    axes.set_ylabel("days", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="y", integer=True)
    tidy(axes)
    axes.grid(False, axis="x")


def shade(colour: str, strength: float) -> tuple[float, float, float]:
    """Mix a colour with white; 1 is the colour itself, 0 a faint trace of it."""
    rgb = np.array(require("matplotlib.colors", extra="plot").to_rgb(colour))
    red, green, blue = 1 - (0.2 + 0.8 * strength) * (1 - rgb)
    return float(red), float(green), float(blue)


def _write_ratios(axes: Axes, scenes: xr.DataArray, reference: str) -> str:
    levels = scenes["level"].values
    level = float(levels[np.abs(levels - _USEFUL).argmin()])
    merged, own = (scenes.sel(sensor=name, level=level).values for name in (ALL, reference))
    for k, (many, few) in enumerate(zip(merged, own)):
        if few > 0:
            height = int(scenes.sel(sensor=ALL).values[k].max())
            axes.annotate(
                f"{many / few:.1f}",
                (k, height),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.margins(y=0.2)
    return f"number: times the days of {reference} alone, more than {level:.0%} valid"


def _label_months(axes: Axes, months: AnyArray, note: str) -> None:
    """Write each month, or every n-th, and the year at the first and at each January."""
    names = months.astype("datetime64[M]").astype(str)
    stride = -(-len(names) // 24)
    labels = [
        f"{name[5:]}\n{name[:4]}" if k == 0 or name.endswith("-01") else name[5:]
        for k, name in enumerate(names)
    ]
    axes.set_xticks(np.arange(len(names))[::stride], labels[::stride])
    axes.set_xlabel("\n".join(filter(None, ["month", note])), fontsize=8)


def _explain(figure: Figure, levels: AnyArray) -> None:
    patch: Any = require("matplotlib.patches", extra="plot").Patch
    handles = [
        patch(color=shade(MERGED, (k + 1) / len(levels)), label=f"more than {level:.0%}")
        for k, level in enumerate(levels)
    ]
    figure.legend(
        handles=handles,
        title="valid pixels",
        title_fontsize=7,
        loc="outside right upper",
        fontsize=7,
        frameon=False,
    )
