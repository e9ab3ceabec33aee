"""Maps side by side: cubes, and the variables of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.companions import quantities_of
from xharmonize.cube.contract import REFLECTANCE, main_layer, require_bands
from xharmonize.cube.door import as_variables, cells_of, is_date, label_text, to_days
from xharmonize.cube.indices import INDEX_RAMP, INDICES
from xharmonize.errors import ContractError, GridError, OptionError, TimeAxisError
from xharmonize.plot.style import (
    MISSING,
    capital,
    literal,
    new_figure,
    quantity_of,
    title_of,
    with_unit,
)
from xharmonize.plot.values import require_cube
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series.axis import is_smoothed
from xharmonize.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Cube = xr.DataArray | xr.Dataset


Stretch: TypeAlias = tuple[float, float] | Literal["three-stage"]

MOST_PIXELS = 1500
TRUE_COLOUR = ("red", "green", "blue")
BACKGROUND, SATURATE = (0.04, 0.06, 0.08), 0.2
"""Reflectance [1] up to which red, green, blue are black, and above which all are white, in the
three-stage stretch; the source gives them multiplied by 10,000."""


def maps(
    *cubes: Cube,
    time: int | str = 0,
    bands: Sequence[str] | str | None = None,
    stretch: Stretch | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Plot one date of several cubes side by side, with a common stretch.

    Parameters
    ----------
    *cubes : (time, band, y, x) or (time, y, x) DataArray or Dataset
        Reflectance [1] or an index; NaN is grey. Grids and CRS may differ: each map keeps its own
        pixels, thinned out to at most 1500 a side. For a result such as seasons or a fit, every
        variable is plotted with its own colour scale, dates as dates, one map for each year or
        other label; `stretch` is then ignored.
    time : int or str
        Date to plot: a position, or a date, for which the nearest date of each cube is used.
    bands : str or sequence of str, optional
        One band, or three for red, green and blue. By default true colour if the cubes have these
        bands, else the first band. Ignored for an index.
    stretch : (float, float) or "three-stage", optional
        Values shown as black and white. ``"three-stage"``: a fixed stretch for true colour, black
        up to reflectance 0.04, 0.06 and 0.08 of red, green and blue, white above 0.2, linear
        between, so that dates and sensors can be compared. Default: the 1st and 99th percentile
        over all maps.
    titles : sequence of str, optional
        Title of each map, shown above its date.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    BandError
        If a cube lacks a band.
    ContractError
        If the three-stage stretch is requested for bands other than true colour.
    GridError
        If no variable of a Dataset has y and x.
    TimeAxisError, OptionError
        If `time` or `stretch` is invalid.

    References
    ----------
    The three stages: Liu et al. 2023, table 6, doi:10.3390/rs15102563.

    Examples
    --------
    >>> figure = maps(s2, s2_as_l8, titles=["Sentinel-2", "as Landsat"])  # doctest: +SKIP
    """
    cubes = tuple(require_cube(cube) for cube in cubes)
    if not cubes:
        raise ContractError("no cube to draw", cure="give at least one")
    _require_stretch(stretch)
    if not all(map(is_one_quantity, cubes)):
        for cube in cubes:
            _require_pixels(cube)
        return draw_results(cubes, partial(_at, time=time), bands, titles)
    layers = [_at(main_layer(cube, what="a picture"), time) for cube in cubes]
    names = _choose_bands(layers, bands)
    pictures = [_pick(layer, names) for layer in layers]
    values = [picture.values for picture in pictures]
    if stretch == "three-stage":
        low, high = 0.0, 1.0
        values = [_three_stages(v, names) for v in values]
    else:
        low, high = stretch or _range_of(pictures[0]) or percentiles_of(values)
    figure = new_figure(4.2 * len(cubes) + 0.8, 4.6)
    axes = np.atleast_1d(figure.subplots(1, len(cubes)))
    for i, picture in enumerate(pictures):
        image = _draw(axes[i], picture, values[i], low, high)
        axes[i].set_title(_title(picture, titles, i), fontsize=10)
    if values[0].ndim == 2:
        figure.colorbar(image, ax=list(axes), label=_label(pictures[0], names), shrink=0.8)
    else:
        figure.supxlabel(_colour_note(pictures[0], names, low, high, stretch), fontsize=8)
    return literal(figure)


def _require_pixels(cube: Cube) -> None:
    arrays = cube.data_vars.values() if isinstance(cube, xr.Dataset) else [cube]
    if not any({"y", "x"} <= set(array.dims) for array in arrays):
        raise GridError(
            f"maps need dimensions y and x; the cube has {tuple(map(str, cube.dims))}",
            cure="plot.values draws what has no pixels",
        )


