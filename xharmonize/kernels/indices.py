"""Spectral indices as ratios of two weighted sums of bands, with their first-order error.

Every index of this package is ``gain * sum(up * band) / (sum(down * band) + constant)`` over at
most four bands, so one kernel serves them all, in one pass over the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, FloatArray

MAX_BANDS = 4


@dataclass(frozen=True, kw_only=True)
class RatioTerms:
    """Coefficients of ``gain * sum(up * band) / (sum(down * band) + constant)``.

    Attributes
    ----------
    up, down : tuple of float
        One per band; bands in the same order.
    gain, constant : float
        Factor of the whole, and addend of the denominator [1].
    least_sum : float
        Denominator [1] below which the index is undefined.
    is_positive : bool
        Whether the index is undefined where a band is not above zero.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    gain: float = 1.0
    constant: float = 0.0
    least_sum: float = 0.01
    is_positive: bool = False


def ratio_index(bands: Sequence[FloatArray], terms: RatioTerms) -> FloatArray:
    """Compute an index.

    Parameters
    ----------
    bands : sequence of (...) float array
        Reflectance [1], all of one shape; NaN marks a missing pixel.
    terms : RatioTerms
        Coefficients, one per band.

    Returns
    -------
    (...) float32 array
        Index [1]; NaN where a band is missing or the index is undefined.
    """
    value = np.empty(bands[0].shape, np.float32)
    _ratio(*_padded(bands), *_numbers(terms), value.reshape(-1))
    return value


def ratio_undefined(bands: Sequence[FloatArray], terms: RatioTerms) -> AnyArray:
    """Tell where all bands are there but the index is undefined.

    Returns
    -------
    (...) bool array
    """
    found = np.empty(bands[0].shape, np.bool_)
    _, down, _, constant, least_sum, is_positive = _numbers(terms)
    _undefined(*_padded(bands), down, constant, least_sum, is_positive, found.reshape(-1))
    return found


def ratio_uncertainty(
    bands: Sequence[FloatArray], errors: Sequence[FloatArray], terms: RatioTerms
) -> FloatArray:
    """Propagate the bands' standard deviations to first order, bands taken as independent.

    Parameters
    ----------
    bands, errors : sequence of (...) float array
        Reflectance and its standard deviation [1].

    Returns
    -------
    (...) float32 array
        Standard deviation of the index [1]; NaN where the index or an error is missing.
    """
    value = np.empty(bands[0].shape, np.float32)
    _uncertainty(*_padded(bands), *_padded(errors), *_numbers(terms), value.reshape(-1))
    return value


def _padded(bands: Sequence[FloatArray]) -> list[AnyArray]:
    """Four flat arrays; the first band fills the places of absent ones, with weight zero."""
    flat = [np.ascontiguousarray(band).reshape(-1) for band in bands]
    return flat + [flat[0]] * (MAX_BANDS - len(flat))


def _numbers(terms: RatioTerms) -> tuple[AnyArray, AnyArray, float, float, float, bool]:
    fill = (0.0,) * (MAX_BANDS - len(terms.up))
    return (
        np.array(terms.up + fill),
        np.array(terms.down + fill),
        terms.gain,
        terms.constant,
        terms.least_sum,
        terms.is_positive,
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _ratio(a, b, c, d, up, down, gain, constant, least_sum, is_positive, value):  # type: ignore[no-untyped-def]
    u0, u1, u2, u3 = up
    v0, v1, v2, v3 = down
    lowest = 0.0 if is_positive else -np.inf
    for i in range(value.size):
        p, q, r, s = np.float64(a[i]), np.float64(b[i]), np.float64(c[i]), np.float64(d[i])
        total = v0 * p + v1 * q + v2 * r + v3 * s + constant
        # Without branches, so that the compiler makes vectors of it.
        is_defined = (total >= least_sum) & (min(min(p, q), min(r, s)) > lowest)
        index = gain * (u0 * p + u1 * q + u2 * r + u3 * s) / total
        value[i] = index if is_defined else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _undefined(a, b, c, d, down, constant, least_sum, is_positive, found):  # type: ignore[no-untyped-def]
    v0, v1, v2, v3 = down
    for i in range(found.size):
        p, q, r, s = np.float64(a[i]), np.float64(b[i]), np.float64(c[i]), np.float64(d[i])
        total = v0 * p + v1 * q + v2 * r + v3 * s + constant
        is_low = total < least_sum
        if is_positive:
            is_low = is_low or p <= 0.0 or q <= 0.0 or r <= 0.0 or s <= 0.0
        found[i] = is_low and abs(p + q + r + s) < np.inf


@njit(nogil=True, cache=True, error_model="numpy")
def _uncertainty(  # type: ignore[no-untyped-def]
    a, b, c, d, ea, eb, ec, ed, up, down, gain, constant, least_sum, is_positive, value
):
    u0, u1, u2, u3 = up
    v0, v1, v2, v3 = down
    for i in range(value.size):
        p, q, r, s = np.float64(a[i]), np.float64(b[i]), np.float64(c[i]), np.float64(d[i])
        total = v0 * p + v1 * q + v2 * r + v3 * s + constant
        is_defined = total >= least_sum
        if is_positive:
            is_defined = is_defined and p > 0.0 and q > 0.0 and r > 0.0 and s > 0.0
        if not is_defined:
            value[i] = np.nan
            continue
        index = gain * (u0 * p + u1 * q + u2 * r + u3 * s) / total
        variance = ((gain * u0 - index * v0) * ea[i]) ** 2
        variance += ((gain * u1 - index * v1) * eb[i]) ** 2
        variance += ((gain * u2 - index * v2) * ec[i]) ** 2
        variance += ((gain * u3 - index * v3) * ed[i]) ** 2
        value[i] = np.sqrt(variance) / total
