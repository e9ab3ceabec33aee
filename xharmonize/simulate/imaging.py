"""From fine reflectance to pixels: point spread per band, grid phase, shift, noise.

A band's system transfer function is given by its value at the Nyquist frequency. Variants: "a" a
Gaussian, "b" the pixel's own box blurred along track by a Gaussian, "c" a Gaussian core with wide
tails, as optics with stray light have.

References
----------
Huang et al. (2002), The impact of sensor spatial response on the information content of remotely
sensed images, https://doi.org/10.1016/S0034-4257(01)00323-6
Gascon et al. (2017), Copernicus Sentinel-2A calibration and products validation status,
https://doi.org/10.3390/rs9060584
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from xharmonize.simulate.config import Simulation, Variant
from xharmonize.simulate.noise import Float32Array, Window, draw_normal, white_noise
from xharmonize.types import Float64Array

_MTF = {
    "sentinel-2-l2a": {
        "blue": 0.28,
        "green": 0.28,
        "red": 0.26,
        "nir": 0.24,
        "swir16": 0.20,
        "swir22": 0.21,
    },
    "landsat-c2-l2": {
        "blue": 0.20,
        "green": 0.20,
        "red": 0.20,
        "nir08": 0.17,
        "swir16": 0.17,
        "swir22": 0.14,
    },
    "gaofen-1-ard": {"blue": 0.18, "green": 0.18, "red": 0.17, "nir": 0.16},
}  # fmt: skip
"""System transfer at the Nyquist frequency, resampling included; 0.25 where not listed."""

_NOISE = {
    "sentinel-2-l2a": (4e-4, 2.0e-3),
    "landsat-c2-l2": (2e-4, 1.0e-3),
    "gaofen-1-ard": (9e-4, 4e-3),
}
"""Noise [1]: constant part, and the part that grows with the square root of reflectance."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Point spread along one axis: Gaussians of `sigmas` [m] with `weights`, and a box [m]."""

    sigmas: tuple[float, ...]
    weights: tuple[float, ...]
    box: float = 0.0


def point_spreads(sensor: str, band: str, step: float, variant: Variant) -> tuple[Spread, Spread]:
    """Return the point spread of a band across track (x) and along track (y).

    Parameters
    ----------
    step : float
        Pixel size [m].
    """
    across, along = (
        _point_spread(_MTF.get(sensor, {}).get(band, 0.25), step, variant, along_track=along)
        for along in (False, True)
    )
    return across, along


def _point_spread(at_nyquist: float, step: float, variant: Variant, *, along_track: bool) -> Spread:
    sigma = step / np.pi * np.sqrt(-2 * np.log(at_nyquist))
    if variant == "a":
        return Spread(sigmas=(sigma,), weights=(1.0,))
    if variant == "b":
        # the box alone has 2/pi at Nyquist; the Gaussian makes up the rest
        rest = step / np.pi * np.sqrt(-2 * np.log(min(at_nyquist * np.pi / 2, 0.99)))
        factor = 1.2 if along_track else 0.85
        return Spread(sigmas=(rest * factor,), weights=(1.0,), box=step)
    # the tails carry nothing at Nyquist, so the core has to carry it all
    core = step / np.pi * np.sqrt(-2 * np.log(min(at_nyquist / 0.84, 0.99)))
    return Spread(sigmas=(core, 2.2 * core), weights=(0.84, 0.16))


def sampling_matrix(
    source: Float64Array, target: Float64Array, step: float, spread: Spread
) -> Float32Array:
    """Return the weights of fine cells in pixels, (pixel, cell), rows summing to one.

    Parameters
    ----------
    source : (cell,) array
        Centres of the fine cells [m], evenly spaced by `step`.
    target : (pixel,) array
        Centres of the pixels [m], shifted to where they really look.
    step : float
        Side of a fine cell [m].
    """
    distance = source[None, :] - target[:, None]
    total = np.zeros(distance.shape)
    for sigma, weight in zip(spread.sigmas, spread.weights):
        total += weight * _profile(distance, sigma, max(spread.box, step))
    return np.asarray(total / total.sum(axis=1, keepdims=True), np.float32)


def _profile(distance: Float64Array, sigma: float, box: float) -> Float64Array:
    """Box of a width convolved with a Gaussian; zero beyond four sigmas and the box."""
    scale = np.sqrt(2) * sigma
    value = erf((distance + box / 2) / scale) - erf((distance - box / 2) / scale)
    return np.where(np.abs(distance) < 4 * sigma + box / 2, value, 0.0) / (2 * box)


def shift_of(simulation: Simulation, key: tuple[int, ...]) -> tuple[float, float]:
    """Misregistration of a pass (east, north) [m]."""
    return (
        simulation.shift_mean + simulation.shift_sd * draw_normal(simulation.seed, "shift-x", *key),
        -simulation.shift_mean
        + simulation.shift_sd * draw_normal(simulation.seed, "shift-y", *key),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """How fine cells become the pixels of a window: weights along y and along x."""

    down: Float32Array
    across: Float32Array

    def __call__(self, fine: Float32Array) -> Float32Array:
        """Image a fine field (y, x) onto pixels (y, x), in the unit of the field."""
        return np.asarray(self.down @ fine @ self.across.T, np.float32)


def make_sampling(
    source: Window, target: Window, spreads: tuple[Spread, Spread], shift: tuple[float, float]
) -> Sampling:
    """Return the weights of fine cells in pixels.

    Parameters
    ----------
    spreads : (Spread, Spread)
        Point spread along x and along y.
    shift : (float, float)
        Offset east and north of the ground that is really seen [m].
    """
    return Sampling(
        down=sampling_matrix(source.y, target.y + shift[1], source.step, spreads[1]),
        across=sampling_matrix(source.x, target.x + shift[0], source.step, spreads[0]),
    )


def add_noise(
    image: Float32Array, simulation: Simulation, sensor: str, band: str, window: Window,
    key: tuple[int, ...],
) -> Float32Array:  # fmt: skip
    """Add instrument noise to the pixels of a band."""
    constant, growing = _NOISE[sensor]
    sd = np.sqrt(constant**2 + growing**2 * np.clip(image, 0, None)).astype(np.float32)
    noise = white_noise(simulation.seed, "noise-" + band, window, *key)
    return np.asarray(image + sd * noise, np.float32)
