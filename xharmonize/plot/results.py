"""Maps of results: every variable of seasons, fits or counts, each with its own colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.companions import quantities_of
from xharmonize.cube.contract import REFLECTANCE, require_bands
from xharmonize.cube.results import as_variables, cells_of, is_date, label_text, to_days
from xharmonize.plot.images import label_map, outer_edges, percentiles_of, thin_out
from xharmonize.plot.style import MISSING, new_figure
from xharmonize.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xharmonize.plot.images import Cube

_COLUMNS = 4


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One map: values (y, x), NaN where missing, dates as days since 1970-01-01."""

    layer: xr.DataArray
    values: FloatArray
    name: str
    title: str


def is_one_quantity(cube: Cube) -> bool:
    """Whether a cube is reflectance or one index, along no dimensions but time and band."""
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
    """Draw every variable of the cubes; see `xharmonize.plot.maps`."""
    panels = [
        panel
        for i, cube in enumerate(cubes)
        for panel in _panels_of(
            cube, choose, bands, titles[i] if titles and i < len(titles) else ""
        )
    ]
    n_columns, n_rows = min(len(panels), _COLUMNS), -(-len(panels) // _COLUMNS)
    figure = new_figure(3.7 * n_columns + 0.4, 3.3 * n_rows + 0.3)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    ends = {
        name: percentiles_of([panel.values for panel in panels if panel.name == name])
        for name in {panel.name for panel in panels}
    }
    for place, panel in zip(axes.flat, panels):
        _draw(figure, place, panel, *ends[panel.name])
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


def _draw(figure: Figure, axes: Any, panel: _Panel, low: float, high: float) -> None:
    axes.set_facecolor(MISSING)
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
        bar.ax.yaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return
    unit = panel.layer.attrs.get("units", "1")
    bar.set_label(f"{panel.layer.attrs.get('long_name', panel.name)} [{unit}]", fontsize=7)
