"""Dates of acquisition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, printable
from xharmonize.plot.style import (
    label_dates,
    literal,
    new_figure,
    sensors_of,
    style_of,
    tidy,
    title_of,
)
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series.observed import has_look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def timeline(*cubes: xr.DataArray | xr.Dataset, title: str = "") -> Figure:
    """Draw when each sensor acquired something, one row for each platform.

    Parameters
    ----------
    *cubes : DataArray or Dataset with ``time``
        Cubes or series; only their coordinates are read, no pixel is computed. Days of a smoothed
        series on which no sensor looked are left out.
    title : str
        Put above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        If a cube has lost its sensors, or there is none.

    Examples
    --------
    >>> figure = timeline(s2, l8)  # doctest: +SKIP
    """
    cubes = tuple(at_door(cube) for cube in cubes)
    rows = _rows(*cubes)
    if not rows:
        raise ContractError("no date to draw; give at least one cube with dates")
    figure = new_figure(8.5, 1.3 + 0.45 * len(rows))
    axes = figure.subplots()
    labels = []
    for height, ((sensor, platform), dates) in enumerate(reversed(rows.items())):
        colour, marker = style_of(sensor)
        axes.scatter(
            dates,
            np.full(len(dates), height),
            s=38,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.5,
        )
        name = title_of(sensor) if platform == UNKNOWN else " and ".join(sorted(Names.of(platform)))
        labels.append(f"{name}  ({len(dates)})")
    axes.set_yticks(range(len(rows)), list(map(printable, labels)))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    label_dates(axes)
    tidy(axes)
    axes.set_title(title, fontsize=10, loc="left")
    return literal(figure)


def _rows(*cubes: xr.DataArray | xr.Dataset) -> dict[tuple[str, str], np.ndarray]:
    """Sorted, distinct dates of each (sensor, platform)."""
    gathered: dict[tuple[str, str], set[np.datetime64]] = {}
    for cube in cubes:
        sensors = sensors_of(cube)
        n = len(sensors)
        known = "platform" in cube.coords
        platforms = read_coordinate(cube, "platform") if known else np.full(n, UNKNOWN)
        dates = np.atleast_1d(cube["time"].values)
        seen = has_look(cube) if "time" in cube.dims else np.ones(n, bool)
        for sensor, platform, date in zip(sensors[seen], platforms[seen], dates[seen]):
            gathered.setdefault((str(sensor), str(platform)), set()).add(date)
    return {key: np.array(sorted(gathered[key])) for key in sorted(gathered)}
