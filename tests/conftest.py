"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from helpers.object_store import emptied, options_of, served

from xharmonize import testing

REPOSITORY = Path(__file__).parents[1]
LONGEST = (
    "test_benchmarks.py",
    "io/test_store_sweep.py",
    "io/test_store_kill.py",
    "cluster/test_share.py",
    "cli/test_cli_models.py",
    "training/test_on_workers.py",
    "io/test_store_remote.py",
    "training/test_trained_networks.py",
    "test_docs.py",
    "series/test_series_real.py",
    "series/test_crops.py",
    "test_flanders.py",
    "test_examples.py",
    "cli/test_cli.py",
    "metrics/test_score.py",
    "harmonizers/test_generator.py",
    "training/test_train.py",
    "training/test_torchrun.py",
    "training/test_loop.py",
    "harmonizers/test_auto.py",
    "test_hostile_names.py",
    "cube/test_grid.py",
    "cluster/test_kill.py",
)
"""Files of few tests that take minutes. They begin first, so that none is left to one process at
the end (``--dist loadfile`` would begin with the files of most tests)."""


ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep the order of `pytest_collection_modifyitems`, one core a process.

    Otherwise every process would start a thread of matrix products per core, and they would compete
    for the cores of the others.
    """
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if getattr(config.option, "numprocesses", None):  # the processes are started after this
        for name in ONE_THREAD:
            os.environ.setdefault(name, "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, the others as they are."""
    place = {REPOSITORY / "tests" / name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


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


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """Two worker processes of one thread, for all files: ``compute(scheduler=client)``.

    Never the default scheduler: what names no scheduler runs in this process, in any order of the
    tests.
    """
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Address of an S3 server of this session."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with served() as address:
        yield address


@pytest.fixture
def options(endpoint: str) -> dict[str, Any]:
    """``storage_options`` of the server, where there is an empty bucket."""
    emptied(endpoint)
    return options_of(endpoint)
