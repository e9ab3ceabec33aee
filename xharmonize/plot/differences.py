"""Maps of errors: a prediction minus its reference, per band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import require_bands, select_bands
from xharmonize.cube.door import at_door
from xharmonize.errors import MetricError, TimeAxisError
from xharmonize.metrics.inputs import BAND, read_cubes
from xharmonize.plot.images import label_map, outer_edges, position_of, thin_out
from xharmonize.plot.style import (
    MISSING,
    capital,
    count_of_dates,
    literal,
    new_figure,
    quantity_of,
    with_unit,
)
from xharmonize.series.axis import mean_of_known
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
DIVERGING = "RdBu_r"
"""Red where the prediction is too high; colour-blind readers can tell both ends apart."""


def errors(
    cube: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    time: int | str | None = None,
    bands: Sequence[str] | str | None = None,
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """Plot maps of prediction minus reference, one per band, on a common scale around zero.

    Parameters
    ----------
    cube, reference : DataArray, or Dataset with ``reflectance`` or one other variable
        As for `xharmonize.score`: one grid, the same bands and units; NaN (grey) where missing.
        Large maps are thinned out to 1500 pixels a side before they are computed.
    time : int or str, optional
        Date to plot: a position, or a date, for which the nearest one is used. By default the mean
        error of each pixel over the dates.
    bands : str or sequence of str, optional
        Bands to plot; all by default.
    limit : float, optional
        Absolute error at the ends of the colour scale; by default its 99th percentile over all
        maps.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MetricError
        If `limit` is not positive, or no pixel is valid in both.
    TimeAxisError
        If the cubes have no dates to select from.
    GridError, BandError, RadiometryError, ContractError
        If the two cannot be compared.

    Examples
    --------
    >>> figure = errors(s2_as_l8, l8, time="2018-07-01", bands=["red", "nir08"])  # doctest: +SKIP
    """
    cube, reference = at_door(cube), at_door(reference)
    if limit is not None and not limit > 0:
        raise MetricError(
            cure="give the error [unit of the values] of the last colour",
            argument="limit",
            value=limit,
        )
    one, other = (thin_out(layer) for layer in read_cubes(cube, reference, what="errors"))
    if bands is not None:
        names = [bands] if isinstance(bands, str) else list(bands)
        require_bands(one, names, what="errors")
        one, other = select_bands(one, names), select_bands(other, names)
    difference, when = _chosen(one - other, one, time)
    maps = difference.transpose(..., "y", "x").sortby("y", ascending=False).compute()
    if not np.isfinite(maps.values).any():
        raise MetricError("no pixel has both prediction and reference", cure="nothing to draw")
    values = maps.values.reshape(-1, *maps.shape[-2:])
    labels = [str(n) for n in maps[BAND].values] if BAND in maps.dims else [str(one.name or "")]
    figure, panels = _panels(len(values), title)
    end = limit or float(np.nanpercentile(np.abs(values), 99)) or 1e-6
    for axes, band, layer in zip(panels, labels, values):
        image = _draw_errors(axes, maps, layer, end)
        axes.label_outer()
        axes.set_title(f"{capital(band)}  {_summary(layer)}", fontsize=8, loc="left")
    unit = str(one.attrs.get("units", "1"))
    label = with_unit(f"prediction − reference: {quantity_of(one)}", unit) + f"\n{when}"
    figure.colorbar(image, ax=panels, label=label, shrink=0.8, extend="both")
    return literal(figure)


def _chosen(
    difference: xr.DataArray, one: xr.DataArray, time: int | str | None
) -> tuple[xr.DataArray, str]:
    """The error of one date or the mean over dates, and a description of it."""
    dims = [str(dim) for dim in difference.dims if dim not in (BAND, "y", "x")]
    if time is None:
        n = int(np.prod([difference.sizes[dim] for dim in dims]))
        when = f"mean over {count_of_dates(n)}" if dims else "one date"
        return mean_of_known(difference, dims), when
    times = next((one[n] for n in ("time", "time_target") if n in one.coords), None)
    if len(dims) != 1 or times is None or times.dims != (dims[0],):
        raise TimeAxisError(f"the cubes have no dates along {dims}", cure="leave time= out")
    dates = times.values
    try:
        place = position_of(dates, time)
    except TimeAxisError as error:
        raise TimeAxisError(f"{error} of the {dates.size} dates in common") from None
    day = np.datetime_as_string(dates[place], unit="D")
    return difference.isel({dims[0]: place}), str(day)


def _summary(layer: AnyArray) -> str:
    if not np.isfinite(layer).any():
        return "no pixel"
    rmse, bias = np.sqrt(np.nanmean(np.square(layer, dtype=float))), np.nanmean(layer, dtype=float)
    return f"RMSE {rmse:.4f}, bias {bias:+.4f}"


def _panels(n: int, title: str) -> tuple[Figure, list[Axes]]:
    n_columns, n_rows = min(n, _COLUMNS), -(-n // _COLUMNS)
    figure = new_figure(3.4 * n_columns + 1.2, 3.4 * n_rows + 0.4)
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[n:]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, list(panels.flat[:n])


def _draw_errors(axes: Axes, maps: xr.DataArray, layer: AnyArray, end: float) -> Any:
    axes.set_facecolor(MISSING)
    image = axes.imshow(
        np.ma.masked_invalid(layer),
        extent=outer_edges(maps),
        vmin=-end,
        vmax=end,
        cmap=DIVERGING,
        interpolation="nearest",
    )
    label_map(axes, maps)
    return image
