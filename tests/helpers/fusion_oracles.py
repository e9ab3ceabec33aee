"""Straightforward numpy computations that kernels of fusion are compared with, in double precision.

They are written from the papers, pixel by pixel, and share nothing with the kernels.
"""

from __future__ import annotations

import numpy as np

FLOOR = 1e-4


def starfm_pixel(coarse, fine, partner, spread, y, x, *, window=31, m=4, factor=25.0, unc=0.005):
    """Gao et al. 2006, equations 1 to 16, for one pixel of one band; (pair, y, x) images."""
    r = window // 2
    rows = slice(max(0, y - r), y + r + 1)
    columns = slice(max(0, x - r), x + r + 1)
    j, i = np.mgrid[: coarse.shape[0], : coarse.shape[1]][:, rows, columns]
    distance = 1 + np.sqrt((j - y) ** 2 + (i - x) ** 2) / factor
    c = coarse[rows, columns].astype(float)
    spectral_at = [abs(float(f[y, x]) - p[y, x]) for f, p in zip(fine, partner)]
    temporal_at = [abs(float(p[y, x]) - coarse[y, x]) for p in partner]
    there = [np.isfinite(s + t) for s, t in zip(spectral_at, temporal_at)]
    if not any(there):
        return np.nan
    most = max(s for s, ok in zip(spectral_at, there) if ok) + np.sqrt(2) * unc
    longest = max(t for t, ok in zip(temporal_at, there) if ok) + np.sqrt(2) * unc
    above = below = 0.0
    for k, (f, p) in enumerate(zip(fine, partner)):
        if not there[k]:
            continue
        f, own, p = f[rows, columns].astype(float), float(f[y, x]), p[rows, columns].astype(float)
        s, t = abs(f - p), abs(p - c)
        ok = (abs(f - own) <= 2 * spread[k] / m) & (s <= most) & (t <= longest)
        weight = 1 / ((s + FLOOR) * (t + FLOOR) * distance)
        above += (weight * (c + f - p))[ok].sum()
        below += weight[ok].sum()
    return above / below


def starfm_image(coarse, fine, partner, spread, *, window=31, m=4, factor=25.0, unc=0.005):
    """The same for whole images (band, y, x) and (pair, band, y, x): one offset after the other."""
    r = window // 2
    ends = ((0, 0), (r, r), (r, r))
    height, width = coarse.shape[1:]
    c = np.pad(coarse.astype(float), ends, constant_values=np.nan)
    above, below = np.zeros(coarse.shape), np.zeros(coarse.shape)
    with np.errstate(invalid="ignore"):
        spectral = np.fmax.reduce(np.where(np.isfinite(coarse), abs(fine - partner), np.nan))
        temporal = np.fmax.reduce(np.where(np.isfinite(fine), abs(partner - coarse), np.nan))
    for f, p, sigma in zip(fine, partner, spread):
        f_wide, p_wide = (np.pad(one.astype(float), ends, constant_values=np.nan) for one in (f, p))
        served = np.isfinite(f + p + coarse)
        for dy in range(window):
            for dx in range(window):
                here = (slice(None), slice(dy, dy + height), slice(dx, dx + width))
                f_near, p_near, c_near = f_wide[here], p_wide[here], c[here]
                s, t = abs(f_near - p_near), abs(p_near - c_near)
                with np.errstate(invalid="ignore"):
                    ok = (abs(f_near - f) <= 2 * sigma[:, None, None] / m) & served
                    ok &= (s <= spectral + np.sqrt(2) * unc) & (t <= temporal + np.sqrt(2) * unc)
                near = 1 / (1 + np.hypot(dy - r, dx - r) / factor)
                weight = np.where(ok, near / ((s + FLOOR) * (t + FLOOR)), 0)
                above += np.where(ok, weight * (c_near + f_near - p_near), 0)
                below += weight
    with np.errstate(invalid="ignore"):
        return above / below


def krige_pixel(residual, support, length, y, x, *, radius=2):
    """Ordinary kriging of one fine pixel from the coarse pixels around, from first principles.

    Parameters
    ----------
    residual : (y, x) array
        NaN where missing.
    support : callable
        ``support(row, column)`` returns rows, columns, weights of fine pixels under a coarse one.
    y, x : int
        Fine pixel.
    """
    centres = {}
    for row in range(residual.shape[0]):
        for column in range(residual.shape[1]):
            rows, columns, weights = support(row, column)
            centres[row, column] = (weights @ rows, weights @ columns)

    def nearest(axis, place):
        spots = {key[axis]: centre[axis] for key, centre in centres.items()}
        # The later of two at the same distance begins with this pixel.
        return min(spots, key=lambda n: (round(abs(spots[n] - place), 6), -n))

    middle = (nearest(0, y), nearest(1, x))
    near = [
        (row, column)
        for row in range(middle[0] - radius, middle[0] + radius + 1)
        for column in range(middle[1] - radius, middle[1] + radius + 1)
        if 0 <= row < residual.shape[0]
        and 0 <= column < residual.shape[1]
        and np.isfinite(residual[row, column])
    ]
    if middle not in near:
        return np.nan
    n = len(near)
    left, right = np.ones((n + 1, n + 1)), np.ones(n + 1)
    left[n, n] = 0
    for a, one in enumerate(near):
        rows, columns, weights = support(*one)
        right[a] = weights @ np.exp(-np.hypot(rows - y, columns - x) / length)
        for b, other in enumerate(near):
            rows_b, columns_b, weights_b = support(*other)
            apart = np.hypot(rows[:, None] - rows_b, columns[:, None] - columns_b)
            left[a, b] = weights @ np.exp(-apart / length) @ weights_b
    weights = np.linalg.solve(left, right)[:n]
    return float(sum(w * residual[one] for w, one in zip(weights, near)))


def lag_semivariance(residual, dy, dx):
    """Half the mean squared difference of valid pixels (y, x) that are dy and dx apart; count."""
    squares = [
        (residual[j, i] - residual[j + dy, i + dx]) ** 2
        for j in range(residual.shape[0] - dy)
        for i in range(max(0, -dx), residual.shape[1] - max(0, dx))
        if np.isfinite(residual[j, i] + residual[j + dy, i + dx])
    ]
    return 0.5 * np.mean(squares) if squares else np.nan, len(squares)


def goovaerts(lags, found, weight, regularise, length, sill, steps=30):
    """Deconvolution by iteration (Goovaerts 2008, section 3): best length, sill and their misfit.

    Parameters
    ----------
    lags : (n,) array
        Distances [fine pixel].
    found, weight : (n,) array
        Semivariance of the coarse pixels, and weights of misfits.
    regularise : callable
        ``regularise(length)`` returns the model (n,) of coarse pixels at a sill of 1.
    length, sill : float
        Of a model fitted to the coarse pixels as if they were points, to begin with.
    """
    from scipy.optimize import least_squares

    def misfit(length, sill):
        return float((weight * (found / (sill * regularise(length)) - 1) ** 2).sum())

    best = (length, sill, misfit(length, sill))
    first_sill = sill
    for step in range(1, steps):
        change = (found - best[1] * regularise(best[0])) / (first_sill * np.sqrt(step))
        wanted = best[1] * (1 - np.exp(-lags / best[0])) * (1 + change)

        def error(logs, wanted=wanted):
            model = np.exp(logs[1]) * (1 - np.exp(-lags / np.exp(logs[0])))
            return np.sqrt(weight) * (wanted / model - 1)

        logs = least_squares(error, np.log(best[:2])).x
        tried = misfit(*np.exp(logs))
        if tried < best[2]:
            best = (*np.exp(logs), tried)
    return best
