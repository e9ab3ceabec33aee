"""The accessor offers what the functions offer."""

from __future__ import annotations

import inspect

import pytest

import xharmonize as xh
from xharmonize.accessor import HarmonizeAccessor

METHODS = [
    name for name, _ in inspect.getmembers(HarmonizeAccessor, inspect.isfunction) if name[0] != "_"
]

FUNCTIONS = {
    name: getattr(module, name)
    for module in (xh.crops, xh.metrics, xh.series, xh)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}


def _parameters(function) -> list[tuple]:
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default, p.annotation) for p in signature.parameters.values()][1:]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_its_function_takes(name: str) -> None:
    assert _parameters(getattr(HarmonizeAccessor, name)) == _parameters(FUNCTIONS[name])


def test_every_function_of_a_cube_is_a_method() -> None:
    first = {n: next(iter(inspect.signature(f).parameters), "") for n, f in FUNCTIONS.items()}
    of_cubes = {n for n, name in first.items() if name in ("cube", "target")} - {
        "describe",  # for cubes without contract
        "fit_histogram",
    }
    assert of_cubes == set(METHODS)
