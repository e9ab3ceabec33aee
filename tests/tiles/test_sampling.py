"""Tiles are cut, filled and judged by one rule: training shows a network what it is run on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xharmonize.errors import ModelError
from xharmonize.models import Domain
from xharmonize.tiles import sampling

MEAN, SCALE = np.float32([0.1, 0.3]), np.float32([0.07, 0.3])


def image(shape: tuple[int, int] = (12, 10), *, missing: float = 0.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.uniform(0, 0.5, (2, *shape)).astype(np.float32)
    values[:, random.random(shape) < missing] = np.nan
    return values


def test_a_tile_is_cut_filled_and_normalised_as_by_each_step():
    whole = image(missing=0.3)
    tile = sampling.cut(whole, (2, 9), (1, 10), mean=MEAN, scale=SCALE)
    filled = sampling.fill(whole[:, 2:9, 1:10])
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(tile, sampling.normalise(filled, MEAN, SCALE))
    same = np.isfinite(whole[:, 2:9, 1:10])
    np.testing.assert_array_equal(filled[same], whole[:, 2:9, 1:10][same])


def test_beyond_the_edges_a_tile_is_mirrored():
    whole = image()
    one, none = np.ones(2, np.float32), np.zeros(2, np.float32)
    tile = sampling.cut(whole, (-2, 3), (8, 13), mean=none, scale=one)
    expected = np.pad(whole, ((0, 0), (2, 0), (0, 3)), mode="symmetric")[:, :5, 8:]
    np.testing.assert_array_equal(tile, expected)
    own = sampling.supplied(whole, (-2, 3), (8, 13))
    np.testing.assert_array_equal(own, whole[:, :3, 8:])


def test_pixels_are_numbered_as_the_caller_does():
    whole = image()
    part, first, there = whole[:, 3:9, 2:8], (103, 52), ((100, 112), (50, 60))
    options = {"mean": MEAN, "scale": SCALE}
    found = sampling.cut(part, (104, 108), (53, 57), first=first, there=there, **options)
    np.testing.assert_array_equal(found, sampling.cut(whole, (4, 8), (3, 7), **options))


def test_a_band_that_is_missing_throughout_gives_no_tile():
    whole = image()
    whole[1] = np.nan
    assert sampling.cut(whole, (0, 4), (0, 4), mean=MEAN, scale=SCALE) is None
    assert sampling.fill(whole) is None


def test_held_pixels_are_taken_back_and_interpolated_ones_refused():
    coarse = image((5, 4), missing=0.2)[None]
    held = coarse.repeat(2, axis=2).repeat(2, axis=3)
    found = sampling.own_pixels(held, 2, bands=["swir16"], gsd=20.0)
    np.testing.assert_array_equal(found, coarse)
    assert sampling.own_pixels(held, 1, bands=["red"], gsd=10.0) is held
    held[0, 0, 0, 0] = 0.9
    with pytest.raises(ModelError, match=r"band swir16 of 20 m differs .* interpolated"):
        sampling.own_pixels(held, 2, bands=["swir16"], gsd=20.0)


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return np.stack([image(missing=0.1, seed=seed) * (1 + seed / 10) for seed in range(6)])


@pytest.fixture(scope="module")
def domain(tiles) -> Domain:
    return sampling.make_domain([[(("red", "nir"), tiles)]], edges=(0.0, 1.0), n_bins=20)


def test_no_training_tile_is_far_from_the_training_data(tiles, domain):
    """To the last bit: the greatest distance is found by the function that compares with it."""
    limits = [domain.edges] * 2
    distances = []
    for one in sampling.count(tiles, limits, 20):
        assert not sampling.is_far(one, ("red", "nir"), limits, domain)
        distances.append(sampling.distance(one, ("red", "nir"), limits, domain))
    assert max(distances) == domain.max_distance
    strict = replace(domain, max_distance=np.nextafter(domain.max_distance, 0))
    counts = sampling.count(tiles, limits, 20)[int(np.argmax(distances))]
    assert sampling.is_far(counts, ("red", "nir"), limits, strict)


def test_only_known_bands_with_values_are_compared(tiles, domain):
    limits = [domain.edges] * 2
    far = sampling.count(tiles[:1] * 0 + 0.99, limits, 20)[0]
    assert sampling.is_far(far, ("red", "nir"), limits, domain)
    assert not sampling.is_far(far, ("blue", "green"), limits, domain)
    assert not sampling.is_far(far * 0, ("red", "nir"), limits, domain)
    finer = sampling.count(tiles[:1], [(0.0, 0.9), (0.1, 0.8)], 50)[0]
    assert not sampling.is_far(finer, ("red", "nir"), [(0.0, 0.9), (0.1, 0.8)], domain)


def test_the_range_of_the_training_data(tiles, domain):
    low, high = sampling.limits_of(domain, ("nir", "blue"), unknown=(-np.inf, np.inf))
    np.testing.assert_array_equal(low, [np.nanmin(tiles[:, 1]), -np.inf])
    np.testing.assert_array_equal(high, [np.nanmax(tiles[:, 1]), np.inf])
    assert np.isnan(sampling.limits_of(None, ("nir",), unknown=(np.nan, np.nan))).all()


def test_moments_leave_missing_pixels_out(tiles):
    mean, scale = sampling.moments(tiles)
    assert mean[0] == pytest.approx(np.nanmean(tiles[:, 0].astype(float)))
    assert scale[1] == pytest.approx(np.nanstd(tiles[:, 1].astype(float)))
