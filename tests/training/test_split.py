"""Splits: nothing that is scored was trained on, nor anything beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.training import make_pairs

from xharmonize.errors import FitError, OptionError
from xharmonize.training import Data, build_store, split
from xharmonize.training.sampler import batch_at

BLOCK, GUARD = 400.0, 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return build_store(make_pairs(5, side=24), folder / "samples", Data(patch=8))


@pytest.fixture(scope="module")
def one_date(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return build_store(make_pairs(1, side=60), folder / "samples", Data(patch=8))


def test_dates_are_held_out_as_a_whole(store):
    found = split(store, Data(patch=8))
    assert found.kind == "date"
    dates = [
        {store.pairs[k].date for k in store.pair[part]}
        for part in (found.training, found.validation, found.test)
    ]
    assert all(dates)
    assert len(set.union(*dates)) == sum(map(len, dates))


def test_a_named_date_is_held_out(store):
    date = store.pairs[2].date
    found = split(store, Data(patch=8, holdout=(date,)))
    assert set(store.pair[found.test]) == {2}
    assert found.describe().endswith(f"tested on {date}")


def rectangle(store, number):
    """Box of a sample's window [m], to the south and east."""
    side, tile = store.lattice.resolution, store.lattice.tile
    return [(at * side, (at + tile) * side) for at in (store.row[number], store.column[number])]


def gap(one, other):
    """Smallest distance along an axis between two boxes; negative where they meet."""
    return max(max(a[0] - b[1], b[0] - a[1]) for a, b in zip(one, other))


def test_no_training_window_comes_nearer_to_a_held_out_block_than_the_guard(one_date):
    found = split(one_date, Data(patch=8, block=BLOCK, guard=GUARD))
    assert found.kind == "block"
    held = [name for kind in ("test", "validation") for name in found.groups[kind]]
    blocks = [[(int(at) * BLOCK, (int(at) + 1) * BLOCK) for at in name.split("/")] for name in held]
    for number in found.training:
        assert all(gap(rectangle(one_date, number), block) >= GUARD for block in blocks)
    for number in found.validation:
        for name in found.groups["test"]:
            block = [(int(at) * BLOCK, (int(at) + 1) * BLOCK) for at in name.split("/")]
            assert gap(rectangle(one_date, number), block) >= GUARD


def core(store, number):
    """Box of the pixels of a sample that are scored [m]."""
    side, margin = store.lattice.resolution, store.lattice.buffer
    return [
        ((at + margin) * side, (at + margin + store.lattice.stride) * side)
        for at in (store.row[number], store.column[number])
    ]


@pytest.mark.slow
def test_no_pixel_that_is_scored_beyond_its_block_was_trained_on(tmp_path):
    """A core of 480 m may reach 240 m beyond its block: farther than the guard."""
    pairs = make_pairs(2, side=120)
    data = Data(patch=32, stride=4, block=600.0, guard=30.0, test=0.1, validation=0.1)
    store = build_store(pairs, tmp_path / "s", data)
    found = split(store, data)
    assert found.kind == "block"
    for trained, held in (
        (found.training, found.test),
        (found.training, found.validation),
        (found.validation, found.test),
    ):
        assert trained.size
        for one in trained:
            box = rectangle(store, one)
            assert all(gap(box, core(store, other)) >= data.guard for other in held)


def test_a_random_split_shows_the_leak(one_date):
    found = split(one_date, Data(patch=8, split="random"))
    gaps = [
        gap(rectangle(one_date, one), rectangle(one_date, other))
        for one in found.test
        for other in found.training
    ]
    assert min(gaps) < 0


def test_an_image_of_the_source_that_is_scored_was_not_trained_on(store):
    """Two dates of the target may stand in pairs with one of the source."""
    first, second, *rest = store.pairs
    shared = (first, replace(second, time_source=first.time_source), *rest)
    found = split(replace(store, pairs=shared), Data(patch=8, holdout=(first.date,)))
    assert set(store.pair[found.test]) == {0}
    assert 1 not in {*store.pair[found.training], *store.pair[found.validation]}


def test_scenes_are_places_and_dates(tmp_path):
    places = {"west": make_pairs(2, seed=1), "east": make_pairs(2, seed=2)}
    store = build_store(places, tmp_path / "s", Data(patch=16))
    found = split(store, Data(patch=16, split="scene"))
    names = [name for part in found.groups.values() for name in part]
    assert len(names) == 4
    assert {name.split("/")[0] for name in names} == {"west", "east"}


def test_splits_that_cannot_be_are_refused(store, one_date):
    with pytest.raises(FitError, match="1 date cannot be split"):
        split(one_date, Data(patch=8, split="date"))
    with pytest.raises(FitError, match="less than 20000 m"):
        split(one_date, Data(patch=8, block=20_000.0))
    with pytest.raises(FitError, match="no sample is left for"):
        split(one_date, Data(patch=8, block=700.0, guard=2000.0))
    with pytest.raises(OptionError, match="there are 2021-05-01"):
        split(store, Data(patch=8, holdout=("2021-05-02",)))
    dates = tuple(pair.date for pair in store.pairs)
    with pytest.raises(FitError, match="leaves 1 date"):
        split(store, Data(patch=8, holdout=dates[:4]))


def test_the_split_depends_on_its_seed_alone(store):
    one, same, other = (split(store, Data(patch=8, seed=seed)) for seed in (1, 1, 2))
    assert one.groups == same.groups
    others = [split(store, Data(patch=8, seed=seed)).groups for seed in range(6)]
    assert any(groups != one.groups for groups in others), other.groups


def test_every_epoch_has_every_sample_once():
    samples = np.arange(100, 117)
    seen = np.concatenate([batch_at(samples, step, batch=5, seed=3)[1] for step in range(34)])
    for epoch in range(10):
        part = seen[epoch * 17 : (epoch + 1) * 17]
        assert sorted(part) == sorted(samples)
    assert not np.array_equal(seen[:17], seen[17:34])


def test_ranks_together_have_the_batch_of_one_alone():
    samples = np.arange(23)
    for step in (0, 4, 11):
        epoch, whole = batch_at(samples, step, batch=8, seed=0)
        parts = [batch_at(samples, step, batch=8, seed=0, rank=r, size=4) for r in range(4)]
        assert {found for found, _ in parts} == {epoch}
        np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), whole)


def test_a_batch_may_be_larger_than_the_samples():
    assert sorted(batch_at(np.arange(3), 0, batch=7, seed=0)[1])[:2] == [0, 0]
