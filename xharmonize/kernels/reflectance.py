"""Reflectance of digital numbers, straight lines, and spectral indices with their error.

Every index of this package is ``gain * sum(up * band) / (sum(down * band) + constant)`` over at
most four bands, so one kernel serves them all, in one pass over the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, Float64Array, FloatArray


def decode(
    dn: AnyArray, scale: Float64Array, offset: Float64Array, nodata: Float64Array
) -> FloatArray:
    """Turn digital numbers into physical values: ``dn * scale + offset``.

    Parameters
    ----------
    dn : (time, band, y, x) integer or float array
        Digital numbers [1]; may be read-only and strided. NaN, in a float array, is missing.
    scale, offset, nodata : (time, band) float64 array
        Reflectance per digital number; reflectance [1]; the digital number of a missing pixel,
        tested before scale and offset, NaN where there is none.

    Returns
    -------
    (time, band, y, x) float32 array
        Reflectance [1]; NaN where missing. Products and sums are formed in double precision.
    """
    return affine(dn, scale, offset, nodata=nodata)


def affine(
    values: AnyArray,
    slope: Float64Array,
    intercept: Float64Array,
    *,
    nodata: Float64Array | None = None,
) -> FloatArray:
    """Apply one straight line per (time, band): ``values * slope + intercept``.

    Decoding and a line collapse into one: with reflectance ``dn * scale + offset``, pass slope
    ``a * scale`` and intercept ``a * offset + b``.

    Parameters
    ----------
    values : (time, band, y, x) integer or float array
        Digital numbers or reflectance [1]; may be read-only and strided. NaN stays NaN.
    slope, intercept : (time, band) float64 array
        Result per value, and in the unit of the result; NaN gives NaN.
    nodata : (time, band) float64 array, optional
        Value of a missing pixel, tested before the line; NaN, or a number the dtype of `values`
        cannot hold, matches nothing.

    Returns
    -------
    (time, band, y, x) float32 array
        NaN where missing; contiguous.
    """
    values = _native(values)
    shape = values.shape[:2]
    slope, intercept = _table(slope, shape, "slope"), _table(intercept, shape, "intercept")
    missing = np.full(shape, np.nan) if nodata is None else _table(nodata, shape, "nodata")
    out = np.empty(values.shape, np.float32)
    if not out.size:
        return out
    if np.issubdtype(values.dtype, np.integer):
        code, has_code = _codes(missing, values.dtype)
        tables = (slope, intercept, code, has_code)
        _by_rows(_affine_int, values, tables, out)
    else:
        _by_rows(_affine_float, values, (slope, intercept, missing), out)
    return out


def _native(values: AnyArray) -> AnyArray:
    """Values in native byte order, floats in single or double precision: what numba compiles."""
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        return values.astype(np.float32 if values.dtype.itemsize < 4 else np.float64)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _by_rows(kernel: Any, values: AnyArray, tables: tuple[AnyArray, ...], out: FloatArray) -> None:
    """Run a kernel on long contiguous rows: the whole block, or plane by plane if it is strided.

    A strided plane is copied first: one plane stays in cache, and the loop runs on whole
    registers, which it cannot with strides.
    """
    if values.flags.c_contiguous:
        n_times, n_bands = values.shape[:2]
        kernel(values.reshape(n_times, n_bands, -1), *tables, out.reshape(n_times, n_bands, -1))
        return
    for t, b in np.ndindex(values.shape[:2]):
        plane = np.ascontiguousarray(values[t, b]).reshape(1, 1, -1)
        single = (table[t : t + 1, b : b + 1].copy() for table in tables)
        kernel(plane, *single, out[t, b].reshape(1, 1, -1))


def _table(table: Float64Array, shape: tuple[int, ...], name: str) -> Float64Array:
    table = np.asarray(table, np.float64)
    if table.shape != shape:
        raise ValueError(f"{name} has shape {table.shape}, the values have (time, band) {shape}")
    return np.ascontiguousarray(table)


def _codes(nodata: Float64Array, dtype: np.dtype[np.integer]) -> tuple[AnyArray, AnyArray]:
    """Nodata in the dtype of the digital numbers, and whether it can occur there at all."""
    info = np.iinfo(dtype)
    held = np.isfinite(nodata) & (nodata >= info.min) & (nodata <= info.max)
    held &= np.where(held, nodata, 0.0) % 1 == 0
    return np.where(held, nodata, 0.0).astype(dtype), held


@njit(nogil=True, cache=True)
def _affine_int(values, slope, intercept, code, has_code, out):  # type: ignore[no-untyped-def]
    nan = np.float32(math.nan)
    n_times, n_bands, n_pixels = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            a, c, missing = slope[t, b], intercept[t, b], code[t, b]
            if has_code[t, b]:
                for i in range(n_pixels):
                    v = values[t, b, i]
                    r = np.float32(np.float64(v) * a + c)
                    out[t, b, i] = nan if v == missing else r
            else:
                for i in range(n_pixels):
                    out[t, b, i] = np.float32(np.float64(values[t, b, i]) * a + c)


@njit(nogil=True, cache=True)
def _affine_float(values, slope, intercept, nodata, out):  # type: ignore[no-untyped-def]
    nan = np.float32(math.nan)
    n_times, n_bands, n_pixels = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            a, c, missing = slope[t, b], intercept[t, b], nodata[t, b]
            for i in range(n_pixels):
                v = np.float64(values[t, b, i])
                r = np.float32(v * a + c)
                # A NaN nodata equals nothing, and NaN values stay NaN by arithmetic.
                out[t, b, i] = nan if v == missing else r


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
