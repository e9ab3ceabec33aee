"""Series of a place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xharmonize.errors import GridError
from xharmonize.plot.images import _variable
from xharmonize.plot.style import label_dates, new_figure, sensors_of, style_of, tidy, title_of
from xharmonize.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_VALID = 0.5


def series(
    cube: xr.DataArray | xr.Dataset,
    *,
    x: float | None = None,
    y: float | None = None,
    field: xr.DataArray | None = None,
    band: str | None = None,
    truth: xr.DataArray | None = None,
    title: str = "",
) -> Figure:
    """Draw the series of a point or of a field, one colour and mark for each sensor.

    Parameters
    ----------
    cube : (time, y, x) or (time, band, y, x) DataArray or Dataset
        An index [1] or reflectance [1] with a ``sensor`` for each date; NaN is missing.
    x, y : float, optional
        A point in the cube's CRS; the pixel it lies in is drawn.
    field : (y, x) bool DataArray, optional
        Pixels of a field: their mean is drawn, with one standard deviation as a bar, on dates on
        which at least half of them are valid. Without point and field: the whole area.
    band : str, optional
        Band to draw, where the cube has several.
    truth : (time,) DataArray, optional
        A known course, drawn as a line behind the observations.
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
    layer = _variable(cube)
    if "band" in layer.dims:
        layer = layer.sel(band=band) if band else layer.isel(band=0)
    mean, spread = _place(layer, x, y, field)
    figure = new_figure(8.5, 3.8)
    axes = figure.subplots()
    if truth is not None:
        axes.plot(
            truth["time"].values,
            truth.values,
            color="#999999",
            linewidth=1.2,
            label="truth (simulated)",
        )
    _draw_sensors(axes, layer, mean, spread)
    unit = layer.attrs.get("units", "1")
    axes.set_ylabel(f"{layer.attrs.get('long_name', layer.name or 'value')} [{unit}]")
    label_dates(axes)
    tidy(axes)
    axes.legend(frameon=False, fontsize=8, loc="best")
    axes.set_title(title, fontsize=10, loc="left")
    if spread is not None:
        place = "area" if field is None else "field"
        axes.set_title(f"mean of the {place}, bar: SD between pixels", fontsize=7, loc="right")
    return figure


def _draw_sensors(
    axes: Axes, layer: xr.DataArray, mean: FloatArray, spread: FloatArray | None
) -> None:
    sensors = sensors_of(layer)
    names = sorted(set(sensors))
    dates = layer["time"].values
    valid = np.isfinite(mean)
    axes.plot(dates[valid], mean[valid], color="#bbbbbb", linewidth=0.8, zorder=1)
    for name in names:
        here = valid & (sensors == name)
        colour, marker = style_of(name, names)
        axes.errorbar(
            dates[here],
            mean[here],
            yerr=None if spread is None else spread[here],
            fmt=marker,
            markersize=4.5,
            color=colour,
            markeredgecolor="white",
            markeredgewidth=0.5,
            elinewidth=0.7,
            ecolor=(colour, 0.45),
            label=f"{title_of(name)} ({int(here.sum())} dates)",
        )


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
        {"mean": flat.mean(["y", "x"]), "std": flat.std(["y", "x"]), "n": flat.count(["y", "x"])}
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
