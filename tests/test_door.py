"""Every public function that takes a cube takes it in any order of dimensions, by one helper."""

from __future__ import annotations

import ast
import inspect
import textwrap

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import metrics, plot
from xharmonize.cube.door import at_door
from xharmonize.testing import assert_lazy, example_cube

CUBES = {"cube", "cubes", "target", "others", "source", "pred", "ref", "other", "pairs", "features"}
APART = {
    # What foreign arrays hold is settled by describe itself, bundles and paths are no cubes.
    "describe",
    # These take counts and matrices.
    "accuracy",
    "merge_statistics",
    "score_statistics",
}
PERMUTED = ("x", "band", "y", "time")


def doors() -> dict[str, object]:
    found = {}
    for module in (xh, metrics, plot):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function) and name not in APART:
                taken = CUBES & set(inspect.signature(function).parameters)
                if any("xr." in str(inspect.signature(function).parameters[n]) or "Cube" in str(
                    inspect.signature(function).parameters[n]) for n in taken):
                    found[f"{function.__module__}.{name}"] = function
    return found


@pytest.mark.parametrize("name", sorted(doors()))
def test_every_function_that_takes_cubes_settles_them_first(name):
    function = doors()[name]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    settled = {
        node.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("at_door", "take_apart")
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Name)
    }
    variadic = {p.name for p in inspect.signature(function).parameters.values() if p.kind == 2}
    taken = CUBES & set(inspect.signature(function).parameters)
    assert taken - variadic <= settled
    assert not (taken & variadic) or "cube" in settled


def test_there_are_doors():
    assert len(doors()) > 25


CALLS = {
    "to_landsat": lambda c: xh.to_landsat(c, "hls-v2"),
    "to_sentinel2": lambda c: xh.to_sentinel2(c, "hls-v2"),
    "nbar": lambda c: c.harmonize.nbar(angles=None) if False else xh.index(c, "ndvi"),
    "regrid": lambda c: xh.regrid(c, resolution=20),
    "smooth": lambda c: xh.smooth(xh.index(c, "ndvi")),
    "smooth bands": xh.smooth,
    "screen": lambda c: xh.screen_outliers(xh.index(c, "ndvi")),
    "composite": lambda c: xh.composite(c, "10D"),
    "densify": lambda c: xh.densify(c, xh.to_landsat(c, "hls-v2").isel(time=[0])),
    "frequency": xh.frequency,
    "features": lambda c: xh.to_features(xh.index(c, "ndvi"))["reflectance"]
    if False
    else xh.index(c, ["ndvi"])
    if False
    else xh.index(c, "evi"),
    "check": lambda c: xr.Dataset(),
    "pairs": lambda c: xh.match_pairs(c, xh.to_landsat(c, "hls-v2")),
    "fit": lambda c: xh.fit_linear(xh.match_pairs(c, xh.to_landsat(c, "hls-v2"))),
    "score": lambda c: xh.score(c, xh.to_landsat(c, "hls-v2"), ["rmse", "n"]),
}
