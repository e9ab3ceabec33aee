"""Sub-pixel shifts between images, and their adjustment in a network of dates.

Shifts are ``(down, right)`` in pixels of the moving image: how far its content lies beyond that of
the fixed one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xharmonize.kernels.regrid import AxisMap, regrid_mean
from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray

STEP = 0.25
"""Distance over which images are differentiated [pixel of the moving image]."""

MIN_VALID = 0.97
"""Minimum valid fraction of a sample [1]: what part of a pixel shows lies off its centre."""

HUBER = 1.5
"""Residuals beyond so many robust standard deviations weigh less."""

MAX_DEVIATION = 0.15
"""Standard deviation beyond which a shift is not believed [pixel of the moving image]."""

CLOSE = 2e-3
"""Last step of the iteration [pixel of the moving image]."""

MAX_ROUNDS = 20
MEDIAN_CHI2 = 0.4549
"""Median of the chi-squared distribution of one degree of freedom."""

N_BLOCKS = 8
"""Blocks along each side; residuals within one may depend on each other."""

MIN_PIXELS = 64
"""Pixels below which no shift is measured."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Shift between two images.

    Attributes
    ----------
    shift : (2,) float64 array
        Down and right [pixel of the moving image]; NaN if none was found.
    covariance : (2, 2) float64 array
        Of the shift [pixel²].
    """

    shift: Float64Array
    covariance: Float64Array


NOT_FOUND = Measured(shift=np.full(2, np.nan), covariance=np.full((2, 2), np.nan))


@dataclass(frozen=True, kw_only=True)
class View:
    """The grid on which two images are compared.

    Attributes
    ----------
    y, x : AxisMap
        From the moving image to the common grid, with the blur to look through.
    shape : (int, int)
        Rows and columns of the common grid.
    halve : bool
        Whether both images lie on one grid and each is moved by half the shift, so that
        interpolation blurs them alike. Otherwise the fixed one lies on the common grid and stays.
    """

    y: AxisMap
    x: AxisMap
    shape: tuple[int, int]
    halve: bool

    def blurred(self, factor: float) -> View:
        """The same view through a Gaussian `factor` times as wide."""
        y, x = (replace(axis, sigma=axis.sigma * factor) for axis in (self.y, self.x))
        return replace(self, y=y, x=x)

    def sample(
        self, moving: FloatArray, fixed: FloatArray, shift: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Both images (band, y, x) on the common grid, the shift taken off."""
        if not self.halve:
            return self._at(moving, shift), np.asarray(fixed, np.float64)
        return self._at(moving, shift / 2), self._at(fixed, -shift / 2)

    def _at(self, image: FloatArray, offset: Float64Array) -> Float64Array:
        y = self.y.moved(float(offset[0])).weights(0, self.shape[0], "area")
        x = self.x.moved(float(offset[1])).weights(0, self.shape[1], "area")
        return np.asarray(regrid_mean(image, y, x, min_valid=MIN_VALID)[0], np.float64)


def measure_shift(
    moving: FloatArray, fixed: FloatArray, view: View, *, max_shift: float
) -> Measured:
    """Find the shift between two images by iterated least squares (Lucas and Kanade).

    The fixed image is a gain times the moving one plus an offset, for each band. Both, and the
    shift, are fitted with Huber weights, so that what changed on the ground counts little. The
    covariance is that of a sandwich estimator over blocks of the image, since residuals of
    neighbouring pixels and of bands depend on each other.

    Parameters
    ----------
    moving, fixed : (band, y, x) float array
        Images; NaN where missing.
    view : View
        The grid to compare them on.
    max_shift : float
        Longest shift to believe [pixel of the moving image].

    References
    ----------
    Lucas and Kanade 1981, IJCAI 674–679; Baker and Matthews 2004,
    doi:10.1023/B:VISI.0000011205.11775.fd.
    """
    shift = np.zeros(2)
    # Through a wider Gaussian first, where the images may lie pixels apart.
    covariance = np.full((2, 2), np.nan)
    for stage in (view.blurred(3), view) if view.halve else (view,):
        for _ in range(MAX_ROUNDS):
            system = _system(moving, fixed, stage, shift)
            if system is None:
                return NOT_FOUND
            step, covariance = system.step, system.covariance
            shift = shift + step
            if not np.abs(shift).max() <= 2 * max_shift:
                return NOT_FOUND
            if np.abs(step).max() < (CLOSE if stage is view else STEP):
                break
        else:
            if stage is view:
                return NOT_FOUND
    is_poor = not np.sqrt(np.trace(covariance) / 2) <= MAX_DEVIATION
    if is_poor or np.hypot(*shift) > max_shift:
        return NOT_FOUND
    return Measured(shift=shift, covariance=covariance)


