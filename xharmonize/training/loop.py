"""The loop: batches, accumulation, optimisers, averaged weights, early stopping, checkpoints.

An interrupted training goes on from its last checkpoint and ends with the same weights, bit for bit
on one process: order and augmentation of samples are functions of the step, and a checkpoint has
all else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize.errors import FitError
from xharmonize.training import checkpoint
from xharmonize.training.checkpoint import BEST, LAST, Checkpoints, Progress
from xharmonize.training.config import Method as Settings
from xharmonize.training.config import Run
from xharmonize.training.feed import Ahead, Feed, Read
from xharmonize.training.log import Silent
from xharmonize.training.protocol import Batch, Method, StepInfo
from xharmonize.training.ranks import Ranks
from xharmonize.training.sampler import batch_at
from xharmonize.training.split import Split
from xharmonize.types import AnyArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One training.

    Attributes
    ----------
    method : Method
    settings : Method of `training.config`
        Steps, batches, averaging and stopping.
    run : Run
    feed : Feed
    split : Split
    ranks : Ranks
    checkpoints : Checkpoints
    log : Log
    """

    method: Method
    settings: Settings
    run: Run
    feed: Feed
    split: Split
    ranks: Ranks
    checkpoints: Checkpoints
    log: Silent

    def train(self) -> dict[str, AnyArray]:
        """Train from the last checkpoint, or from the start, and return the best weights.

        Raises
        ------
        FitError
            If the loss is not finite.
        StoreError
            If a checkpoint cannot be written or is damaged.
        """
        with _threads(self.run.threads), Ahead(self._read) as ahead:
            average, progress = self._begin()
            while not self._is_over(progress):
                self.ranks.check()
                self._step(ahead.take(progress.step), progress.step, average)
                progress.step += 1
                if progress.step % self.settings.evaluate == 0 or self._is_last(progress):
                    self._evaluate(average, progress)
                if progress.step % self.run.save == 0 or self._is_over(progress):
                    self._save(average, progress)
        self.log.close()
        found = self.checkpoints.load(BEST)
        weights = average if found is None else found[0]
        return {name: value.detach().cpu().numpy() for name, value in weights.items()}

    def _begin(self) -> tuple[dict[str, Tensor], Progress]:
        """Averaged weights and progress: of the last checkpoint, or of the start."""
        method, found = self.method, self.checkpoints.load(LAST)
        if found is not None:
            average, progress = checkpoint.restore(method.networks, method.optimizers, *found)
            self.log.begin(progress.step)
            device = self.feed.device
            return {name: value.to(device) for name, value in average.items()}, progress
        torch.manual_seed(self.settings.seed)
        average = {
            name: value.detach().clone()
            for name, value in method.networks["generator"].state_dict().items()
        }
        self.log.begin(-1)
        progress = Progress()
        self._evaluate(average, progress)  # a network that never improves ends as it began
        self._save(average, progress)
        return average, progress

    def _is_last(self, progress: Progress) -> bool:
        return progress.step >= self.settings.steps

    def _is_over(self, progress: Progress) -> bool:
        patience = self.settings.patience
        return self._is_last(progress) or bool(patience and progress.stale >= patience)

    def _read(self, step: int) -> tuple[int, Batch]:
        """Epoch of a step, and this rank's samples in it; there is nothing after the last."""
        epoch, numbers = batch_at(
            self.split.training,
            min(step, self.settings.steps - 1),
            batch=self.settings.batch,
            seed=self.settings.seed,
            rank=self.ranks.rank,
            size=self.ranks.size,
        )
        return epoch, self.feed.batch(numbers, clip=True)

    def _step(self, read: Read, step: int, average: dict[str, Tensor]) -> None:
        """Take one step: each loss in its turn, gradients averaged over ranks."""
        start, seed = time.perf_counter(), self.settings.seed
        epoch, batch = read.value
        info = StepInfo(step=step, epoch=epoch, seed=seed, ranks=self.ranks)
        told: dict[str, float] = {}
        losses = self.method.losses(batch, info)
        while True:
            with self._precision():  # the method computes a loss when it is asked for it
                found = next(losses, None)
            if found is None:
                break
            name, loss, parts = found
            if not bool(torch.isfinite(loss)):
                raise FitError(
                    f"the loss of {name!r} is {float(loss.detach())} in step {step + 1}",
                    cure="lower learning_rate, with another out=: a training keeps its settings",
                )
            told |= {f"{name}: {key}": float(value) for key, value in parts.items()}
            self._improve(self.method.optimizers[name], loss)
        _follow(average, self.method.networks["generator"], _decay(self.settings.ema, step))
        seconds = {
            "seconds": read.seconds + time.perf_counter() - start,
            "seconds_data": read.seconds,
            "seconds_ranks": self.ranks.waited(),
        }
        self._tell(step + 1, epoch, told, seconds)

    def _improve(self, optimizer: Optimizer, loss: Tensor) -> None:
        """One step of an optimiser; nothing but its own parameters gets gradients."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        loss.backward(inputs=parameters)
        self.ranks.mean_gradients(parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        device = self.feed.device.type
        is_half = self.run.precision == "bfloat16" and device == "cuda"
        with torch.autocast(device, dtype=torch.bfloat16, enabled=is_half):
            yield

    def _tell(
        self, step: int, epoch: int, told: Mapping[str, float], seconds: Mapping[str, float]
    ) -> None:
        """Log the losses of all ranks, and where this one's time went."""
        if step % self.run.log == 0 or step == self.settings.steps:
            own = torch.tensor(list(told.values()), dtype=torch.float64, device=self.feed.device)
            told = dict(zip(told, self.ranks.mean(own).tolist()))
            rounded = {name: round(value, 4) for name, value in seconds.items()}
            self.log.tell(step, epoch=epoch, **told, **rounded)
        text = ", ".join(f"{name.partition(': ')[2]} {value:.4f}" for name, value in told.items())
        self.log.advance(step, text or "training")

    def _evaluate(self, average: Mapping[str, Tensor], progress: Progress) -> None:
        """Score the averaged weights on the validation samples; keep them where they are best."""
        generator = self.method.networks["generator"]
        with _lent(generator, average):
            score = self.score(self.split.validation)
        is_better = score < progress.best
        progress.stale = 0 if is_better else progress.stale + 1
        if is_better:
            progress.best, progress.best_step = score, progress.step
            self.checkpoints.save(BEST, average, {"step": progress.step, "score": score})
        self.log.tell(progress.step, validation=score, is_best=is_better)

    def score(self, numbers: IntArray) -> float:
        """Relative error of samples [%], the level of each date counting as in the loss.

        ERGAS at ratio 1 of each pair, of which the squared mean error of a band has the weight
        that dates' means have in the loss; the mean over pairs.
        """
        store, output = self.feed.store, self.feed.card.output
        rows, columns = store.core
        sums = np.zeros((len(store.pairs), 4, len(output.bands)))
        own = numbers[self.ranks.rank :: self.ranks.size]
        for start in range(0, len(own), 16):
            part = own[start : start + 16]
            batch = self.feed.batch(part, clip=False)
            estimate = self.method.predict(batch)
            for k, number in enumerate(part):
                ours, observed, valid = (
                    array[k, :, rows, columns].double().cpu().numpy()
                    for array in (estimate, batch.target, batch.valid)
                )
                sums[store.pair[number]] += _moments(
                    ours, observed, valid, np.array(output.mean), np.array(output.scale)
                )
        total = self.ranks.sum(torch.from_numpy(sums).to(self.feed.device)).cpu().numpy()
        pairs = np.unique(store.pair[numbers])
        return float(np.mean([_relative(total[k], self.settings.date_weight) for k in pairs]))

    def _save(self, average: Mapping[str, Tensor], progress: Progress) -> None:
        method = self.method
        found = checkpoint.gather(method.networks, method.optimizers, average, progress)
        self.checkpoints.save(LAST, *found)


