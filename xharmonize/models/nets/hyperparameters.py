"""Arguments of architectures: declared with bounds, so that a bundle cannot ask for the absurd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xharmonize.errors import ModelError
from xharmonize.models.card import Card


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What one hyperparameter may be; its type is that of the default.

    Attributes
    ----------
    default : bool, int, float or str
        Value where the card names none.
    low, high : float
        Limits of a number, both allowed.
    choices : tuple of str
        Allowed strings.
    """

    default: bool | int | float | str
    low: float = float("-inf")
    high: float = float("inf")
    choices: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        """Whether `value` has the type of the default and lies within the limits."""
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, str):
            return value in self.choices
        kinds = (int, float) if isinstance(self.default, float) else (int,)
        return isinstance(value, kinds) and self.low <= value <= self.high

    @property
    def wanted(self) -> str:
        """What a message asks for."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "one of " + ", ".join(map(repr, self.choices))
        kind = "a number" if isinstance(self.default, float) else "a whole number"
        return f"{kind} from {self.low:g} to {self.high:g}"


def read_hyperparameters(card: Card, allowed: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return every hyperparameter of an architecture, from the card or by default.

    Raises
    ------
    ModelError
        If the card names one that the architecture does not have, or a value out of bounds.
    """
    unknown = sorted(set(card.hyperparameters) - set(allowed))
    if unknown:
        raise ModelError(
            f"architecture {card.architecture!r} has no hyperparameter {unknown[0]!r}; "
            f"it has {', '.join(sorted(allowed))}"
        )
    values = {name: rule.default for name, rule in allowed.items()} | dict(card.hyperparameters)
    for name, rule in allowed.items():
        if not rule.accepts(values[name]):
            raise ModelError(
                f"{card.architecture!r} cannot have {name}={values[name]!r}; give {rule.wanted}"
            )
    return values
