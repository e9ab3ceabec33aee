"""Cutting, filling and normalising tiles, and the training domain.

Inference and training call these same functions: what a network is shown, and what counts as like
its training data, must not differ between the two. They take arrays; where tiles lie is told by
`xharmonize.models.lattice`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from xharmonize.errors import ModelError
from xharmonize.kernels import patches
from xharmonize.kernels.patches import count_values, transport_distance
from xharmonize.models.card import Domain
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

Span = tuple[int, int]
"""First number, and the one after the last."""

HELD = 1e-3
"""Difference of sub-pixels [1] above which a coarse band was interpolated: more than rounding to
digital numbers makes, less than two neighbouring pixels differ by."""


def own_pixels(
    images: FloatArray,
    factor: int,
    *,
    bands: Sequence[str],
    gsd: float,
    first: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
) -> FloatArray:
    """Take back the pixels of bands that are held at a finer spacing, as 20 m bands at 10 m.

    Parameters
    ----------
    images : (time, band, y, x) float32 array
        Reflectance [1]; NaN where missing.
    factor : int
        Sub-pixels a side; with 1 nothing changes.
    bands, gsd
        Common names and pixel size [m], for the message.
    first : (int, int)
        Row and column of the first sub-pixel of the first pixel; negative where the image starts
        within that pixel.
    shape : (int, int), optional
        Rows and columns of the result; by default the pixels that start in the image.

    Returns
    -------
    (time, band, row, column) float32 array
        The first finite sub-pixel of each; NaN where there is none.

    Raises
    ------
    ModelError
        If the sub-pixels of a pixel differ: the band was interpolated.
    """
    if factor == 1:
        return images
    if shape is None:
        rows, columns = (-((start - n) // factor) for start, n in zip(first, images.shape[2:]))
        shape = rows, columns
    found, spread = patches.decimate(images, factor, first, shape)
    if spread > HELD:
        raise ModelError(
            f"band {' or '.join(bands)} of {gsd:g} m differs by {spread:.3g} within one of its "
            f"pixels: it was interpolated to the cube's grid, and the model needs it as it was "
            "observed",
            cure="load it by nearest (open_stac does, without resampling=), or regrid these "
            f"bands to {gsd:g} m first and then like the others with method='nearest'",
        )
    return found


def cut(
    image: FloatArray,
    rows: Span,
    columns: Span,
    *,
    mean: FloatArray,
    scale: FloatArray,
    first: tuple[int, int] = (0, 0),
    there: tuple[Span, Span] | None = None,
    out: FloatArray | None = None,
) -> FloatArray | None:
    """Cut one tile, fill what is missing in it, and normalise it.

    Beyond the edges of what there is, the image is mirrored. A missing pixel takes the nearest
    valid value of its row; a row without any takes the nearest row that has some.

    Parameters
    ----------
    image : (band, y, x) float32 array
        Reflectance [1]; what is not finite is missing.
    rows, columns : (int, int)
        Pixels that the tile shows, numbered in any way that `first` and `there` share.
    mean, scale : (band,) float32 array
        The tile becomes ``(reflectance - mean) / scale``.
    first : (int, int)
        Number of the image's first row and column.
    there : (rows, columns), optional
        Pixels that exist, mirrored at their edges; by default those of the image.
    out : (band, row, column) float32 array, optional
        Written to.

    Returns
    -------
    (band, row, column) float32 array or None
        None where a band is missing throughout.
    """
    if there is None:
        there = _whole(image, first)
    y, x = (
        patches.reflect(*span, *held) - start
        for span, held, start in zip((rows, columns), there, first)
    )
    tile = np.empty((len(image), y.size, x.size), np.float32) if out is None else out
    return tile if patches.cut(image, y, x, mean, scale, tile) else None


def fill(image: FloatArray) -> FloatArray | None:
    """Fill what is missing in an image (band, y, x) as `cut` does; None where a band is missing."""
    neutral = np.zeros(len(image), np.float32)
    whole = _whole(image, (0, 0))
    return cut(np.asarray(image, np.float32), *whole, mean=neutral, scale=neutral + 1)


def normalise(values: FloatArray, mean: Sequence[float], scale: Sequence[float]) -> FloatArray:
    """Reflectance (..., band, y, x) [1] in the units of a network, float32, rounded as by `cut`."""
    center, factor = (np.asarray(part, np.float32)[:, None, None] for part in (mean, scale))
    # As the kernel: one division per band. Dividing pixels instead rounds some otherwise.
    return np.asarray((values - center) * (np.float32(1) / factor), np.float32)


def supplied(
    image: FloatArray,
    rows: Span,
    columns: Span,
    *,
    first: tuple[int, int] = (0, 0),
    there: tuple[Span, Span] | None = None,
) -> FloatArray:
    """Pixels of a tile that exist, neither mirrored nor filled: (band, row, column); see `cut`."""
    if there is None:
        there = _whole(image, first)
    slices = []
    for span, held, origin in zip((rows, columns), there, first):
        start = max(span[0], held[0])
        slices.append(slice(start - origin, max(start, min(span[1], held[1])) - origin))
    return image[:, slices[0], slices[1]]


def moments(images: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation [1] of each band of tiles (tile, band, y, x), without NaN."""
    values = np.asarray(images, np.float64)
    mean, scale = (f(values, axis=(0, 2, 3)) for f in (np.nanmean, np.nanstd))
    return tuple(mean.tolist()), tuple(scale.tolist())