def _colour_note(
    picture: xr.DataArray, names: list[str], low: float, high: float, stretch: Stretch | None
) -> str:
    """Describe the colours of a three-band picture."""
    kind = "true colour" if names == list(TRUE_COLOUR) else f"RGB: {', '.join(names)}"
    unit = picture.attrs.get("units", "1")
    if stretch == "three-stage":
        dark = ", ".join(f"{value:g}" for value in BACKGROUND)
        drawn = f"red, green, blue black to {dark}, white above {SATURATE:g}"
        return with_unit(f"{kind}; {quantity_of(picture)}: {drawn}", unit)
    return with_unit(f"{kind}; {quantity_of(picture)} {low:.3g} … {high:.3g}", unit)


def _three_stages(values: FloatArray, names: list[str]) -> FloatArray:
    """Scale reflectance (y, x, 3) to bytes: 0 background, 1 to 254 between, 255 saturated."""
    if names != list(TRUE_COLOUR):
        raise ContractError(
            f"the three-stage stretch is for red, green and blue, not {names}",
            cure="give stretch=(low, high)",
        )
    numbers = values * np.float32(10_000)
    low = np.array(BACKGROUND, np.float32) * 10_000
    high = np.float32(SATURATE * 10_000)
    linear = np.round(1 + 253 * (numbers - low - 1) / (high - low - 1))
    inner = np.where(numbers > high, 255, np.clip(linear, 1, 254))
    staged = np.where(numbers <= low, 0, inner) / 255
    return np.where(np.isfinite(values), staged, np.nan).astype(np.float32)


def _at(layer: xr.DataArray, time: int | str) -> xr.DataArray:
    if "time" not in layer.dims:
        return layer
    return layer.isel(time=position_of(layer["time"].values, time))


def position_of(dates: AnyArray, time: int | str) -> int:
    """Position of a date: the position given, or that of the date nearest to the one given.

    Raises
    ------
    TimeAxisError
        If there is no such position, or it is not a date.
    """
    if isinstance(time, int | np.integer):
        if not -dates.size <= time < dates.size:
            raise TimeAxisError(
                cure=f"there are {dates.size} dates: give a position from 0 to "
                f"{dates.size - 1}, or a date",
                argument="time",
                value=time,
            )
        return int(time)
    try:
        return int(np.abs(dates - np.datetime64(time)).argmin())
    except (TypeError, ValueError):
        raise TimeAxisError(
            "is no date",
            cure="write it as '2018-07-01', or give a position",
            argument="time",
            value=time,
        ) from None


def _require_stretch(stretch: Any) -> None:
    """Raise `OptionError` unless the stretch is None, a known name or two ascending values."""
    if stretch is None or (isinstance(stretch, str) and stretch == "three-stage"):
        return
    ends: list[Any] = [] if isinstance(stretch, str) else np.ravel(stretch).tolist()
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise OptionError(
            "",
            cure="give (low, high) with low < high, or 'three-stage'",
            argument="stretch",
            value=stretch,
        )


def _choose_bands(layers: Sequence[xr.DataArray], bands: Sequence[str] | str | None) -> list[str]:
    if "band" not in layers[0].dims:
        return []
    if bands is not None:
        names = [bands] if isinstance(bands, str) else list(bands)
        if len(names) not in (1, 3):
            raise ContractError(f"a picture has one band or three, not {len(names)}: {names}")
        return names
    has_colour = all(set(TRUE_COLOUR) <= set(layer["band"].values) for layer in layers)
    return list(TRUE_COLOUR) if has_colour else [str(layers[0]["band"].values[0])]


def _pick(layer: xr.DataArray, names: list[str]) -> xr.DataArray:
    """Compute the bands of a picture as (y, x), or as (y, x, 3), north up."""
    layer = thin_out(layer.sortby("y", ascending=False))
    if not names:
        return layer.transpose("y", "x").compute()
    require_bands(layer, names, what="the picture")
    if len(names) == 1:
        return layer.sel(band=names[0]).transpose("y", "x").compute()
    return layer.sel(band=names).transpose("y", "x", "band").compute()


