"""Style of all figures: colours that colour-blind readers can tell apart, markers, labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.indices import INDICES
from xharmonize.errors import printable
from xharmonize.sensors import Names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe & Ito (2008), https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
MISSING = "#d9d9d9"
MERGED = "#4d4d4d"
"""Colour of observations merged from several sensors."""
FILLED = "#a0a0a0"
"""Colour of filled values, which no sensor observed."""

_STYLES = {
    "sentinel-2": (BLUE, "o"),
    "hls-s30": (BLUE, "o"),
    "landsat": (ORANGE, "s"),
    "hls-l30": (ORANGE, "s"),
    "gaofen": (GREEN, "^"),
    "sentinel-1": (PURPLE, "v"),
}
_SPARE = [(GREEN, "d"), (PURPLE, "P"), (SKY, "X")]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, with its size in inches, that belongs to no window."""
    require("matplotlib.figure", extra="plot")
    from xharmonize.plot.figure import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained", dpi=150)


def literal(figure: Figure) -> Figure:
    """Show every text of a figure literally: user-given names may contain ``$``."""
    text_type = require("matplotlib.text", extra="plot").Text
    for text in figure.findobj(text_type):
        text.set_parse_math(False)
        text.set_text(printable(text.get_text()))
    return figure


def style_of(sensor: str, known: Sequence[str] = ()) -> tuple[str, str]:
    """Return the colour and marker of a sensor, the same for its family in every figure."""
    if len(Names.of(sensor)) > 1:
        return MERGED, "D"
    for family, style in _STYLES.items():
        if sensor.startswith(family):
            return style
    place = list(known).index(sensor) if sensor in known else 0
    return _SPARE[place % len(_SPARE)]


def title_of(sensor: str) -> str:
    """Title of one or several sensors; the name itself if a sensor is not registered."""
    from xharmonize.errors import UnknownSensorError
    from xharmonize.sensors import get_sensor

    names = []
    for name in sorted(Names.of(sensor)):
        try:
            names.append(get_sensor(name).title)
        except UnknownSensorError:
            names.append(name)
    return " and ".join(names)


def with_unit(text: str, unit: Any) -> str:
    """Append a unit in brackets to a label; nothing for a dimensionless quantity."""
    return text if str(unit) in ("1", "") else f"{text} [{unit}]"


def quantity_of(array: xr.DataArray) -> str:
    """Label of a quantity: its ``long_name``, else its name, in capitals for an index (NDVI)."""
    return str(array.attrs.get("long_name", capital(str(array.name or "value"))))


def capital(name: str) -> str:
    """Name of a band or metric; that of a spectral index in capitals."""
    return name.upper() if name in INDICES else name


def count_of_dates(n: int) -> str:
    """Number of dates in words: ``1 date``, ``2 dates``."""
    return f"{n} date" if n == 1 else f"{n} dates"


def label_dates(axes: Axes) -> None:
    """Label dates along x without repeating the year at each of them."""
    dates = require("matplotlib.dates", extra="plot")
    locator = dates.AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axes.set_xlabel("date of acquisition (UTC)")


def tidy(axes: Axes) -> None:
    """Remove the top and right frame, and add a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
