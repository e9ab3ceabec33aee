"""Bidirectional reflectance: RossThick and LiSparse-R kernels, c-factor, directions.

Angles are in degrees at the interface. Relative azimuth 0 is backscatter: sensor and sun stand on
the same side of the pixel.

Directions across a swath also pass through nadir, where the azimuth jumps and the zenith has a
kink; the vector does neither.
"""

from __future__ import annotations

from math import acos, asin, atan2, cos, floor, hypot, isfinite, nan, pi, radians, sin, sqrt, tan

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, Float64Array, FloatArray

HEIGHT_OVER_RADIUS = 2.0
"""h/b of LiSparse-R: height of crown centres over the vertical crown radius (b/r is 1)."""

_J2000 = 10957.5  # days from 1970-01-01T00 to 2000-01-01T12 UTC
_EARTH_OVER_ASTRONOMICAL_UNIT = 6371.01 / 149597890.0


@njit(nogil=True, cache=True)
def ross_thick(sun_zenith: float, view_zenith: float, relative_azimuth: float) -> float:
    """Volume scattering kernel of a dense leaf canopy (RossThick).

    Parameters
    ----------
    sun_zenith, view_zenith, relative_azimuth : float
        [degree]

    Returns
    -------
    float
        Kernel value [1].

    References
    ----------
    Roy et al. (2016). Remote Sensing of Environment 176. doi:10.1016/j.rse.2016.01.023
    """
    sun, view, azimuth = radians(sun_zenith), radians(view_zenith), radians(relative_azimuth)
    cos_phase = cos(sun) * cos(view) + sin(sun) * sin(view) * cos(azimuth)
    cos_phase = min(1.0, max(-1.0, cos_phase))
    phase = acos(cos_phase)
    return ((pi / 2 - phase) * cos_phase + sin(phase)) / (cos(sun) + cos(view)) - pi / 4


@njit(nogil=True, cache=True)
def li_sparse_r(sun_zenith: float, view_zenith: float, relative_azimuth: float) -> float:
    """Geometric kernel of sparse, casting crowns, reciprocal (LiSparse-R), h/b = 2 and b/r = 1.

    Parameters
    ----------
    sun_zenith, view_zenith, relative_azimuth : float
        [degree]

    Returns
    -------
    float
        Kernel value [1].

    References
    ----------
    Roy et al. (2016). Remote Sensing of Environment 176. doi:10.1016/j.rse.2016.01.023
    """
    sun, view, azimuth = radians(sun_zenith), radians(view_zenith), radians(relative_azimuth)
    tan_sun, tan_view = tan(sun), tan(view)
    secants = 1 / cos(sun) + 1 / cos(view)
    distance = tan_sun**2 + tan_view**2 - 2 * tan_sun * tan_view * cos(azimuth)
    across = (tan_sun * tan_view * sin(azimuth)) ** 2
    cos_t = HEIGHT_OVER_RADIUS * sqrt(max(distance + across, 0.0)) / secants
    t = acos(min(1.0, max(-1.0, cos_t)))
    overlap = (t - sin(t) * cos(t)) * secants / pi
    cos_phase = cos(sun) * cos(view) + sin(sun) * sin(view) * cos(azimuth)
    return overlap - secants + (1 + cos_phase) / (2 * cos(sun) * cos(view))


@njit(nogil=True, cache=True)
def normalize_view(
    values: FloatArray,
    sun_zenith: FloatArray,
    sun_azimuth: FloatArray,
    view_zenith: FloatArray,
    view_azimuth: FloatArray,
    target_sun_zenith: FloatArray,
    coefficients: Float64Array,
) -> FloatArray:
    """Multiply reflectance by the c-factor: BRDF seen from nadir over BRDF as observed.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Surface reflectance [1]; NaN marks a missing pixel and stays NaN.
    sun_zenith, sun_azimuth, target_sun_zenith : (time, y, x) float array
        [degree]; y and x may have length 1 (one value per date). NaN, and 90 or more, give NaN.
    view_zenith, view_azimuth : (time, view, y, x) float array
        [degree], the same; one view of all bands, or one per band.
    coefficients : (band, 3) float64 array
        Isotropic, volume and geometric weight per band.

    Returns
    -------
    (time, band, y, x) float32 array
        Nadir BRDF-adjusted reflectance [1].
    """
    n_times, n_bands, n_y, n_x = values.shape
    n_views = view_zenith.shape[1]
    result = np.empty((n_times, n_bands, n_y, n_x), np.float32)
    last, last_nadir = (nan, nan, nan), nan  # neighbours often share their angles
    volume, geometry, volume_nadir, geometry_nadir = nan, nan, nan, nan
    for t in range(n_times):
        for j in range(n_y):
            for i in range(n_x):
                sun, sun_side = _at(sun_zenith, t, j, i), _at(sun_azimuth, t, j, i)
                nadir_sun = _at(target_sun_zenith, t, j, i)
                if nadir_sun != last_nadir:
                    last_nadir = nadir_sun
                    volume_nadir = ross_thick(nadir_sun, 0.0, 0.0)
                    geometry_nadir = li_sparse_r(nadir_sun, 0.0, 0.0)
                for b in range(n_bands):
                    v = min(b, n_views - 1)
                    view = _at(view_zenith[:, v], t, j, i)
                    azimuth = _at(view_azimuth[:, v], t, j, i) - sun_side
                    if not (nadir_sun < 90 and sun < 90 and view < 90 and isfinite(azimuth)):
                        result[t, b, j, i] = nan
                        continue
                    if (sun, view, azimuth) != last:
                        last = (sun, view, azimuth)
                        volume = ross_thick(sun, view, azimuth)
                        geometry = li_sparse_r(sun, view, azimuth)
                    iso, vol, geo = coefficients[b]
                    nadir = iso + vol * volume_nadir + geo * geometry_nadir
                    observed = iso + vol * volume + geo * geometry
                    result[t, b, j, i] = values[t, b, j, i] * (nadir / observed)
    return result


