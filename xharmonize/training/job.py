"""What a network's training is once all is known that samples tell: the same on every rank."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xharmonize.models.card import Card
from xharmonize.training.checkpoint import Checkpoints
from xharmonize.training.config import Config
from xharmonize.training.constants import Constants
from xharmonize.training.feed import Feed
from xharmonize.training.log import Silent
from xharmonize.training.loop import Loop
from xharmonize.training.protocol import Line, Setup
from xharmonize.training.ranks import Alone, Group, Ranks
from xharmonize.training.split import Split
from xharmonize.training.store import open_store
from xharmonize.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training, fit to be sent to other processes.

    Attributes
    ----------
    config : Config
    card : Card
        Of the bundle to come.
    constants : Constants
    line, band_lines : Line
        See `training.protocol.Setup`.
    split : Split
    samples : str
        Path or URL of the patch store.
    checkpoints : str
        Folder of the checkpoints.
    """

    config: Config
    card: Card
    constants: Constants
    line: Line
    band_lines: Line
    split: Split
    samples: str
    checkpoints: str

    def run(
        self,
        log: Silent,
        *,
        device: str,
        ranks: Ranks | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> dict[str, AnyArray]:
        """Train, from the last checkpoint if there is one, and return the best weights.

        Parameters
        ----------
        log : Log, Sent or Silent
        device : str
            Torch's name of it.
        ranks : Ranks, optional
            The processes that train together; by default this one alone.
        checkpoints : Checkpoints, optional
            By default those of the folder.
        """
        method: Any = self.config.method
        ranks = Alone() if ranks is None else ranks
        store = open_store(self.samples)
        place = torch.device(device)
        setup = Setup(
            config=method,
            card=self.card,
            line=self.line,
            band_lines=self.band_lines,
            seed=method.seed,
            device=place,
            ranks=ranks,
            accumulate=self.config.run.accumulate,
        )
        loop = Loop(
            method=importlib.import_module(method.module).make(setup),
            settings=method,
            run=self.config.run,
            feed=Feed(store=store, card=self.card, constants=self.constants, device=place),
            split=self.split,
            ranks=ranks,
            checkpoints=checkpoints or Checkpoints(Path(self.checkpoints)),
            log=log,
        )
        return loop.train()


def of_group(device: str, stop: Any = None) -> Group:
    """Ranks of torch's default process group, on a device."""
    return Group(torch.device(device), stop)
