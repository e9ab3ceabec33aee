"""Angles as unit vectors: what is averaged and interpolated, since azimuths wrap round.

Directions across a swath also pass through nadir, where the azimuth jumps and the zenith has a
kink; the vector does neither.
"""

from __future__ import annotations

import numpy as np

from xharmonize.types import AnyArray, Float64Array

_SMALLEST_SUN = 1.58
"""Sun zeniths [degree] all below this are radians: no mission passes with the sun overhead."""


def unit_vectors(zenith: AnyArray, azimuth: AnyArray) -> Float64Array:
    """Return unit vectors (3, …): east, north, up.

    Parameters
    ----------
    zenith, azimuth : (...) array
        [degree], azimuth clockwise from north; NaN in one is NaN in all. At zenith 0 the azimuth
        does not matter, and may be NaN.
    """
    theta, phi = np.radians(zenith, dtype=np.float64), np.radians(azimuth, dtype=np.float64)
    phi = np.where(theta == 0, 0.0, phi)
    across = np.sin(theta)
    up = np.where(np.isnan(phi), np.nan, np.cos(theta))
    return np.stack([across * np.sin(phi), across * np.cos(phi), up])


def mean_direction(vectors: Float64Array) -> Float64Array:
    """Return the mean (3, …) of unit vectors (n, 3, …), of unit length; NaN ones do not count."""
    total = np.nansum(vectors, axis=0)
    length = np.linalg.norm(total, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / np.where(length > 0, length, np.nan))


def require_degrees(zenith: AnyArray, azimuth: AnyArray, name: str, *, is_sun: bool) -> None:
    """Raise `ValueError` unless angles can be degrees; NaN are passed over.

    Parameters
    ----------
    zenith, azimuth : array
        [degree]
    name : str
        Whose they are, for the message.
    is_sun : bool
        Whether zeniths near 0 show radians.
    """
    for kind, values, low, high in (("zenith", zenith, 0, 180), ("azimuth", azimuth, -360, 360)):
        known = np.asarray(values)[np.isfinite(values)]
        if known.size and not low <= known.min() <= known.max() <= high:
            raise ValueError(
                f"{name} has {kind}s of {known.min():g} to {known.max():g}, no degrees: are they "
                "encoded, or fill?"
            )
        if is_sun and kind == "zenith" and known.size and known.max() < _SMALLEST_SUN:
            raise ValueError(
                f"{name} has zeniths of at most {known.max():.3g}: these are radians, not degrees"
            )
