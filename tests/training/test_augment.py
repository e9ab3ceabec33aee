"""Augmentation and the random numbers behind it: functions of the sample, with gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xharmonize.models.nets.draws import keys_of, normal, uniform  # noqa: E402
from xharmonize.training.augment import POLICIES, augment  # noqa: E402

ALL = tuple(POLICIES)
KEYS = keys_of(torch.arange(40), 7, 3)
IMAGES = torch.rand(40, 6, 16, 24, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize("policies", [*[(one,) for one in ALL], ALL])
def test_a_samples_change_does_not_depend_on_its_batch(policies):
    whole = augment(IMAGES, KEYS, policies)
    part = [5, 31, 2]
    found = augment(IMAGES[part], KEYS[part], policies)
    torch.testing.assert_close(found, whole[part], rtol=0, atol=1e-6)
    assert not torch.equal(whole[5], augment(IMAGES[[5]], KEYS[[6]], policies)[0])


def test_the_target_and_its_prediction_are_changed_alike():
    both = augment(torch.cat([IMAGES, IMAGES]), torch.cat([KEYS, KEYS]), ALL)
    assert torch.equal(both[:40], both[40:])


@pytest.mark.parametrize("policy", ALL)
def test_gradients_pass(policy):
    images = IMAGES[:2, :2, :8, :8].double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda images: augment(images, KEYS[:2], [policy]), images, fast_mode=True
    )


def test_colors_are_one_affine_map_of_level_grey_and_departure():
    found = augment(IMAGES, KEYS, ["color"])
    brightness = (found.mean((1, 2, 3)) - IMAGES.mean((1, 2, 3))).numpy()
    assert np.abs(brightness).max() <= 0.5 + 1e-5
    assert brightness.std() > 0.2
    grey, before = (one.mean(1).flatten(1) for one in (found, IMAGES))
    grey, before = (one - one.mean(1, keepdim=True) for one in (grey, before))
    contrast = (grey * before).sum(1, keepdim=True) / (before**2).sum(1, keepdim=True)
    torch.testing.assert_close(grey, contrast * before, rtol=0, atol=1e-5)
    assert 0.5 <= contrast.min() < 0.7 < 1.3 < contrast.max() <= 1.5


def test_translation_moves_whole_pixels_by_an_eighth_at_most():
    found = augment(IMAGES, KEYS, ["translation"]).numpy()
    shifts = set()
    for before, after in zip(IMAGES.numpy(), found):
        padded = np.pad(before, ((0, 0), (2, 2), (3, 3)))
        fits = [
            (y, x)
            for y in range(5)
            for x in range(7)
            if np.array_equal(padded[:, y : y + 16, x : x + 24], after)
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert {y for y, _ in shifts} == set(range(5))
    assert {x for _, x in shifts} >= {0, 1, 5, 6}


def test_cutout_sets_a_square_to_zero_and_leaves_the_rest():
    found = augment(IMAGES, KEYS, ["cutout"])
    is_cut = (found == 0).all(1)
    assert torch.equal(found * ~is_cut[:, None], IMAGES * ~is_cut[:, None])
    sides = [(int(cut.any(1).sum()), int(cut.any(0).sum())) for cut in is_cut]
    assert all(cut.sum() == y * x for cut, (y, x) in zip(is_cut, sides))
    assert max(sides) == (8, 12)
    assert min(y for y, _ in sides) >= 4


def test_no_policy_changes_nothing():
    assert augment(IMAGES, KEYS, ()) is IMAGES


def test_numbers_are_uniform_and_normal_and_do_not_correlate():
    from scipy import stats

    keys = keys_of(torch.arange(64), 1)
    drawn = uniform(keys, (64, 64)).numpy()
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(normal(keys, (64, 64)).numpy().ravel(), "norm").pvalue > 1e-3
    between = np.corrcoef(drawn.reshape(64, -1))
    assert np.abs(between - np.eye(64)).max() < 5 / 64  # 5 standard errors
    flat = drawn.reshape(64, -1)
    for lag in (1, 2, 64):
        assert abs(np.corrcoef(flat[:, :-lag].ravel(), flat[:, lag:].ravel())[0, 1]) < 0.01


def test_keys_differ_with_every_part_and_are_the_same_everywhere():
    index = torch.arange(10_000)
    assert len(set(keys_of(index, 0).tolist())) == 10_000
    assert (
        len({int(keys_of(index[:1], seed, step)) for seed in range(9) for step in range(9)}) == 81
    )
    assert keys_of(index[3:5], 7, 3).tolist() == KEYS[3:5].tolist()
    # Written down once: a change would make interrupted trainings go on otherwise.
    assert keys_of(torch.tensor([0, 1, 2**40]), 5).tolist() == WRITTEN
    assert uniform(torch.tensor([1]), (2,))[0].tolist() == pytest.approx(NUMBERS, abs=1e-7)


WRITTEN = [1541878755, 1230249999, 2313254776]
NUMBERS = [0.3513569235801697, 0.13681453466415405]
