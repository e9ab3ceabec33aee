"""Losses beside formulas written out in numpy, in float64; masks; ranks."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.ranks import on_ranks

torch = pytest.importorskip("torch")

from xharmonize.training import losses  # noqa: E402
from xharmonize.training.ranks import Alone  # noqa: E402

ALONE = Alone()
RANDOM = np.random.default_rng(0)
SHAPE = (6, 3, 5, 4)
DATE = np.array([0, 0, 2, 2, 2, 5])


@pytest.fixture(scope="module")
def samples():
    """Prediction, target and validity of six samples of three dates, float64."""
    prediction, target = RANDOM.normal(size=(2, *SHAPE))
    valid = RANDOM.random(SHAPE) < 0.7
    return prediction, target, valid


def tensors(*arrays):
    return [torch.from_numpy(np.array(array)) for array in arrays]


def by_hand(prediction, target, valid, weight):
    """The residual, one date, band and pixel after the other."""
    found = np.zeros(SHAPE)
    for date in np.unique(DATE):
        for band in range(SHAPE[1]):
            of_date = [
                (n, y, x)
                for n in np.flatnonzero(date == DATE)
                for y, x in np.argwhere(valid[n, band])
            ]
            errors = [prediction[n, band, y, x] - target[n, band, y, x] for n, y, x in of_date]
            level = sum(errors) / len(errors)
            for (n, y, x), error in zip(of_date, errors):
                found[n, band, y, x] = (error - level) + weight * level
    return found


@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_a_dates_mean_counts_by_its_weight(samples, weight):
    prediction, target, valid = samples
    found = losses.residual(*tensors(*samples, DATE), ALONE, date_weight=weight)
    expected = by_hand(prediction, target, valid, weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    mask = torch.from_numpy(valid)
    errors = expected[valid]
    assert losses.absolute(found, mask, ALONE).item() == pytest.approx(np.abs(errors).mean())
    assert losses.squared(found, mask, ALONE).item() == pytest.approx((errors**2).mean())


def test_an_offset_of_a_date_counts_for_its_weight_only():
    target = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    prediction = target + torch.tensor([0.2, -0.4], dtype=torch.float64)[:, None, None, None]
    date, valid = torch.arange(2), torch.ones_like(target, dtype=torch.bool)
    left = losses.residual(prediction, target, valid, date, ALONE, date_weight=0.1)
    assert losses.absolute(left, valid, ALONE).item() == pytest.approx(0.03)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_what_is_not_valid_has_no_part_in_values_or_gradients(samples, weight):
    prediction, target, valid, date = tensors(*samples, DATE)

    def run(prediction, target):
        prediction = prediction.clone().requires_grad_()
        left = losses.residual(prediction, target, valid, date, ALONE, date_weight=weight)
        loss = losses.absolute(left, valid, ALONE)
        loss.backward()
        return loss.item(), prediction.grad

    value, gradient = run(prediction, target)
    for strange in (float("nan"), float("inf"), -9999.0):
        other = run(prediction, torch.where(valid, target, strange))
        assert other[0] == value
        assert torch.equal(other[1], gradient)
        other = run(torch.where(valid, prediction, strange), target)
        assert other[0] == value
        assert torch.equal(other[1], gradient)
    assert not gradient[~valid].any()
    assert gradient[valid].isfinite().all()


def test_nothing_valid_is_zero_and_has_finite_gradients(samples):
    prediction, target, valid, date = tensors(*samples, DATE)
    prediction.requires_grad_()
    left = losses.residual(prediction, target, valid & False, date, ALONE, date_weight=0.1)
    loss = losses.absolute(left, valid & False, ALONE)
    loss.backward()
    assert loss.item() == 0
    assert not prediction.grad.any()


def test_gradients_are_those_of_finite_differences(samples):
    prediction, target, valid, date = tensors(*samples, DATE)
    prediction.requires_grad_()

    def loss(prediction):
        left = losses.residual(prediction, target, valid, date, ALONE, date_weight=0.1)
        return losses.squared(left, valid, ALONE)

    assert torch.autograd.gradcheck(loss, prediction, fast_mode=True)


def test_tables_pay_for_steps_and_for_decreases():
    table = torch.tensor([[[0.0, 0.1, 0.4, 0.2], [0.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    both = torch.cat([table, table * 0])
    assert losses.roughness(both).item() == pytest.approx((0.1**2 + 0.3**2 + 0.2**2) / 2)
    assert losses.decrease(both).item() == pytest.approx(0.2 / 2)
    rising = torch.linspace(0, 1, 256).expand(1, 4, 256)
    assert losses.decrease(rising).item() == 0


def log_sigmoid(values):
    return -np.log1p(np.exp(-values))


def test_relativistic_losses_are_those_of_the_paper_with_the_roles_swapped():
    real, fake = RANDOM.normal(size=(2, 4, 1, 3, 3))
    ours = tensors(real, fake)
    of_real, of_fake = real - fake.mean(), fake - real.mean()  # D = sigmoid of these
    expected = -log_sigmoid(of_real).mean() - log_sigmoid(-of_fake).mean()
    assert losses.discriminator_loss(*ours, ALONE).item() == pytest.approx(expected)
    swapped = -log_sigmoid(-of_real).mean() - log_sigmoid(of_fake).mean()
    assert losses.generator_loss(*ours, ALONE).item() == pytest.approx(swapped)


def test_absolute_losses_are_binary_cross_entropy():
    real, fake = tensors(*RANDOM.normal(size=(2, 4, 1, 3, 3)))
    cross = torch.nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    found = losses.discriminator_loss(real, fake, ALONE, kind="absolute")
    torch.testing.assert_close(found, cross(real, one) + cross(fake, zero))
    found = losses.generator_loss(real, fake, ALONE, kind="absolute")
    torch.testing.assert_close(found, cross(fake, one))


@pytest.mark.parametrize("kind", ["relativistic", "absolute"])
def test_adversarial_losses_of_extreme_logits_have_finite_gradients(kind):
    real = torch.tensor([1e4, -1e4], requires_grad=True)
    fake = torch.tensor([-1e4, 1e4], requires_grad=True)
    for loss in (losses.discriminator_loss, losses.generator_loss):
        value = loss(real, fake, ALONE, kind=kind)
        value.backward()
        assert value.isfinite()
    assert real.grad is None or real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_together_give_the_loss_of_the_union_of_their_batches(samples, n_ranks):
    prediction, target, valid, date = tensors(*samples, DATE)
    order = torch.tensor([0, 3, 1, 4, 2, 5])  # each rank has dates of the others
    logits = torch.from_numpy(RANDOM.normal(size=(2, 6, 1, 2, 2)))
    valid = valid.clone()
    valid[0] = False  # ranks have different numbers of valid pixels

    def run(part, ranks):
        values, scores = prediction[part].requires_grad_(), logits[:, part].requires_grad_()
        left = losses.residual(
            values, target[part], valid[part], date[part], ranks, date_weight=0.1
        )
        loss = losses.absolute(left, valid[part], ranks)
        loss = loss + losses.discriminator_loss(*scores, ranks)
        loss = loss + 2 * losses.generator_loss(*scores, ranks)
        loss.backward()
        return loss.item(), values.grad / ranks.size, scores.grad / ranks.size

    whole = run(order, ALONE)
    parts = order.chunk(n_ranks)
    apart = on_ranks(n_ranks, lambda ranks: run(parts[ranks.rank], ranks))
    assert np.mean([loss for loss, *_ in apart]) == pytest.approx(whole[0], rel=1e-12)
    for axis, one in enumerate(whole[1:]):
        other = torch.cat([found[1 + axis] for found in apart], axis)
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-14)
