"""The patch store: what is cut is what a network is shown when it is applied."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.training import FINE, TARGET, make_cubes, make_pairs

import xharmonize as xh
from xharmonize.errors import BandError, FitError, GridError, StoreError
from xharmonize.harmonizers.validation import hide_target
from xharmonize.training import Data, build_store, open_store

zarr = pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


@pytest.fixture(scope="module")
def store(pairs, tmp_path_factory):
    return build_store(pairs, tmp_path_factory.mktemp("store") / "samples", Data(patch=16))


def test_inputs_have_the_pixel_size_of_their_sensor(store):
    assert [(one.name, one.gsd, one.bands[0]) for one in store.inputs] == [
        ("10m", 10.0, FINE[0]),
        ("20m", 20.0, "nir08"),
    ]
    part = store.read([int(np.flatnonzero(store.kept)[0])])
    assert [image.shape for image in part.inputs] == [(1, 4, 48, 48), (1, 2, 24, 24)]
    assert part.target.shape == (1, 5, 16, 16)
    assert store.bands == TARGET


def test_cores_of_samples_cover_the_scene(store):
    seen = np.zeros((38, 38), bool)  # what lies between even counts of the lattice
    first_row, first_column = store.row.min(), store.column.min()
    for number in np.flatnonzero(store.kept & (store.pair == 0)):
        row, column = store.row[number] - first_row, store.column[number] - first_column
        seen[row : row + 8, column : column + 8] = True
    assert seen.all()


def test_target_and_source_of_a_sample_lie_on_one_place(pairs, store):
    """The exact area mean, taken from the whole scene, correlates best without a shift."""
    numbers = np.flatnonzero(store.kept)[:20]
    part = store.read(numbers)
    band = store.source_bands.index("red")
    x = part.exact[:, band, 4:-4, 4:-4]
    fits = {}
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y = part.target[:, 2, 4 + dy : 12 + dy, 4 + dx : 12 + dx]
            ok = np.isfinite(x) & np.isfinite(y)
            fits[dy, dx] = np.corrcoef(x[ok], y[ok])[0, 1]
    assert max(fits, key=lambda shift: fits[shift]) == (0, 0)


@pytest.mark.slow
def test_samples_do_not_depend_on_chunks(tmp_path):
    whole = build_store(make_pairs(2), tmp_path / "a", Data(patch=16))
    chunked = make_pairs(2, chunks={"time": 1, "y": 17, "x": 23})
    lazy = build_store(chunked, tmp_path / "b", Data(patch=16))
    np.testing.assert_array_equal(whole.kept, lazy.kept)
    numbers = np.flatnonzero(whole.kept)
    for one, other in zip(whole.read(numbers).inputs, lazy.read(numbers).inputs):
        np.testing.assert_array_equal(one, other)


def test_a_shard_is_what_one_task_writes(store):
    group = zarr.open_group(store.path, mode="r")
    array = group["input_10m"]
    assert array.chunks[0] == 1
    assert array.shape[0] % array.shards[0] == 0


def test_bands_and_stride_are_chosen(pairs, tmp_path):
    data = Data(patch=16, stride=16, source_bands=("red", "nir08"), target_bands=("red",))
    found = build_store(pairs, tmp_path / "s", data)
    assert found.source_bands == ("red", "nir08")
    assert found.bands == ("red",)
    with pytest.raises(BandError, match="no band 'pink'"):
        build_store(pairs, tmp_path / "t", Data(target_bands=("pink",)))


def test_cloudy_pairs_and_holes_are_left_out(tmp_path):
    source, target = make_cubes(3)
    target[1, :, :, :30] = np.nan  # three quarters
    target[2, :, :8, :8] = np.nan
    pairs = xh.collect_pairs(source, target, min_valid=0.0, max_score=None)
    found = build_store(pairs, tmp_path / "s", Data(patch=16))
    kept = {number: int(found.kept[found.pair == number].sum()) for number in (0, 1, 2)}
    assert kept[1] == 0
    assert 0 < kept[2] < kept[0]
    assert found.pairs[1].missing > 0.7


def test_a_store_is_read_back(store):
    found = open_store(store.path)
    assert found.pairs == store.pairs
    assert found.lattice == store.lattice
    np.testing.assert_array_equal(found.kept, store.kept)


def test_a_store_too_large_for_memory_is_read_sample_by_sample(store, monkeypatch):
    monkeypatch.setattr("xharmonize.training.store.IN_MEMORY", 0)
    found = open_store(store.path)
    numbers = np.flatnonzero(store.kept)[[5, 2, 9]]
    np.testing.assert_array_equal(found.read(numbers).target, store.read(numbers).target)


def test_histograms_count_valid_pixels_within_the_limits(store):
    part = store.read(np.flatnonzero(store.kept)[:1])
    band = store.source_bands.index("nir")
    low, high = store.limits[band]
    values = part.exact[0, band]
    expected, _ = np.histogram(np.clip(values[np.isfinite(values)], low, high), 256, (low, high))
    np.testing.assert_allclose(part.histograms[0, band], expected, atol=2)
    assert part.histograms[0, band].sum() == np.isfinite(values).sum()


def test_what_cannot_be_cut_is_refused_before_anything_is_written(pairs, tmp_path):
    for data, error, match in (
        (Data(patch=15), GridError, "multiple of 2"),
        (Data(patch=512), FitError, "does not fit into 40 x 40"),
        (Data(patch=16, stride=3), FitError, "multiple of 2"),
    ):
        with pytest.raises(error, match=match):
            build_store(pairs, tmp_path / "s", data)
    assert not list(tmp_path.iterdir())


def test_pairs_without_a_valid_sample_are_refused(tmp_path):
    hidden = hide_target(make_pairs(2))
    with pytest.raises(FitError, match="no sample of 16 x 16 target pixels is valid enough"):
        build_store(hidden, tmp_path / "s", Data(patch=16))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_work_starts(pairs, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6, 10**3))
    with pytest.raises(StoreError, match=r"need up to .* MB, .* are free"):
        build_store(pairs, tmp_path / "s", Data(patch=16))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(pairs, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xharmonize.training.cutting._put", full)
    with pytest.raises(StoreError, match="No space left"):
        build_store(pairs, tmp_path / "s", Data(patch=16))
    assert not list(tmp_path.iterdir())


def test_interpolated_coarse_bands_are_refused(tmp_path):
    source, target = make_cubes(2)
    source[:, 4] = source[:, 4].rolling(x=3, center=True, min_periods=1).mean()
    with pytest.raises(xh.errors.ModelError, match="interpolated"):
        build_store(
            xh.collect_pairs(source, target, max_score=None), tmp_path / "s", Data(patch=16)
        )


def test_no_store_is_said_so(tmp_path):
    with pytest.raises(StoreError, match="holds no samples"):
        open_store(tmp_path)
