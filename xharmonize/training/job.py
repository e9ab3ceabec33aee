"""What a network's training is once all is known that samples tell: the same on every rank."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from xharmonize._urls import options_for
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.training.cards import Facts
from xharmonize.training.checkpoint import Checkpoints
from xharmonize.training.config import Config
from xharmonize.training.constants import Constants, fit_lines
from xharmonize.training.feed import Feed
from xharmonize.training.log import Silent
from xharmonize.training.loop import Loop
from xharmonize.training.protocol import Line, Method, Setup
from xharmonize.training.ranks import Alone, Ranks
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
    storage_options : mapping
        For a URL of samples; kept nowhere.
    """

    config: Config
    card: Card
    constants: Constants
    line: Line
    band_lines: Line
    split: Split
    samples: str
    checkpoints: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

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
        return self.loop(log, device=device, ranks=ranks, checkpoints=checkpoints).train()

    def loop(
        self,
        log: Silent,
        *,
        device: str,
        ranks: Ranks | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Loop:
        """Return the loop that `run` runs."""
        place, ranks = torch.device(device), Alone() if ranks is None else ranks
        options = options_for(self.samples, self.storage_options)
        store = open_store(self.samples, storage_options=options).only(self.config.roles)
        return Loop(
            method=self.method(place, ranks),
            settings=self.settings,
            run=self.config.run,
            feed=Feed(store=store, card=self.card, constants=self.constants, device=place),
            split=self.split,
            ranks=ranks,
            checkpoints=checkpoints or Checkpoints(Path(self.checkpoints)),
            log=log,
        )

    def method(self, device: torch.device, ranks: Ranks) -> Method:
        """Make the networks and optimisers."""
        setup = Setup(
            config=self.settings,
            card=self.card,
            line=self.line,
            band_lines=self.band_lines,
            seed=self.settings.seed,
            device=device,
            ranks=ranks,
            accumulate=self.config.run.accumulate,
        )
        made: Method = importlib.import_module(self.settings.module).make(setup)
        return made

    @property
    def settings(self) -> Any:
        """Options of the method."""
        return self.config.method


def make_job(config: Config, split: Split, facts: Facts, *, checkpoints: Path) -> Job:
    """Find out what samples tell, and return the training.

    Parameters
    ----------
    config : Config
        Of a network.
    split : Split
    facts : Facts
        Of the training samples.
    checkpoints : Path
        Folder, which need not be there.
    """
    settings: Any = config.method
    store = facts.store
    card = importlib.import_module(settings.module).describe(facts, settings)
    grid: Literal["network", "exact"] = "network" if isinstance(card, GeneratorCard) else "exact"
    line, band_lines = fit_lines(store, split.training, grid=grid)
    return Job(
        config=config,
        card=card,
        constants=facts.constants,
        line=line,
        band_lines=band_lines,
        split=split,
        samples=config.run.samples or store.path,
        storage_options=store.options,
        checkpoints=str(checkpoints),
    )
