"""Area means over whole numbers of pixels on a GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from xharmonize.kernels.cuda.launch import empty, launch, to_device


def block_mean(values: Any, factor: int) -> tuple[Any, Any]:
    """Mean of the valid pixels of each block of `factor` × `factor`, and their share.

    Parameters
    ----------
    values : (image, y, x) float array
        Reflectance [1]; NaN marks a missing pixel. Sides are multiples of `factor`.
    factor : int
        Pixels of the source along a side of a pixel of the result.

    Returns
    -------
    mean : (image, y / factor, x / factor) float32 array
        Reflectance [1], summed in double precision; NaN where no pixel is valid.
    fraction : (image, y / factor, x / factor) float32 array
        Valid share [1].
    """
    values = to_device(values, values, np.float32)
    n, n_y, n_x = values.shape
    shape = (n, n_y // factor, n_x // factor)
    mean, fraction = (empty(shape, np.float32, values) for _ in range(2))
    launch(_block_mean, mean.size, values, factor, mean, fraction, like=values)
    return mean, fraction


@cuda.jit
def _block_mean(values, factor, mean, fraction):  # type: ignore[no-untyped-def]
    n_y, n_x = mean.shape[1], mean.shape[2]
    for i in range(cuda.grid(1), mean.size, cuda.gridsize(1)):
        x, y, image = i % n_x, (i // n_x) % n_y, i // (n_x * n_y)
        total, n = 0.0, 0
        for j in range(y * factor, (y + 1) * factor):
            for k in range(x * factor, (x + 1) * factor):
                value = values[image, j, k]
                if not math.isnan(value):
                    total += value
                    n += 1
        mean[image, y, x] = np.float32(total / n) if n else np.float32(math.nan)
        fraction[image, y, x] = np.float32(n / (factor * factor))
