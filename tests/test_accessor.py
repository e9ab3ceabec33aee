"""The accessor offers what the functions offer."""

from __future__ import annotations

import inspect

import pytest

import xharmonize as xh

METHODS = [
    name
    for name, _ in inspect.getmembers(xh.HarmonizeAccessor, inspect.isfunction)
    if name[0] != "_"
]


def _parameters(function) -> list[tuple]:
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default, p.annotation) for p in signature.parameters.values()][1:]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_its_function_takes(name: str) -> None:
    assert _parameters(getattr(xh.HarmonizeAccessor, name)) == _parameters(getattr(xh, name))


def test_every_function_of_a_cube_is_a_method() -> None:
    functions = [n for n in dir(xh) if inspect.isfunction(getattr(xh, n, None))]
    first = {n: next(iter(inspect.signature(getattr(xh, n)).parameters), "") for n in functions}
    of_cubes = {n for n, name in first.items() if name in ("cube", "target")} - {
        "describe",  # for cubes without contract
        "fit_histogram",
    }
    assert of_cubes == set(METHODS)
