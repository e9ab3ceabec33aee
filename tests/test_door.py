"""Every public function that takes a cube takes it in any order of dimensions, by one helper."""

from __future__ import annotations

import ast
import inspect
import textwrap

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import crops, metrics, plot, series
from xharmonize.cube.door import at_door
from xharmonize.cube.pairs import on_target_grid
from xharmonize.testing import assert_lazy, example_cube

CUBES = {
    "cube",
    "cubes",
    "target",
    "others",
    "source",
    "reference",
    "other",
    "pairs",
    "features",
    "sentinel1",
}
APART = {
    # What foreign arrays hold is settled by describe itself, bundles and paths are no cubes.
    "describe",
    # These take counts and matrices.
    "accuracy",
    "merge_statistics",
    "score_statistics",
    # These hand the cube on to `to_sensor`; trees of pairs were settled by `collect_pairs`, which
    # settles each cube of a mapping (see `CALLS`).
    "to_landsat",
    "to_sentinel2",
    "collect_pairs",
    "samples",
    "train",
}
SETTLING = ("at_door", "take_apart", "require_cube")
"""The helper, and those that begin with it."""

PERMUTED = ("x", "band", "y", "time")


def cubes_of(function) -> set[str]:
    """Parameters that take cubes; `reference` may name a sensor or a rule instead."""
    found = inspect.signature(function).parameters
    words = {name: str(found[name].annotation) for name in CUBES & set(found)}
    return {name for name, text in words.items() if "str" not in text and text != "Reference"}


def doors() -> dict[str, object]:
    found = {}
    for module in (xh, crops, metrics, plot, series):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function) and name not in APART:
                taken = cubes_of(function)
                if any(
                    "xr." in str(inspect.signature(function).parameters[n])
                    or "Cube" in str(inspect.signature(function).parameters[n])
                    for n in taken
                ):
                    found[f"{function.__module__}.{name}"] = function
    return found


@pytest.mark.parametrize("name", sorted(doors()))
def test_every_function_that_takes_cubes_settles_them_first(name):
    function = doors()[name]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    settled = {
        node.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in SETTLING
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Name)
    }
    variadic = {p.name for p in inspect.signature(function).parameters.values() if p.kind == 2}
    taken = cubes_of(function)
    assert taken - variadic <= settled
    assert not (taken & variadic) or "cube" in settled


def test_there_are_doors():
    assert len(doors()) > 25


CALLS = {
    "to_landsat": lambda c: xh.to_landsat(c, "hls-v2"),
    "index": lambda c: xh.index(c, "ndvi"),
    "regrid": lambda c: xh.regrid(c, resolution=20),
    "smooth": lambda c: xh.series.smooth(xh.index(c, "ndvi").transpose("x", "time", "y")),
    "smooth bands": xh.series.smooth,
    "fill_clouds": xh.fill_clouds,
    "screen_outliers": lambda c: xh.series.screen_outliers(xh.index(c, "ndvi")),
    "composite": lambda c: xh.series.composite(c, "10D"),
    "densify": lambda c: xh.densify(c, c.isel(time=[0]).assign_coords(tile=("time", ["31UDS"]))),
    "frequency": xh.series.frequency,
    "match_pairs": lambda c: xh.match_pairs(c, xh.to_landsat(c, "hls-v2")),
    "collect_pairs": lambda c: on_target_grid(
        xh.collect_pairs({"a": c}, xh.to_landsat(c, "hls-v2"), min_valid=0, max_score=None)
    ),
    "fit_linear": lambda c: xh.fit_linear(xh.match_pairs(c, xh.to_landsat(c, "hls-v2"))),
    "score": lambda c: xh.score(c, xh.to_landsat(c, "hls-v2"), ["rmse", "n"]),
}


def sized() -> xr.DataArray:
    """As many dates as bands, and as rows and columns: only names tell them apart."""
    dates = [f"2018-07-{day:02d}T10:50" for day in range(1, 19, 3)]
    return example_cube(dates=dates, shape=(6, 6), missing=0.1)


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("chunks", [None, {"time": 2, "y": 3}])
def test_the_order_of_dimensions_changes_nothing(name, chunks):
    cube = sized() if chunks is None else sized().chunk(chunks)
    expected = CALLS[name](cube)
    permuted = cube.transpose(*PERMUTED)
    actual = CALLS[name](permuted)
    xr.testing.assert_allclose(actual.compute(), expected.compute(), rtol=1e-6)
    assert dict(actual.sizes) == dict(expected.sizes)
    assert permuted.dims == PERMUTED  # the argument is left as it is


@pytest.mark.parametrize("name", sorted(CALLS))
def test_coordinates_in_chunks_of_their_own_change_nothing(name):
    """As those of a store of pairs: xarray then calls the chunks of the cube inconsistent."""
    cube = sized().chunk({"time": 2, "band": 6, "y": 3})
    expected = CALLS[name](cube)
    scale = xr.DataArray(cube["scale"].values, dims=("time", "band")).chunk({"time": 4, "band": 2})
    actual = CALLS[name](cube.assign_coords(scale=scale))
    xr.testing.assert_allclose(actual.compute(), expected.compute(), rtol=1e-6)


def test_the_door_settles_order_and_nothing_else():
    cube = sized()
    assert at_door(cube) is cube
    assert at_door(None) is None
    pairs = xh.match_pairs(cube, xh.to_landsat(cube, "hls-v2"))
    assert at_door(pairs) is pairs
    lazy = at_door(cube.chunk().transpose(*PERMUTED).expand_dims(member=2, axis=1))
    assert_lazy(lazy)
    assert lazy.dims == ("time", "member", "band", "y", "x")
    dataset = at_door(
        xr.Dataset(
            {
                "reflectance": cube.transpose(*PERMUTED),
                "qa": (("x", "y", "time"), np.zeros((6, 6, 6), "uint16")),
            },
            attrs={"title": "a"},
        )
    )
    assert dataset["reflectance"].dims == ("time", "band", "y", "x")
    assert dataset["qa"].dims == ("time", "y", "x")
    assert dataset["scale"].dims == ("time", "band")
    assert dataset.attrs == {"title": "a"}
    assert dataset["reflectance"].attrs == cube.attrs
