"""Resampling of images between two grids of one CRS, by exact overlap.

Such grids are separable: a target pixel's weight of a source pixel is the product of the lengths
they share in y and in x, so `regrid_mean` sums rows first and columns after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray

RegridMethod: TypeAlias = Literal["area", "nearest", "bilinear"]

TOLERANCE = 1e-6
"""Distance [source pixel] within which an edge counts as lying on a pixel edge."""


@dataclass(frozen=True, kw_only=True)
class AxisWeights:
    """Which source pixels along one axis make up each target pixel, and with what weight.

    Attributes
    ----------
    index : (target,) int64 array
        First source pixel; with weight 0 it may lie outside the source.
    weight : (target, k) float64 array
        Of the `k` source pixels from `index` on [source pixel]; 0 outside the source.
    full : (target,) float64 array
        Weight of a target pixel that is covered completely [source pixel].
    """

    index: IntArray
    weight: Float64Array
    full: Float64Array

    def shifted(self, n_pixels: int) -> AxisWeights:
        """Return the same weights with source pixels counted from elsewhere."""
        return replace(self, index=self.index + n_pixels)


@dataclass(frozen=True, kw_only=True)
class AxisMap:
    """How target pixels lie on source pixels along one axis, in units of source pixels.

    Target pixel ``i`` spans ``first + step * i`` to ``first + step * (i + 1)``. `step` is negative
    where the axes run in opposite directions. With `sigma`, the standard deviation of a Gaussian
    [source pixel], area weights are those of the target pixel blurred by it, cut at three `sigma`.
    """

    first: float
    step: float
    n_source: int
    sigma: float = 0.0

    def moved(self, n_pixels: float) -> AxisMap:
        """Return the map onto a source whose content lies `n_pixels` too far."""
        return replace(self, first=self.first + n_pixels) if n_pixels else self

    @property
    def sharp(self) -> AxisMap:
        """The same map without blur."""
        return replace(self, sigma=0.0) if self.sigma else self

    def weights(self, start: int, stop: int, how: RegridMethod) -> AxisWeights:
        """Weights of target pixels `start` to `stop`; each depends on its own number only."""
        number = np.arange(start, stop, dtype=np.float64)
        if how == "area":
            return self._overlaps(number)
        centre = self.first + self.step * (number + 0.5)
        if how == "nearest":
            # A centre on an edge belongs to the later pixel.
            index = np.floor(centre + TOLERANCE).astype(np.int64)
            return self._inside(index, np.ones((number.size, 1)))
        below = _snapped(centre - 0.5)
        index = np.floor(below).astype(np.int64)
        share = below - index
        return self._inside(index, np.stack([1 - share, share], axis=1))

    def window(
        self,
        start: int,
        stop: int,
        how: RegridMethod,
        *,
        offsets: tuple[float, float] = (0.0, 0.0),
    ) -> tuple[int, int]:
        """First and past-the-last source pixel that target pixels `start` to `stop` need.

        With `offsets`, whichever of them between the two the content of the source has.
        """
        if any(offsets):
            ends = (self.first + self.step * start, self.first + self.step * stop)
            margin = 1 + 3 * self.sigma
            low = max(0, int(np.floor(min(ends) + min(offsets) - margin)))
            high = min(self.n_source, int(np.ceil(max(ends) + max(offsets) + margin)))
            return (low, high) if low < high else (0, 0)
        found = self.weights(start, stop, how)
        pixel = found.index[:, None] + np.arange(found.weight.shape[1])
        used = pixel[found.weight > 0]
        return (int(used.min()), int(used.max()) + 1) if used.size else (0, 0)

    def _overlaps(self, number: Float64Array) -> AxisWeights:
        begin = _snapped(self.first + self.step * number)
        end = _snapped(self.first + self.step * (number + 1))
        low, high = np.minimum(begin, end), np.maximum(begin, end)
        if self.sigma:
            return self._blurred(low, high)
        index = np.floor(low).astype(np.int64)
        k = int(np.max(np.ceil(high) - index, initial=1))
        pixel = index[:, None] + np.arange(k)
        length = np.minimum(high[:, None], pixel + 1) - np.maximum(low[:, None], pixel)
        found = self._inside(index, np.maximum(length, 0))
        return AxisWeights(index=index, weight=found.weight, full=high - low)

    def _blurred(self, low: Float64Array, high: Float64Array) -> AxisWeights:
        reach = 3 * self.sigma
        index = np.floor(low - reach).astype(np.int64)
        k = int(np.max(np.ceil(high + reach) - index, initial=1))
        edge = index[:, None] + np.arange(k + 1)
        edge = np.clip(edge, (low - reach)[:, None], (high + reach)[:, None])
        below = _smooth_step(edge - low[:, None], self.sigma)
        above = _smooth_step(edge - high[:, None], self.sigma)
        weight = np.maximum(np.diff(below - above, axis=1), 0)
        inside = self._inside(index, weight).weight
        return AxisWeights(index=index, weight=inside, full=weight.sum(axis=1))

    def _inside(self, index: IntArray, weight: Float64Array) -> AxisWeights:
        pixel = index[:, None] + np.arange(weight.shape[1])
        inside = (pixel >= 0) & (pixel < self.n_source)
        return AxisWeights(
            index=index, weight=np.where(inside, weight, 0.0), full=np.ones(index.size)
        )


def _smooth_step(distance: Float64Array, sigma: float) -> Float64Array:
    """Integral of the normal distribution function up to a distance; the ramp it smooths."""
    from scipy.special import ndtr

    z = distance / sigma
    return np.asarray(distance * ndtr(z) + sigma * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))


def _snapped(position: Float64Array) -> Float64Array:
    """Put positions that lie on a pixel edge but for rounding exactly on it."""
    nearest = np.round(position)
    return np.where(np.abs(position - nearest) < TOLERANCE, nearest, position)


def regrid_mean(
    source: FloatArray, y: AxisWeights, x: AxisWeights, *, min_valid: float
) -> tuple[FloatArray, FloatArray]:
    """Mean over valid source pixels, weighted by what each shares with the target pixel.

    Parameters
    ----------
    source : (..., y, x) float array
        Values [any unit]; non-finite ones are missing.
    y, x : AxisWeights
        With `index` counted from the first row and column of `source`.
    min_valid : float
        Least valid share of a target pixel [1]; below it the result is NaN.

    Returns
    -------
    mean : (..., y, x) float array
        In the dtype of `source`; NaN where too little is valid.
    fraction : (..., y, x) float32 array
        Valid share of each target pixel [1]; what lies outside the source is not valid.
    """
    images = stack_images(source)
    mean = np.empty((images.shape[0], y.index.size, x.index.size), images.dtype)
    fraction = np.empty(mean.shape, np.float32)
    _weighted_mean(
        images, y.index, y.weight, y.full, x.index, x.weight, x.full, min_valid, mean, fraction
    )
    shape = (*source.shape[:-2], *mean.shape[1:])
    return mean.reshape(shape), fraction.reshape(shape)


def regrid_bits(source: IntArray, y: AxisWeights, x: AxisWeights, *, outside: IntArray) -> IntArray:
    """Bit-wise OR of all source pixels that a target pixel shares any area with.

    With nearest weights this takes the one source pixel as it is, whatever the integers mean.

    Parameters
    ----------
    source : (..., y, x) integer array
        Flags.
    y, x : AxisWeights
        With `index` counted from the first row and column of `source`.
    outside : (n,) integer array
        Flags of what lies outside the source, one per image of `source`.
    """
    images = stack_images(source)
    bits = np.zeros((images.shape[0], y.index.size, x.index.size), images.dtype)
    _combine_bits(images, y.index, y.weight, y.full, x.index, x.weight, x.full, outside, bits)
    return bits.reshape(*source.shape[:-2], *bits.shape[1:])


def stack_images(source: AnyArray) -> AnyArray:
    """One contiguous array (n, y, x) of all images."""
    n_images = int(np.prod(source.shape[:-2]))
    return np.ascontiguousarray(source).reshape(n_images, *source.shape[-2:])


@njit(nogil=True, cache=True, error_model="numpy")
def _weighted_mean(  # type: ignore[no-untyped-def]
    source, y_index, y_weight, y_full, x_index, x_weight, x_full, min_valid, mean, fraction
):
    n_columns = source.shape[2]
    total = np.empty(n_columns, np.float64)
    valid = np.empty(n_columns, np.float64)
    for n in range(source.shape[0]):
        for j in range(y_index.size):
            total[:] = 0.0
            valid[:] = 0.0
            for a in range(y_weight.shape[1]):
                weight = y_weight[j, a]
                if weight > 0.0:
                    row = source[n, y_index[j] + a]
                    # Without branches, so that the compiler makes vectors of it.
                    for c in range(n_columns):
                        value = np.float64(row[c])
                        is_valid = abs(value) < np.inf
                        total[c] += weight * value if is_valid else 0.0
                        valid[c] += weight if is_valid else 0.0
            for i in range(x_index.size):
                numerator = 0.0
                denominator = 0.0
                for b in range(x_weight.shape[1]):
                    weight = x_weight[i, b]
                    if weight > 0.0:
                        numerator += weight * total[x_index[i] + b]
                        denominator += weight * valid[x_index[i] + b]
                share = denominator / (y_full[j] * x_full[i])
                fraction[n, j, i] = share
                if denominator > 0.0 and share >= min_valid - 1e-9:
                    mean[n, j, i] = numerator / denominator
                else:
                    mean[n, j, i] = np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _combine_bits(  # type: ignore[no-untyped-def]
    source, y_index, y_weight, y_full, x_index, x_weight, x_full, outside, bits
):
    for n in range(source.shape[0]):
        for j in range(y_index.size):
            for i in range(x_index.size):
                found = bits[n, j, i]
                share = 0.0
                for a in range(y_weight.shape[1]):
                    for b in range(x_weight.shape[1]):
                        weight = y_weight[j, a] * x_weight[i, b]
                        if weight > 0.0:
                            found |= source[n, y_index[j] + a, x_index[i] + b]
                            share += weight
                if share < y_full[j] * x_full[i] * (1.0 - 1e-9):
                    found |= outside[n]
                bits[n, j, i] = found


def judge(
    images: FloatArray,
    rows: tuple[IntArray, Float64Array],
    columns: tuple[IntArray, Float64Array],
    low: FloatArray,
    high: FloatArray,
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Look at the input pixels under each output pixel.

    Parameters
    ----------
    images : (band, y, x) float32 array
        Reflectance [1] of one date; what is not finite is missing.
    rows, columns : ((row,) int64 array, (row, k) float64 array)
        First input pixel under each output pixel, and the share of the output pixel that it and
        those after it cover [1]. Pixels outside the image count as not valid, and not as missing.
    low, high : (band,) float32 array
        Range of the training data [1].

    Returns
    -------
    share : (row, column) float32 array
        Valid share of each output pixel [1], of the band that has least.
    is_missing : (row, column) bool array
        Whether any input pixel that it shares an area with is missing, in any band.
    is_strange : (row, column) bool array
        Whether any valid one lies outside ``[low, high]``, in any band.
    """
    shape = (rows[0].size, columns[0].size)
    lowest, highest = images.min(axis=(1, 2)), images.max(axis=(1, 2))  # NaN where one is missing
    if np.isfinite(lowest).all() and np.isfinite(highest).all():
        inside = [_covered(axis, size) for axis, size in zip((rows, columns), images.shape[1:])]
        share = np.multiply.outer(*inside).astype(np.float32)
        nowhere = np.zeros(shape, np.bool_)
        if (lowest >= low).all() and (highest <= high).all():
            return share, nowhere, nowhere
    share = np.empty(shape, np.float32)
    is_missing, is_strange = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    _judge(images, *rows, *columns, low, high, share, is_missing, is_strange)
    return share, is_missing, is_strange


