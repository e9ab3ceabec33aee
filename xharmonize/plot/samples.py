"""What a model makes of samples: source, target, estimate and their difference, a row a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize.cube.contract import require_bands
from xharmonize.cube.pairs import as_cube, target_of
from xharmonize.errors import FitError, OptionError
from xharmonize.plot.differences import DIVERGING
from xharmonize.plot.images import TRUE_COLOUR, percentiles_of
from xharmonize.plot.style import MISSING, literal, new_figure
from xharmonize.training.judge import applied, source_cube
from xharmonize.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("source", "target", "estimate", "estimate − target")


def samples(
    model: Any,
    pairs: xr.DataTree,
    *,
    n: int = 3,
    side: int = 64,
    bands: Sequence[str] | str | None = None,
    band: str | None = None,
    title: str = "",
) -> Figure:
    """Plot what a model makes of the middle of some pairs, beside the source and the target.

    All are on the target's grid: the source as its area means, the estimate as `to_landsat` gives
    it. Colours of the three have one stretch; the difference is that of one band.

    Parameters
    ----------
    model : Training, Harmonizer, Dataset, path or str
        What `xharmonize.train` returned, or anything that `xharmonize.load_model` or `to_landsat`
        takes: the folder of a bundle, a fit, the name of a published table.
    pairs : DataTree
        From `xharmonize.collect_pairs`; pairs that the model has not seen tell more.
    n : int
        Most pairs, evenly spaced in the order of `pairs`.
    side : int
        Side of a sample [target pixels]; smaller where the target is.
    bands : str or sequence of str, optional
        One band, or three for red, green and blue; by default true colour if there is.
    band : str, optional
        Of the difference; by default the last of `bands`.
    title : str
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OptionError
        If `n` or `side` is less than 1, or there are neither one nor three bands.
    FitError
        If there are no pairs.
    BandError
        If the target lacks a band.

    Examples
    --------
    >>> figure = samples("bundle", pairs, band="nir08")  # doctest: +SKIP
    """
    for name, value in (("n", n), ("side", side)):
        if value < 1:
            raise OptionError("is less than 1", argument=name, value=value, cure="give 1 or more")
    target = target_of(pairs)
    if not target.sizes["pair"]:
        raise FitError("there are no pairs to draw", cure="give what xh.collect_pairs returns")
    shown = _bands(target, bands)
    names = list(dict.fromkeys([*shown, band or shown[-1]]))
    require_bands(target, names, what="the picture")
    numbers = np.unique(np.linspace(0, target.sizes["pair"] - 1, n).round().astype(int)).tolist()
    rows = [_images(_usable(model), pairs, k, side, names) for k in numbers]
    return _draw(rows, shown, names.index(band or shown[-1]), names, title)


def _usable(model: Any) -> Any:
    """The model of a training, or of a path."""
    from xharmonize.harmonizers.registry import load_model
    from xharmonize.training.train import Training

    if isinstance(model, Training):
        return model.model
    is_path = isinstance(model, Path) or (isinstance(model, str) and Path(model).exists())
    return load_model(model) if is_path else model


def _bands(target: xr.DataArray, bands: Sequence[str] | str | None) -> list[str]:
    held = [str(name) for name in target["band"].values]
    if bands is None:
        return list(TRUE_COLOUR) if set(TRUE_COLOUR) <= set(held) else held[:1]
    names = [bands] if isinstance(bands, str) else list(bands)
    if len(names) not in (1, 3):
        raise OptionError(
            "are neither one nor three", argument="bands", value=names, cure="give one, or three"
        )
    return names


def _images(
    model: Any, pairs: xr.DataTree, number: int, side: int, names: list[str]
) -> tuple[str, list[FloatArray]]:
    """Date of a pair, and the middle of source, target and estimate (band, y, x) [1]."""
    # The whole image is estimated, so that the sample has its surroundings.
    target = as_cube(target_of(pairs).isel(pair=[number])).sel(band=names).compute()
    source = source_cube(pairs, number).compute()
    cubes = [applied(None, source, target, names), target, applied(model, source, target, names)]
    rows, columns = (_middle(target.sizes[dim], side) for dim in ("y", "x"))
    day = str(target["time"].values[0].astype("datetime64[D]"))
    return day, [np.asarray(cube.values[0][:, rows, columns], np.float32) for cube in cubes]


def _middle(size: int, side: int) -> slice:
    start = max(0, (size - side) // 2)
    return slice(start, start + side)


def _draw(
    rows: list[tuple[str, list[FloatArray]]],
    shown: list[str],
    at: int,
    names: list[str],
    title: str,
) -> Figure:
    figure = new_figure(2.2 * len(COLUMNS) + 0.8, 2.2 * len(rows) + 0.5)
    panels = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    apart = [images[2][at] - images[1][at] for _, images in rows]
    seen = [difference[np.isfinite(difference)] for difference in apart]
    end = float(np.percentile(np.abs(np.concatenate(seen)), 99)) if any(map(len, seen)) else 0.0
    for axes, (day, images), difference in zip(panels, rows, apart):
        pictures = [image[[names.index(name) for name in shown]] for image in images]
        low, high = percentiles_of(pictures)
        for ax, picture in zip(axes, pictures):
            _picture(ax, (picture - low) / (high - low))
        axes[3].set_facecolor(MISSING)
        image = axes[3].imshow(np.ma.masked_invalid(difference), cmap=DIVERGING,
                               vmin=-(end or 1e-6), vmax=end or 1e-6)  # fmt: skip
        axes[0].set_ylabel(day, fontsize=8)
    for ax, text in zip(panels[0], COLUMNS):
        ax.set_title(text, fontsize=9)
    for ax in panels.flat:
        ax.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=panels[:, 3], label=f"{names[at]} [1]", shrink=0.8, extend="both")
    if title:
        figure.suptitle(title, fontsize=10)
    return literal(figure)


def _picture(axes: Axes, values: AnyArray) -> None:
    """Draw (band, y, x) stretched to 0 … 1: one band in grey, or three; NaN shows the ground."""
    require("matplotlib", extra="plot")
    axes.set_facecolor(MISSING)
    if len(values) == 1:
        axes.imshow(np.ma.masked_invalid(values[0]), cmap="gray", vmin=0, vmax=1)
        return
    is_seen = np.isfinite(values).all(axis=0)
    axes.imshow(np.dstack([*np.clip(np.nan_to_num(values), 0, 1), is_seen.astype(np.float32)]))
