"""The kinds of models: a tagged union of cards, open to kinds of others.

A kind is a subclass of `Card`. A third party adds one by `register_kind`, or for every process by
an entry point of the group ``xharmonize.kinds``::

    [project.entry-points."xharmonize.kinds"]
    my-kind = "my_package.kind:MyCard"
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

from xharmonize.errors import ModelError
from xharmonize.models.architectures import load_announced
from xharmonize.models.card import Card
from xharmonize.models.kinds.generator import GeneratorCard
from xharmonize.models.kinds.lut import LutCard

__all__ = ["GeneratorCard", "LutCard", "find_kind", "register_kind"]

GROUP = "xharmonize.kinds"
"""Entry point group of third parties' kinds."""

C = TypeVar("C", bound=type[Card])

_KINDS: dict[str, type[Card]] = {card.kind: card for card in (GeneratorCard, LutCard)}


def register_kind(card: C) -> C:
    """Register a kind of model in this process; a decorator for subclasses of `Card`.

    Bundles that say so in ``xharmonize:kind`` are then read as this card, and opened by
    `xharmonize.load_model` with the harmoniser that it names. A worker that gets such a card from
    a graph imports the module it stands in, and knows the kind by that.

    Parameters
    ----------
    card : type
        A frozen dataclass with a `kind` that no other has.

    Raises
    ------
    ModelError
        If the name is missing or taken.
    """
    known = _KINDS.get(card.kind)
    is_same = known is not None and (known.__module__, known.__qualname__) == (
        card.__module__,
        card.__qualname__,
    )
    if not card.kind or (known is not None and not is_same):
        raise ModelError(
            f"of {card.__name__} is taken",
            cure="choose another name",
            argument="kind",
            value=card.kind,
        )
    _KINDS[card.kind] = card
    return card


def find_kind(name: object, what: str) -> type[Card]:
    """Return the card of a kind.

    Raises
    ------
    ModelError
        If nobody registered that name, or the entry point of a third party cannot be loaded.
    """
    if isinstance(name, str) and name not in _KINDS:
        for point in entry_points(group=GROUP, name=name):
            register_kind(load_announced(point, "kind"))
    if not isinstance(name, str) or name not in _KINDS:
        known = ", ".join(map(repr, sorted({*_KINDS, *entry_points(group=GROUP).names})))
        raise ModelError(
            f"{what}: kind {name!r:.100} is unknown, known are {known}",
            cure="update xharmonize, or install the package that brings it",
        )
    return _KINDS[name]
