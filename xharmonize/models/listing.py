"""Bundles on the search path: the folders of the environment variable XHARMONIZE_MODELS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xharmonize.errors import ModelError
from xharmonize.models import places
from xharmonize.models.bundle import ITEM, MAX_ITEM
from xharmonize.models.card import Card
from xharmonize.models.item import read_item
from xharmonize.models.places import find_place


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A bundle on the search path; its weights have not been looked at.

    Attributes
    ----------
    name : str
        Of the card; of the folder where the item cannot be read.
    location : str
        Folder.
    card : Card or None
        None where the item cannot be read.
    problem : str
        Why not; else empty.
    """

    name: str
    location: str
    card: Card | None
    problem: str = ""


def list_bundles() -> tuple[Listed, ...]:
    """Return the bundles in the folders of the environment variable XHARMONIZE_MODELS.

    Where two have one name, the one of the folder named first counts. Weights are not looked at.

    Raises
    ------
    ModelError
        If one of the folders cannot be read.
    """
    found: dict[str, Listed] = {}
    for folder in places.search_path():
        try:
            inside = sorted(path for path in folder.iterdir() if _is_candidate(path))
        except OSError as error:
            raise ModelError(f"{folder} of {places.ENVIRONMENT} cannot be read: {error}") from error
        for path in inside:
            listed = _list_one(path)
            found.setdefault(listed.name, listed)
    return tuple(found.values())


def _is_candidate(path: Path) -> bool:
    """Hidden folders are bundles that are being written, or were when their writer died."""
    return not path.name.startswith(".") and (path / ITEM).is_file()


def _list_one(path: Path) -> Listed:
    try:
        card = read_item(find_place(path).read(ITEM, MAX_ITEM), f"{path}: {ITEM}").card
    except (ModelError, FileNotFoundError) as error:
        return Listed(name=path.name, location=str(path), card=None, problem=str(error))
    return Listed(name=card.name, location=str(path), card=card)
