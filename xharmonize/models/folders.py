"""Folders of bundles on this machine: filled under another name, and put in place whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from xharmonize._replace import Mode, put_back, require_mode, require_new
from xharmonize._urls import is_url
from xharmonize.errors import ModelError
from xharmonize.models.places import find_place


def local_target(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder to write to.

    Raises
    ------
    ModelError
        If it is not a local path.
    """
    if is_url(os.fspath(path)) and find_place(path).filesystem is not None:
        raise ModelError(
            f"a network is trained into a folder of this machine, not into {os.fspath(path)}",
            cure="write it to a folder, and that to the URL with model.save",
        )
    return Path(find_place(path).root)


def write_file(path: Path, data: bytes) -> None:
    """Write a file and flush it to disk."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def staged(
    target: Path, bundle_files: Callable[[Path], Collection[str] | None], *, mode: Mode
) -> Iterator[Path]:
    """Yield an empty folder next to `target` that replaces it when the ``with`` block succeeds.

    Parameters
    ----------
    target : path
        Absent, an empty folder, or a bundle; anything else is refused before the body runs.
    bundle_files : callable
        Names of the files of the bundle in a folder, all of them; None where it is no bundle.
    mode : {"w-", "w"}
        ``"w-"`` refuses a bundle too.

    Raises
    ------
    ModelError
        If `target` holds something else, or cannot be written.
    """
    require_mode(mode)
    if not os.path.lexists(target):
        put_back(target)  # of a process killed between two renames
    _require_replaceable(target, bundle_files, mode)
    folder = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error
    try:
        yield folder
        _put_in_place(folder, target, _require_replaceable(target, bundle_files, mode))
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error
    finally:
        if folder.exists():
            _remove(folder, os.listdir(folder))


def _require_replaceable(
    target: Path, bundle_files: Callable[[Path], Collection[str] | None], mode: Mode
) -> Collection[str]:
    """Files that go with `target`; raise `ModelError` where it is not ours to replace."""
    if not os.path.lexists(target):
        return ()
    if target.is_symlink() or not target.is_dir():
        raise ModelError(
            f"{target} is no folder", cure="choose another path, or remove it yourself"
        )
    files = bundle_files(target) if os.listdir(target) else ()
    if files is None:
        raise ModelError(
            f"{target} holds something that is no bundle",
            cure="choose another path, or remove it yourself",
        )
    require_new(target, mode, error=ModelError)
    return files


def _put_in_place(folder: Path, target: Path, files: Collection[str]) -> None:
    """Rename the old bundle away and the new one in; the old one comes back if that fails."""
    aside = None
    if target.exists():
        aside = target.with_name(f".{target.name}.{uuid4().hex}.old")
        target.rename(aside)
    try:
        folder.rename(target)
    except OSError:
        if aside is not None:
            aside.rename(target)
        raise
    if aside is not None:  # what is called old is whole, always
        _remove(aside.rename(aside.with_suffix(".part")), files)


def _remove(folder: Path, files: Collection[str]) -> None:
    """Remove the files named and the folder; what else is in it stays, and it with that."""
    for name in files:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