@dataclass(frozen=True, kw_only=True)
class _System:
    """Normal equations of one step."""

    normal: Float64Array
    right: Float64Array
    scores: Float64Array

    @property
    def step(self) -> Float64Array:
        return np.asarray(np.linalg.solve(self.normal, self.right))

    @property
    def covariance(self) -> Float64Array:
        """Sandwich over blocks, (2, 2)."""
        inverse = np.linalg.inv(self.normal)
        n = max(len(self.scores), 3)
        meat = self.scores.T @ self.scores * (n / (n - 2))
        return np.asarray(inverse @ meat @ inverse)


def _system(
    moving: FloatArray, fixed: FloatArray, view: View, shift: Float64Array
) -> _System | None:
    """Linearise about a shift; None where the images share too little or have no texture."""
    here, there = view.sample(moving, fixed, shift)
    slopes = []
    for axis in np.eye(2) * STEP:
        after, before = (view.sample(moving, fixed, shift + sign * axis) for sign in (1, -1))
        slopes.append([(a - b) / (2 * STEP) for a, b in zip(after, before)])
    layers = [here, there, *(part for slope in slopes for part in slope)]
    valid = np.all([np.isfinite(layer).all(axis=0) for layer in layers], axis=0)
    if valid.sum() < MIN_PIXELS:
        return None
    block = _blocks(valid)
    normal, right, scores = np.zeros((2, 2)), np.zeros(2), np.zeros((N_BLOCKS**2, 2))
    for band in range(len(here)):
        one, other = here[band][valid], there[band][valid]
        own = [(moved[band][valid], still[band][valid]) for moved, still in slopes]
        gain, residual, weight = _brightness(one, other)
        jacobian = np.stack([still - gain * moved for moved, still in own], axis=1)
        base = np.stack([np.ones_like(one), one], axis=1)
        jacobian -= (
            base
            @ np.linalg.lstsq(
                base * weight[:, None] ** 0.5, jacobian * weight[:, None] ** 0.5, rcond=None
            )[0]
        )
        score = -jacobian * (weight * residual)[:, None]
        normal += (jacobian * weight[:, None]).T @ jacobian
        right += score.sum(axis=0)
        for k in range(2):
            scores[:, k] += np.bincount(block, score[:, k], minlength=len(scores))
    if not np.linalg.eigvalsh(normal)[0] > 1:  # a deviation of a pixel: there is no texture
        return None
    return _System(normal=normal, right=right, scores=scores[np.any(scores != 0, axis=1)])


def _blocks(valid: BoolArray) -> IntArray:
    """Number of the block of each valid pixel."""
    row, column = np.nonzero(valid)
    height, width = valid.shape
    return np.asarray((row * N_BLOCKS // height) * N_BLOCKS + column * N_BLOCKS // width)


def _brightness(one: Float64Array, other: Float64Array) -> tuple[float, Float64Array, Float64Array]:
    """Gain, residuals and weights (inverse variance times Huber's) of a line between images."""
    weight = np.ones_like(one)
    gain, residual, scale = 0.0, other, 1.0
    for _ in range(4):
        total = weight.sum()
        centre, level = (weight @ one) / total, (weight @ other) / total
        spread = weight @ (one - centre) ** 2
        gain = float(weight @ ((one - centre) * (other - level)) / spread) if spread > 0 else 0.0
        residual = other - level - gain * (one - centre)
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-6)
        weight = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(residual), 1e-12))
    return gain, residual, weight / scale**2


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Measured differences between nodes along one axis.

    Attributes
    ----------
    first, second : (edge,) int64 array
        Nodes; the difference is the first's value minus the second's.
    value, variance : (edge,) float64 array
        Difference and its variance.
    kind : (edge,) int64 array
        Edges of one kind have the same error beyond their variance.
    """

    first: IntArray
    second: IntArray
    value: Float64Array
    variance: Float64Array
    kind: IntArray


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Values of the nodes of a network along one axis.

    Attributes
    ----------
    value, deviation : (node,) float64 array
        Estimate and its standard deviation.
    mean : (group,) float64 array
        Mean of each group.
    residual, left_out : (edge,) float64 array
        Measured minus fitted, by the fit to all edges and by the fit without the edge.
    spread : float
        Standard deviation of nodes about the mean of their group.
    noise : (kind,) float64 array
        Standard deviation that edges of a kind have beyond their variance.
    """

    value: Float64Array
    deviation: Float64Array
    mean: Float64Array
    residual: Float64Array
    left_out: Float64Array
    spread: float
    noise: Float64Array


