"""Spectral angles between two images, summed."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray, IntArray

ANGLE_SUMS = ("n", "sum_angle")
"""Count of pixels and sum of spectral angles [rad]."""

_STRIP = 512  # pixels whose angles are found together; the work arrays stay in the first cache

# atan(z) / z as a polynomial in z², z up to tan(pi / 8): interpolation at Chebyshev nodes, error
# below 2e-16.
_ATAN = (
    1.0,
    -0.33333333333329157,
    0.1999999999911208,
    -0.1428571420777029,
    0.11111107497870452,
    -0.09090809690204726,
    0.07690580681678623,
    -0.0664711247583079,
    0.05736848139736085,
    -0.045608774214060045,
    0.026427134253238102,
    -0.005695171406740659,
)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _angles(pred, ref, start, stop, work, angle):  # type: ignore[no-untyped-def]
    """Angles [rad] of a strip of pixels; NaN where a band is missing or a vector is zero.

    Kahan's form, 2 atan(|a/|a| - b/|b|| / |a/|a| + b/|b||), is right for small angles too, where
    the arc cosine loses half the digits.
    """
    size = stop - start
    norm_pred, norm_ref, apart, along = work[0], work[1], work[2], work[3]
    work[:] = 0.0
    for b in range(pred.shape[0]):
        first = np.ascontiguousarray(pred[b][start:stop])
        second = np.ascontiguousarray(ref[b][start:stop])
        for i in range(size):
            x, y = np.float64(first[i]), np.float64(second[i])
            norm_pred[i] += x * x
            norm_ref[i] += y * y
    for i in range(size):
        norm_pred[i], norm_ref[i] = np.sqrt(norm_pred[i]), np.sqrt(norm_ref[i])
    for b in range(pred.shape[0]):
        first = np.ascontiguousarray(pred[b][start:stop])
        second = np.ascontiguousarray(ref[b][start:stop])
        for i in range(size):
            x, y = np.float64(first[i]) * norm_ref[i], np.float64(second[i]) * norm_pred[i]
            apart[i] += (x - y) * (x - y)
            along[i] += (x + y) * (x + y)
    _half_angles(norm_pred, norm_ref, apart, along, angle)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _half_angles(norm_pred, norm_ref, apart, along, angle):  # type: ignore[no-untyped-def]
    """Twice the arc tangent of sqrt(apart / along), by a polynomial on a reduced argument."""
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11 = _ATAN
    for i in range(angle.size):
        is_obtuse = apart[i] > along[i]
        low, high = min(apart[i], along[i]), max(apart[i], along[i])
        ratio = np.sqrt(low / high)
        is_steep = ratio > 0.4142135623730951
        z = (ratio - 1.0) / (ratio + 1.0) if is_steep else ratio
        u = z * z
        p = a6 + u * (a7 + u * (a8 + u * (a9 + u * (a10 + u * a11))))
        p = a0 + u * (a1 + u * (a2 + u * (a3 + u * (a4 + u * (a5 + u * p)))))
        half = z * p + (0.25 * np.pi if is_steep else 0.0)
        half = 0.5 * np.pi - half if is_obtuse else half
        norm = norm_pred[i] * norm_ref[i]
        angle[i] = 2.0 * half if (norm > 0.0) & (norm < np.inf) else np.nan


@njit(nogil=True, cache=True)
def spectral_angles(
    pred: FloatArray, ref: FloatArray, codes: IntArray, n_groups: int
) -> Float64Array:
    """Sum the spectral angles of pixels.

    A pixel counts where all bands are finite in both and neither vector is zero.

    Parameters
    ----------
    pred, ref : (row, band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (row or 1, pixel) int array
        Group of each pixel, from 0; a negative one belongs to none. (1, 1) puts all in group 0.
    n_groups : int
        Number of groups.

    Returns
    -------
    (row, group, 2) float64 array
        Count of pixels and sum of angles [rad].

    References
    ----------
    Kahan, W. (2006). How futile are mindless assessments of roundoff in floating-point
    computation? Section 12.
    """
    n_rows, _, n_pixels = pred.shape
    total = np.zeros((n_rows, n_groups, 2))
    work, angle = np.zeros((4, _STRIP)), np.zeros(_STRIP)
    is_single = codes.shape[1] == 1 and n_pixels != 1
    for r in range(n_rows):
        code = codes[r % codes.shape[0]]
        for start in range(0, n_pixels, _STRIP):
            stop = min(start + _STRIP, n_pixels)
            _angles(pred[r], ref[r], start, stop, work, angle)
            for i in range(stop - start):
                g = code[0] if is_single else code[start + i]
                if g >= 0 and angle[i] == angle[i]:
                    total[r, g, 0] += 1.0
                    total[r, g, 1] += angle[i]
    return total