def _covered(axis: tuple[IntArray, Float64Array], size: int) -> Float64Array:
    """Share of each output pixel, along one axis, that lies on the image."""
    first, weight = axis
    pixel = first[:, None] + np.arange(weight.shape[1])
    total: Float64Array = np.where((pixel >= 0) & (pixel < size), weight, 0.0).sum(axis=1)
    return total


@njit(nogil=True, cache=True)
def _judge(  # type: ignore[no-untyped-def]
    images, first_row, row_share, first_column, column_share, low, high, share, missing, strange
):
    n_bands, height, width = images.shape
    # Rows are summed first: that loop runs along them, on whole registers.
    total = np.empty(width, np.float32)
    bits = np.empty(width, np.uint8)
    for j in range(share.shape[0]):
        share[j] = 2.0
        for b in range(n_bands):
            total[:] = 0.0
            bits[:] = 0
            for v in range(row_share.shape[1]):
                y = first_row[j] + v
                if 0 <= y < height and row_share[j, v] > 0:
                    weight = np.float32(row_share[j, v])
                    _add_row(images[b, y], weight, low[b], high[b], total, bits)
            for i in range(share.shape[1]):
                found = np.float32(0.0)
                seen = np.uint8(0)
                for u in range(column_share.shape[1]):
                    x = first_column[i] + u
                    if 0 <= x < width and column_share[i, u] > 0:
                        found += total[x] * np.float32(column_share[i, u])
                        seen |= bits[x]
                share[j, i] = min(share[j, i], found)
                missing[j, i] |= (seen & 1) > 0
                strange[j, i] |= (seen & 2) > 0


@njit(nogil=True, cache=True)
def _add_row(row, weight, low, high, total, bits):  # type: ignore[no-untyped-def]
    for x in range(row.size):
        value = row[x]
        is_valid = abs(value) < np.inf
        total[x] += weight if is_valid else np.float32(0.0)
        is_out = is_valid and (value < low or value > high)
        bits[x] |= np.uint8(0 if is_valid else 1) | np.uint8(2 if is_out else 0)


def spread(mask: BoolArray, radius: int) -> BoolArray:
    """Pixels within `radius` rows and columns of one that is set.

    Parameters
    ----------
    mask : (y, x) bool array
        Not changed.
    """
    for axis in (0, 1):
        mask = np.moveaxis(mask, axis, 0)
        size = np.arange(mask.shape[0])
        count = np.concatenate([np.zeros((1, mask.shape[1]), np.int64), np.cumsum(mask, axis=0)])
        after = count[np.minimum(size + radius + 1, size.size)]
        mask = np.moveaxis(after > count[np.maximum(size - radius, 0)], 0, axis)
    return mask