def count(images: FloatArray, limits: Sequence[tuple[float, float]], n_bins: int) -> IntArray:
    """Count the valid values of tiles (tile, band, y, x) in evenly spaced bins: (tile, band, bin).

    `limits` [1] are those of each band's bins; values beyond count in the end bins.
    """
    low, high = np.array(limits, np.float64).T
    one_tile = (np.zeros(size, np.int64) for size in images.shape[2:])
    return count_values(images, low, high, n_bins, *one_tile)[:, 0, 0]


def distance(
    counts: AnyArray, bands: Sequence[str], limits: Sequence[tuple[float, float]], domain: Domain
) -> float:
    """How far a tile's histograms lie from those of the training data [1]; see `Domain`.

    Parameters
    ----------
    counts : (band, bin) array
        Valid values of one tile.
    bands : sequence of str
        Their names; bands that the domain does not know are not compared.
    limits : sequence of (float, float)
        Range of each band's bins [1].

    Returns
    -------
    float
        Earth mover's distance of the worst band; 0 where nothing can be compared.
    """
    worst = 0.0
    for own, band, ends in zip(counts, bands, limits):
        if band in domain.bands and own.any():
            known = np.asarray(domain.histograms[domain.bands.index(band)], np.float64)
            worst = max(worst, transport_distance(own, ends, known, domain.edges))
    return worst


def is_far(
    counts: AnyArray, bands: Sequence[str], limits: Sequence[tuple[float, float]], domain: Domain
) -> bool:
    """Tell whether a tile lies farther from the training data than any training tile did."""
    return distance(counts, bands, limits, domain) > domain.max_distance


def make_domain(
    tiles: Iterable[Sequence[tuple[Sequence[str], FloatArray]]],
    *,
    edges: tuple[float, float],
    n_bins: int,
) -> Domain:
    """Say what reflectance a model was trained on, so that `is_far` is true of no training tile.

    Parameters
    ----------
    tiles : iterable of sequences of (bands, (tile, band, y, x) array)
        Some tiles at a time: for each input, names of bands and reflectance [1] as it was
        supplied, NaN where missing. No more than one such part is held.
    edges : (float, float)
        Range of the histograms [1].
    n_bins : int
        Number of their bins.
    """
    names: tuple[str, ...] = ()
    counted: list[IntArray] = []
    ends: list[Float64Array] = []
    for part in tiles:
        names = tuple(band for bands, _ in part for band in bands)
        counts = [count(images, [edges] * len(bands), n_bins) for bands, images in part]
        counted.append(np.concatenate(counts, axis=1))
        ends.append(
            np.array([np.concatenate([f(i, axis=(0, 2, 3)) for _, i in part]) for f in _ENDS])
        )
    each = np.concatenate(counted)
    total = each.sum(axis=0)
    shares = total / total.sum(axis=1, keepdims=True)
    domain = Domain(
        bands=names,
        low=tuple(np.nanmin([low for low, _ in ends], axis=0).tolist()),
        high=tuple(np.nanmax([high for _, high in ends], axis=0).tolist()),
        edges=edges,
        histograms=tuple(map(tuple, shares.tolist())),
        max_distance=0.0,
    )
    farthest = max(distance(one, names, [edges] * len(names), domain) for one in each)
    return replace(domain, max_distance=farthest)


_ENDS = (np.nanmin, np.nanmax)


def limits_of(
    domain: Domain | None, bands: Sequence[str], *, unknown: tuple[float, float]
) -> tuple[Float64Array, Float64Array]:
    """Range of the training data (band,) [1] of some bands; `unknown` where nothing is known."""
    ends = {} if domain is None else dict(zip(domain.bands, zip(domain.low, domain.high)))
    low, high = np.array([ends.get(band, unknown) for band in bands], np.float64).reshape(-1, 2).T
    return low, high


def _whole(image: FloatArray, first: tuple[int, int]) -> tuple[Span, Span]:
    y, x = ((start, start + size) for start, size in zip(first, image.shape[1:]))
    return y, x
