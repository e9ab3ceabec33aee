"""Figures of time series, acquisition dates, and observation frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.companions import Origin
from xharmonize.cube.contract import main_layer, read_coordinate, require_bands
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, GridError, TimeAxisError, printable
from xharmonize.plot.style import (
    FILLED,
    MERGED,
    count_of_dates,
    label_dates,
    literal,
    new_figure,
    quantity_of,
    style_of,
    tidy,
    title_of,
    with_unit,
)
from xharmonize.plot.values import require_cube
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series.axis import deviation_of_known, has_observation, mean_of_known, sensors_of
from xharmonize.series.observations import ALL
from xharmonize.series.observations import frequency as count
from xharmonize.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


OPEN = ("harmonised", "sharpened")  # markers of values that no sensor observed as they are
MIN_VALID = 0.5
# Minimum fraction of the longest pixel series for a pixel to count in the mean of a smoothed one.
STEADY = 0.9
_WIDEST = 95  # characters that fit into two legend columns


def series(
    cube: xr.DataArray | xr.Dataset,
    *,
    x: float | None = None,
    y: float | None = None,
    field: xr.DataArray | None = None,
    band: str | None = None,
    truth: xr.DataArray | None = None,
    smoothed: xr.DataArray | xr.Dataset | None = None,
    title: str = "",
) -> Figure:
    """Plot the time series of a point or a field, with one colour and marker per sensor.

    If the cube has ``origin``, markers are solid for observed and open for harmonised and
    sharpened values; grey crosses, which belong to no sensor, mark dates on which most pixels are
    filled.

    Parameters
    ----------
    cube : (time, y, x) or (time, band, y, x) DataArray or Dataset
        An index [1] or reflectance [1] with a ``sensor`` for each date; NaN where missing. For a
        point, ``uncertainty`` (one standard deviation) is shown as error bars, and that of
        `smoothed` as a shaded band.
    x, y : float, optional
        A point in the cube's CRS; the pixel that contains it is plotted.
    field : (y, x) bool DataArray, optional
        Pixels of a field. Their mean is plotted, with one standard deviation as error bar, for
        dates with at least half of them valid. Without a point or field, the whole area is used.
    band : str, optional
        Band to plot; the first one by default.
    truth : (time,) DataArray, optional
        True values, plotted as a line behind the observations.
    smoothed : DataArray or Dataset, optional
        The series smoothed by `xharmonize.series.smooth`, plotted as a line.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    GridError
        If both a point and a field or only one of `x` and `y` are given, the point is outside the
        cube, or the field is empty.
    ContractError
        If the cube has no sensors.

    Examples
    --------
    >>> figure = series(ndvi, x=501500, y=5629500)  # doctest: +SKIP
    """
    cube = require_cube(cube)
    field, truth, smoothed = at_door(field), at_door(truth), at_door(smoothed)
    seen = _taken(cube, band, x, y, field)
    figure = new_figure(8.5, 4.2)
    axes = figure.subplots()
    if truth is not None:
        axes.plot(
            truth["time"].values,
            truth.values,
            color="#999999",
            linewidth=1.2,
            label="truth (simulated)",
        )
    if smoothed is not None:
        _draw_smoothed(axes, _taken(smoothed, band, x, y, field, is_course=True))
    _draw_sensors(axes, seen, is_joined=smoothed is None)
    attrs = seen.layer.attrs
    quantity = quantity_of(seen.layer)
    # The first band is the default, so the label names the band.
    named = f"{seen.layer['band'].item()} {quantity}" if "band" in seen.layer.coords else quantity
    axes.set_ylabel(with_unit(named, attrs.get("units", "1")))
    label_dates(axes)
    tidy(axes)
    _explain(axes)
    axes.set_title(title, fontsize=10, loc="left")
    if seen.note:
        axes.set_title(seen.note, fontsize=7, loc="right")
    return literal(figure)


def _explain(axes: Axes) -> None:
    """Draw the legend below the axes, where it hides no observations."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    half = -(-len(labels) // 2)
    width = sum(max(map(len, part), default=0) for part in (labels[:half], labels[half:]))
    axes.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=2 if width < _WIDEST else 1,
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The time series of a place; arrays are (time,), NaN where too few pixels are valid.

    Attributes
    ----------
    layer : (time, y, x) DataArray
        Source of the series.
    mean, spread : float array
        Value, and its standard deviation if known.
    origin : int array or None
        Origin bits of the values.
    note : str
        Description of the spread.
    """

    layer: xr.DataArray
    mean: FloatArray
    spread: FloatArray | None
    origin: AnyArray | None
    note: str


def _taken(
    cube: xr.DataArray | xr.Dataset,
    band: str | None,
    x: float | None,
    y: float | None,
    field: xr.DataArray | None,
    *,
    is_course: bool = False,
) -> _Seen:
    """Compute the series of a place; that of a smoothed cube uses the same pixels throughout."""
    layer = _band_of(main_layer(cube, what="a picture"), band)
    mean, spread = _place(layer, x, y, field, is_course=is_course)
    is_point = x is not None
    note = "" if spread is None else f"mean of the {_name(field)}, bars: SD between pixels"
    companions = cube if isinstance(cube, xr.Dataset) else xr.Dataset()
    if is_point and "uncertainty" in companions:
        spread, _ = _place(_band_of(companions["uncertainty"], band), x, y, None)
        note = "bars: one standard deviation"
    origin = None
    if "origin" in companions:
        origin = _origin_at(_band_of(companions["origin"], band), x, y, field)
    return _Seen(layer=layer, mean=mean, spread=spread, origin=origin, note=note)


def _band_of(layer: xr.DataArray, band: str | None) -> xr.DataArray:
    if "band" not in layer.dims:
        return layer
    if band is None:
        return layer.isel(band=0)
    require_bands(layer, [band], what="the series")
    return layer.sel(band=band)


def _name(field: xr.DataArray | None) -> str:
    return "area" if field is None else "field"


def _origin_at(
    origin: xr.DataArray, x: float | None, y: float | None, field: xr.DataArray | None
) -> AnyArray:
    """Bits that any pixel of the place has (time,); only `FILLED` if most pixels have it."""
    if {"y", "x"}.isdisjoint(origin.dims):
        return np.asarray(origin.values)
    if x is not None:
        return np.asarray(origin.sel({"x": x, "y": y}, method="nearest").values)
    within = origin if field is None else origin.where(field, origin.dtype.type(0))
    found = xr.Dataset(
        {str(bit.name): ((within & bit.value) != 0).any(["y", "x"]) for bit in Origin}
    )
    found["n"] = (within != 0).sum(["y", "x"])
    found["n_filled"] = (within == Origin.FILLED).sum(["y", "x"])
    bits = found.compute()
    whole = np.asarray(sum(bits[str(bit.name)].values * bit.value for bit in Origin))
    is_filled = bits["n_filled"].values > bits["n"].values / 2
    return np.where(is_filled, np.int64(Origin.FILLED), whole)


def _draw_smoothed(axes: Axes, seen: _Seen) -> None:
    dates = seen.layer["time"].values
    axes.plot(dates, seen.mean, color="#555555", linewidth=1.2, label="smoothed", zorder=1.5)
    if seen.spread is not None and seen.note.startswith("bar"):
        low, high = seen.mean - seen.spread, seen.mean + seen.spread
        label = "± one standard deviation"
        axes.fill_between(dates, low, high, color="#cccccc", alpha=0.6, linewidth=0, label=label)


def _draw_sensors(axes: Axes, seen: _Seen, *, is_joined: bool) -> None:
    sensors = sensors_of(seen.layer)
    names = sorted(set(sensors))
    dates = seen.layer["time"].values
    valid = np.isfinite(seen.mean)
    if is_joined:
        axes.plot(dates[valid], seen.mean[valid], color="#bbbbbb", linewidth=0.8, zorder=1)
    looked = valid & has_observation(seen.layer)
    if seen.origin is not None:
        looked &= (seen.origin & ~Origin.FILLED) != 0
    for name in names:
        for word, group in _by_origin(seen.origin, looked & (sensors == name)).items():
            label = ", ".join(filter(None, [title_of(name), word]))
            style = style_of(name, names)
            _draw_marks(axes, seen, group, label, style, is_open=word in OPEN)
    filled = valid & ~looked
    if filled.any():
        label = f"filled ({count_of_dates(int(filled.sum()))})"
        marks = axes.plot(dates[filled], seen.mean[filled], " ", color=FILLED, label=label)
        marks[0].set(marker="x", markersize=3.0, markeredgewidth=0.8, zorder=1.4)


def _draw_marks(
    axes: Axes, seen: _Seen, group: AnyArray, label: str, style: tuple[str, str], *, is_open: bool
) -> None:
    colour, marker = style
    axes.errorbar(
        seen.layer["time"].values[group],
        seen.mean[group],
        yerr=None if seen.spread is None else seen.spread[group],
        fmt=marker,
        markersize=4.5,
        color=colour,
        markerfacecolor="white" if is_open else colour,
        markeredgecolor=colour if is_open else "white",
        markeredgewidth=1.0 if is_open else 0.5,
        elinewidth=0.7,
        ecolor=(colour, 0.45),
        label=f"{label} ({count_of_dates(int(group.sum()))})",
    )


def _by_origin(origin: AnyArray | None, here: AnyArray) -> dict[str, AnyArray]:
    """Observations of a sensor by the origin of their values; under "" if it is unknown."""
    if origin is None:
        return {"": here} if here.any() else {}
    is_harmonised, is_sharpened = ((origin & b) != 0 for b in (Origin.HARMONISED, Origin.SHARPENED))
    parts = {
        "observed": here & ~is_harmonised & ~is_sharpened,
        "harmonised": here & is_harmonised & ~is_sharpened,
        "sharpened": here & is_sharpened,
    }
    return {word: group for word, group in parts.items() if group.any()}


def _place(
    layer: xr.DataArray,
    x: float | None,
    y: float | None,
    field: xr.DataArray | None,
    *,
    is_course: bool = False,
) -> tuple[FloatArray, FloatArray | None]:
    """Mean of each date, and spread for several pixels; NaN if too few are valid."""
    if (x is None) != (y is None) or (x is not None and field is not None):
        raise GridError(
            "a place is a point (x= and y=) or a field (field=)", cure="give one of them"
        )
    if {"y", "x"}.isdisjoint(layer.dims):
        return _course(layer, is_placed=x is not None or field is not None)
    if x is not None and y is not None:
        at: Mapping[str, float] = {"x": x, "y": y}
        require_inside(layer, at)
        return np.asarray(layer.sel(at, method="nearest").compute().values, float), None
    flat = layer.where(field) if field is not None else layer
    n_pixels = int(field.sum()) if field is not None else layer.sizes["y"] * layer.sizes["x"]
    if n_pixels == 0:
        raise GridError("the field holds no pixel", cure="give one that overlaps the cube")
    flat = _steady(flat, n_pixels) if is_course else flat
    sums = xr.Dataset(
        {
            "mean": mean_of_known(flat, ["y", "x"]),
            "std": deviation_of_known(flat, ["y", "x"]),
            "n": flat.count(["y", "x"]),
        }
    ).compute()
    enough = sums["n"].values >= MIN_VALID * n_pixels
    mean = np.where(enough, sums["mean"].values, np.nan).astype(float)
    return mean, np.where(enough, sums["std"].values, np.nan).astype(float)


def _course(layer: xr.DataArray, *, is_placed: bool) -> tuple[FloatArray, FloatArray | None]:
    """A series without pixels, such as that of one field from `to_xarray`, and its spread."""
    if is_placed or layer.dims != ("time",):
        raise GridError(
            f"the series has dimensions {tuple(map(str, layer.dims))}, and no pixels",
            cure="choose one, as in cube.sel(field=...), without x=, y= and field=",
        )
    spread = np.asarray(layer["sd"].values, float) if "sd" in layer.coords else None
    return np.asarray(layer.compute().values, float), spread


def _steady(layer: xr.DataArray, n_pixels: int) -> xr.DataArray:
    """Keep pixels with nearly the longest series, as others would cause jumps in the mean."""
    n_days = layer.count("time").compute()
    is_steady = n_days >= STEADY * n_days.max()
    return layer.where(is_steady) if int(is_steady.sum()) >= MIN_VALID * n_pixels else layer


def require_inside(layer: xr.DataArray | xr.Dataset, at: Mapping[str, float]) -> None:
    """Raise `GridError` if a point, in the CRS of a layer, lies outside its pixels."""
    for axis, value in at.items():
        centres = layer[axis].values
        half = abs(float(centres[1] - centres[0])) / 2 if centres.size > 1 else np.inf
        low, high = float(centres.min()) - half, float(centres.max()) + half
        if not low <= value <= high:
            raise GridError(
                f"the point {axis}={value:g} lies outside the cube, which goes from {low:g} to "
                f"{high:g}",
                cure="give a point in the cube's CRS",
            )


def timeline(*cubes: xr.DataArray | xr.Dataset, title: str = "") -> Figure:
    """Plot the acquisition dates, one row per platform.

    Parameters
    ----------
    *cubes : DataArray or Dataset with ``time``
        Cubes or series; only their coordinates are read. Days of a smoothed series without an
        observation are omitted.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        If a cube has no sensors, or no cube is given.

    Examples
    --------
    >>> figure = timeline(s2, l8)  # doctest: +SKIP
    """
    cubes = tuple(require_cube(cube) for cube in cubes)
    rows = _rows(*cubes)
    if not rows:
        raise ContractError("no date to draw", cure="give at least one cube with dates")
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
        seen = has_observation(cube) if "time" in cube.dims else np.ones(n, bool)
        for sensor, platform, date in zip(sensors[seen], platforms[seen], dates[seen]):
            gathered.setdefault((str(sensor), str(platform)), set()).add(date)
    return {key: np.array(sorted(gathered[key])) for key in sorted(gathered)}


_USEFUL = 0.5


def frequency(
    cube: xr.DataArray | xr.Dataset, *, reference: str | None = None, title: str = ""
) -> Figure:
    """Plot the number of observed days per month, with a panel per sensor and one for all sensors.

    Darker parts of a bar are days with more valid pixels. The number above a bar of all sensors is
    the ratio of their days to those of the reference alone, counting days more than half valid.

    Parameters
    ----------
    cube : DataArray or Dataset
        A series with ``sensor``, or the result of `xharmonize.series.frequency` for it.
    reference : str, optional
        Sensor that the ratio refers to; by default the one with the fewest days.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ContractError
        If the series does not state the sensor of its dates.
    TimeAxisError
        If there is no such `reference`.

    Examples
    --------
    >>> figure = frequency(series)  # doctest: +SKIP
    """
    cube = require_cube(cube)
    is_count = isinstance(cube, xr.Dataset) and "scenes" in cube and "fraction" in cube.dims
    found = cube if is_count else count(cube)
    scenes = found["scenes"].compute().transpose("sensor", "month", "fraction").sortby("fraction")
    sensors = [str(name) for name in scenes["sensor"].values]
    own = [name for name in sensors if name != ALL]
    if reference is not None and reference not in own:
        raise TimeAxisError(f"the series holds no {reference!r}", cure=f"it has {own}")
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
    _explain_frequency(figure, scenes["fraction"].values)
    if title:
        figure.suptitle(title, fontsize=10)
    return literal(figure)


def _draw(axes: Axes, scenes: xr.DataArray, name: str) -> None:
    """Draw bars (month), narrower and darker for each higher level."""
    colour = MERGED if name == ALL else style_of(name)[0]
    n = scenes.sizes["fraction"]
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
    """Mix a colour with white: 1 is the colour itself, 0 a faint tint of it."""
    rgb = np.array(require("matplotlib.colors", extra="plot").to_rgb(colour))
    red, green, blue = 1 - (0.2 + 0.8 * strength) * (1 - rgb)
    return float(red), float(green), float(blue)


def _write_ratios(axes: Axes, scenes: xr.DataArray, reference: str) -> str:
    levels = scenes["fraction"].values
    level = float(levels[np.abs(levels - _USEFUL).argmin()])
    merged, own = (scenes.sel(sensor=name, fraction=level).values for name in (ALL, reference))
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
    return f"numbers: ratio to the days of {reference} alone, days more than {level:.0%} valid"


def _label_months(axes: Axes, months: AnyArray, note: str) -> None:
    """Label each or every n-th month, with the year at the first one and each January."""
    names = months.astype("datetime64[M]").astype(str)
    stride = -(-len(names) // 24)
    labels = [
        f"{name[5:]}\n{name[:4]}" if k == 0 or name.endswith("-01") else name[5:]
        for k, name in enumerate(names)
    ]
    axes.set_xticks(np.arange(len(names))[::stride], labels[::stride])
    axes.set_xlabel("\n".join(filter(None, ["month", note])), fontsize=8)


def _explain_frequency(figure: Figure, levels: AnyArray) -> None:
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
