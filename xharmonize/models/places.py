"""Locations of bundles: local folders, fsspec URLs, shared copies, and the search path."""

from __future__ import annotations

import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xharmonize._urls import find
from xharmonize.errors import ModelError, StoreError

ENVIRONMENT = "XHARMONIZE_MODELS"
_UNLISTED = {"http", "https"}
_MAX_FILES = 100
_NOT_READABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_SHARED: dict[str, str] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder with a bundle.

    Attributes
    ----------
    location : str
        Absolute path, or fsspec URL.
    filesystem : fsspec filesystem or None
        None for folders of this machine.
    root : str
        Path of the folder on the filesystem.
    """

    location: str
    filesystem: Any
    root: str

    @property
    def _faults(self) -> tuple[type[Exception], ...]:
        """What reading can end in; every plugin of fsspec has errors of its own."""
        return _NOT_READABLE if self.filesystem is None else (Exception,)

    def sizes(self) -> dict[str, int] | None:
        """Sizes of the files in the folder [byte] by name; None where it cannot be listed (HTTP).

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        ModelError
            If the folder holds anything but plain files.
        """
        if self.filesystem is None:
            return _local_sizes(self.root)
        protocol = self.filesystem.protocol
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        return None if names & _UNLISTED else self._remote_sizes()

    def _remote_sizes(self) -> dict[str, int]:
        with _reading(self.location, of=(Exception,)):
            entries = self.filesystem.ls(self.root, detail=True)
        sizes: dict[str, int] = {}
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if entry.get("type") != "file":
                if str(entry["name"]).strip("/") == self.root.strip("/"):
                    continue  # object stores list the folder itself
                raise ModelError(
                    f"{self.location} holds {name!r}, which is no file", cure="remove it"
                )
            sizes[name] = int(entry.get("size") or 0)
        if not sizes:
            raise FileNotFoundError(self.location)
        return _bounded(sizes, self.location)

    def size(self, name: str) -> int:
        """Return the size of a file of the folder [byte].

        Raises
        ------
        FileNotFoundError
            If it is not there.
        ModelError
            If it is no plain file, or its size is not told.
        """
        path = f"{self.root.rstrip('/')}/{name}"
        with _reading(f"{self.location}: {name}", of=self._faults):
            if self.filesystem is None:
                facts = os.lstat(path)
                size = facts.st_size if stat.S_ISREG(facts.st_mode) else None
            else:
                size = self.filesystem.info(path).get("size")
        if size is None:
            raise ModelError(f"{self.location}: {name} is no plain file with a known size")
        return int(size)

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file of the folder for reading; symbolic links are not followed."""
        with _reading(f"{self.location}: {name}", of=self._faults):
            if self.filesystem is None:
                with _open_local(os.path.join(self.root, name)) as stream:
                    yield stream
            else:
                with self.filesystem.open(f"{self.root.rstrip('/')}/{name}", "rb") as stream:
                    yield stream

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a small file.

        Raises
        ------
        ModelError
            If it has more than `most` bytes, or cannot be read.
        FileNotFoundError
            If it is not there.
        """
        with self.open(name) as stream:
            data = read_up_to(stream, most + 1)
        if len(data) > most:
            raise ModelError(f"{self.location}: {name} has more than {most} bytes")
        return data


def read_up_to(stream: BinaryIO, most: int) -> bytes:
    """Return up to `most` bytes of a stream, which may give them in pieces."""
    parts = []
    while most > 0 and (part := stream.read(most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


@contextmanager
def _reading(what: str, *, of: tuple[type[Exception], ...] = _NOT_READABLE) -> Iterator[None]:
    """Convert errors of filesystems to `ModelError`, except `FileNotFoundError`."""
    try:
        yield
    except (FileNotFoundError, ModelError):
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(what) from error
    except of as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"{what} cannot be read: {reason}") from error


def find_place(location: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Place:
    """Return the place at a path or fsspec URL; relative paths become absolute.

    Parameters
    ----------
    options : mapping, optional
        For URLs: what the fsspec plugin is given.

    Raises
    ------
    ModelError
        If the URL is of no known kind, or cannot be reached.
    MissingDependencyError
        If a package for that kind of URL is not installed.
    """
    try:
        where = find(location, options)
        if isinstance(where, Path):
            return Place(location=str(where), filesystem=None, root=str(where))
        filesystem, root = where.opened()
    except StoreError as error:
        raise ModelError(
            error.what, cure=error.cure, argument=error.argument, value=error.value
        ) from error
    return Place(location=where.url, filesystem=filesystem, root=root)


def _local_sizes(root: str) -> dict[str, int]:
    sizes = {}
    with _reading(root), os.scandir(root) as entries:
        for entry in entries:
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(facts.st_mode):
                raise ModelError(
                    f"{root} holds the symbolic link {entry.name!r}",
                    cure="put the file itself there",
                )
            if not stat.S_ISREG(facts.st_mode):
                raise ModelError(f"{root} holds {entry.name!r}, which is no file", cure="remove it")
            sizes[entry.name] = facts.st_size
            if len(sizes) > _MAX_FILES:
                break
    return _bounded(sizes, root)


def _bounded(sizes: dict[str, int], location: str) -> dict[str, int]:
    if len(sizes) > _MAX_FILES:
        raise ModelError(f"{location} holds more than {_MAX_FILES} files", cure="it is no bundle")
    return sizes


def _open_local(path: str) -> BinaryIO:
    """Open a plain file; never through a link, and never waiting for the other end of a pipe."""
    if os.path.islink(path):
        raise ModelError(f"{path} is a symbolic link", cure="put the file itself there")
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ModelError(f"{path} is no file")
    return os.fdopen(handle, "rb", buffering=0)


def register(digest: str, folder: str | os.PathLike[str]) -> None:
    """Make a copy of a bundle known to this process: it is looked at before the location.

    Parameters
    ----------
    digest : str
        Of the bundle; see `ModelRef.digest`.
    folder : str or path
        A folder of this machine.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ModelError(
            f"{digest!r} is no digest of a bundle", cure="give the sha256 in hexadecimal"
        )
    with _LOCK:
        _SHARED[digest] = os.path.abspath(folder)


def forget(digest: str) -> None:
    """Forget the copy that `register` made known, where there is one."""
    with _LOCK:
        _SHARED.pop(digest, None)


def registered(digest: str) -> str | None:
    """Return the folder of the copy that `register` made known."""
    with _LOCK:
        return _SHARED.get(digest)


def search_path() -> tuple[Path, ...]:
    """Return the folders of the environment variable XHARMONIZE_MODELS that exist, in order."""
    named = os.environ.get(ENVIRONMENT, "").split(os.pathsep)
    folders = dict.fromkeys(Path(name).expanduser().absolute() for name in named if name)
    return tuple(folder for folder in folders if folder.is_dir())
