"""Losses of networks: pixels that count, dates, tables, and adversaries.

Every mean runs over the samples of all ranks (`training.ranks`): a loss is this rank's part, and
the mean of the ranks' losses is the loss of the union of their batches. What is not valid has no
part in a value or a gradient, whatever stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from xharmonize.training.ranks import Ranks

Adversary: TypeAlias = Literal["relativistic", "absolute", "squares"]


def masked_mean(values: Tensor, valid: Tensor, ranks: Ranks) -> Tensor:
    """Mean over valid places of all ranks; 0 where there is none.

    Parameters
    ----------
    values : float tensor
        What is not valid may be anything, if its gradient is finite.
    valid : bool tensor
        Of the same shape.
    ranks : Ranks
        The processes that train together.

    Returns
    -------
    scalar tensor
        This rank's part: the mean over ranks of it is the mean over all valid places.
    """
    total = torch.where(valid, values, 0).sum()
    return total / ranks.mean(valid.sum().to(values.dtype)).clamp(min=1)


def residual(
    prediction: Tensor,
    target: Tensor,
    valid: Tensor,
    date: Tensor,
    ranks: Ranks,
    *,
    date_weight: float = 1.0,
) -> Tensor:
    """Prediction minus target, of which the part that is a date's mean counts less.

    A network learns the levels of the dates it has seen: their number, not that of the pixels, is
    what it has of them. With ``date_weight`` 0.1 that part of the loss has a tenth of its weight,
    and the differences within dates count fully. A date's mean is that of its valid pixels in the
    batch, over all ranks, per band: the fewer samples of a date stand in a batch, the more of what
    differs within it is taken for its level.

    Parameters
    ----------
    prediction, target : (n, band, y, x) tensor
        In the units of the output.
    valid : (n, band, y, x) bool tensor
        Pixels that count.
    date : (n,) int64 tensor
        Number of each sample's date.
    ranks : Ranks
        The processes that train together.
    date_weight : float
        Weight of dates' means, from 0 to 1.

    Returns
    -------
    (n, band, y, x) tensor
        ``r - (1 - date_weight) * mean of r over the date``; 0 where not valid.
    """
    own = torch.where(valid, prediction - target, 0)
    if date_weight == 1:
        return own
    sums, counts = own.sum((2, 3)), valid.sum((2, 3)).to(own.dtype)
    # As many rows as the highest number of a date needs; numbers beyond a rank's own stay zero.
    n_dates = _largest(date, ranks) + 1
    empty = own.new_zeros(n_dates, own.shape[1])
    totals = ranks.sum(empty.index_add(0, date, sums))
    means = totals / ranks.sum(empty.index_add(0, date, counts)).clamp(min=1)
    return torch.where(valid, own - (1 - date_weight) * means[date][..., None, None], 0)


def _largest(date: Tensor, ranks: Ranks) -> int:
    """The largest number of a date on any rank."""
    own = torch.zeros(ranks.size, dtype=torch.int64, device=date.device)
    own[ranks.rank] = date.max()
    return int(ranks.sum(own).max())


def absolute(residuals: Tensor, valid: Tensor, ranks: Ranks) -> Tensor:
    """Mean absolute residual of the valid pixels."""
    return masked_mean(residuals.abs(), valid, ranks)


def squared(residuals: Tensor, valid: Tensor, ranks: Ranks) -> Tensor:
    """Mean squared residual of the valid pixels."""
    return masked_mean(residuals.square(), valid, ranks)


def by_share(terms: Sequence[Tensor], ranks: Ranks) -> Tensor:
    """Sum of terms, each weighted by its share of their sum over all ranks.

    Shares have no gradient: the largest term has most weight, and none is lost sight of.

    References
    ----------
    Wu, J. et al. (2022), doi:10.1016/j.jag.2022.102738, eqs 5 and 6.
    """
    own = torch.stack(list(terms))
    known = ranks.mean(own.detach())
    return (own * known / known.sum().clamp(min=torch.finfo(own.dtype).tiny)).sum()


def roughness(tables: Tensor) -> Tensor:
    """Squared steps of tables (n, band, knot), summed over bands and knots; mean over samples."""
    return tables.diff(dim=-1).square().sum((1, 2)).mean()


def decrease(tables: Tensor) -> Tensor:
    """How far tables (n, band, knot) decrease, summed over bands and knots; mean over samples.

    Liu et al. (2023), doi:10.3390/rs15102563, print it with the other sign (their eq. 5), by which
    tables that rise would be penalised.
    """
    return functional.relu(-tables.diff(dim=-1)).sum((1, 2)).mean()


def discriminator_loss(
    real: Tensor, fake: Tensor, ranks: Ranks, *, kind: Adversary = "relativistic"
) -> Tensor:
    """What a discriminator minimises: binary cross-entropy of its logits.

    Parameters
    ----------
    real, fake : tensor
        Logits of target and of predicted images, of one forward of both.
    ranks : Ranks
        The processes that train together.
    kind : {"relativistic", "absolute", "squares"}
        Relativistic average: whether an image is more real than the other kind is on average, over
        all patches of all ranks. Absolute: whether it is real, as in pix2pix. Squares: the same by
        least squares, as in CycleGAN.

    Returns
    -------
    scalar tensor
        Sum of the two means.

    References
    ----------
    Jolicoeur-Martineau, A. (2019), The relativistic discriminator: a key element missing from
    standard GAN, ICLR, arXiv:1807.00734.
    """
    if kind == "squares":
        return (real - 1).square().mean() + fake.square().mean()
    if kind == "absolute":
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()
    real, fake = _relative(real, fake, ranks)
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(
    real: Tensor, fake: Tensor, ranks: Ranks, *, kind: Adversary = "relativistic"
) -> Tensor:
    """What a generator minimises against a discriminator; see `discriminator_loss`.

    Relativistic: ``-E[log(1 - D(real, fake))] - E[log D(fake, real)]``, the roles swapped. (The
    MGAN paper prints the discriminator's own loss for it: its eq. 4 is its eq. 3.) Absolute:
    ``-E[log D(fake)]``.
    """
    if kind == "squares":
        return (fake - 1).square().mean()
    if kind == "absolute":
        return functional.softplus(-fake).mean()
    real, fake = _relative(real, fake, ranks)
    return functional.softplus(real).mean() + functional.softplus(-fake).mean()


def _relative(real: Tensor, fake: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Logits less the mean of the other kind over all ranks."""
    means = ranks.mean(torch.stack([real.mean(), fake.mean()]))
    return real - means[1], fake - means[0]