@njit(nogil=True, cache=True)
def _at(angle: FloatArray, t: int, j: int, i: int) -> float:
    """Value of a (time, y, x) array whose y and x may have length 1."""
    return np.float64(angle[t, min(j, angle.shape[1] - 1), min(i, angle.shape[2] - 1)])


@njit(nogil=True, cache=True)
def sun_zenith_at(day: float, latitude: float, longitude: float) -> float:
    """Solar zenith angle at a place and time (PSA algorithm, good to 0.01 degree in 1999-2015).

    Parameters
    ----------
    day : float
        Days since 1970-01-01T00:00 UTC, with fraction.
    latitude, longitude : float
        [degree], north and east positive.

    Returns
    -------
    float
        Zenith angle with parallax [degree].

    References
    ----------
    Blanco-Muriel et al. (2001). Computing the solar vector. Solar Energy 70.
    doi:10.1016/S0038-092X(00)00156-0
    """
    elapsed = day - _J2000
    hours = 24 * (day - floor(day))
    omega = 2.1429 - 0.0010394594 * elapsed
    anomaly = 6.2400600 + 0.0172019699 * elapsed
    longitude_sun = (
        4.8950630
        + 0.017202791698 * elapsed
        + 0.03341607 * sin(anomaly)
        + 0.00034894 * sin(2 * anomaly)
        - 0.0001134
        - 0.0000203 * sin(omega)
    )
    obliquity = 0.4090928 - 6.2140e-9 * elapsed + 0.0000396 * cos(omega)
    ascension = atan2(cos(obliquity) * sin(longitude_sun), cos(longitude_sun))
    declination = asin(sin(obliquity) * sin(longitude_sun))
    sidereal = 6.6974243242 + 0.0657098283 * elapsed + hours
    hour_angle = radians(15 * sidereal + longitude) - ascension
    lat = radians(latitude)
    cosine = cos(lat) * cos(hour_angle) * cos(declination) + sin(declination) * sin(lat)
    zenith = acos(min(1.0, max(-1.0, cosine)))
    return (zenith + _EARTH_OVER_ASTRONOMICAL_UNIT * sin(zenith)) * 180 / pi


@njit(nogil=True, cache=True)
def overpass_hour(latitude: float, inclination: float, node_hour: float) -> float:
    """Local mean solar time at which a sun-synchronous orbit passes a latitude, descending.

    Parameters
    ----------
    latitude, inclination : float
        [degree]
    node_hour : float
        Local mean solar time at the descending node [hour].

    Returns
    -------
    float
        [hour]; NaN at latitudes the orbit's nadir does not reach.

    References
    ----------
    Li et al. (2019), eq. 4. IEEE TGRS 57. doi:10.1109/TGRS.2018.2885967
    """
    sine = tan(radians(latitude)) / tan(radians(inclination))
    if abs(sine) > 1:
        return nan
    return node_hour - asin(sine) * 180 / pi / 15


@njit(nogil=True, cache=True)
def mean_overpass_sun_zenith(
    days: Float64Array,
    latitude: Float64Array,
    longitude: Float64Array,
    orbits: Float64Array,
) -> Float64Array:
    """Solar zenith at the modelled overpass, averaged over orbits, for each date and pixel.

    Parameters
    ----------
    days : (time,) float64 array
        Days since 1970-01-01T00:00 UTC of the observations; only the date in UTC counts, as in
        HLS.
    latitude, longitude : (y, x) float64 array
        [degree]
    orbits : (orbit, 2) float64 array
        Inclination [degree] and local mean solar time at the descending node [hour].

    Returns
    -------
    (time, y, x) float64 array
        [degree]; NaN at latitudes an orbit's nadir does not reach.
    """
    n_y, n_x = latitude.shape
    result = np.empty((days.size, n_y, n_x))
    for t in range(days.size):
        for j in range(n_y):
            for i in range(n_x):
                lat, lon = latitude[j, i], longitude[j, i]
                # HLS takes the date in UTC for the local one: east of 150° it is a day behind.
                local_midnight = floor(days[t]) - lon / 360
                total = 0.0
                for k in range(orbits.shape[0]):
                    hour = overpass_hour(lat, orbits[k, 0], orbits[k, 1])
                    total += sun_zenith_at(local_midnight + hour / 24, lat, lon)
                result[t, j, i] = total / orbits.shape[0]
    return result


