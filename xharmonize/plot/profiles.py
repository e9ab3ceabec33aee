"""Series of a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xharmonize.cube.companions import Origin
from xharmonize.cube.contract import main_layer, require_bands
from xharmonize.cube.door import at_door
from xharmonize.errors import GridError
from xharmonize.plot.style import (
    FILLED,
    label_dates,
    literal,
    new_figure,
    sensors_of,
    style_of,
    tidy,
    title_of,
)
from xharmonize.series.means import deviation_of_known, mean_of_known
from xharmonize.series.observed import has_look
from xharmonize.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_VALID = 0.5
_WIDEST = 95  # characters that two columns of a legend have room for


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
    """Draw the series of a point or of a field, one colour and mark for each sensor.

    Where the cube has ``origin``, marks are solid where observed, open where harmonised, and grey
    crosses, of no sensor, where most of the place was filled.

    Parameters
    ----------
    cube : (time, y, x) or (time, band, y, x) DataArray or Dataset
        An index [1] or reflectance [1] with a ``sensor`` for each date; NaN is missing. For a
        point, ``uncertainty`` (one standard deviation) is drawn too: bars of the cube's, a band of
        that of `smoothed`.
    x, y : float, optional
        A point in the cube's CRS; the pixel it lies in is drawn.
    field : (y, x) bool DataArray, optional
        Pixels of a field: their mean is drawn, with one standard deviation as a bar, on dates on
        which at least half of them are valid. Without point and field: the whole area.
    band : str, optional
        Band to draw, where the cube has several.
    truth : (time,) DataArray, optional
        A known course, drawn as a line behind the observations.
    smoothed : DataArray or Dataset, optional
        The series as `xharmonize.smooth` gives it, drawn as a line.
    title : str
        Put above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    GridError
        If both or half of a place is given, the point lies outside the cube, or the field is
        empty.
    ContractError
        If the cube has lost its sensors.

    Examples
    --------
    >>> figure = series(ndvi, x=501500, y=5629500)  # doctest: +SKIP
    """
    cube, field, truth, smoothed = at_door(cube), at_door(field), at_door(truth), at_door(smoothed)
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
        _draw_smoothed(axes, _taken(smoothed, band, x, y, field))
    _draw_sensors(axes, seen, is_joined=smoothed is None)
    attrs = seen.layer.attrs
    quantity = attrs.get("long_name", seen.layer.name or "value")
    # Without a name it is the first band: the label says which.
    named = f"{seen.layer['band'].item()} {quantity}" if "band" in seen.layer.coords else quantity
    axes.set_ylabel(f"{named} [{attrs.get('units', '1')}]")
    label_dates(axes)
    tidy(axes)
    _explain(axes)
    axes.set_title(title, fontsize=10, loc="left")
    if seen.note:
        axes.set_title(seen.note, fontsize=7, loc="right")
    return literal(figure)


def _explain(axes: Axes) -> None:
    """Write the legend below the axes, where it hides no observation."""
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
    """The course of a place; arrays are (time,), NaN where too few pixels are valid.

    Attributes
    ----------
    layer : (time, y, x) DataArray
        What it was taken from.
    mean, spread : float array
        Value, and one standard deviation of it where there is one.
    origin : int array or None
        Bits of how the values of the place came about.
    note : str
        What the spread is.
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
) -> _Seen:
    """Compute the course of a place."""
    layer = _band_of(main_layer(cube, what="a picture"), band)
    mean, spread = _place(layer, x, y, field)
    is_point = x is not None
    note = "" if spread is None else f"mean of the {_name(field)}, bar: SD between pixels"
    companions = cube if isinstance(cube, xr.Dataset) else xr.Dataset()
    if is_point and "uncertainty" in companions:
        spread, _ = _place(_band_of(companions["uncertainty"], band), x, y, None)
        note = "bar: one standard deviation"
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
    """Bits that any pixel of the place has (time,); `FILLED` alone where most of them have it."""
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
    looked = valid & has_look(seen.layer)
    if seen.origin is not None:
        looked &= (seen.origin & (Origin.OBSERVED | Origin.HARMONISED)) != 0
    for name in names:
        for word, group in _by_origin(seen.origin, looked & (sensors == name)).items():
            label = ", ".join(filter(None, [title_of(name), word]))
            style = style_of(name, names)
            _draw_marks(axes, seen, group, label, style, is_open=word == "harmonised")
    filled = valid & ~looked
    if filled.any():
        label = f"filled ({int(filled.sum())} dates)"
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
        label=f"{label} ({int(group.sum())} dates)",
    )


def _by_origin(origin: AnyArray | None, here: AnyArray) -> dict[str, AnyArray]:
    """Looks of a sensor by how their values came about; under "" where that is not known."""
    if origin is None:
        return {"": here} if here.any() else {}
    is_harmonised = (origin & Origin.HARMONISED) != 0
    parts = {"observed": here & ~is_harmonised, "harmonised": here & is_harmonised}
    return {word: group for word, group in parts.items() if group.any()}


def _place(
    layer: xr.DataArray, x: float | None, y: float | None, field: xr.DataArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """Mean, and spread where there are several pixels, of each date; NaN where too few are."""
    if (x is None) != (y is None) or (x is not None and field is not None):
        raise GridError("a place is a point (x= and y=) or a field (field=); give one of them")
    if x is not None and y is not None:
        at: Mapping[str, float] = {"x": x, "y": y}
        require_inside(layer, at)
        return np.asarray(layer.sel(at, method="nearest").compute().values, float), None
    flat = layer.where(field) if field is not None else layer
    n_pixels = int(field.sum()) if field is not None else layer.sizes["y"] * layer.sizes["x"]
    if n_pixels == 0:
        raise GridError("the field holds no pixel; give one that overlaps the cube")
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


def require_inside(layer: xr.DataArray | xr.Dataset, at: Mapping[str, float]) -> None:
    """Raise `GridError` if a point, in the CRS of a layer, lies outside its pixels."""
    for axis, value in at.items():
        centres = layer[axis].values
        half = abs(float(centres[1] - centres[0])) / 2 if centres.size > 1 else np.inf
        low, high = float(centres.min()) - half, float(centres.max()) + half
        if not low <= value <= high:
            raise GridError(
                f"the point {axis}={value:g} lies outside the cube, which goes from {low:g} to "
                f"{high:g}; give a point in the cube's CRS"
            )
