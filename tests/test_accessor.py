"""The accessor offers what the functions offer, and shows it."""

from __future__ import annotations

import inspect
import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.accessor import HarmonizeAccessor
from xharmonize.options import Method, with_options_of
from xharmonize.testing import example_cube

METHODS = [
    name for name, _ in inspect.getmembers(HarmonizeAccessor, inspect.isfunction) if name[0] != "_"
]

RADAR = ("filter_speckle", "to_decibels", "to_power")
FUNCTIONS = {
    name: getattr(module, name)
    for module in (xh.crops, xh.metrics, xh.fusion.radar, xh.harmonizers, xh.series, xh)
    for name in getattr(module, "__all__", RADAR)
    if inspect.isfunction(getattr(module, name))
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_shows_what_its_function_takes(name: str) -> None:
    method, function = getattr(example_cube().harmonize, name), FUNCTIONS[name]
    shown, taken = inspect.signature(method), inspect.signature(function)
    assert [*shown.parameters.values()] == [*taken.parameters.values()][1:]
    assert shown.return_annotation == taken.return_annotation
    assert set(method.__annotations__) == {*shown.parameters, "return"}
    assert method.__doc__.splitlines()[0] == inspect.getdoc(function).splitlines()[0]
    assert (method.__name__, method.__self__._obj.name) == (name, "reflectance")


def test_every_function_of_a_cube_is_a_method() -> None:
    first = {n: next(iter(inspect.signature(f).parameters), "") for n, f in FUNCTIONS.items()}
    of_cubes = {n for n, name in first.items() if name in ("cube", "target")} - {
        "describe",  # for cubes without contract
        "fit_histogram",
    }
    assert of_cubes == set(METHODS)


def test_help_explains_every_option_but_the_cube() -> None:
    text = pydoc.plain(pydoc.render_doc(example_cube().harmonize.to_landsat))
    options = inspect.signature(xh.to_sensor).parameters.keys() - {"cube", "sensor"}
    assert all(f"\n    {name} : " in text for name in options)
    assert "cube : " not in text
    assert "sensor : " not in text
    assert all(f"\n    {title}\n    -----" in text for title in ("Returns", "Raises", "Examples"))


def test_converters_share_the_options_of_to_sensor() -> None:
    options = [*inspect.signature(xh.to_sensor).parameters.values()][3:]
    for function in (xh.to_landsat, xh.to_sentinel2):
        assert [*inspect.signature(function).parameters.values()][2:] == options
    with pytest.raises(TypeError, match="lik"):
        example_cube().harmonize.to_landsat(lik=None)


def test_xarray_keeps_one_accessor_a_cube_and_each_calls_with_its_own() -> None:
    one, other = example_cube(), example_cube().isel(time=[0])
    assert one.harmonize is one.harmonize
    method = one.harmonize.to_landsat
    assert other.harmonize.to_landsat().sizes["time"] == 1
    assert method().sizes["time"] == one.sizes["time"]
    assert isinstance(one.to_dataset(name="reflectance").harmonize.to_landsat(), xr.Dataset)


def test_an_option_added_to_the_function_reaches_part_and_method() -> None:
    def whole(cube: float, sensor: str, *, times: float = 1.0) -> float:
        """Multiply.

        Parameters
        ----------
        cube : float
        sensor : str
            Name.
        times : float
            Factor.
        """
        return cube * times

    @with_options_of(whole)
    def part(cube: float, **options: float) -> float:
        """Multiply for one sensor."""
        return whole(cube, "one", **options)

    class Accessor:
        def __init__(self) -> None:
            self._obj = 3.0

        part = Method(lambda: part)

    assert Accessor().part(times=2.0) == 6.0
    assert str(inspect.signature(Accessor().part)) == "(*, times: 'float' = 1.0) -> 'float'"
    expected = "Multiply for one sensor.\n\nParameters\n----------\ntimes : float\n    Factor."
    assert inspect.getdoc(Accessor.part) == expected


TYPED = """
from typing import assert_type
import xarray as xr, xharmonize as xh
from xharmonize.accessor import HarmonizeAccessor
def use(cube: xr.DataArray, methods: HarmonizeAccessor) -> None:
    assert_type(xh.to_landsat(cube, flags=False), xr.DataArray)
    assert_type(methods.score(cube, by="sensor"), xr.Dataset)
    methods.to_landsat("hls-v2", like=cube)
    methods.plot.maps(cube, time=0)
    xh.to_landsat(cube, lik=cube)
    methods.to_landsat(lik=cube)
    methods.to_landsat(flags="yes")
    methods.score(by="sensor")
"""


@pytest.mark.slow
def test_type_checkers_see_the_options(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    root = Path(xh.__file__).parents[1]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty"]
    command += [f"--config-file={root / 'pyproject.toml'}", str(tmp_path / "typed.py")]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=env)
    found = [line.split(": error: ", 1) for line in done.stdout.splitlines() if ": error: " in line]
    lines = {where.rsplit(":", 1)[1]: what for where, what in found if "typed.py" in where}
    assert sorted(lines) == ["10", "11", "12", "13"], done.stdout
    assert all("[call-arg]" in lines[n] for n in ("10", "11", "13"))
    assert "[arg-type]" in lines["12"]
