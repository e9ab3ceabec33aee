"""Bundles on the search path: the folders of the environment variable XHARMONIZE_MODELS."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xharmonize.errors import ModelError, UnknownModelError
from xharmonize.models import places
from xharmonize.models.bundle import ITEM, MAX_ITEM, Bundle, open_bundle
from xharmonize.models.card import Card
from xharmonize.models.item import read_item
from xharmonize.models.places import find_place, is_url


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


def open_named(name_or_path: str) -> Bundle:
    """Open a bundle by a name of `list_bundles`, by its folder, or by an fsspec URL.

    Raises
    ------
    UnknownModelError
        If there is none of that name and no folder.
    ModelError
        As `open_bundle`.
    """
    location = {one.name: one.location for one in list_bundles()}.get(name_or_path, name_or_path)
    if not (is_url(location) or os.path.isdir(location)):
        raise UnknownModelError(
            f"no bundle {name_or_path!r}; give a model of xh.load_model, or put its folder into "
            f"{places.ENVIRONMENT}"
        )
    return open_bundle(location)
