"""The folder of a recipe's products, a directory or at a URL: whose it is, and what is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xharmonize as xh
from xharmonize._replace import GrowMode
from xharmonize._urls import Remote, is_url, one_writer, read_all, whole
from xharmonize.errors import StoreError
from xharmonize.recipe.settings import Recipe

RECIPE = "recipe"
"""Attribute of stores that holds the recipe as JSON."""
MARKS = ".finished"
"""File that names the products that are whole, one a line."""
TOLD = "recipe.json"


def digest_of(recipe: Recipe, *, is_dated: bool = True) -> str:
    """Of all that the recipe says, defaults too, and of the files of polygons and model.

    Without its dates it is that of a series that may grow. Of a model at a URL, the URL counts.
    """
    said = recipe.model_dump(mode="json")
    if not is_dated:
        del said["area"]["datetime"]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    table = recipe.table
    for named in (recipe.area.geometry, recipe.model.name, None if table is None else table.fields):
        for file in _files_of(named):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files_of(named: str | None) -> list[Path]:
    """The file, or those of the folder; none for what is a name or a URL."""
    path = Path("" if named is None or is_url(named) else named)
    if named is None or not path.is_dir():
        return [path] if path.is_file() else []
    return sorted(file for file in path.rglob("*") if file.is_file())


def finished(
    folder: Path | Remote, recipe: Recipe, mode: GrowMode, *, products: Iterable[str]
) -> set[str]:
    """Products that are whole; raise unless the folder is new, or that of the same recipe.

    Parameters
    ----------
    products : iterable of str
        All that a recipe may write, and that is removed with ``mode="w"``.
    """
    told = read_all(folder, TOLD).get(TOLD)
    if told is None:
        if _is_occupied(folder):
            raise StoreError(
                f"{folder} is not empty and holds no recipe's products", cure="name another folder"
            )
        return set()
    if not _is_of(json.loads(told), recipe, mode):
        if isinstance(folder, Remote):
            raise StoreError(
                f"{folder} holds the products of another recipe, and nothing is replaced at a URL",
                cure="name another folder, or remove it yourself",
            )
        if mode != "w":
            raise StoreError(
                f"{folder} holds the products of another recipe",
                cure="name another folder, or replace them: mode='w' (--overwrite)",
            )
        _clear(folder, products)
        return set()
    return set(read_all(folder, MARKS).get(MARKS, b"").decode().split("\n")) - {""}


def _is_occupied(folder: Path | Remote) -> bool:
    if isinstance(folder, Remote):
        return bool(folder.names())
    return folder.exists() and any(folder.iterdir())


def _is_of(told: Mapping[str, Any], recipe: Recipe, mode: GrowMode) -> bool:
    """Whether a folder's ``recipe.json`` tells of this recipe; of any dates where they may grow."""
    if mode == "upsert":
        return bool(told.get("sha256_undated") == digest_of(recipe, is_dated=False))
    return bool(told["sha256"] == digest_of(recipe))


def _clear(folder: Path, products: Iterable[str]) -> None:
    """Remove the products of another recipe; what is not a recipe's product stays."""
    for name in (MARKS, *products):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def begin(folder: Path | Remote, recipe: Recipe) -> None:
    """Make the folder, with the recipe in it."""
    told = {
        "sha256": digest_of(recipe),
        "sha256_undated": digest_of(recipe, is_dated=False),
        "xharmonize": xh.__version__,
        RECIPE: recipe.model_dump(mode="json", exclude_unset=True),
    }
    _write(folder, TOLD, json.dumps(told, indent=2))


def mark(folder: Path | Remote, names: Iterable[str]) -> None:
    """Say which products are whole."""
    _write(folder, MARKS, "".join(f"{name}\n" for name in names))


def _write(folder: Path | Remote, name: str, text: str) -> None:
    try:
        with whole(folder, name) as file:
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error


def make_room(store: Path | Remote) -> None:
    """Remove what an earlier or a killed run left at a URL, where nothing can be replaced.

    Meanwhile readers find nothing there. Directories are replaced by who writes them.
    """
    if isinstance(store, Remote) and store.names():
        with one_writer(store):
            store.remove()


@contextmanager
def local(target: Path | Remote) -> Iterator[Path]:
    """Yield a path to write a file, or a folder of files, to; then it is at its target."""
    if isinstance(target, Path):
        yield target
        return
    with TemporaryDirectory() as scratch:
        made = Path(scratch) / target.name
        yield made
        if made.is_file():
            target.parent.put(made, target.name)
        for file in sorted(made.rglob("*")) if made.is_dir() else ():
            target.put(file, file.relative_to(made).as_posix())
