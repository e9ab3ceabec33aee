"""STARFM against slow computations from the paper."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fusion_oracles import starfm_image, starfm_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from xharmonize.errors import OptionError
from xharmonize.kernels.starfm import Search, spread_of, starfm


def scene(shape, *, n_pairs=1, missing=0.0, seed=0):
    """Coarse image, and fine and coarse ones of pairs, (band, y, x) and (pair, band, y, x)."""
    random = np.random.default_rng(seed)
    pairs = (n_pairs, *shape)
    fine = 0.2 + 0.2 * gaussian_filter(random.normal(size=pairs), (0, 0, 1.5, 1.5))
    partner = gaussian_filter(fine, (0, 0, 3, 3))
    coarse = partner.mean(axis=0) + 0.05 * gaussian_filter(random.normal(size=shape), (0, 4, 4))
    images = [one.astype(np.float32) for one in (coarse, fine, partner)]
    for one in images:
        one[random.random(one.shape) < missing] = np.nan
    return images


@pytest.mark.parametrize("n_pairs", [1, 2])
def test_a_pixel_is_what_the_paper_says(n_pairs):
    coarse, fine, partner = scene((2, 40, 37), n_pairs=n_pairs, missing=0.05)
    spread = spread_of(fine)
    found = starfm(coarse, fine, partner, spread)
    for band, y, x in [(0, 0, 0), (1, 20, 18), (0, 39, 36), (1, 5, 30), (0, 31, 3)]:
        expected = starfm_pixel(
            coarse[band], fine[:, band], partner[:, band], spread[:, band], y, x
        )
        np.testing.assert_allclose(found[band, y, x], expected, atol=1e-6)


@given(
    window=st.sampled_from([1, 3, 5, 9, 15]),
    m=st.sampled_from([0.5, 4, 30]),
    unc=st.sampled_from([0.0, 0.005, 0.1]),
    n_pairs=st.integers(1, 2),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    missing=st.sampled_from([0.0, 0.1, 0.6]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_an_image_is_what_straightforward_numpy_gives(
    window, m, unc, n_pairs, shape, missing, seed
):
    coarse, fine, partner = scene(shape, n_pairs=n_pairs, missing=missing, seed=seed)
    # Steps that are exact in both precisions: whether a pixel counts is the same in both.
    coarse, fine, partner = (np.round(one * 1024) / 1024 for one in (coarse, fine, partner))
    spread = np.full((n_pairs, shape[0]), 0.05)
    search = Search(window=window, n_classes=m, fine_uncertainty=unc, coarse_uncertainty=unc)
    found = starfm(coarse, fine, partner, spread, search=search)
    expected = starfm_image(coarse, fine, partner, spread, window=window, m=m, unc=unc)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    is_served = np.isfinite(fine + partner + coarse).any(axis=0)
    np.testing.assert_array_equal(np.isfinite(found), is_served)


@given(
    window=st.sampled_from([1, 5, 31]),
    row=st.integers(0, 60),
    column=st.integers(0, 30),
    size=st.tuples(st.integers(1, 25), st.integers(1, 600)),
)
@settings(max_examples=20, deadline=None)
def test_a_block_with_its_margin_is_part_of_the_whole(window, row, column, size):
    images = scene((1, 70, 560), n_pairs=2, missing=0.1)
    spread = spread_of(images[1])
    search = Search(window=window)
    whole = starfm(*images, spread, search=search)
    m = search.margin
    around = [
        np.pad(one, [(0, 0)] * (one.ndim - 2) + [(m, m)] * 2, constant_values=np.nan)
        for one in images
    ]
    high, wide = min(size[0], 70 - row), min(size[1], 560 - column)
    blocks = [one[..., row : row + high + 2 * m, column : column + wide + 2 * m] for one in around]
    part = starfm(*blocks, spread, search=search, margin=m)
    np.testing.assert_array_equal(part, whole[:, row : row + high, column : column + wide])


def test_without_change_it_is_the_fine_image_where_that_is_similar_only_to_itself():
    coarse, fine, partner = scene((1, 30, 30))
    found = starfm(partner[0], fine, partner, np.zeros((1, 1)))
    np.testing.assert_allclose(found, fine[0], atol=1e-7)
    assert coarse.shape == found.shape


def test_a_change_that_is_the_same_everywhere_is_added():
    _, fine, partner = scene((2, 30, 30))
    spread = spread_of(fine)
    still = starfm(partner[0], fine, partner, spread)
    later = starfm(partner[0] + 0.25, fine, partner, spread)
    # T is the same everywhere, at each date: the weights keep their proportions.
    np.testing.assert_allclose(later - still, 0.25, atol=2e-6)


def test_arguments_stay_as_they_are():
    images = scene((1, 20, 20), missing=0.2)
    before = [one.copy() for one in images]
    starfm(*images, spread_of(images[1]))
    for one, other in zip(images, before):
        np.testing.assert_array_equal(one, other)


def test_spread_is_that_of_valid_pixels():
    fine = scene((2, 20, 20), n_pairs=2, missing=0.3)[1]
    fine[0, 0] = np.nan
    found = spread_of(fine)
    assert np.isnan(found[0, 0])
    np.testing.assert_allclose(found[1], np.nanstd(fine[1].astype(float), axis=(1, 2)))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("window", 30),
        ("window", -1),
        ("n_classes", 0),
        ("spatial_factor", np.nan),
        ("fine_uncertainty", -0.1),
        ("coarse_uncertainty", np.inf),
    ],
)
def test_options_that_mean_nothing_are_refused(argument, value):
    with pytest.raises(OptionError, match=argument):
        Search(**{argument: value})


def test_images_of_other_shapes_are_refused():
    coarse, fine, partner = scene((1, 20, 20))
    with pytest.raises(ValueError, match="do not go together"):
        starfm(coarse[:, 1:], fine, partner, spread_of(fine))