def solve_network(edges: Edges, group: IntArray, fixed: BoolArray, *, n_rounds: int = 30) -> Solved:
    """Adjust a network by robust least squares, nodes shrunk to the mean of their group.

    A node is its group's mean plus an effect of its own; a group's mean is an effect too. Variances
    of both, and what edges vary by beyond their own variance, are estimated by expectation and
    maximisation; Huber weights keep wrong edges from counting. Nodes without edges get the mean of
    their group.

    Parameters
    ----------
    group : (node,) int64 array
        Group of each node.
    fixed : (node,) bool array
        Nodes whose mean is zero: those of a reference. If there are none, the mean of all that
        have edges is.

    References
    ----------
    Henderson 1975, doi:10.2307/2529430 (mixed model equations).
    """
    n_nodes = group.size
    # Effects of nodes about their groups, then means of groups: nodes carry both.
    member = np.hstack([np.eye(n_nodes), np.eye(int(group.max()) + 1)[group]])
    design = member[edges.first] - member[edges.second]
    has_edges = np.zeros(n_nodes, bool)
    has_edges[edges.first] = has_edges[edges.second] = True
    is_own = np.flatnonzero(has_edges & ~fixed) if fixed.any() else np.flatnonzero(has_edges)
    kinds = [np.flatnonzero(has_edges & fixed), is_own, n_nodes + np.unique(group[~fixed])]
    typical = float(np.median(edges.value**2)) if edges.value.size else 1.0
    variance = np.full(member.shape[1], max(typical, 1e-6))
    # Nodes of a reference are spread about zero.
    variance[n_nodes + np.unique(group[fixed])] = 1e-12
    noise = np.full(int(edges.kind.max()) + 1, np.median(edges.variance))
    robust = np.ones(edges.value.size)
    for _ in range(n_rounds):
        total = edges.variance + noise[edges.kind]
        weight = robust / total
        inverse = np.linalg.inv(design.T @ (design * weight[:, None]) + np.diag(1 / variance))
        effect = inverse @ (design.T @ (weight * edges.value))
        residual = edges.value - design @ effect
        leverage = (design @ inverse * design).sum(axis=1) * weight
        size = residual / np.sqrt(total * np.maximum(1 - leverage, 0.05))
        robust = np.minimum(1.0, HUBER / np.maximum(np.abs(size), 1e-12))
        noise = _noise(noise, edges, size)
        for kind in kinds:
            if kind.size:
                moment = effect[kind] ** 2 + np.diag(inverse)[kind]
                variance[kind] = max(float(moment.mean()), 1e-6 * typical + 1e-12)
        lonely = np.flatnonzero(~has_edges & ~fixed)
        variance[lonely] = variance[is_own[0]] if is_own.size else typical
    gauged = has_edges & fixed if fixed.any() else has_edges
    level = member[gauged].mean(axis=0) if gauged.any() else np.zeros(member.shape[1])
    contrast = member - level
    return Solved(
        value=contrast @ effect,
        deviation=np.sqrt((contrast @ inverse * contrast).sum(axis=1)),
        mean=effect[n_nodes:] - level @ effect,
        residual=residual,
        left_out=residual / np.maximum(1 - leverage, 1e-6),
        spread=float(np.sqrt(variance[is_own[0]])) if is_own.size else 0.0,
        noise=np.sqrt(noise),
    )


def _noise(noise: Float64Array, edges: Edges, size: Float64Array) -> Float64Array:
    """Variance that edges of each kind have beyond their own, from standardised residuals."""
    result = noise.copy()
    for kind in np.unique(edges.kind):
        own = edges.kind == kind
        stated = float(np.median(edges.variance[own]))
        factor = float(np.median(size[own] ** 2)) / MEDIAN_CHI2
        result[kind] = max((noise[kind] + stated) * factor - stated, 0.0)
    return result