@njit(nogil=True, cache=True)
def interpolate_nodes(nodes: Float64Array, y: Float64Array, x: Float64Array) -> Float64Array:
    """Interpolate a field given at nodes to pixels, bilinearly.

    Parameters
    ----------
    nodes : (time, node_y, node_x) float64 array
        Field at nodes one step apart, at least two each way.
    y, x : (y,), (x,) float64 array
        Positions of the pixels [step], from the first node.

    Returns
    -------
    (time, y, x) float64 array
        In the unit of `nodes`; NaN where one of the four nodes around a pixel is NaN.
    """
    result = np.empty((nodes.shape[0], y.size, x.size))
    for t in range(nodes.shape[0]):
        for j in range(y.size):
            row = min(int(y[j]), nodes.shape[1] - 2)
            v = y[j] - row
            for i in range(x.size):
                column = min(int(x[i]), nodes.shape[2] - 2)
                u = x[i] - column
                upper = nodes[t, row, column] * (1 - u) + nodes[t, row, column + 1] * u
                lower = nodes[t, row + 1, column] * (1 - u) + nodes[t, row + 1, column + 1] * u
                result[t, j, i] = upper * (1 - v) + lower * v
    return result


_EDGE = 1e-6  # [node] by which a position may lie off a node, or beyond the last one


@njit(nogil=True, cache=True)
def interpolate_directions(
    vectors: FloatArray, row: Float64Array, column: Float64Array, margin: float
) -> FloatArray:
    """Interpolate directions bilinearly, each pixel by its own place only.

    Parameters
    ----------
    vectors : (layer, 3, node_row, node_column) float array
        Unit vectors (east, north, up); NaN where a node has no direction. The others around a
        pixel are then weighted up, so that a field ends half a node beyond its last one, and not
        half a node before it.
    row, column : (y, x) float64 array
        Positions of the pixels [node], from the first node; NaN lies outside.
    margin : float
        Distance [node] beyond the outermost nodes up to which their directions are held; half a
        node where nodes are pixels.

    Returns
    -------
    (2, layer, y, x) float32 array
        Zenith, and azimuth clockwise from north in [0, 360) [degree]; NaN outside the nodes.
    """
    n_layers, n_rows, n_columns = vectors.shape[0], vectors.shape[2], vectors.shape[3]
    n_y, n_x = row.shape
    result = np.empty((2, n_layers, n_y, n_x), np.float32)
    beyond = margin + _EDGE
    for j in range(n_y):
        for i in range(n_x):
            r, c = row[j, i], column[j, i]
            inside = -beyond <= r <= n_rows - 1 + beyond
            if not (inside and -beyond <= c <= n_columns - 1 + beyond):
                result[:, :, j, i] = nan
                continue
            top, down = _cell(r, n_rows)
            left, right = _cell(c, n_columns)
            for k in range(n_layers):
                east, north, up = 0.0, 0.0, 0.0
                for a in range(2):
                    for b in range(2):
                        weight = (down if a else 1 - down) * (right if b else 1 - right)
                        if weight == 0:
                            continue
                        y, x = top + a, left + b
                        if vectors[k, 2, y, x] == vectors[k, 2, y, x]:
                            east += weight * vectors[k, 0, y, x]
                            north += weight * vectors[k, 1, y, x]
                            up += weight * vectors[k, 2, y, x]
                across = hypot(east, north)
                if across == 0 and up == 0:
                    result[:, k, j, i] = nan
                    continue
                azimuth = np.float32(atan2(east, north) * 180 / pi % 360)
                result[0, k, j, i] = atan2(across, up) * 180 / pi
                result[1, k, j, i] = 0 if azimuth == 360 else azimuth  # rounded up to it
    return result


@njit(nogil=True, cache=True)
def _cell(position: float, size: int) -> tuple[int, float]:
    """First of the two nodes around a position, and the weight of the second."""
    position = min(max(position, 0.0), size - 1.0)
    nearest = floor(position + 0.5)
    if abs(position - nearest) <= _EDGE:
        position = nearest  # on a node, whose neighbours may be missing
    first = min(int(position), max(size - 2, 0))
    return first, position - first


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
