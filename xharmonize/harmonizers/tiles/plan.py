"""All that the blocks of a generator have in common; one small frozen object in the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xharmonize.harmonizers.tiles.axis import Axis, Part
from xharmonize.models.card import Domain
from xharmonize.models.kinds.generator import GeneratorCard
from xharmonize.models.lattice import Lattice
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.tiles import sampling
from xharmonize.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a block has to know besides its pixels and its place.

    Attributes
    ----------
    ref : ModelRef
        Handle on the network.
    card : GeneratorCard
        What it takes and gives, without what is only told to people.
    domain : Domain or None
        Training domain, where flags are wanted and there is one.
    runtime : Runtime
        How the network is run.
    rows, columns : Axis
        Where tiles lie.
    flags : bool
        Whether flags are wanted.
    """

    ref: ModelRef
    card: GeneratorCard
    domain: Domain | None
    runtime: Runtime
    rows: Axis
    columns: Axis
    flags: bool

    @property
    def lattice(self) -> Lattice:
        """Where the model's tiles lie."""
        return self.rows.lattice

    @property
    def is_partial(self) -> bool:
        """Whether blocks give partial sums, or flags beside reflectance, that are merged after."""
        return self.flags or self.lattice.merge == "blend"

    def part(self, group: tuple[int, int]) -> tuple[Part, Part]:
        """What a group of tiles covers, in rows and columns."""
        rows = self.rows.part(group[0], flags=self.flags)
        return rows, self.columns.part(group[1], flags=self.flags)

    @property
    def limits(self) -> tuple[FloatArray, FloatArray]:
        """Range of the training data per band of the card [1]; infinite where nothing is known."""
        nowhere = -np.inf, np.inf
        low, high = sampling.limits_of(self.domain, self.card.bands, unknown=nowhere)
        return low.astype(np.float32), high.astype(np.float32)
