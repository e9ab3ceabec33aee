"""STARFM: a fine image of one date from coarse images and one or two pairs of other dates.

A fine pixel at the date of prediction t0 is a weighted mean, over pixels i around it and over pairs
k, of what each of them says that it became: its fine value, and the change of the coarse one:

    fine(t0) = Σ W_ik [coarse_i(t0) + fine_i(tk) - coarse_i(tk)],    W_ik ∝ 1 / (S_ik T_ik D_i)

where S is the absolute difference of fine(tk) and coarse(tk), T that of coarse(tk) and coarse(t0),
and D = 1 + distance / spatial factor. Pixels count that are similar to the central one at tk,
within two standard deviations of the image over the number of classes, and whose S and
T are no larger than its own, but for their uncertainty. Each band is predicted by itself.

With one fine image and no coarse partner (STARFM-SI) the partner is the fine image, degraded to
coarse pixels and brought back as the coarse image is: nothing else changes.

References
----------
Gao et al. 2006, doi:10.1109/TGRS.2006.872081.
Wu et al. 2020 (STARFM-SI), IEEE J. Sel. Top. Appl. Earth Obs. Remote Sens. 13, 6206-6219.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from xharmonize.errors import OptionError
from xharmonize.types import Float64Array, FloatArray

LEAST = 1e-4
"""Added to S and T [1]: pixels in which they vanish by chance would outweigh all others. One
digital number, as in the program of the authors."""

_RUN = 512  # central pixels side by side: their sums and limits stay in the first cache
_STEP = 8  # columns of the window that one pass over a run takes

FINE, SPECTRAL, TEMPORAL, WEIGHT, WEIGHTED = range(5)
"""What is held of each pixel: its fine value, S, T, 1/(S T), and that times what it predicts."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """How similar pixels are searched and weighted.

    Attributes
    ----------
    window : int
        Side of the window around a pixel, odd [pixel].
    n_classes : float
        Number of classes: a pixel is similar within ``2 * spread / n_classes``.
    spatial_factor : float
        Distance at which a pixel weighs half as much as the central one [pixel].
    fine_uncertainty, coarse_uncertainty : float
        One standard deviation of fine and coarse reflectance [1]. S and T of a pixel may exceed
        those of the central one by that of the difference. The default is what surface reflectance
        of Landsat and MODIS is specified to, without its relative part.
    """

    window: int = 31
    n_classes: float = 4
    spatial_factor: float = 25.0
    fine_uncertainty: float = 0.005
    coarse_uncertainty: float = 0.005

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise OptionError(
                "is no window around a pixel",
                cure="give an odd number of pixels, 1 or more",
                argument="window",
                value=self.window,
            )
        for name in ("n_classes", "spatial_factor"):
            _require(name, getattr(self, name), is_fit=0 < getattr(self, name) < np.inf)
        for name in ("fine_uncertainty", "coarse_uncertainty"):
            _require(name, getattr(self, name), is_fit=0 <= getattr(self, name) < np.inf)

    @property
    def margin(self) -> int:
        """Pixels on each side of a block that its own pixels depend on."""
        return self.window // 2

    @property
    def allowances(self) -> tuple[float, float]:
        """By how much S and T may exceed those of the central pixel [1]."""
        spectral = np.hypot(self.fine_uncertainty, self.coarse_uncertainty)
        return float(spectral), float(np.sqrt(2) * self.coarse_uncertainty)

    @property
    def nearness(self) -> FloatArray:
        """1 / D (window, window rounded up to whole steps), 0 beyond the window."""
        r = self.margin
        y, x = np.mgrid[-r : r + 1, -r : r + 1]
        wide = -(-self.window // _STEP) * _STEP
        table = np.zeros((self.window, wide), np.float32)
        table[:, : self.window] = 1 / (1 + np.hypot(y, x) / self.spatial_factor)
        return table


def _require(name: str, value: float, *, is_fit: bool) -> None:
    if not is_fit:
        raise OptionError(
            "is no such number", cure="give a positive one", argument=name, value=value
        )


def spread_of(fine: FloatArray) -> Float64Array:
    """Standard deviation of whole images (..., y, x) over their valid pixels: (...) float64 [1].

    It is one number per image, never per block: similarity would depend on blocks otherwise. NaN
    where an image has no valid pixel, and all that it predicts is NaN.
    """
    values = np.where(np.isfinite(fine), fine, np.nan).astype(np.float64)
    count = np.isfinite(values).sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=(-2, -1)) / count
        apart = np.nansum(np.square(values - mean[..., None, None]), axis=(-2, -1))
        return np.asarray(np.sqrt(apart / count))


def starfm(
    coarse: FloatArray,
    fine: FloatArray,
    partner: FloatArray,
    spread: FloatArray,
    *,
    search: Search | None = None,
    margin: int = 0,
) -> FloatArray:
    """Predict the fine image of a date.

    Parameters
    ----------
    coarse : (band, y, x) float array
        Coarse image of the date [1], brought to the fine grid; NaN where missing.
    fine : (pair, band, y, x) float array
        Fine image of each pair [1]; NaN where missing.
    partner : (pair, band, y, x) float array
        Coarse image of each pair [1], brought to the fine grid like `coarse`; for STARFM-SI the
        degraded fine image. NaN where missing.
    spread : (pair, band) float array
        Standard deviation of each whole fine image [1], from `spread_of`.
    search : Search, optional
        Options.
    margin : int
        Rows and columns on each side that serve as neighbours only and are not predicted. A block
        with a margin of `Search.margin`, filled with NaN outside the image, gives exactly the
        pixels that the whole image gives.

    Returns
    -------
    (band, y - 2 margin, x - 2 margin) float32 array
        Fine reflectance of the date [1]. A pixel serves in a pair if its fine, its partner's and
        its coarse value are all there. The result is NaN where the central pixel serves in no pair:
        nothing is filled from its neighbours. With two pairs, one is enough.
    """
    search = Search() if search is None else search
    layers = [np.ascontiguousarray(one, np.float32) for one in (coarse, fine, partner)]
    n_bands, height, width = layers[0].shape
    shape = (n_bands, max(height - 2 * margin, 0), max(width - 2 * margin, 0))
    if layers[1].shape[1:] != layers[0].shape or layers[1].shape != layers[2].shape:
        raise ValueError(f"shapes {[one.shape for one in layers]} do not go together")
    out = np.full(shape, np.nan, np.float32)
    limits = np.asarray(2 * np.asarray(spread, np.float64) / search.n_classes, np.float32)
    allowances = np.array(search.allowances, np.float32)
    if out.size:
        _predict(*layers, limits, search.nearness, allowances, margin, out)
    return out


@njit(nogil=True, cache=True)
def _predict(coarse, fine, partner, limits, nearness, allowances, margin, out):  # type: ignore[no-untyped-def]
    n_pairs, n_bands = fine.shape[:2]
    window, wide = nearness.shape
    size = (out.shape[1] + window - 1, out.shape[2] + wide - 1)
    planes = np.empty((n_pairs, 5, *size), np.float32)
    offset = margin - window // 2
    centre, total = np.empty(3 * _RUN, np.float32), np.empty(2 * _RUN, np.float32)
    for b in range(n_bands):
        for k in range(n_pairs):
            _lay_out(coarse[b], fine[k, b], partner[k, b], offset, planes[k])
        for start in range(0, out.shape[2], _RUN):
            n = min(_RUN, out.shape[2] - start)
            for y in range(out.shape[1]):
                total[:] = 0.0
                for k in range(n_pairs):
                    _set_centres(planes, k, y, start, window // 2, n, allowances, centre)
                    _search(planes[k], y, start, n, centre, limits[k, b], nearness, total)
                _divide(total, n, out[b, y, start:])


@njit(nogil=True, cache=True, error_model="numpy")
def _lay_out(coarse, fine, partner, offset, planes):  # type: ignore[no-untyped-def]
    """Prepare what is needed of each pixel; those that are missing are similar to none."""
    height, width = coarse.shape
    least = np.float32(LEAST)
    for j in range(planes.shape[1]):
        for i in range(planes.shape[2]):
            y, x = j + offset, i + offset
            is_there = 0 <= y < height and 0 <= x < width
            value = np.float32(np.nan)
            if is_there:
                value = fine[y, x]
                is_there = abs(value) + abs(partner[y, x]) + abs(coarse[y, x]) < np.inf
            if not is_there:
                planes[FINE, j, i] = np.nan
                planes[SPECTRAL:, j, i] = 0.0
                continue
            change = coarse[y, x] - partner[y, x]
            spectral, temporal = abs(value - partner[y, x]), abs(change)
            weight = np.float32(1.0) / ((spectral + least) * (temporal + least))
            planes[FINE, j, i] = value
            planes[SPECTRAL, j, i] = spectral
            planes[TEMPORAL, j, i] = temporal
            planes[WEIGHT, j, i] = weight
            planes[WEIGHTED, j, i] = weight * (value + change)


@njit(nogil=True, cache=True)
def _set_centres(planes, pair, y, start, r, n, allowances, centre):  # type: ignore[no-untyped-def]
    """Fine values of central pixels, and the largest S and T that a neighbour may have."""
    for i in range(n):
        spectral = temporal = np.float32(0.0)
        for k in range(planes.shape[0]):  # 0 where missing: the largest of those that are there
            spectral = max(spectral, planes[k, SPECTRAL, y + r, start + i + r])
            temporal = max(temporal, planes[k, TEMPORAL, y + r, start + i + r])
        centre[i] = planes[pair, FINE, y + r, start + i + r]
        centre[_RUN + i] = spectral + allowances[0]
        centre[2 * _RUN + i] = temporal + allowances[1]


@njit(nogil=True, cache=True)
def _search(planes, y, start, n, centre, limit, nearness, total):  # type: ignore[no-untyped-def]
    """Add the neighbours of a run of central pixels, a row of the window after the other."""
    for j in range(nearness.shape[0]):
        for i in range(0, nearness.shape[1], _STEP):
            at = start + i
            _add(
                planes[FINE, y + j, at:],
                planes[SPECTRAL, y + j, at:],
                planes[TEMPORAL, y + j, at:],
                planes[WEIGHT, y + j, at:],
                planes[WEIGHTED, y + j, at:],
                nearness[j, i:],
                n,
                centre,
                limit,
                total,
            )


@njit(nogil=True, cache=True, fastmath={"contract"}, inline="always")
def _share(fine, spectral, temporal, own, most, longest, limit, near):  # type: ignore[no-untyped-def]
    """1 / D of a neighbour that counts, else 0: without branches, so that vectors are made."""
    counts = (abs(fine - own) <= limit) & (spectral <= most) & (temporal <= longest)
    return near if counts else np.float32(0.0)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _add(fine, spectral, temporal, weight, weighted, near, n, centre, limit, total):  # type: ignore[no-untyped-def]
    """Add eight columns of the window for a run of central pixels.

    They are written out: sums and limits of a central pixel are then read once for eight
    neighbours, and the compiler makes vectors along the run (of a loop it does not). `total` is one
    array, whose halves lie a constant apart, so that the compiler can tell that nothing overlaps.
    """
    # fmt: off
    d0, d1, d2, d3 = near[0], near[1], near[2], near[3]
    d4, d5, d6, d7 = near[4], near[5], near[6], near[7]
    for i in range(n):
        own, most, longest = centre[i], centre[_RUN + i], centre[2 * _RUN + i]
        a, b = total[i], total[_RUN + i]
        w = _share(fine[i], spectral[i], temporal[i], own, most, longest, limit, d0)
        a += w * weighted[i]
        b += w * weight[i]
        w = _share(fine[i + 1], spectral[i + 1], temporal[i + 1], own, most, longest, limit, d1)
        a += w * weighted[i + 1]
        b += w * weight[i + 1]
        w = _share(fine[i + 2], spectral[i + 2], temporal[i + 2], own, most, longest, limit, d2)
        a += w * weighted[i + 2]
        b += w * weight[i + 2]
        w = _share(fine[i + 3], spectral[i + 3], temporal[i + 3], own, most, longest, limit, d3)
        a += w * weighted[i + 3]
        b += w * weight[i + 3]
        w = _share(fine[i + 4], spectral[i + 4], temporal[i + 4], own, most, longest, limit, d4)
        a += w * weighted[i + 4]
        b += w * weight[i + 4]
        w = _share(fine[i + 5], spectral[i + 5], temporal[i + 5], own, most, longest, limit, d5)
        a += w * weighted[i + 5]
        b += w * weight[i + 5]
        w = _share(fine[i + 6], spectral[i + 6], temporal[i + 6], own, most, longest, limit, d6)
        a += w * weighted[i + 6]
        b += w * weight[i + 6]
        w = _share(fine[i + 7], spectral[i + 7], temporal[i + 7], own, most, longest, limit, d7)
        a += w * weighted[i + 7]
        b += w * weight[i + 7]
        total[i] = a
        total[_RUN + i] = b
    # fmt: on


@njit(nogil=True, cache=True, error_model="numpy")
def _divide(total, n, out):  # type: ignore[no-untyped-def]
    for i in range(n):
        weight = total[_RUN + i]
        out[i] = total[i] / weight if weight > 0.0 else np.nan