def thin_out(layer: xr.DataArray) -> xr.DataArray:
    """Drop rows and columns that a picture could not resolve."""
    strides = {dim: -(-layer.sizes[dim] // MOST_PIXELS) for dim in ("y", "x")}
    return layer.isel({dim: slice(None, None, stride) for dim, stride in strides.items()})


def percentiles_of(values: Sequence[FloatArray]) -> tuple[float, float]:
    """1st and 99th percentile of all values."""
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, [1, 99])
    return float(low), float(max(high, low + 1e-6))


def _range_of(picture: xr.DataArray) -> tuple[float, float] | None:
    """Values that the colours of a known index stand for, the same in every figure."""
    is_known = str(picture.name) in INDICES and picture.ndim == 2
    return (INDEX_RAMP[0][0], INDEX_RAMP[-1][0]) if is_known else None


def colours_of(picture: xr.DataArray) -> Any:
    """Colour map of a picture (y, x): an index by its ramp, as in QGIS; a band in grey."""
    if str(picture.name) == REFLECTANCE:
        return "gray"
    if "bands" not in picture.attrs and str(picture.name) not in INDICES:
        return "viridis"
    colours = require("matplotlib.colors", extra="plot")
    values = np.array([value for value, _ in INDEX_RAMP])
    places = (values - values[0]) / (values[-1] - values[0])
    ramp = list(zip(places.tolist(), [colour for _, colour in INDEX_RAMP]))
    return colours.LinearSegmentedColormap.from_list("index", ramp)


def _draw(axes: Axes, picture: xr.DataArray, values: AnyArray, low: float, high: float) -> Any:
    extent = outer_edges(picture)
    axes.set_facecolor(MISSING)
    if values.ndim == 2:
        image = axes.imshow(
            np.ma.masked_invalid(values),
            extent=extent,
            vmin=low,
            vmax=high,
            cmap=colours_of(picture),
        )
    else:
        scaled = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
        alpha = np.isfinite(values).all(axis=-1)
        image = axes.imshow(np.dstack([scaled, alpha]), extent=extent)
    label_map(axes, picture)
    return image


def label_map(axes: Axes, picture: xr.DataArray) -> None:
    """Label the axes with coordinates and their unit."""
    unit = "°" if _is_geographic(picture) else "m"
    axes.set_xlabel(f"{'longitude' if unit == '°' else 'easting'} [{unit}]", fontsize=8)
    axes.set_ylabel(f"{'latitude' if unit == '°' else 'northing'} [{unit}]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(nbins=4)


def outer_edges(picture: xr.DataArray) -> tuple[float, float, float, float]:
    """Outer edges (left, right, bottom, top)."""
    x, y = picture["x"].values, picture["y"].values
    step_x = float(x[1] - x[0]) if x.size > 1 else 1.0
    step_y = float(y[1] - y[0]) if y.size > 1 else -abs(step_x)
    return (
        float(x[0]) - step_x / 2,
        float(x[-1]) + step_x / 2,
        float(y[-1]) + step_y / 2,
        float(y[0]) - step_y / 2,
    )


def _is_geographic(picture: xr.DataArray) -> bool:
    import pyproj

    if "spatial_ref" not in picture.coords or "crs_wkt" not in picture["spatial_ref"].attrs:
        return False
    return bool(pyproj.CRS.from_wkt(picture["spatial_ref"].attrs["crs_wkt"]).is_geographic)


def _title(picture: xr.DataArray, titles: Sequence[str] | None, i: int) -> str:
    known = "sensor" in picture.coords and not picture["sensor"].dims
    sensor = str(picture["sensor"].values) if known else UNKNOWN
    own = "" if sensor == UNKNOWN else title_of(sensor)
    own = "Smoothed" if is_smoothed(picture) else own  # of all sensors, whichever saw that day
    name = titles[i] if titles and i < len(titles) else own
    if "time" not in picture.coords:
        return name
    date = np.datetime_as_string(picture["time"].values, unit="D")
    return f"{name}\n{date}".strip()


def _label(picture: xr.DataArray, names: list[str]) -> str:
    unit = picture.attrs.get("units", "1")
    return with_unit(" ".join([*names, quantity_of(picture)]), unit)


_RESULT_COLUMNS = 4


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One map: values (y, x), NaN where missing, dates as days since 1970-01-01."""

    layer: xr.DataArray
    values: FloatArray
    name: str
    title: str


def is_one_quantity(cube: Cube) -> bool:
    """Whether a cube is reflectance or one index, with no dimensions besides time and band."""
    if isinstance(cube, xr.Dataset):
        names = quantities_of(cube)
        if REFLECTANCE not in names and len(names) != 1:
            return False
        cube = cube[REFLECTANCE if REFLECTANCE in names else names[0]]
    return {"y", "x"} <= set(cube.dims) <= {"time", "band", "y", "x"} and not is_date(cube)


def draw_results(
    cubes: Sequence[Cube],
    choose: Callable[[xr.DataArray], xr.DataArray],
    bands: Sequence[str] | str | None,
    titles: Sequence[str] | None,
) -> Figure:
    """Plot every variable of the cubes; see `xharmonize.plot.maps`."""
    panels = [
        panel
        for i, cube in enumerate(cubes)
        for panel in _panels_of(
            cube, choose, bands, titles[i] if titles and i < len(titles) else ""
        )
    ]
    n_columns, n_rows = min(len(panels), _RESULT_COLUMNS), -(-len(panels) // _RESULT_COLUMNS)
    figure = new_figure(3.7 * n_columns + 0.4, 3.3 * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    ends = {
        name: percentiles_of([panel.values for panel in panels if panel.name == name])
        for name in {panel.name for panel in panels}
    }
    for place, panel in zip(axes.flat, panels):
        _draw_results(figure, place, panel, *ends[panel.name])
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    return figure


def _panels_of(
    cube: Cube,
    choose: Callable[[xr.DataArray], xr.DataArray],
    bands: Sequence[str] | str | None,
    title: str,
) -> list[_Panel]:
    found = []
    for name, array in as_variables(cube, what="a picture").data_vars.items():
        layer = thin_out(choose(array).sortby("y", ascending=False))
        if "band" in layer.dims and bands is not None:
            wanted = [bands] if isinstance(bands, str) else list(bands)
            require_bands(layer, wanted, what="the picture")
            layer = layer.sel(band=wanted)
        whole = layer.compute()
        for place, labels in cells_of(whole):
            part = whole.isel(place)
            for band in part["band"].values if "band" in part.dims else [None]:
                own = part if band is None else part.sel(band=band)
                own = own.transpose("y", "x")
                words = [str(name), *map(label_text, labels.values()), band and str(band)]
                text = "\n".join(filter(None, [title, ", ".join(filter(None, words))]))
                values = to_days(own).values.astype(float)
                found.append(_Panel(layer=own, values=values, name=str(name), title=text))
    return found


def _flags_of(layer: xr.DataArray) -> dict[float, str]:
    """Meaning of each code of a CF flag with exclusive values; empty for a quantity."""
    meanings = str(layer.attrs.get("flag_meanings", "")).split()
    codes = np.atleast_1d(layer.attrs.get("flag_values", [])).astype(float).tolist()
    return dict(zip(codes, meanings)) if len(codes) == len(meanings) else {}


def _draw_flags(figure: Figure, axes: Any, panel: _Panel, flags: dict[float, str]) -> None:
    """Plot codes with one colour and label each, as there are no values between two codes."""
    codes = sorted(flags)
    ranks = np.searchsorted(codes, panel.values).astype(float)
    known = np.isin(panel.values, codes)
    image = axes.imshow(
        np.ma.masked_invalid(np.where(known, ranks, np.nan)),
        extent=outer_edges(panel.layer),
        vmin=-0.5,
        vmax=len(codes) - 0.5,
        cmap=require("matplotlib", extra="plot").colormaps["viridis"].resampled(len(codes)),
        interpolation="nearest",
    )
    label_map(axes, panel.layer)
    axes.set_title(panel.title, fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=range(len(codes)))
    bar.ax.set_yticklabels([flags[code] for code in codes], fontsize=7)
    bar.set_label(str(panel.layer.attrs.get("long_name", panel.name)), fontsize=7)


def _draw_results(figure: Figure, axes: Any, panel: _Panel, low: float, high: float) -> None:
    axes.set_facecolor(MISSING)
    if flags := _flags_of(panel.layer):
        _draw_flags(figure, axes, panel, flags)
        return
    image = axes.imshow(
        np.ma.masked_invalid(panel.values),
        extent=outer_edges(panel.layer),
        vmin=low,
        vmax=high,
        cmap="viridis",
        interpolation="nearest",
    )
    label_map(axes, panel.layer)
    axes.set_title(panel.title, fontsize=9)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.ax.tick_params(labelsize=7)
    if is_date(panel.layer):
        dates = require("matplotlib.dates", extra="plot")
        locator = dates.AutoDateLocator(minticks=3, maxticks=7)
        bar.ax.yaxis.set_major_locator(locator)
        formatter = dates.ConciseDateFormatter(locator)
        bar.ax.yaxis.set_major_formatter(formatter)
        # Month and year that the ticks share: above the bar they would lie over the next map.
        formatter.format_ticks(bar.ax.get_yticks())
        bar.ax.yaxis.get_offset_text().set_visible(False)
        bar.set_label(formatter.get_offset(), fontsize=7)
        return
    unit = panel.layer.attrs.get("units", "1")
    label = str(panel.layer.attrs.get("long_name", capital(panel.name)))
    bar.set_label(with_unit(label, unit), fontsize=7)
