"""What blocks of a regridded cube are, and what they share."""

from __future__ import annotations

from functools import partial
from operator import attrgetter

import numpy as np
import pytest

import xharmonize as xh
from xharmonize._cache import Cache
from xharmonize.cube import resample
from xharmonize.kernels.reproject import pixel_weights
from xharmonize.testing import example_cube


def _weights(shape):
    row, column = np.meshgrid(*(np.arange(n + 1.0) for n in shape), indexing="ij")
    return pixel_weights(row, column, window=((0, shape[0]), (0, shape[1])), method="area")


def test_weights_used_last_are_held_up_to_a_limit():
    one = _weights((4, 4))
    recent = Cache(max_bytes=2 * one.nbytes)
    made, size = [], attrgetter("nbytes")

    def make(key):
        made.append(key)
        return one

    for name in "abacab":
        recent.get(name, partial(make, name), size)
    assert made == ["a", "b", "c", "b"]  # b went when c came: a had been used after it
    assert recent.get("b", partial(make, "b"), size) is one


def test_strips_of_rows_change_nothing(monkeypatch):
    cube = example_cube(crs="EPSG:4326", origin=(3.0, 50.0), resolution=1e-4)
    whole = xh.regrid(cube, crs=32631, resolution=10, valid_fraction=True)
    monkeypatch.setattr(resample, "STRIP", 60)
    strips = xh.regrid(cube, crs=32631, resolution=10, valid_fraction=True)
    for name in whole:
        np.testing.assert_array_equal(strips[name], whole[name])


@pytest.mark.parametrize("model", ["hls-v2", lambda cube: cube])
def test_chunks_nest_in_those_of_like(model, no_compute):
    like = example_cube("landsat-c2-l2", platform="landsat-8", resolution=30.0, shape=(8, 10))
    like = like.chunk({"time": 1, "y": (5, 3), "x": (4, 6)})
    cube = example_cube().chunk({"time": 1, "y": 8, "x": 9})
    with no_compute():
        actual = xh.to_landsat(cube, model, like=like)
        merged = xh.densify(like, actual)
    assert actual.chunksizes["y"] == (2, 3, 3)
    assert actual.chunksizes["x"] == (4, 3, 3)
    assert merged.chunksizes["y"] == (2, 3, 3)


def test_coordinates_are_those_of_like_to_the_last_digit():
    like = example_cube(crs="EPSG:4326", origin=(3.0, 50.0), resolution=1e-4, shape=(20, 20))
    like = like.assign_coords(x=3.00005 + 1e-4 * np.arange(20), y=49.99995 - 1e-4 * np.arange(20))
    cube = xh.regrid(like, crs=32631, resolution=10)
    for source in (cube, like.assign_coords(x=like.x + 1e-12)):
        actual = xh.regrid(source, like=like)
        assert (actual - like).shape == like.shape
        assert actual["x"].attrs["units"] == "degrees_east"


def test_bands_in_place_cost_no_tasks():
    cube = example_cube(chunks={"time": 1, "band": 1})
    layers = xh.to_landsat(cube).data.dask.layers
    assert not any(name.startswith("getitem") for name in layers)