def _moments(
    estimate: AnyArray, target: AnyArray, valid: AnyArray, mean: AnyArray, scale: AnyArray
) -> AnyArray:
    """Count, sum of errors, of their squares and of the target [1] of each band: (4, band)."""
    is_valid = valid > 0
    error = np.where(is_valid, (estimate - target) * scale[:, None, None], 0)
    value = np.where(is_valid, target * scale[:, None, None] + mean[:, None, None], 0)
    parts = (is_valid, error, error**2, value)
    return np.array([part.sum(axis=(1, 2), dtype=np.float64) for part in parts])


def _relative(sums: AnyArray, date_weight: float) -> float:
    count, error, square, value = sums
    used = count > 0
    bias, level = error[used] / count[used], value[used] / count[used]
    squared = square[used] / count[used] - (1 - date_weight) * bias**2
    return float(100 * np.sqrt(np.mean(squared / level**2)))


def _decay(most: float, step: int) -> float:
    """Decay of the moving average: less at the beginning, whose weights are soon forgotten."""
    return min(most, (1 + step) / (10 + step))


def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Move averaged weights towards the present ones; counters are copied."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)


@contextmanager
def _lent(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Run a network with other weights for a while."""
    own = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(dict(weights))
    try:
        yield
    finally:
        network.load_state_dict(own)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let torch use some threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
