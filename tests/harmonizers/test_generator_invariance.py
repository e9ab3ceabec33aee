"""A generator's result depends on the pixels, not on chunks, schedulers, batches or the area."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch")

from distributed import Client, LocalCluster
from helpers.generators import LATTICE, generator, sentinel, small_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xharmonize import testing
from xharmonize.cube.companions import ResultFlag
from xharmonize.harmonizers.generator import GeneratorHarmonizer

FOLDER = tempfile.TemporaryDirectory()
TOLERANCE = 1e-5
CASES = {
    "core": LATTICE,
    "blend": replace(LATTICE, merge="blend"),
    "Landsat's phase": replace(LATTICE, phase=(15.0, 15.0)),
}
MODELS = {
    name: generator(Path(FOLDER.name), small_card(lattice=lattice), flags=True)
    for name, lattice in CASES.items()
}
FEW = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SHAPE = (50, 37)
FIELD = sentinel(SHAPE, west=7, north=4, dates=2)


@pytest.mark.parametrize("name", CASES)
@given(chunks=testing.chunkings(FIELD), batch=st.integers(1, 40), missing=st.floats(0, 1))
@FEW
def test_chunks_batches_and_missing_pixels(name, chunks, batch, missing):
    cube = sentinel(SHAPE, west=7, north=4, dates=2, missing=missing)
    testing.assert_invariant(
        MODELS[name], cube, chunkings=[chunks], batch_sizes=[batch], tolerance=TOLERANCE
    )


@pytest.mark.parametrize("name", CASES)
@given(
    west=st.integers(0, 80),
    north=st.integers(0, 80),
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    missing=st.sampled_from([0.0, 0.1]),
)
@FEW
def test_wholly_supplied_tiles_do_not_depend_on_the_area(name, west, north, shape, missing):
    """Any window of a field: what is not flagged as partial is what the whole field gives."""
    found = MODELS[name](sentinel(shape, west=west, north=north, missing=missing))
    whole = MODELS[name](sentinel((200, 200), missing=missing))
    found, whole = xr.align(found, whole, join="inner")
    # A pixel that the window cuts lacks inputs there.
    y, x = slice(1, -1), slice(1, -1)
    found, whole = found.isel(y=y, x=x), whole.isel(y=y, x=x)
    is_full = (found["flag"].values & ResultFlag.PARTIAL_CONTEXT) == 0
    one, other = (part["reflectance"].transpose("band", ...).values for part in (found, whole))
    np.testing.assert_allclose(
        np.where(is_full, one, 0), np.where(is_full, other, 0), rtol=0, atol=0.5 * TOLERANCE
    )
    np.testing.assert_array_equal(found["flag"].values[is_full], whole["flag"].values[is_full])


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("name", ["core", "blend"])
def test_schedulers(name, client):
    cube = sentinel((84, 71), west=7, north=4, missing=0.1)
    testing.assert_invariant(
        MODELS[name],
        cube,
        chunkings=[{"time": 1, "y": 30, "x": 40}],
        schedulers=["synchronous", "threads", client],
        tolerance=TOLERANCE,
    )


def test_another_order_of_bands_and_more_of_them():
    cube = sentinel((60, 60), missing=0.1)
    more = xr.concat([cube, cube.isel(band=[0]).assign_coords(band=["coastal"])], "band")
    model: GeneratorHarmonizer = replace(MODELS["core"], flags=False)
    found = model(more.isel(band=[6, 5, 0, 4, 2, 1, 3]).chunk(band=2, y=20))
    np.testing.assert_array_equal(found.compute(), model(cube.chunk(y=20)).compute())
    assert "left out coastal" in found.attrs["history"]
