"""The cache of models, and of weights for regridding."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from xharmonize._cache import Cache


def size(value):
    return len(value)


def test_eight_threads_load_once():
    cache = Cache()
    barrier = threading.Barrier(8)

    def load():
        time.sleep(0.02)
        return ["model"]

    def ask(_):
        barrier.wait()
        return cache.get("key", load, size)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert cache.loads == 1
    assert all(value is found[0] for value in found)


def test_loading_one_model_does_not_hold_up_another():
    cache = Cache()
    is_loading, may_end = threading.Event(), threading.Event()

    def slow():
        is_loading.set()
        assert may_end.wait(10)
        return ["slow"]

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(cache.get, "slow", slow, size)
        assert is_loading.wait(10)
        assert cache.get("fast", lambda: ["fast"], size) == ["fast"]
        may_end.set()
        assert future.result(10) == ["slow"]


def test_a_failed_load_is_not_kept_and_those_who_waited_load_once():
    cache = Cache()
    barrier = threading.Barrier(8)
    calls = []

    def load():
        calls.append(None)
        time.sleep(0.01)
        if len(calls) == 1:
            raise OSError("not there yet")
        return ["model"]

    def ask(_):
        barrier.wait()
        try:
            return cache.get("key", load, size)
        except OSError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert found.count(None) == 1
    assert (cache.loads, len(calls), len(cache)) == (1, 2, 1)


def test_the_one_used_longest_ago_goes():
    cache = Cache(max_entries=2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: ["model"], size)
    assert (cache.loads, len(cache)) == (3, 2)
    cache.get("a", lambda: pytest.fail("was dropped"), size)
    cache.get("b", lambda: ["again"], size)
    assert cache.loads == 4


def test_bytes_are_bounded_but_a_model_in_use_is_kept():
    cache = Cache(max_bytes=10)
    for key, n_bytes in (("a", 6), ("b", 4), ("c", 4)):
        cache.get(key, lambda n_bytes=n_bytes: "x" * n_bytes, size)
    assert (len(cache), cache.n_bytes) == (2, 8)
    cache.get("huge", lambda: "x" * 100, size)
    assert (len(cache), cache.n_bytes) == (1, 100)
    cache.get("a", lambda: "x", size)
    assert (len(cache), cache.n_bytes) == (1, 1)
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)
