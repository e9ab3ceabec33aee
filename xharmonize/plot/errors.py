"""Maps of errors."""

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
from xharmonize.plot.style import MISSING, literal, new_figure
from xharmonize.series.means import mean_of_known
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
DIVERGING = "RdBu_r"
"""Red where the prediction is too high; both ends are told apart by colour-blind readers."""


def errors(
    pred: xr.DataArray | xr.Dataset,
    ref: xr.DataArray | xr.Dataset,
    *,
    time: int | str | None = None,
    bands: Sequence[str] | str | None = None,
    limit: float | None = None,
    title: str = "",
) -> Figure:
    """Draw prediction minus reference as maps, one for each band, on one scale about zero.

    Parameters
    ----------
    pred, ref : DataArray, or Dataset with ``reflectance`` or one other variable
        As for `xharmonize.score`: one grid, the same bands and units; NaN (grey) where missing.
        Large maps are thinned out to 1500 pixels a side before they are computed.
    time : int or str, optional
        One date: a position, or a date of which the nearest is taken. By default the mean error
        over the dates of each pixel is drawn.
    bands : str or sequence of str, optional
        Bands to draw; all where not given.
    limit : float, optional
        Error drawn in the darkest colour; by default the 99th percentile of its size over all maps.
    title : str
        Put above the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MetricError
        If `limit` is not positive, or no pixel has both.
    TimeAxisError
        If the cubes have no date to choose.
    GridError, BandError, RadiometryError, ContractError
        If the two cannot be compared.

    Examples
    --------
    >>> figure = errors(s2_as_l8, l8, time="2018-07-01", bands=["red", "nir08"])  # doctest: +SKIP
    """
    pred, ref = at_door(pred), at_door(ref)
    if limit is not None and not limit > 0:
        raise MetricError(f"limit={limit}; give the error [unit of the values] of the last colour")
    one, other = (thin_out(layer) for layer in read_cubes(pred, ref, what="errors"))
    if bands is not None:
        names = [bands] if isinstance(bands, str) else list(bands)
        require_bands(one, names, what="errors")
        one, other = select_bands(one, names), select_bands(other, names)
    difference, when = _chosen(one - other, one, time)
    maps = difference.transpose(..., "y", "x").sortby("y", ascending=False).compute()
    if not np.isfinite(maps.values).any():
        raise MetricError("no pixel has both prediction and reference; nothing to draw")
    values = maps.values.reshape(-1, *maps.shape[-2:])
    labels = [str(n) for n in maps[BAND].values] if BAND in maps.dims else [str(one.name or "")]
    figure, panels = _panels(len(values), title)
    end = limit or float(np.nanpercentile(np.abs(values), 99)) or 1e-6
    for axes, band, layer in zip(panels, labels, values):
        image = _draw(axes, maps, layer, end)
        axes.label_outer()
        axes.set_title(f"{band}  {_summary(layer)}", fontsize=8, loc="left")
    unit = str(one.attrs.get("units", "1"))
    quantity = str(one.attrs.get("long_name", one.name or "value"))
    label = f"prediction − reference: {quantity} [{unit}]\n{when}"
    figure.colorbar(image, ax=panels, label=label, shrink=0.8, extend="both")
    return literal(figure)


def _chosen(
    difference: xr.DataArray, one: xr.DataArray, time: int | str | None
) -> tuple[xr.DataArray, str]:
    """The error of one date, or the mean over dates, and which."""
    dims = [str(dim) for dim in difference.dims if dim not in (BAND, "y", "x")]
    if time is None:
        n = int(np.prod([difference.sizes[dim] for dim in dims]))
        return mean_of_known(difference, dims), f"mean over {n} dates" if dims else "one date"
    times = next((one[n] for n in ("time", "time_target") if n in one.coords), None)
    if len(dims) != 1 or times is None or times.dims != (dims[0],):
        raise TimeAxisError(f"the cubes have no dates along {dims}; leave time= out")
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


def _draw(axes: Axes, maps: xr.DataArray, layer: AnyArray, end: float) -> Any:
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
