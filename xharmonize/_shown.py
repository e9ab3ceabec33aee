"""How models show themselves: in a terminal, in a notebook, and by the command line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape
from typing import Any


class Shown(ABC):
    """Has a title and facts, shown in a few lines by notebooks and `print`.

    ``repr`` stays that of the class.
    """

    @property
    @abstractmethod
    def title(self) -> str:
        """One line that says what it is."""

    @abstractmethod
    def summary(self) -> Mapping[str, str]:
        """What a user asks first, by name."""

    def __str__(self) -> str:
        """Return the title, and a line for each fact."""
        rows = self._rows()
        width = max(map(len, rows), default=0)
        lines = (f"  {name:<{width}}  {value}" for name, value in rows.items())
        return "\n".join([f"<{type(self).__name__}> {self.title}", *lines])

    def __init_subclass__(cls, **options: Any) -> None:
        # IPython takes a class's own ``__repr__``, as dataclasses have, before what it inherits.
        super().__init_subclass__(**options)
        cls._repr_pretty_ = cls._repr_pretty_  # type: ignore[method-assign]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self._rows().items()
        )
        return f"<div><b>{escape(self.title)}</b><table>{rows}</table></div>"

    def _rows(self) -> dict[str, str]:
        """The facts that are known."""
        return {name: value for name, value in self.summary().items() if value}
