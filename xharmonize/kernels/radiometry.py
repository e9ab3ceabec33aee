"""Digital numbers to reflectance, and straight lines per (time, band), in one pass."""

from __future__ import annotations

import math

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
    shape = values.shape[:2]
    slope, intercept = _table(slope, shape, "slope"), _table(intercept, shape, "intercept")
    missing = np.full(shape, np.nan) if nodata is None else _table(nodata, shape, "nodata")
    flat = _rows(values)
    out = np.empty(flat.shape, np.float32)
    if np.issubdtype(values.dtype, np.integer):
        code, has_code = _codes(missing, values.dtype)
        _affine_int(flat, slope, intercept, code, has_code, out)
    else:
        _affine_float(flat, slope, intercept, missing, out)
    return out.reshape(values.shape)


def _table(table: Float64Array, shape: tuple[int, ...], name: str) -> Float64Array:
    table = np.asarray(table, np.float64)
    if table.shape != shape:
        raise ValueError(f"{name} has shape {table.shape}, the values have (time, band) {shape}")
    return np.ascontiguousarray(table)


def _rows(values: AnyArray) -> AnyArray:
    """View as (time, band, 1, y * x) where the rows are contiguous: one long inner loop."""
    if values.flags.c_contiguous:
        return values.reshape(*values.shape[:2], 1, values.shape[2] * values.shape[3])
    return values


def _codes(nodata: Float64Array, dtype: np.dtype[np.integer]) -> tuple[AnyArray, AnyArray]:
    """Nodata in the dtype of the digital numbers, and whether it can occur there at all."""
    info = np.iinfo(dtype)
    held = np.isfinite(nodata) & (nodata >= info.min) & (nodata <= info.max)
    held &= np.where(held, nodata, 0.0) % 1 == 0
    return np.where(held, nodata, 0.0).astype(dtype), held


@njit(nogil=True, cache=True)
def _affine_int(values, slope, intercept, code, has_code, out):  # type: ignore[no-untyped-def]
    nan = np.float32(math.nan)
    n_times, n_bands, n_rows, n_columns = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            a, c, missing = slope[t, b], intercept[t, b], code[t, b]
            if has_code[t, b]:
                for i in range(n_rows):
                    for j in range(n_columns):
                        v = values[t, b, i, j]
                        r = np.float32(np.float64(v) * a + c)
                        out[t, b, i, j] = nan if v == missing else r
            else:
                for i in range(n_rows):
                    for j in range(n_columns):
                        out[t, b, i, j] = np.float32(np.float64(values[t, b, i, j]) * a + c)


@njit(nogil=True, cache=True)
def _affine_float(values, slope, intercept, nodata, out):  # type: ignore[no-untyped-def]
    nan = np.float32(math.nan)
    n_times, n_bands, n_rows, n_columns = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            a, c, missing = slope[t, b], intercept[t, b], nodata[t, b]
            for i in range(n_rows):
                for j in range(n_columns):
                    v = np.float64(values[t, b, i, j])
                    r = np.float32(v * a + c)
                    # A NaN nodata equals nothing, and NaN values stay NaN by arithmetic.
                    out[t, b, i, j] = nan if v == missing else r
