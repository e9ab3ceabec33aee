"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr

from xharmonize import testing

REPOSITORY = Path(__file__).parents[1]


def real_data() -> Path | None:
    """Folder of the real observations, or None where there are none."""
    named = os.environ.get("XHARMONIZE_DATA")
    candidates = [Path(named)] if named else [REPOSITORY.parent / "shared" / "data"]
    return next((path for path in candidates if path.is_dir()), None)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real observations; skips where it is absent."""
    folder = real_data()
    if folder is None:
        pytest.skip("no real observations: set XHARMONIZE_DATA to their folder")
    return folder


@pytest.fixture(params=["numpy", "dask"])
def cube(request: pytest.FixtureRequest) -> xr.DataArray:
    """A Sentinel-2 reflectance cube, once as numpy and once as dask."""
    chunks = {"time": 1, "y": 10, "x": 11} if request.param == "dask" else None
    return testing.example_cube(chunks=chunks)


@pytest.fixture
def no_compute():
    """A scheduler that refuses to run: use as a context manager, ``with no_compute():``."""
    return testing.no_compute
