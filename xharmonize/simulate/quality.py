"""Quality layers with the mistakes real ones make: omission, commission, and a margin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from xharmonize.simulate.atmosphere import Sky
from xharmonize.simulate.config import Pass, Simulation
from xharmonize.simulate.noise import Float32Array, Window, smooth_noise
from xharmonize.types import BoolArray

_LOW_CONFIDENCE = 0b01_01_01_01 << 8


def mistakes(
    simulation: Simulation, acquisition: Pass, window: Window
) -> tuple[Float32Array, BoolArray]:
    """Return how much of a cloud's opacity the detector sees, and where it raises false alarms."""
    key = acquisition.key
    missed = smooth_noise(simulation.seed, "omission", window, *key, length=420.0, octaves=2)
    false = smooth_noise(simulation.seed, "commission", window, *key, length=260.0, octaves=2)
    return np.where(missed > 1.25, np.float32(0.25), np.float32(1.0)), false > 2.15


def scene_classes(
    simulation: Simulation, acquisition: Pass, window: Window, sky: Sky,
    bands: Mapping[str, Float32Array],
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Return Sentinel-2's scene classification.

    Parameters
    ----------
    sky : Sky
        At the pixels of `window`.
    bands : mapping of str to (y, x) float32 array
        Reflectance [1] of ``red``, ``nir08`` and ``swir16`` on the same pixels.
    """
    seen, alarm = mistakes(simulation, acquisition, window)
    cloud, shadow = sky.cloud * seen, sky.shadow * seen
    red, near, short = bands["red"], bands["nir08"], bands["swir16"]
    ratio = (near - red) / np.maximum(near + red, 0.02)
    classes = np.where(ratio > 0.42, 4, 5)
    classes = np.where((near < 0.09) & (short < 0.06), 6, classes)
    classes = np.where((near >= 0.06) & (near < 0.11) & (ratio > 0.1) & (short >= 0.05), 2, classes)
    classes = np.where(np.abs(ratio - 0.36) < 0.025, 7, classes)
    classes = np.where((shadow > 0.35) & (near < 0.30), 3, classes)
    classes = np.where((cloud > 0.14) & (cloud <= 0.34), 10, classes)
    classes = np.where(cloud > 0.34, 8, classes)
    classes = np.where(cloud > 0.70, 9, classes)
    bright = (red > 0.20) & (cloud <= 0.34)
    return np.where(bright & alarm, 8, classes).astype(np.uint8)


def qa_pixel(
    simulation: Simulation, acquisition: Pass, window: Window, wide_sky: Sky, margin: int,
    bands: Mapping[str, Float32Array],
) -> npt.NDArray[np.uint16]:  # fmt: skip
    """Return Landsat's Collection 2 QA_PIXEL.

    Parameters
    ----------
    wide_sky : Sky
        At the pixels of `window` and `margin` more on every side.
    margin : int
        Pixels by which clouds and shadows are dilated.
    """
    seen, alarm = mistakes(simulation, acquisition, window.pad(margin))
    disk = np.hypot(*np.mgrid[-margin : margin + 1, -margin : margin + 1]) <= margin + 0.3
    inner = (slice(margin, -margin), slice(margin, -margin))
    cloud_seen = wide_sky.cloud * seen > 0.30
    dilated = binary_dilation(cloud_seen, disk)[inner]
    shadow = binary_dilation(wide_sky.shadow * seen > 0.40, disk)[inner]
    alarmed = (alarm[inner] & (bands["red"] > 0.20)) | cloud_seen[inner]
    thin = (wide_sky.cloud * seen)[inner]
    cirrus = (thin > 0.10) & (thin <= 0.30)
    water = (bands["nir08"] < 0.09) & (bands["swir16"] < 0.06)
    code = np.full(window.shape, _LOW_CONFIDENCE, np.uint16)
    code += (water * (1 << 7)).astype(np.uint16)
    shadow = shadow & ~alarmed
    code += (shadow * ((1 << 4) + (0b10 << 10))).astype(np.uint16)
    code += (cirrus * ((1 << 2) + (0b10 << 14))).astype(np.uint16)
    code += (alarmed * ((1 << 3) + (0b10 << 8))).astype(np.uint16)
    near_cloud = dilated & ~alarmed
    code += (near_cloud * (1 << 1)).astype(np.uint16)
    clear = ~alarmed & ~near_cloud
    code += (clear * (1 << 6)).astype(np.uint16)
    return code
