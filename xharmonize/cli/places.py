"""Places that commands read and write: paths, or URLs with the options of fsspec's plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

import xharmonize as xh
from xharmonize._replace import GrowMode, Mode
from xharmonize._urls import Remote, find_itself, is_url, options_for
from xharmonize.errors import StoreError
from xharmonize.io.cog.catalog import require_addable
from xharmonize.io.zarr.store import is_taken

Options: TypeAlias = Mapping[str, Any] | None
"""What fsspec's plugin is given for all URLs of a command; None for nothing."""

STORAGE = typer.Option(
    metavar="KEY=VALUE,…",
    help="For URLs of stores, folders and models: comma-separated options of fsspec's plugin, such "
    "as endpoint_url=https://s3.example.org, or one JSON object. Secrets are better kept in the "
    "environment, such as AWS_ACCESS_KEY_ID.",
)
Storage: TypeAlias = Annotated[str | None, STORAGE]


def parse_storage(text: str | None) -> Options:
    """Parse ``key=value,…`` (values are text, true or false) or a JSON object; None gives None.

    Raises
    ------
    typer.BadParameter
        If it is neither; without what was given, which may be secret.
    """
    if text is None or not text.strip():
        return None
    if text.strip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError:
            raise typer.BadParameter("--storage-options is no JSON object") from None
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if not all(key and equals for key, equals, _ in pairs):
        raise typer.BadParameter("--storage-options is neither KEY=VALUE,… nor a JSON object")
    return {key: {"true": True, "false": False}.get(value, value) for key, _, value in pairs}


def place_of(location: str, options: Options) -> Path | Remote:
    """Return the path, or what is at the URL."""
    return find_itself(location, options_for(location, options))


def open_store(location: str, options: Options) -> Any:
    """Open a store, as `xharmonize.open_series`."""
    return xh.open_series(location, storage_options=options_for(location, options))


def to_store(cube: Any, location: str, mode: GrowMode, options: Options) -> None:
    """Write a store, as `xharmonize.to_zarr`."""
    xh.to_zarr(cube, location, mode=mode, storage_options=options_for(location, options))


def load(model: str, options: Options) -> Any:
    """Load a model by name, path or URL, as `xharmonize.load_model`."""
    return xh.load_model(model, storage_options=options_for(model, options))


def save(model: Any, location: str, mode: Mode, options: Options) -> None:
    """Save a fit, as `xharmonize.harmonizers.save_model`."""
    where = options_for(location, options)
    xh.harmonizers.save_model(model, location, mode=mode, storage_options=where)


def loaded(model: str, options: Options) -> Any:
    """What is at the URL; a name or path as it is, for functions that know more names."""
    return load(model, options) if is_url(model) else model


def require_local(path: Path | str, what: str) -> None:
    """Raise `typer.BadParameter` for a URL where only files of this machine are written."""
    if "://" in str(path) or (isinstance(path, Path) and path.parts[:1] and _is_kind(path)):
        raise typer.BadParameter(f"{what} is written to this machine: give a path, not a URL")


def _is_kind(path: Path) -> bool:
    """Whether a path begins as a URL that lost a slash."""
    try:
        return is_url(path)
    except StoreError:
        return True


def require_free_at(place: Remote, mode: GrowMode, *, is_store: bool) -> None:
    """Raise `StoreError` if a URL holds what the job neither adds to nor may replace.

    Writing asks again, under the lock; this is before the work.
    """
    if not is_store:
        require_addable(place, mode)
    elif mode != "upsert" and is_taken(place):
        raise StoreError(
            f"{place} exists, and object stores cannot exchange a store for another in one step",
            cure="mode='upsert' adds to it; to replace it name another URL",
        )
