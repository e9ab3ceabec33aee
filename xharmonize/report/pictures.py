"""The pictures of a report, each with words for those who do not see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import main_layer
from xharmonize.errors import XHarmonizeError
from xharmonize.report.facts import seen_values
from xharmonize.report.html import Html, picture
from xharmonize.series.observed import has_look

Cube = xr.DataArray | xr.Dataset
STRETCH = (0.0, 0.2)
TRUE_COLOUR = ("red", "green", "blue")
_NDVI = ({"red", "nir08"}, {"red", "nir"})


def draw_each(made: Mapping[str, Callable[[], Html]]) -> tuple[list[Html], list[str]]:
    """Return the pictures that could be made, and why others could not."""
    pictures, notes = [], []
    for name, make in made.items():
        try:
            pictures.append(make())
        except XHarmonizeError as error:
            notes.append(f"No picture of {name}: {error}")
    return pictures, notes


def of_series(cube: Cube) -> Mapping[str, Callable[[], Html]]:
    """Pictures of a cube along time."""
    made: dict[str, Callable[[], Html]] = {"the dates": lambda: _timeline(cube)}
    if "sensor" in main_layer(cube).coords:
        made["months"] = lambda: _frequency(cube)
    made["the course"] = lambda: _course(cube)
    made["maps"] = lambda: _map(cube)
    return made


def of_comparison(
    one: xr.DataArray, other: xr.DataArray, source: Cube | None
) -> Mapping[str, Callable[[], Html]]:
    """Pictures of a prediction and its reference at common dates."""
    return {
        "maps side by side": lambda: _side_by_side(one, other, source),
        "the density": lambda: _scatter(one, other),
        "the errors": lambda: _errors(one, other),
    }


def _timeline(cube: Cube) -> Html:
    n = int(has_look(main_layer(cube)).sum())
    alt = f"Dates of acquisition of each platform; {n} in all, listed in the table of sensors."
    return picture(xh.plot.timeline(cube), alt=alt, caption="Dates of acquisition.")


def _frequency(cube: Cube) -> Html:
    counts = xh.frequency(cube).compute()
    days = counts["scenes"].isel(level=0).sum("month")
    words = ", ".join(f"{name} {int(n)}" for name, n in zip(days["sensor"].values, days.values))
    return picture(
        xh.plot.frequency(counts),
        alt=f"Bars of days seen in each month, by sensor. Days with any valid pixel: {words}.",
        caption="Days seen in each month, by share of valid pixels.",
    )


def _course(cube: Cube) -> Html:
    layer = main_layer(cube)
    shown: Any = cube
    what = str(layer.attrs.get("long_name", layer.name))
    if "band" in layer.dims:
        bands = set(layer["band"].values.astype(str))
        if any(need <= bands for need in _NDVI):
            shown, what = xh.index(shown, "ndvi"), "NDVI"
        else:
            what = f"{layer['band'].values[0]} {what}"
    return picture(
        xh.plot.series(shown),
        alt=f"Mean {what} of the area over time, one mark for each date and sensor.",
        caption=f"Mean {what} of the area, dates with at least half of its pixels valid.",
    )


def _map(cube: Cube) -> Html:
    layer = main_layer(cube)
    date = layer["time"].values[clearest(seen_values(cube))]
    day = np.datetime_as_string(date, unit="D")
    return picture(
        xh.plot.maps(cube, time=str(date), stretch=stretch_of(layer)),
        alt=f"Map of the clearest date, {day}.",
        caption=f"The date with most observed pixels, {day}.",
    )


def clearest(layer: xr.DataArray) -> int:
    """Position of the first date with most valid pixels; computes."""
    valid = layer.notnull()
    dims = [dim for dim in valid.dims if dim not in ("time", "pair")]
    return int(valid.mean(dims).compute().values.argmax())


def stretch_of(layer: xr.DataArray) -> tuple[float, float] | None:
    """One fixed stretch for true colour."""
    has_colour = "band" in layer.dims and set(TRUE_COLOUR) <= set(layer["band"].values.astype(str))
    return STRETCH if has_colour else None


def _side_by_side(one: xr.DataArray, other: xr.DataArray, source: Cube | None) -> Html:
    dims = [dim for dim in ("pair", "time") if dim in one.dims]
    place = clearest(one) if dims else 0
    layers = [layer.isel(dict.fromkeys(dims, place)) for layer in (one, other)]
    day = np.datetime_as_string(layers[1]["time"].values, unit="D")
    titles = ["prediction", "reference"]
    when = layers[0].coords.get("time_source", layers[0]["time"]).values
    layers[0] = layers[0].assign_coords(time=when)
    if source is not None:
        cube = main_layer(source)
        layers.insert(0, cube.isel(time=int(np.abs(cube["time"].values - when).argmin())))
        titles.insert(0, "source")
    return picture(
        xh.plot.maps(*layers, titles=titles, stretch=stretch_of(one)),
        alt=f"Maps side by side of {', '.join(titles)} on {day}, all with one stretch.",
        caption=f"The pair of dates with most common pixels; the reference is of {day}.",
    )


def _scatter(one: xr.DataArray, other: xr.DataArray) -> Html:
    return picture(
        xh.plot.scatter(one, other),
        alt="Density of prediction against reference for each band, with the 1:1 line and the "
        "least-squares line; the scores are in the tables.",
        caption="Prediction against reference over all common pixels and dates.",
    )


def _errors(one: xr.DataArray, other: xr.DataArray) -> Html:
    return picture(
        xh.plot.errors(one, other),
        alt="Maps of the mean error of each band over the common dates; RMSE and bias of each map "
        "stand above it.",
        caption="Mean of prediction minus reference over the common dates: red is too high, blue "
        "too low.",
    )
