"""Trainings that ranks do in tests: functions that workers import by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xharmonize.cluster import Rank


def gradients(
    rank: Rank | None, job: Any, numbers: list[int], step: int
) -> list[tuple[str, float, dict[str, np.ndarray]]]:
    """Each loss of a batch with its value and gradients, averaged over ranks; weights stay."""
    import torch

    from xharmonize.training.feed import Feed
    from xharmonize.training.protocol import StepInfo
    from xharmonize.training.ranks import Alone, Group
    from xharmonize.training.store import open_store

    device = torch.device("cpu")
    torch.set_num_threads(1)
    ranks = Alone() if rank is None else Group(device)
    method = job.method(device, ranks)
    stir(method)
    feed = Feed(
        store=open_store(job.samples), card=job.card, constants=job.constants, device=device
    )
    share = len(numbers) // ranks.size
    own = np.array(numbers[ranks.rank * share : (ranks.rank + 1) * share])
    info = StepInfo(step=step, epoch=0, seed=0, ranks=ranks)
    found = []
    for name, loss, _ in method.losses(feed.batch(own, clip=True), info):
        parameters = {
            f"{part}.{key}": value
            for part, network in method.networks.items()
            for key, value in network.named_parameters()
            if value.requires_grad
        }
        loss.backward(inputs=list(parameters.values()))
        ranks.mean_gradients(parameters.values())
        mean = float(ranks.mean(loss.detach()))
        taken = {k: v.grad.numpy().copy() for k, v in parameters.items() if v.grad is not None}
        found.append((name, mean, taken))
        for value in parameters.values():
            value.grad = None
    return found


def stir(method: Any) -> None:
    """Move weights away from zero, where a network begins at its line and gradients vanish."""
    import torch

    with torch.no_grad():
        for network in method.networks.values():
            for key, value in sorted(network.named_parameters()):
                if value.requires_grad:
                    seed = torch.Generator().manual_seed(len(key) + value.numel())
                    value.add_(torch.randn(value.shape, generator=seed) * 0.02)


def look(rank: Rank, folder: str) -> list[str]:
    """What a worker sees in a folder."""
    from helpers.rank_functions import total

    total(rank)
    return sorted(one.name for one in Path(folder).glob("*"))
