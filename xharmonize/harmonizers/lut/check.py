"""Whether a bundle of look-up tables is for a step of a cube."""

from __future__ import annotations

from xharmonize.cube.contract import Step
from xharmonize.errors import RadiometryError
from xharmonize.models.card import Card
from xharmonize.sensors.spec import UNKNOWN


def require_card(card: Card, step: Step) -> None:
    """Raise `RadiometryError` unless sensor and level of a step are those of the card."""
    if card.source_sensor and step.sensor not in (card.source_sensor, UNKNOWN):
        raise RadiometryError(
            f"model {card.name!r} is for {card.source_sensor}, item {step.item_id!r} is "
            f"{step.sensor}; leave it out or choose another model"
        )
    if card.levels and step.level not in card.levels:
        raise RadiometryError(
            f"model {card.name!r} is for {'/'.join(card.levels)} reflectance, item "
            f"{step.item_id!r} is {step.level}; choose a model for that level"
        )
