"""Simulated pairs for training: independent, reproducible, kept on disk, in the form of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from xharmonize.cube.pairs import on_target_grid, source_groups
from xharmonize.simulate.landscape import Cover
from xharmonize.testing import draw_places, no_compute, places, simulate_pair, simulate_pairs


@pytest.fixture(scope="module")
def three():
    return draw_places(3)


@pytest.fixture(scope="module")
def pair(three):
    return simulate_pair(three[0])


@pytest.fixture(scope="module")
def cache(tmp_path_factory, three):
    folder = tmp_path_factory.mktemp("pairs")
    simulate_pairs(three[:1], folder)
    return folder


def test_places_are_independent_of_their_number_and_of_each_other(three):
    drawn = draw_places(9)
    assert drawn[:3] == three
    assert len({place.simulation.seed for place in drawn}) == 9
    assert len({place.fingerprint for place in drawn}) == 9
    tests = [place for place in drawn if place.name.startswith("test")]
    assert {place.simulation.variant for place in tests} == {"b"}
    assert {place.simulation.start[:4] for place in tests} == {"2023"}
    assert not {"b"} & {p.simulation.variant for p in drawn if p not in tests}


def test_a_pair_has_the_form_of_collected_pairs_with_the_truth_beside(pair):
    groups = source_groups(pair)
    assert {name: float(g.x[1] - g.x[0]) for name, g in groups.items()} == {"10m": 10, "20m": 20}
    flat = on_target_grid(pair)
    known = pair["truth"]["reflectance"]
    assert known.shape == pair["target"]["reflectance"].shape
    assert flat["target"].dims == ("pair", "band", "y", "x")
    assert bool(np.isfinite(known).all())
    red = flat["source"].sel(source_band="red").values.ravel()
    ok = np.isfinite(red)
    assert ok.mean() > 0.5
    assert np.corrcoef(red[ok], known.sel(band="red").values.ravel()[ok])[0, 1] > 0.8
    assert pair.attrs["place"] == "train-000"


def test_levels_share_ground_weather_and_noise_but_not_errors(pair):
    registered = simulate_pair(draw_places(1, level="registered")[0])
    np.testing.assert_array_equal(
        pair["truth"]["reflectance"].values, registered["truth"]["reflectance"].values
    )
    known = pair["truth"]["reflectance"].values
    error = {
        name: float(np.sqrt(np.nanmean((tree["target"]["reflectance"].values - known) ** 2)))
        for name, tree in (("as it comes", pair), ("registered", registered))
    }
    assert error["registered"] < error["as it comes"]


@pytest.mark.slow
def test_pairs_on_disk_are_read_not_rendered(cache, three, pair, monkeypatch):
    def refuse(place):
        raise AssertionError(f"{place.name} is on disk")

    monkeypatch.setattr(places, "simulate_pair", refuse)
    with no_compute():
        found = simulate_pairs(three[:1], cache)
    for node in ("source/10m", "source/20m", "target", "truth"):
        np.testing.assert_array_equal(
            found["train-000"][node]["reflectance"].values, pair[node]["reflectance"].values
        )
    with pytest.raises(AssertionError, match="train-001"):
        simulate_pairs(three[:2], cache)


def test_a_killed_run_leaves_nothing_that_is_read(tmp_path, three, monkeypatch):
    class Dying:
        def to_zarr(self, path, **options):
            path.mkdir()
            (path / "half").write_text("written")
            raise KeyboardInterrupt

    monkeypatch.setattr(places, "simulate_pair", lambda place: Dying())
    with pytest.raises(KeyboardInterrupt):
        simulate_pairs(three[:1], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_some_places_lie_on_water():
    wet = draw_places(4)[2]
    tree = simulate_pair(wet)
    from xharmonize.simulate import truth

    cover = truth(
        wet.simulation, wet.simulation.start, like=tree["target"]["reflectance"]
    ).cover.values
    assert (cover == int(Cover.WATER)).mean() > 0.005


@pytest.mark.slow
def test_processes_render_the_same_pixels(tmp_path, three, pair):
    found = simulate_pairs([three[0], three[2]], tmp_path, workers=2)
    np.testing.assert_array_equal(
        found["train-000"]["target"]["reflectance"].values, pair["target"]["reflectance"].values
    )
