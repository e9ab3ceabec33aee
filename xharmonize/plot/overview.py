"""Figures that sum up a series: before and after, along time, acquisitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xharmonize import plot
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.errors import GridError
from xharmonize.plot.images import TRUE_COLOUR
from xharmonize.plot.profiles import require_inside
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEAR = np.timedelta64(4 * 24 * 3600, "s")
Point: TypeAlias = tuple[float, float]
STRETCH = (0.0, 0.18)
NAMES = ("maps.png", "series.png", "timeline.png")


def draw(
    folder: Path,
    *,
    source: Any,
    harmonized: Any,
    target: Any | None,
    series: Any,
    field: xr.DataArray | None = None,
    point: Point | None = None,
    truth: xr.DataArray | None = None,
    smoothed: Any | None = None,
) -> list[Path]:
    """Plot maps before and after, the series and the timeline; return the files.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    source, harmonized, target : cube
        The cube before and after harmonisation, and the target sensor's.
    series : DataArray or Dataset
        The merged series.
    field : (y, x) bool DataArray, optional
        Pixels whose mean series is plotted. Default: the whole area, unless `point` is given.
    point : (float, float), optional
        Longitude and latitude [degrees] of the pixel whose series is plotted.
    truth : (time,) DataArray, optional
        True series of the plotted quantity, if known.
    smoothed : DataArray or Dataset, optional
        Smoothed series, drawn as a line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    x, y = place_of(series, point)
    figures = (
        draw_maps(main_layer(source), main_layer(harmonized), target, series),
        plot.series(series, field=field, x=x, y=y, truth=truth, smoothed=smoothed),
        plot.timeline(series, title="Acquisitions"),
    )
    for name, figure in zip(NAMES, figures):
        figure.savefig(folder / name)
    return [folder / name for name in NAMES]


def draw_maps(before: xr.DataArray, after: xr.DataArray, target: Any | None, series: Any) -> Figure:
    """Plot the clearest date before and after, and a clear target date near it if there is one.

    Cloudiness is read from the series, which is already computed.
    """
    share = _valid_shares(series)
    of_after = _shares_at(after, share)
    like = None if target is None else main_layer(target)
    near = np.zeros((of_after.size, 0)) if like is None else _near(after, like, share)
    best = int((of_after + near.max(axis=1, initial=0.0)).argmax())
    time = after["time"].values[best]
    pictures = {"before": _nearest(before, time), "after": after.isel(time=best)}
    if like is not None and near[best].max(initial=0.0) > 0:
        pictures["target"] = like.isel(time=int(near[best].argmax()))
    titles = [f"{picture['platform'].item()}, {name}" for name, picture in pictures.items()]
    return plot.maps(*pictures.values(), titles=titles, stretch=_stretch(after))


def place_of(series: Any, point: Point | None) -> Point | tuple[None, None]:
    """Return a point in the CRS of the series; raise `GridError` if it lies outside."""
    if point is None:
        return None, None
    import pyproj

    from xharmonize.cube.geobox import centre_of, geobox_of
    from xharmonize.kernels.longitude import unwrapped

    grid = geobox_of(series)
    crs = str(grid.crs)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*point)
    if grid.crs.geographic:
        x = unwrapped(x, centre_of(grid)[0])
    try:
        require_inside(series, {"x": float(x), "y": float(y)})
    except GridError as error:
        west, south, east, north = grid.geographic_extent.boundingbox
        raise GridError(
            f"the point {point[0]:g},{point[1]:g} lies outside the series, which covers longitude "
            f"{west:.4f} to {east:.4f} and latitude {south:.4f} to {north:.4f}",
            cure="give LON,LAT there",
        ) from error
    return float(x), float(y)


def _near(
    after: xr.DataArray, target: xr.DataArray, share: dict[tuple[Any, str], float]
) -> AnyArray:
    """Closeness in time [1] of each target date times its valid fraction; (date, target date)."""
    apart = np.abs(after["time"].values[:, None] - target["time"].values[None, :])
    nearness = np.clip(1.0 - apart / NEAR, 0.0, 1.0)
    return np.asarray(nearness * _shares_at(target, share)[None, :])


def _valid_shares(series: Any) -> dict[tuple[Any, str], float]:
    """Fraction of valid pixels [1] by time and sensor."""
    layer = main_layer(series)
    flat = layer.isel(band=0) if "band" in layer.dims else layer
    values = flat.notnull().mean(["y", "x"]).compute().values
    return dict(zip(_keys(series), values.tolist()))


def _shares_at(cube: xr.DataArray, share: dict[tuple[Any, str], float]) -> AnyArray:
    return np.array([share.get(key, 0.0) for key in _keys(cube)])


def _keys(cube: Any) -> list[tuple[Any, str]]:
    sensors = read_coordinate(cube, "sensor").astype(str).tolist()
    return list(zip(cube["time"].values.astype("datetime64[ns]").tolist(), sensors))


def _nearest(cube: xr.DataArray, time: np.datetime64) -> xr.DataArray:
    return cube.isel(time=int(np.abs(cube["time"].values - time).argmin()))


def _stretch(cube: xr.DataArray) -> tuple[float, float] | None:
    has_colour = set(TRUE_COLOUR) <= set(cube["band"].values.astype(str))
    return STRETCH if has_colour else None
