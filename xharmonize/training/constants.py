"""Numbers that are taken from the training samples: per-band constants, a line, the domain.

One streaming pass each, whatever the number of samples; held-out samples are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from xharmonize.errors import FitError
from xharmonize.harmonizers.beside import is_radar
from xharmonize.kernels.regression import joint_moments
from xharmonize.kernels.robust import solve_ridge
from xharmonize.models.card import Domain
from xharmonize.models.nets.layers import area_means
from xharmonize.sensors.spec import identity
from xharmonize.tiles import sampling
from xharmonize.training.protocol import Line
from xharmonize.training.store import Samples, Store
from xharmonize.types import AnyArray, Float64Array, IntArray

STEP = 1e-4
LOWEST, HIGHEST = -0.5 - STEP / 2, 2.0 + STEP / 2
"""Bins that constants are read from [1]: one about each digital number of most products."""
RADAR = -60.0, 40.0
"""Range of the bins of backscatter [dB]."""
RIDGE = 1e-2
"""Shrinks the lines, towards the identity; see `kernels.robust.solve_ridge`."""
DOMAIN_EDGES, DOMAIN_BINS = (0.0, 1.0), 64
RADAR_EDGES = -40.0, 10.0
"""Range of the domain's histograms of backscatter [dB]."""


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Of each band of the source, one input after the other, and then of the target.

    Attributes
    ----------
    bands : tuple of str
    n_source : int
        How many of them are the source's.
    low, high : tuple of float
        Percentiles to which training samples are clipped [1].
    mean, deviation, largest : tuple of float
        Of the clipped samples [1].
    """

    bands: tuple[str, ...]
    n_source: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    largest: tuple[float, ...]

    def part(self, name: str, start: int, n: int) -> tuple[float, ...]:
        """Values of `n` bands from `start`."""
        values: tuple[float, ...] = getattr(self, name)[start : start + n]
        return values


def measure(store: Store, samples: IntArray, clip: tuple[float, float]) -> Constants:
    """Measure per-band constants of training samples; pixels that were filled do not count.

    Raises
    ------
    FitError
        If a band does not vary.
    """
    bands = (*store.source_bands, *store.bands)
    n_bins = round((HIGHEST - LOWEST) / STEP)
    counts = np.zeros((len(bands), n_bins))
    ranges = [RADAR if is_radar([source.sensor]) else (LOWEST, HIGHEST) for source in store.inputs]
    ranges.append((LOWEST, HIGHEST))
    limits: list[tuple[float, float]] = []
    for part in store.stream(samples):
        seen = [images for _, images in _observed(store, part)]
        at, limits = 0, []
        for images, ends in zip((*seen, part.target), ranges):
            limits += [ends] * images.shape[1]
            counts[at : at + images.shape[1]] += _fine(images, n_bins, ends)
            at += images.shape[1]
    steps = (np.arange(n_bins) + 0.5) / n_bins
    rows = [
        _constants(own, low + (high - low) * steps, clip)
        for own, (low, high) in zip(counts, limits)
    ]
    for band, row in zip(bands, rows):
        if not row[3] > STEP:
            raise FitError(
                f"band {band!r} is {row[2]:.3g} in all training samples: nothing can be learned "
                "of it",
                cure="leave it out with Data(source_bands=...) or target_bands, or look at the "
                "cubes",
            )
    return Constants(
        bands=bands,
        n_source=len(store.source_bands),
        **{
            name: tuple(round(float(row[k]), 6) for row in rows)
            for k, name in enumerate(("low", "high", "mean", "deviation", "largest"))
        },
    )


def _fine(images: AnyArray, n_bins: int, ends: tuple[float, float]) -> AnyArray:
    """Counts (band, bin) of all samples."""
    n, bands, height, width = images.shape
    whole = np.ascontiguousarray(images.transpose(1, 0, 2, 3)).reshape(1, bands, n * height, width)
    counts: AnyArray = sampling.count(whole, [ends] * bands, n_bins)[0]
    return counts


def _constants(
    counts: Float64Array, middle: AnyArray, clip: tuple[float, float]
) -> tuple[float, ...]:
    """Low, high, mean, standard deviation and largest value of one band's histogram."""
    total = counts.cumsum()
    if not total[-1]:
        return (np.nan,) * 5
    low, high = (
        middle[min(np.searchsorted(total, share / 100 * total[-1]), middle.size - 1)]
        for share in clip
    )
    values = np.clip(middle, low, high)
    mean = (counts * values).sum() / total[-1]
    deviation = np.sqrt((counts * (values - mean) ** 2).sum() / total[-1])
    return float(low), float(high), float(mean), float(deviation), float(high)


