"""The modes of everything that writes: what is there is refused unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from xharmonize.errors import StoreError

FileMode: TypeAlias = Literal["w-", "w"]
"""What becomes of a file or folder that is there: refused, or replaced."""


def require_mode(mode: str, known: Sequence[str]) -> None:
    """Raise `StoreError` unless `mode` is one of `known`."""
    if mode not in known:
        raise StoreError(f"mode is {mode!r}; it is one of {', '.join(map(repr, known))}")


def already_there(path: str | Path, cure: str = "'w' replaces it") -> StoreError:
    """Return the error of ``mode="w-"`` where something is there."""
    return StoreError(f"{path} exists, and mode='w-' writes new ones only; mode={cure}")


def require_new(path: str | Path, mode: str, *, known: Sequence[str] = ("w-", "w")) -> None:
    """Raise `StoreError` if `mode` is not known, or is ``"w-"`` and `path` exists."""
    require_mode(mode, known)
    place = Path(path)
    if mode == "w-" and place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise already_there(path)
