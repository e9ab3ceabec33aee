"""Compares the CUDA kernels with those of the CPU; run with NUMBA_ENABLE_CUDASIM=1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xharmonize.kernels import cuda, lut, patches
from xharmonize.kernels import cuda as cuda_histogram
from xharmonize.kernels import cuda as cuda_lut

RANDOM = np.random.default_rng(0)
SHAPE = (2, 2, 5, 7)
VALUES = RANDOM.normal(0.2, 0.2, SHAPE).astype("float32")
VALUES[0, 0, 0, :3] = np.nan, np.inf, 0.3
DN = RANDOM.integers(-2000, 9000, SHAPE).astype("int16")
LOW, HIGH = np.array([-0.05, 0.0]), np.array([0.3, 0.6])
TABLES = np.sort(RANDOM.random((2, 2, 2, 2, 33)), axis=-1)
ROWS, COLUMNS = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 1])
PLACES = (LOW, HIGH, ROWS, COLUMNS)
LINES = {
    "scale": np.full((2, 2), 1e-4),
    "offset": np.array([[0.0, -0.1], [0.0, 0.0]]),
    "nodata": np.array([[DN[0, 0, 1, 1], np.nan], [-1.0, np.nan]]),
}

To = Callable[[Any], Any]


def apply_float(to: To, back: To) -> None:
    compare(
        back(cuda_lut.apply_tables(to(VALUES), TABLES, *PLACES)),
        lut.apply_tables(VALUES, TABLES, *PLACES),
    )
    single = TABLES[:1]
    compare(
        back(cuda_lut.apply_tables(to(VALUES), single, *PLACES)),
        lut.apply_tables(VALUES, single, *PLACES),
    )


def apply_dn(to: To, back: To) -> None:
    compare(
        back(cuda_lut.apply_tables_to_dn(to(DN), TABLES, *PLACES, **LINES)),
        lut.apply_tables_to_dn(DN, TABLES, *PLACES, **LINES),
    )


def affine(to: To, back: To) -> None:
    lines = {"slope": LINES["scale"], "intercept": LINES["offset"], "nodata": LINES["nodata"]}
    compare(back(cuda_lut.affine(to(DN), **lines)), lut.affine(DN, **lines))


def blend(to: To, back: To) -> None:
    tables = TABLES.copy()
    tables[0, 0, 1] = np.nan
    weights = np.array([0, 0.2, 0.5, 0, 0]), np.array([0, 0.5, 0, 0, 0, 0, 0])
    first = LOW, HIGH, np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 1])
    compare(
        back(cuda_lut.blend_tables(to(VALUES), tables, *first, *weights)),
        lut.blend_tables(VALUES, tables, *first, *weights),
    )


def flags(to: To, back: To) -> None:
    expected = np.ones((2, 5, 7), np.uint8)
    actual = to(expected.copy())
    lut.flag_outside(VALUES, LOW, HIGH, expected, 2)
    cuda_lut.flag_outside(to(VALUES), LOW, HIGH, actual, 2)
    compare(back(actual), expected, exact=True)


def fill(to: To, back: To) -> None:
    holed = np.where(RANDOM.random(SHAPE) < 0.6, np.nan, VALUES).astype("float32")
    holed[np.isinf(holed)] = 0
    compare(back(cuda_lut.fill_from_neighbours(to(holed))), lut.fill_from_neighbours(holed))


def count(to: To, back: To) -> None:
    actual = cuda_histogram.count_values(to(VALUES), LOW, HIGH, 20, ROWS, COLUMNS)
    expected = patches.count_values(VALUES, LOW, HIGH, 20, ROWS, COLUMNS)
    compare(back(actual), expected, exact=True)


def count_dn(to: To, back: To) -> None:
    actual = cuda_histogram.count_dn(to(DN), LOW, HIGH, 20, ROWS, COLUMNS, **LINES)
    expected = patches.count_dn(DN, LOW, HIGH, 20, ROWS, COLUMNS, **LINES)
    compare(back(actual), expected, exact=True)


def count_many(to: To, back: To) -> None:
    """More planes than a launch has rows of blocks, and more bins than shared memory holds."""
    held = cuda.MAX_ROWS
    try:
        cuda.MAX_ROWS = 3
        count(to, back)
        n_bins = cuda.BINS + 5
        actual = cuda_histogram.count_values(to(VALUES), LOW, HIGH, n_bins, ROWS, COLUMNS)
        expected = patches.count_values(VALUES, LOW, HIGH, n_bins, ROWS, COLUMNS)
        compare(back(actual), expected, exact=True)
    finally:
        cuda.MAX_ROWS = held


def compare(actual: Any, expected: Any, *, exact: bool = False) -> None:
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(actual, expected, **tolerance)


CASES = {
    "float": apply_float,
    "dn": apply_dn,
    "affine": affine,
    "blend": blend,
    "flags": flags,
    "fill": fill,
    "histogram": count,
    "histogram of dn": count_dn,
    "histogram of many planes and bins": count_many,
}

if __name__ == "__main__":
    cuda.THREADS = 8  # the simulator runs each in a thread of the operating system
    cuda.BINS = 16
    for name, case in CASES.items():
        case(np.asarray, np.asarray)
        print(f"{name}: equal")