def fit_lines(
    store: Store, samples: IntArray, *, grid: Literal["network", "exact"] = "network"
) -> tuple[Line, Line]:
    """Fit lines on training samples: on all source bands, and on the band of the same role alone.

    Slopes come from differences within pairs, all pairs weighing the same: what differs between
    the few pairs there are is their level, not the sensors'. The offset puts the mean of the pairs
    right.

    Parameters
    ----------
    grid : {"network", "exact"}
        The source as a network of the store's lattice averages it to target pixels, or by exact
        area weights.
    """
    n = len(store.source_bands)
    moments: dict[int, Float64Array] = {}
    for numbers, part in _with_numbers(store, samples):
        sources = part.exact if grid == "exact" else pooled(store, part)
        rows, columns = store.core
        for k, number in enumerate(numbers):
            pair = int(store.pair[number])
            own = joint_moments(
                _flat(sources[k, :, rows, columns]), _flat(part.target[k, :, rows, columns])
            )
            moments[pair] = moments.get(pair, 0) + own
    used = [own for own in moments.values() if own[0, 0] > 1]
    means = np.array([own[0, 1:] / own[0, 0] for own in used])
    within = [own[1:, 1:] / own[0, 0] - np.outer(m, m) for own, m in zip(used, means)]
    covariance = np.mean(within, axis=0)
    prior = _prior(store)
    return (
        _line(store, covariance, means, prior, np.ones((len(store.bands), n), bool)),
        _line(store, covariance, means, prior, prior > 0),
    )


def _prior(store: Store) -> Float64Array:
    """Matrix that takes each band from the cube's, or else from the first source that has it."""
    prior = identity(store.source_bands, store.bands)
    bases = [band for source in store.inputs for band in source.bands]
    any_source = identity(bases, store.bands)
    lacks = ~prior.any(axis=1)
    prior[lacks] = any_source[lacks]
    return prior


def _line(
    store: Store, covariance: Float64Array, means: Float64Array, prior: Float64Array, used: AnyArray
) -> Line:
    """Solve each target band on those source bands that it may use."""
    n = prior.shape[1]
    matrix = np.zeros(prior.shape)
    for row, names in enumerate(used):
        chosen = np.flatnonzero(names)
        if not chosen.size:
            continue
        at = [*chosen, n + row]
        own = np.zeros((1, len(at) + 1, len(at) + 1))
        own[0, 0, 0], own[0, 1:, 1:] = 1.0, covariance[np.ix_(at, at)]
        matrix[row, chosen] = solve_ridge(own, RIDGE, prior[row : row + 1, chosen])[0][0]
    left = means[:, n:] - means[:, :n] @ matrix.T
    spread = left.std(axis=0, ddof=1) if len(left) > 1 else np.full(len(matrix), np.nan)
    return Line(
        source_bands=store.source_bands,
        bands=store.bands,
        matrix=matrix,
        offset=left.mean(axis=0),
        levels=tuple(spread.tolist()),
    )


def pooled(store: Store, part: Samples) -> AnyArray:
    """Inputs averaged to target pixels as networks do it: (n, source_band, y, x)."""
    ratios = [store.lattice.cells(source.gsd) for source in store.inputs]
    means = area_means([torch.from_numpy(image) for image in part.inputs], ratios)
    return np.asarray(means.numpy())


def _flat(image: AnyArray) -> AnyArray:
    return np.ascontiguousarray(image, np.float32).reshape(len(image), -1)


def _with_numbers(
    store: Store, samples: IntArray, n: int = 64
) -> Iterator[tuple[IntArray, Samples]]:
    starts = range(0, len(samples), n)
    yield from zip((samples[at : at + n] for at in starts), store.stream(samples, n))


def domains_of(store: Store, samples: IntArray) -> dict[str, Domain]:
    """Describe what training samples hold of each source, without pixels filled or mirrored.

    Those are the ones under target pixels of which a part is missing.
    """
    found = {}
    for role in store.sources:
        radar = any(is_radar([one.sensor]) for one in store.inputs if one.source == role)
        parts = (_observed(store, part, role) for part in store.stream(samples))
        edges = RADAR_EDGES if radar else DOMAIN_EDGES
        found[role] = sampling.make_domain(parts, edges=edges, n_bins=DOMAIN_BINS)
    return found


def _observed(
    store: Store, part: Samples, role: str | None = None
) -> list[tuple[tuple[str, ...], AnyArray]]:
    """Bands and images (n, band, y, x) of each input, or those of a source, NaN where filled."""
    found, start = [], 0
    for source, images in zip(store.inputs, part.inputs):
        bands = slice(start, start + len(source.bands))
        start = bands.stop
        if role not in (None, source.source):
            continue
        is_seen = np.isfinite(part.exact[:, bands])
        cells = float(store.lattice.cells(source.gsd))
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) / cells).astype(int), side - 1)
            for n, side in zip(images.shape[2:], is_seen.shape[2:])
        )
        seen = np.where(is_seen[:, :, rows][..., columns], images, np.float32(np.nan))
        found.append((source.bands, seen))
    return found
