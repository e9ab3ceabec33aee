"""Cards of networks to be trained: what the store and the constants say, in the bundle's terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from xharmonize.errors import BandError, ContractError
from xharmonize.models.card import Card, Domain, Output
from xharmonize.models.kinds import GeneratorCard, LutCard
from xharmonize.models.kinds.generator import CUBE
from xharmonize.models.kinds.lut import Histograms
from xharmonize.sensors import UNKNOWN, Names
from xharmonize.sensors.spec import identity
from xharmonize.training.constants import Constants, domains_of, measure
from xharmonize.training.split import Split
from xharmonize.training.store import N_BINS, Store
from xharmonize.types import IntArray


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a card is made from, beside the method's own options.

    Attributes
    ----------
    store : Store
    constants : Constants
        Of the training samples.
    domains : dict of str to Domain
        Of the training samples, by source.
    name : str
        Of the bundle.
    """

    store: Store
    constants: Constants
    domains: dict[str, Domain]
    name: str

    @classmethod
    def of(
        cls, store: Store, training: IntArray, *, name: str, clip: tuple[float, float] = (1.0, 99.0)
    ) -> Facts:
        """Measure the training samples; `clip` are percentiles."""
        return cls(
            store=store,
            constants=measure(store, training, clip),
            domains=domains_of(store, training),
            name=name,
        )

    def common(self) -> dict[str, Any]:
        """Fields of `Card` that no method needs to know."""
        pairs = self.store.pairs
        source, target = (Names.of([getattr(p, f"bandpass_{s}") for p in pairs]) for s in SIDES)
        if UNKNOWN in source or UNKNOWN in target or len(target) != 1:
            raise ContractError(
                f"pairs go from bandpass {source} to {target}: a model needs known ones, and one "
                "to go to",
                cure="settle the platforms of both cubes first, with platform= of open_stac",
            )
        levels = Names.of([p.level_source for p in pairs])
        return {
            "name": self.name,
            "domain": self.domains.get(CUBE),
            "source_bandpass": str(source),
            "source_sensor": str(Names.of([p.sensor_source for p in pairs])),
            "target_bandpass": str(target),
            "levels": () if UNKNOWN in levels else tuple(sorted(levels)),
            "min_valid": 0.5,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


SIDES = ("source", "target")
Scaling = Literal["deviation", "largest", "range"]
"""How values become a network's: over the standard deviation; over the largest, as paper 000 does;
or so that the clipped range becomes -1 … 1, as paper 001 does. The mean, or the middle of the
range, becomes 0."""


def generator_card(
    facts: Facts,
    *,
    title: str,
    architecture: str,
    hyperparameters: Mapping[str, Any],
    scaling: Scaling = "deviation",
    description: str = "",
) -> GeneratorCard:
    """Return the card of a generator on the store's lattice."""
    store, at = facts.store, 0
    inputs = []
    for source in store.inputs:
        mean, scale = _scaled(facts.constants, at, len(source.bands), scaling)
        inputs.append(replace(source, mean=mean, scale=scale))
        at += len(source.bands)
    mean, scale = _scaled(facts.constants, at, len(store.bands), scaling)
    return GeneratorCard(
        **facts.common(),
        title=title,
        description=description,
        architecture=architecture,
        hyperparameters=dict(hyperparameters),
        inputs=tuple(inputs),
        output=Output(bands=store.bands, mean=mean, scale=scale),
        lattice=store.lattice,
        source_domains={role: one for role, one in facts.domains.items() if role != CUBE},
    )


def for_original_pixels(card: Card, degraded: int) -> Card:
    """Return the card of a network that was trained on pixels averaged by a factor."""
    return card.magnified(degraded) if isinstance(card, GeneratorCard) else card


def _scaled(
    constants: Constants, at: int, n: int, scaling: Scaling
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and scale of some bands."""
    mean = constants.part("mean", at, n)
    if scaling != "range":
        return mean, constants.part(scaling, at, n)
    ends = [constants.part(name, at, n) for name in ("low", "high")]
    return (
        tuple((a + b) / 2 for a, b in zip(*ends)),
        tuple((b - a) / 2 for a, b in zip(*ends)),
    )


def lut_card(
    facts: Facts,
    *,
    title: str,
    architecture: str,
    hyperparameters: Mapping[str, Any],
    description: str = "",
) -> LutCard:
    """Return the card of a network that makes a table for each band of the target.

    Tables go from the source's band of the same role; they run from 0 to the upper limit of the
    store's histograms, and are applied to tiles of the size of a patch.

    Raises
    ------
    BandError
        If the source lacks a band.
    """
    store = facts.store
    roles = identity(store.source_bands, store.bands)
    lacking = [band for band, row in zip(store.bands, roles) if not row.any()]
    if lacking:
        raise BandError(
            f"a table for {lacking[0]!r} needs that band of the source",
            cure=f"leave it out with Data(target_bands=...); the source has {store.source_bands}",
        )
    columns = roles.argmax(axis=1)
    low, high = zip(*(store.limits[column] for column in columns))
    bands = tuple(store.source_bands[column] for column in columns)
    side = store.lattice.tile * store.lattice.resolution
    return LutCard(
        **facts.common(),
        title=title,
        description=description,
        architecture=architecture,
        hyperparameters=dict(hyperparameters),
        histograms=Histograms(
            bands=bands, bins=N_BINS, knots=N_BINS, low=low, high=high, tile=side
        ),
        output=Output(bands=store.bands, mean=low, scale=tuple(b - a for a, b in zip(low, high))),
    )


def finished(
    card: Card, *, split: Split, scores: Mapping[str, float], provenance: Mapping[str, str]
) -> Card:
    """Return the card with what the training brought."""
    told = {"split": split.describe(), **provenance}
    return replace(card, scores=dict(scores), provenance=told)


def slug(name: str, method: str) -> str:
    """A name that a card can have: that of the folder where it is one, else the method's."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\-]{1,98}[A-Za-z0-9]", name) else method
