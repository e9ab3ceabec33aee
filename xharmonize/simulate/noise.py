"""Random numbers that depend on where and when, never on the order of drawing.

Every number is a hash of (seed, what it is for, lattice cell, date), so a pixel is the same
whatever tile, area or number of dates is rendered. The mixing function is that of SplitMix64.

References
----------
Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators,
https://doi.org/10.1145/2660193.2660195
Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3,
https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import ndtri

from xharmonize.types import Float64Array, FloatArray

Keys: TypeAlias = npt.NDArray[np.uint64]
Float32Array: TypeAlias = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A regular grid of square cells, sampled at their centres.

    Attributes
    ----------
    left, top : float
        Outer edges [m] of the upper left cell.
    step : float
        Side of a cell [m].
    width, height : int
        Number of cells along x and y; y falls from row to row.
    """

    left: float
    top: float
    step: float
    width: int
    height: int

    @property
    def x(self) -> Float64Array:
        """Centres of the columns [m]."""
        return np.asarray(self.left + self.step * (np.arange(self.width) + 0.5), np.float64)

    @property
    def y(self) -> Float64Array:
        """Centres of the rows [m], falling."""
        return np.asarray(self.top - self.step * (np.arange(self.height) + 0.5), np.float64)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return (self.height, self.width)

    def pad(self, cells: int) -> Window:
        """Return the window with this many more cells on every side."""
        return Window(
            left=self.left - cells * self.step,
            top=self.top + cells * self.step,
            step=self.step,
            width=self.width + 2 * cells,
            height=self.height + 2 * cells,
        )


def name_key(name: str) -> int:
    """Return the integer that stands for a name in a hash."""
    return crc32(name.encode())


def hashed(*keys: Any) -> Keys:
    """Hash integers (scalars or arrays that broadcast) to 64 well-mixed bits."""
    parts = [np.atleast_1d(np.asarray(key)) for key in keys]
    state = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            bits = part if part.dtype == np.uint64 else part.astype(np.int64).astype(np.uint64)
            state = _mix((state ^ bits) + _GOLDEN)
    return state


def _mix(state: Keys) -> Keys:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def uniform(*keys: Any) -> Float64Array:
    """Return uniform numbers in (0, 1), one per broadcast element of the keys."""
    return ((hashed(*keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(*keys: Any) -> Float64Array:
    """Return standard normal numbers, one per broadcast element of the keys."""
    return np.asarray(ndtri(uniform(*keys)), np.float64)


def draw(seed: int, name: str, *keys: int) -> float:
    """Return one uniform number in (0, 1) for a seed, a name and integers."""
    return float(uniform(seed, name_key(name), *keys)[0])


def draw_normal(seed: int, name: str, *keys: int) -> float:
    """Return one standard normal number for a seed, a name and integers."""
    return float(normal(seed, name_key(name), *keys)[0])


def white_noise(seed: int, name: str, window: Window, *keys: int) -> Float32Array:
    """Return independent standard normal numbers per cell of the lattice a window lies on.

    Returns
    -------
    (y, x) float32 array
        The same for a cell in every window with the same step and phase.
    """
    column = np.floor(window.x / window.step).astype(np.int64)
    row = np.floor(window.y / window.step).astype(np.int64)
    draws = normal(seed, name_key(name), *keys, row[:, None], column[None, :])
    return draws.astype(np.float32)


def smooth_noise(
    seed: int,
    name: str,
    window: Window,
    *keys: int,
    length: float,
    octaves: int = 1,
    persistence: float = 0.5,
) -> Float32Array:
    """Return a smooth random field with zero mean and unit variance.

    Cubic B-splines through standard normal numbers on a lattice of spacing `length`, halved per
    octave.

    Parameters
    ----------
    length : float
        Spacing of the coarsest lattice [m].
    octaves : int
        Number of lattices.
    persistence : float
        Amplitude of a lattice over that of the coarser one.

    Returns
    -------
    (y, x) float32 array
        Values [1] at the centres of the window's cells.
    """
    total = np.zeros(window.shape, np.float32)
    variance = 0.0
    for octave in range(octaves):
        amplitude = persistence**octave
        total += np.float32(amplitude) * _spline_noise(
            seed, name, window, *keys, octave, length=length / 2**octave
        )
        variance += amplitude**2
    total /= np.float32(np.sqrt(variance))
    return total


def _spline_noise(seed: int, name: str, window: Window, *keys: int, length: float) -> Float32Array:
    column, across = _spline_weights(window.x / length)
    row, down = _spline_weights(window.y / length)
    nodes = normal(seed, name_key(name), *keys, row[:, None], column[None, :])
    lattice = nodes.astype(np.float32)
    field = (across @ (down @ lattice).T).T
    # mean square of the separable cubic B-spline weights over a cell is (151 / 315)^2
    return np.ascontiguousarray(field / np.float32(151.0 / 315.0))


def _spline_weights(position: Float64Array) -> tuple[npt.NDArray[np.int64], csr_array]:
    """Cubic B-spline weights of lattice nodes: their indices and a (point, node) matrix."""
    base = np.floor(position).astype(np.int64)
    t = position - base
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    first = int(base.min()) - 1
    nodes = np.arange(first, int(base.max()) + 3, dtype=np.int64)
    columns = base[:, None] - 1 - first + np.arange(4)
    pointer = np.arange(0, 4 * len(position) + 1, 4)
    matrix = csr_array(
        ((weights / 6).astype(np.float32).ravel(), columns.ravel(), pointer),
        shape=(len(position), len(nodes)),
    )
    return nodes, matrix


def upsample(coarse: FloatArray, source: Window, target: Window) -> Float32Array:
    """Interpolate a field bilinearly from the centres of one window to those of another."""
    down = _linear_weights((source.top - target.y) / source.step - 0.5, source.height)
    across = _linear_weights((target.x - source.left) / source.step - 0.5, source.width)
    field = (across @ (down @ coarse.astype(np.float32)).T).T
    return np.ascontiguousarray(field, dtype=np.float32)


def _linear_weights(position: Float64Array, size: int) -> csr_array:
    base = np.clip(np.floor(position).astype(np.int64), 0, size - 2)
    t = np.clip(position - base, 0, 1)
    weights = np.stack([1 - t, t], axis=1).astype(np.float32)
    columns = base[:, None] + np.arange(2)
    pointer = np.arange(0, 2 * len(position) + 1, 2)
    return csr_array((weights.ravel(), columns.ravel(), pointer), shape=(len(position), size))
