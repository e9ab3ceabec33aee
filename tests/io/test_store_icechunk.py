"""Stores in Icechunk: one commit a write, and nothing of a write that fails."""

from __future__ import annotations

import dask
import dask.array as da
import pytest
import xarray as xr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.testing import assert_lazy, example_cube

icechunk = pytest.importorskip("icechunk")
LATER = ("2018-07-11T10:50", "2018-07-16T10:50")


@pytest.fixture
def repository(tmp_path):
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "repo")))


def n_commits(repository) -> int:
    """Commits that a reader was given; Icechunk 1 keeps those of reserved rows as parents."""
    found = [one.message for one in repository.ancestry(branch="main")]
    if hasattr(icechunk.Session, "amend"):
        assert not any("rows of" in message for message in found)
    return sum("rows of" not in message for message in found)


@pytest.mark.parametrize("scheduler", first_quick(["synchronous", "threads", "distributed"]))
def test_a_repository_gets_one_commit_for_each_write(repository, scheduler):
    cube = example_cube(chunks={"time": 1, "y": 10})
    later = example_cube(dates=LATER, seed=3, chunks={"time": 1})
    before = n_commits(repository)

    def write():
        assert cube.harmonize.to_zarr(repository, shard=16) is repository
        xh.to_zarr(later, repository, mode="upsert")

    if scheduler == "distributed":
        from distributed import Client

        with Client(n_workers=1, threads_per_worker=2, dashboard_address=None):
            write()
    else:
        with dask.config.set(scheduler=scheduler):
            write()
    assert n_commits(repository) == before + 2
    series = xh.open_series(repository)
    assert_lazy(series)
    kept = cube.isel(time=slice(-1))  # its last date is the first of the later ones
    expected = xr.concat([kept, later], "time", coords="minimal", compat="override")
    xr.testing.assert_equal(series.compute(), expected.compute())


def test_a_session_is_left_to_its_owner(repository):
    session = repository.writable_session("main")
    xh.to_zarr(example_cube(), session)
    xh.to_zarr(example_cube(dates=LATER, seed=3), session.store, mode="upsert")
    assert xh.open_series(session).sizes["time"] == 4
    with pytest.raises(xh.errors.StoreError, match="not a store written by xharmonize"):
        xh.open_series(repository)
    session.commit("two cubes at once")
    assert xh.open_series(repository).sizes["time"] == 4
    with pytest.raises(xh.errors.StoreError, match="read-only"):
        xh.to_zarr(example_cube(), repository.readonly_session("main"))


def test_writing_whole_replaces_and_history_stays_readable(repository):
    xh.to_zarr(example_cube(), repository)
    first = repository.lookup_branch("main")
    one = example_cube(seed=9).isel(time=[0])
    with pytest.raises(
        xh.errors.StoreError, match="mode='w' replaces it, mode='upsert' adds to it"
    ):
        xh.to_zarr(one, repository)
    xh.to_zarr(one, repository, mode="w")
    assert xh.open_series(repository).sizes["time"] == 1
    old = xh.open_series(repository.readonly_session(snapshot_id=first))
    xr.testing.assert_equal(old.compute(), example_cube())


def test_a_failed_write_leaves_what_was_there(repository):
    def fail(block):
        raise OSError("no such tile")

    xh.to_zarr(example_cube(), repository)
    broken = example_cube(seed=5, chunks={"time": 1})
    broken = broken.copy(data=da.map_blocks(fail, broken.data, dtype="f4", meta=broken.data._meta))
    with pytest.raises(OSError, match="no such tile"):
        xh.to_zarr(broken, repository, mode="upsert")
    xr.testing.assert_equal(xh.open_series(repository).compute(), example_cube())


def test_of_two_writers_at_once_the_second_is_told(repository):
    xh.to_zarr(example_cube(), repository)

    def meanwhile(block):
        xh.to_zarr(example_cube(seed=8), repository, mode="upsert")
        return block

    cube = example_cube(dates=LATER).chunk()
    late = cube.copy(data=da.map_blocks(meanwhile, cube.data, dtype="f4", meta=cube.data._meta))
    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(xh.errors.StoreError, match="another writer committed to branch 'main'"),
    ):
        xh.to_zarr(late, repository, mode="upsert", shard=64)
    xr.testing.assert_equal(xh.open_series(repository).compute(), example_cube(seed=8))
    xh.to_zarr(cube, repository, mode="upsert")


def test_what_is_no_store_of_ours_is_refused(repository):
    with pytest.raises(xh.errors.StoreError, match=r"path is a dict; give a path"):
        xh.to_zarr(example_cube(), {})
    session = repository.writable_session("main")
    xr.Dataset({"a": ("x", [1])}).to_zarr(session.store, consolidated=False)
    session.commit("someone else's")
    with pytest.raises(xh.errors.StoreError, match="not written by xharmonize"):
        xh.to_zarr(example_cube(), repository)
    with pytest.raises(xh.errors.StoreError, match="not a store written by xharmonize"):
        xh.open_series(repository)
