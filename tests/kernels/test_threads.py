"""Threads of one call: the same bits with any number of them, and one where Dask supplies them."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from xharmonize.kernels import statistics, threads, windows

NO_GROUPS = np.zeros((1, 1), np.int32)
TAPS = windows.gaussian_taps(11, 1.5)


def run_all(pred, ref):
    """Every kernel that uses threads, without groups and with."""
    rows = [array.reshape(1, len(array), -1) for array in (pred, ref)]
    pixels = np.arange(rows[0].shape[2], dtype=np.int32)[None] % 3 - 1
    images = np.arange(pred.size, dtype=np.int32).reshape(pred.shape) % 3 - 1
    everywhere = np.zeros((1, 1, 1), np.int32)
    found = [statistics.band_moments(*rows), statistics.band_moments(pred, ref)]
    found += [statistics.spectral_angles(*rows, codes, 2) for codes in (NO_GROUPS, pixels)]
    for codes in (everywhere, images, images[:1]):
        found.append(windows.gaussian_windows(pred, ref, codes, 2, TAPS, 1e-4, 9e-4, 0.5))
        found.append(windows.uniform_windows(pred, ref, codes, 2, 32, 0.0, 0.0, 0.5))
    return found


@pytest.mark.parametrize("n", [1, 2, 7])
def test_results_are_the_same_bits_with_any_number_of_threads(monkeypatch, n):
    random = np.random.default_rng(3)
    ref = random.uniform(0.02, 0.5, (5, 300, 500)).astype("float32")
    pred = (ref + random.normal(0, 0.05, ref.shape)).astype("float32")
    pred[random.random(pred.shape) < 0.01] = np.nan
    with ThreadPoolExecutor(1) as pool:  # as a worker of Dask
        alone = pool.submit(run_all, pred, ref).result()
    monkeypatch.setattr(threads, "n_threads", lambda: n)
    for one, other in zip(run_all(pred, ref), alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_threads_than_the_main_one_compute_alone(monkeypatch):
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 3)
    with ThreadPoolExecutor(1) as pool:
        assert (threads.n_threads(), pool.submit(threads.n_threads).result()) == (3, 1)


def test_processes_beside_one_another_compute_alone():
    """Such as those of Dask's scheduler, which compute blocks on their main threads."""
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(threads.n_threads) == 1


def test_parts_cover_all_items_in_order_and_none_is_one_empty_part(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    items, parts = np.arange(8), []

    def squares(part):
        parts.append(part)
        return items[part] ** 2

    for n_values, n_parts in ((threads.WORTHWHILE, 3), (8, 1)):
        parts.clear()
        found = threads.in_parts(squares, 8, n_values=n_values)
        np.testing.assert_array_equal(found, items**2)
        assert len(parts) == n_parts
    assert threads.in_parts(squares, 0, n_values=0).shape == (0,)
    nothing = np.zeros((0, 3, 10), np.float32)
    assert statistics.band_moments(nothing, nothing).shape == (0, 3, 11)
