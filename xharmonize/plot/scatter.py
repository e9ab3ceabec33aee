"""Density scatter plots of prediction against reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.contract import require_bands, select_bands
from xharmonize.cube.door import at_door
from xharmonize.errors import MetricError
from xharmonize.metrics import Moments, formulas, statistics
from xharmonize.metrics.inputs import BAND, read_cubes
from xharmonize.plot.style import ORANGE, capital, literal, new_figure, quantity_of, with_unit
from xharmonize.types import AnyArray, Float64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_SAMPLE = 200_000  # pixels of a band used to choose the axis limits


def scatter(
    cube: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    bands: Sequence[str] | str | None = None,
    limits: tuple[float, float] | None = None,
    bins: int | None = None,
    title: str = "",
) -> Figure:
    """Plot the density of prediction against reference, one panel per band.

    The colour is the number of pixels per cell, on a logarithmic scale. The dashed line is 1:1, the
    solid one the least-squares line of the reference on the prediction. Panels show RMSE, bias, R²
    (1 - SSE/SST), squared correlation and number of pixels, over all pixels including those outside
    the axes.

    Parameters
    ----------
    cube, reference : DataArray, or Dataset with ``reflectance`` or one other variable
        As for `xharmonize.score`: one grid, the same bands and units; NaN where missing. They are
        read twice, block by block; only the counts and a small sample are held in memory.
    bands : str or sequence of str, optional
        Bands to plot; all by default.
    limits : (float, float), optional
        Limits of both axes, for all bands. Default: the 0.1th and 99.9th percentile of a sample,
        for each band.
    bins : int, optional
        Number of cells along an axis; by default 40 to 150, more for more pixels.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MetricError
        If no pixel is valid in both, or `bins` or `limits` are invalid.
    GridError, BandError, TimeAxisError, RadiometryError, ContractError
        If the two cannot be compared.

    References
    ----------
    Liu et al. 2023, figure 6, doi:10.3390/rs15102563.

    Examples
    --------
    >>> figure = scatter(s2_as_l8, l8)  # doctest: +SKIP
    """
    cube, reference = at_door(cube), at_door(reference)
    if (bins is not None and bins < 2) or (limits is not None and not limits[0] < limits[1]):
        raise MetricError(
            f"bins={bins}, limits={limits}", cure="give at least 2 cells and low < high"
        )
    one, other = _layers(cube, reference, bands)
    rows, ends = _moments_and_ends(one, other, limits)
    if not rows[:, 0].sum():
        raise MetricError("no pixel has both prediction and reference", cure="nothing to draw")
    n_cells = bins or int(np.clip(np.sqrt(rows[:, 0].max()), 40, 150))
    counts = count_cells(one, other, ends, n_cells)
    names = [str(name) for name in one[BAND].values]
    figure, panels = _panels(len(names), title)
    top = max(int(counts.max()), 2)
    norm = require("matplotlib.colors", extra="plot").LogNorm(1, top)
    for k, axes in enumerate(panels):
        image = _draw(axes, counts[k], ends[k], norm)
        _draw_lines(axes, Moments(rows[k]), ends[k])
        axes.set_title(capital(names[k]), fontsize=9, loc="left")
    unit = str(one.attrs.get("units", "1"))
    for k, axes in enumerate(panels):
        if k + _COLUMNS >= len(panels):
            axes.set_xlabel(with_unit("prediction", unit), fontsize=8)
        if k % _COLUMNS == 0:
            axes.set_ylabel(with_unit(f"reference: {quantity_of(one)}", unit), fontsize=8)
    # Text of figures is literal, so powers of ten would show their TeX.
    bar = figure.colorbar(
        image, ax=list(panels), label="pixels per cell", shrink=0.8, format="{x:,.0f}"
    )
    bar.ax.minorticks_off()
    _explain(figure)
    return literal(figure)


def _layers(pred: Any, reference: Any, bands: Sequence[str] | str | None) -> tuple[Any, Any]:
    """Aligned prediction and reference (band, ...) in the requested bands."""
    one, other = read_cubes(pred, reference, what="scatter")
    if BAND not in one.dims:
        name = [str(one.name or "value")]
        one, other = (layer.expand_dims({BAND: name}) for layer in (one, other))
    if bands is not None:
        names = [bands] if isinstance(bands, str) else list(bands)
        require_bands(one, names, what="scatter")
        one, other = select_bands(one, names), select_bands(other, names)
    return one.transpose(BAND, ...), other.transpose(BAND, ...)


def _moments_and_ends(
    one: xr.DataArray, other: xr.DataArray, limits: tuple[float, float] | None
) -> tuple[Float64Array, Float64Array]:
    """Moments (band, field) and limits of the axes (band, 2)."""
    from dask.base import compute

    moments = statistics(one, other, "rmse")["moments"].transpose(BAND, ...)
    if limits is not None:
        return moments.values, np.tile(np.array(limits, float), (one.sizes[BAND], 1))
    thin = [_thin(layer).data for layer in (one, other)]
    rows, *samples = compute(moments.data, *thin)
    both = np.concatenate([s.reshape(s.shape[0], -1) for s in samples], axis=1)
    return np.asarray(rows), np.array([_ends(values) for values in both])


def _thin(layer: xr.DataArray) -> xr.DataArray:
    """Every n-th row and column, or every n-th value if there are no rows."""
    dims = [str(d) for d in layer.dims if d in ("y", "x")] or [str(layer.dims[-1])]
    share = layer[0].size / _SAMPLE
    stride = max(1, int(np.ceil(share ** (1 / len(dims)))))
    return layer.isel(dict.fromkeys(dims, slice(None, None, stride)))


def _ends(values: AnyArray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, [0.1, 99.9])
    margin = max(0.03 * (high - low), 1e-6)
    return float(low - margin), float(high + margin)


def count_cells(one: xr.DataArray, other: xr.DataArray, ends: Float64Array, bins: int) -> AnyArray:
    """Count pixels by prediction and reference, block by block; computes.

    Parameters
    ----------
    one, other : (band, ...) float DataArray
        Prediction and reference in the same chunks, bands in one chunk; NaN where missing.
    ends : (band, 2) float array
        Limits of both axes.
    bins : int
        Number of cells along an axis.

    Returns
    -------
    (band, bin of prediction, bin of reference) int64 array
    """
    import dask.array as da

    pair = [da.asarray(layer.data).rechunk({0: -1}) for layer in (one, other)]
    pair[1] = pair[1].rechunk(pair[0].chunks)
    n = pair[0].ndim
    blocks = da.map_blocks(
        _count_block,
        *pair,
        ends=ends,
        bins=bins,
        new_axis=[n, n + 1],
        chunks=(
            (one.sizes[BAND],),
            *((1,) * count for count in pair[0].numblocks[1:]),
            (bins,),
            (bins,),
        ),
        dtype=np.int64,
        meta=np.empty((0,) * (n + 2), np.int64),
        token="plot-scatter",
    )
    total: AnyArray = blocks.sum(axis=tuple(range(1, n)), split_every=8).compute()
    return total


def _count_block(pred: AnyArray, reference: AnyArray, *, ends: Float64Array, bins: int) -> AnyArray:
    out = np.empty((pred.shape[0], bins * bins), np.int64)
    for k, (low, high) in enumerate(ends):
        x, y = pred[k].ravel(), reference[k].ravel()
        inside = (x >= low) & (x < high) & (y >= low) & (y < high)
        scale = bins / (high - low)
        column, row = (
            np.minimum(((v[inside] - low) * scale).astype(np.int64), bins - 1) for v in (x, y)
        )
        out[k] = np.bincount(column * bins + row, minlength=bins * bins)
    return out.reshape(pred.shape[0], *(1,) * (pred.ndim - 1), bins, bins)


def _panels(n: int, title: str) -> tuple[Figure, list[Axes]]:
    n_columns = min(n, _COLUMNS)
    n_rows = -(-n // _COLUMNS)
    figure = new_figure(3.1 * n_columns + 1.4, 3.1 * n_rows + 0.7)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for axes in panels.flat[n:]:
        axes.set_visible(False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure, list(panels.flat[:n])


def _draw(axes: Axes, counts: AnyArray, ends: Float64Array, norm: Any) -> Any:
    low, high = map(float, ends)
    image = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=(low, high, low, high),
        norm=norm,
        cmap="viridis",
        interpolation="nearest",
    )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=5)
    return image


def _draw_lines(axes: Axes, moments: Moments, ends: Float64Array) -> None:
    axes.plot(ends, ends, color="#333333", linewidth=0.9, linestyle="--")
    spread = float(moments["m2_pred"])
    text = [f"n = {int(moments['n']):,}"]
    if spread > 0:
        slope = float(moments["co_moment"]) / spread
        offset = float(moments["mean_ref"]) - slope * float(moments["mean_pred"])
        axes.plot(ends, slope * ends + offset, color=ORANGE, linewidth=1.4)
        text.append(f"y = {slope:.3f} x {'−' if offset < 0 else '+'} {abs(offset):.4f}")
    text += [
        f"RMSE {float(formulas.rmse(moments)):.4f}, bias {float(formulas.bias(moments)):+.4f}",
        f"R² {float(formulas.r2(moments)):.3f}, r² {float(formulas.r2_pearson(moments)):.3f}",
    ]
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "ha": "left"}
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    axes.text(0.03, 0.97, "\n".join(text), fontsize=6.5, bbox=box, **place)


def _explain(figure: Figure) -> None:
    line: Any = require("matplotlib.lines", extra="plot").Line2D
    handles = [
        line([], [], color="#333333", linewidth=0.9, linestyle="--", label="1:1"),
        line([], [], color=ORANGE, linewidth=1.4, label="least squares (reference on prediction)"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
