"""`import xharmonize` is light, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import xharmonize as xh

HEAVY = [
    "cupy",
    "dask_cuda",
    "distributed",
    "matplotlib",
    "numba",
    "odc",
    "pydantic",
    "pystac",
    "pystac_client",
    "rasterio",
    "rioxarray",
    "sklearn",
    "stackstac",
    "torch",
    "zarr",
]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_import_loads_nothing_heavy():
    code = f"import sys, xharmonize; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.slow
def test_models_are_there_without_their_checks():
    """Building a graph with built-in coefficients checks no card, and loads no pydantic."""
    code = (
        "import sys, xharmonize as xh\n"
        "from xharmonize.testing import example_cube\n"
        "xh.to_landsat(example_cube(), 'hls-v2')\n"
        "print([m for m in ('pydantic', 'torch') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_the_import_registers_the_accessor():
    code = "import xarray, xharmonize; print(hasattr(xarray.DataArray, 'harmonize'))"
    assert run(code) == "True"


@pytest.mark.parametrize("name", [n for n in xh.__all__ if n != "__version__"])
def test_each_public_name_loads_and_has_a_docstring(name):
    value = getattr(xh, name)
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = xh.no_such_name


def test_the_version_is_a_string():
    assert xh.__version__.count(".") >= 2
