"""Maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.contract import main_layer, require_bands
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, OptionError, TimeAxisError
from xharmonize.plot.style import MISSING, literal, new_figure, title_of
from xharmonize.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Cube = xr.DataArray | xr.Dataset

Stretch: TypeAlias = tuple[float, float] | Literal["three-stage"]

MOST_PIXELS = 1500
TRUE_COLOUR = ("red", "green", "blue")
BACKGROUND, SATURATE = (0.04, 0.06, 0.08), 0.2
"""Reflectance [1] of red, green, blue that is black, and that above which all are white, in the
three-stage stretch; the source has them as numbers of 10,000 times reflectance."""


def maps(
    *cubes: Cube,
    time: int | str = 0,
    bands: Sequence[str] | str | None = None,
    stretch: Stretch | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw one date of several cubes side by side, all with one and the same stretch.

    Parameters
    ----------
    *cubes : (time, band, y, x) or (time, y, x) DataArray or Dataset
        Reflectance [1] or an index; NaN is drawn grey. Grids and CRS may differ: each map keeps
        its own pixels, every n-th of them where there are more than 1500 a side. Of a result, such
        as seasons or a fit, every variable is drawn with its own colours, dates as dates, one map
        for each year or other label; `stretch` is not used there.
    time : int or str
        Which date: a position, or a date of which the nearest acquisition of each cube is taken.
    bands : str or sequence of str, optional
        One band, or three for red, green and blue of the picture. Default: true colour where the
        cubes have it, else the first band. Not used for an index.
    stretch : (float, float) or "three-stage", optional
        Values drawn black and white. ``"three-stage"``: the fixed one for true colour, black up to
        reflectance 0.04, 0.06 and 0.08 of red, green and blue, white above 0.2, linear between, so
        that pictures of different dates and sensors can be compared. Default: the 1st and 99th
        percentile over all maps together.
    titles : sequence of str, optional
        One for each map, put before its date.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    BandError
        If a cube lacks a band.
    ContractError
        If the three-stage stretch is asked for other than true colour.
    GridError
        If nothing in a Dataset lies along y and x.
    TimeAxisError, OptionError
        If `time` or `stretch` makes no sense.

    References
    ----------
    The three stages: Liu et al. 2023, table 6, doi:10.3390/rs15102563.

    Examples
    --------
    >>> figure = maps(s2, s2_as_l8, titles=["Sentinel-2", "as Landsat"])  # doctest: +SKIP
    """
    cubes = tuple(at_door(cube) for cube in cubes)
    if not cubes:
        raise ContractError("no cube to draw; give at least one")
    from xharmonize.plot.results import draw_results, is_one_quantity

    _require_stretch(stretch)
    if not all(map(is_one_quantity, cubes)):
        return draw_results(cubes, partial(_at, time=time), bands, titles)
    layers = [_at(main_layer(cube, what="a picture"), time) for cube in cubes]
    names = _choose_bands(layers, bands)
    pictures = [_pick(layer, names) for layer in layers]
    values = [picture.values for picture in pictures]
    if stretch == "three-stage":
        low, high = 0.0, 1.0
        values = [_three_stages(v, names) for v in values]
    else:
        low, high = stretch or percentiles_of(values)
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


def _colour_note(
    picture: xr.DataArray, names: list[str], low: float, high: float, stretch: Stretch | None
) -> str:
    """What the colours of a picture of three bands stand for."""
    kind = "true colour" if names == list(TRUE_COLOUR) else f"RGB: {', '.join(names)}"
    unit = picture.attrs.get("units", "1")
    if stretch == "three-stage":
        dark = ", ".join(f"{value:g}" for value in BACKGROUND)
        drawn = f"red, green, blue black to {dark}, white above {SATURATE:g}"
        return f"{kind}; {_quantity(picture)}: {drawn} [{unit}]"
    return f"{kind}; {_quantity(picture)} {low:.3g} … {high:.3g} [{unit}]"


def _three_stages(values: FloatArray, names: list[str]) -> FloatArray:
    """Reflectance (y, x, 3) as bytes: 0 in the background, 1 to 254 between, 255 saturated."""
    if names != list(TRUE_COLOUR):
        raise ContractError(
            f"the three-stage stretch is for red, green and blue, not {names}; give "
            "stretch=(low, high)"
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
    """Position of a date: a position itself, or that of the nearest to a date.

    Raises
    ------
    TimeAxisError
        If there is no such position, or it is no date.
    """
    if isinstance(time, int | np.integer):
        if not -dates.size <= time < dates.size:
            raise TimeAxisError(
                f"time={time}; there are {dates.size} dates: give a position from 0 to "
                f"{dates.size - 1}, or a date"
            )
        return int(time)
    try:
        return int(np.abs(dates - np.datetime64(time)).argmin())
    except (TypeError, ValueError):
        raise TimeAxisError(
            f"time={time!r} is no date; write it as '2018-07-01', or give a position"
        ) from None


def _require_stretch(stretch: Any) -> None:
    """Raise `OptionError` unless it is none, a name or two ascending values."""
    if stretch is None or (isinstance(stretch, str) and stretch == "three-stage"):
        return
    ends: list[Any] = [] if isinstance(stretch, str) else np.ravel(stretch).tolist()
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise OptionError(
            f"stretch={stretch!r}; give (low, high) with low < high, or 'three-stage'"
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
    """Leave out rows and columns that a picture could not show."""
    strides = {dim: -(-layer.sizes[dim] // MOST_PIXELS) for dim in ("y", "x")}
    return layer.isel({dim: slice(None, None, stride) for dim, stride in strides.items()})


def percentiles_of(values: Sequence[FloatArray]) -> tuple[float, float]:
    """1st and 99th percentile of all values together."""
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, [1, 99])
    return float(low), float(max(high, low + 1e-6))


def _draw(axes: Axes, picture: xr.DataArray, values: AnyArray, low: float, high: float) -> Any:
    extent = outer_edges(picture)
    axes.set_facecolor(MISSING)
    if values.ndim == 2:
        image = axes.imshow(
            np.ma.masked_invalid(values), extent=extent, vmin=low, vmax=high, cmap="viridis"
        )
    else:
        scaled = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
        alpha = np.isfinite(values).all(axis=-1)
        image = axes.imshow(np.dstack([scaled, alpha]), extent=extent)
    label_map(axes, picture)
    return image


def label_map(axes: Axes, picture: xr.DataArray) -> None:
    """Write coordinates with their unit along the axes."""
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
    own = title_of(str(picture["sensor"].values)) if known else ""
    name = titles[i] if titles and i < len(titles) else own
    if "time" not in picture.coords:
        return name
    date = np.datetime_as_string(picture["time"].values, unit="D")
    return f"{name}\n{date}".strip()


def _quantity(picture: xr.DataArray) -> str:
    return str(picture.attrs.get("long_name", picture.name or "value"))


def _label(picture: xr.DataArray, names: list[str]) -> str:
    unit = picture.attrs.get("units", "1")
    return f"{' '.join([*names, _quantity(picture)])} [{unit}]"
