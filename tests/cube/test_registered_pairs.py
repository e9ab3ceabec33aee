"""Pairs that are registered when they are collected, and what is fitted on them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.moved import landscape, moved_cube

import xharmonize as xh
from xharmonize.cube.pairs import on_target_grid, shifts_in, with_shifts
from xharmonize.harmonizers import fit_auto, validation
from xharmonize.training.closed import leave_one_out
from xharmonize.training.config import MultiOls

DATES = [f"2018-07-{day:02d}" for day in (1, 6, 11, 16, 21)]
SHIFTS = np.array([[8.0, -3.0], [1.0, 9.0], [12.0, 4.0], [6.0, -8.0], [3.0, 3.0]])
TARGET_SHIFTS = np.array([[2.0, 1.0], [-2.0, 0.0], [0.0, -1.0]])

pytestmark = pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")


@pytest.fixture(scope="module")
def cubes():
    ground = landscape(600)
    target = moved_cube(
        ground,
        TARGET_SHIFTS,
        ["2018-07-02", "2018-07-12", "2018-07-17"],
        resolution=30,
        sensor="landsat-c2-l2",
        platform="landsat-8",
        seed=2,
    )
    return moved_cube(ground, SHIFTS, DATES), target


@pytest.fixture(scope="module")
def pairs(cubes):
    return xh.collect_pairs(*cubes, max_score=None, register=True)


def unlike(source, target):
    """One less the correlation of each pair: dates differ in brightness."""
    found = []
    for k in range(source.shape[0]):
        one, other = (side[k, :, 3:-3, 3:-3].ravel() for side in (source, target))
        found.append(1 - np.corrcoef(one, other)[0, 1])
    return float(np.mean(found))


def test_known_shifts_are_found_and_told(pairs):
    expected = SHIFTS[[0, 2, 3]] - TARGET_SHIFTS
    found = np.stack([pairs[f"shift_{axis}"].values for axis in "xy"], axis=-1)
    assert np.sqrt(((found - expected) ** 2).mean(axis=0)).max() < 1.0
    assert shifts_in(pairs).sizes["reference_time"] == 3


def test_fits_take_them_as_registered(pairs, cubes):
    bare = with_shifts(pairs, None)
    sides = [on_target_grid(one) for one in (pairs, bare)]
    errors = [unlike(both["source"].values, both["target"].values) for both in sides]
    assert errors[0] < 0.3 * errors[1]
    again = xh.collect_pairs(*cubes, max_score=None, register=shifts_in(pairs))
    xr.testing.assert_identical(again.to_dataset().drop_attrs(), pairs.to_dataset().drop_attrs())
    quality = [float(xh.fit_linear(one)["r2"].min()) for one in (pairs, bare)]
    assert quality[0] > quality[1]
    with pytest.raises(xh.errors.OptionError, match="register='yes' is no fit"):
        xh.collect_pairs(*cubes, register="yes")


@pytest.mark.slow
def test_auto_takes_the_shifts_that_are_there(pairs):
    given = fit_auto(with_shifts(pairs, None), shifts=shifts_in(pairs))
    xr.testing.assert_identical(fit_auto(pairs), given)
    assert "not registered" in fit_auto(pairs, register=False).attrs["history"]


def test_training_samples_are_registered_in_the_frame_of_the_source(pairs):
    """Inputs stay as they were observed: the target is moved."""
    from xharmonize.training import Data
    from xharmonize.training.places import read_places

    data = Data(patch=8)
    places = [read_places(one, data)[0] for one in (pairs, with_shifts(pairs, None))]
    errors = [unlike(place.exact.values, place.target.values) for place in places]
    assert errors[0] < 0.7 * errors[1]
    for one, other in zip(*(place.sources for place in places)):
        xr.testing.assert_identical(one.images, other.images)


@pytest.mark.parametrize("by", ["date", "block"])
def test_no_scored_target_is_read_for_its_own_shift(cubes, by):
    """The target of the second date is replaced by noise, and the shifts are fitted on that."""
    source, target = cubes
    spoilt = target.copy(data=target.values.copy())
    spoilt[1] = np.random.default_rng(0).random(spoilt[1].shape)
    folds = []
    for one in (target, spoilt):
        tree = xh.collect_pairs(source, one, max_score=None, register=True)
        fold = list(validation.leave_out(tree, by=by))[1]
        folds.append(fold)
        left = shifts_in(fold.look)
        seen = (
            [] if left is None or by == "block" else left["reference_time"].values.astype("M8[D]")
        )
        assert np.datetime64("2018-07-12") not in seen
    if by == "date":
        looks = [on_target_grid(fold.look)["source"].values for fold in folds]
        np.testing.assert_array_equal(*looks)
        rests = [on_target_grid(fold.rest)["source"].values for fold in folds]
        np.testing.assert_array_equal(*rests)


@pytest.mark.slow
def test_scores_of_a_closed_form_gain_by_registration(pairs):
    scores = [
        leave_one_out(one, MultiOls(), None)[0]["ergas_centred"].droplevel("reference")["multi-ols"]
        for one in (pairs, with_shifts(pairs, None))
    ]
    assert scores[0] < 0.9 * scores[1]


def test_networks_are_judged_registered_too_by_shifts_of_other_dates(pairs):
    """As they were trained; what is scored is never read for its own shift."""
    from xharmonize.cube.pairs import target_of
    from xharmonize.training.judge import mean_of, score_pair

    bands = target_of(pairs)["band"].values.astype(str)
    found = mean_of(score_pair({"identity": None}, pairs, 1, None, bands, {}))
    error = found["ergas_centred"].loc["identity"]
    assert error["observed, registered"] < 0.8 * error["observed"]
    # Shifts that rest on this target alone are not used.
    own = shifts_in(pairs).sel(reference_time=slice("2018-07-12", "2018-07-12"))
    is_own = own["second_time"].values.astype("M8[D]") == np.datetime64("2018-07-12")
    own = own.isel(edge=np.flatnonzero(is_own & own["is_reference"].values))
    notes = {}
    found = score_pair({"identity": None}, with_shifts(pairs, own), 1, None, bands, notes)
    assert {row["reference"] for row in found} == {"observed"}
    assert "rest on the scored date alone" in notes["observed, registered"]
    bare = with_shifts(pairs, None)
    scores = mean_of(score_pair({"identity": None}, bare, 1, None, bands, {}))
    assert scores.index.get_level_values(1).tolist() == ["observed"]
