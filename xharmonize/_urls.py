"""Directories and URLs: which of the two a place is, and files and folders at URLs by fsspec.

An object is replaced whole and at once, but nothing can be renamed, and no kernel frees what a dead
process held. So a writer puts ``.<name>.lock`` beside what it writes *if there is none* (a
conditional write) and keeps it until it has finished. That the object store knows conditional
writes is tried, not believed: putting the lock a second time has to fail.

References
----------
Amazon S3 user guide, "How to prevent object overwrites with conditional writes".
Azure Blob Storage, "Specifying conditional headers for Blob service operations".
"""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from xharmonize._owner import is_alive, machine
from xharmonize._replace import beside, require_mode
from xharmonize.errors import MissingDependencyError, StoreError, XHarmonizeError

CONDITIONAL = ("s3", "s3a", "az", "abfs", "abfss")
"""Kinds of URL whose fsspec plugin can ask to write only what is not there, tried on a server."""

EXTRAS = {"s3": "s3", "s3a": "s3"}
FOLDER = "write to a folder and copy it"
LOCAL = ("file://", "local://")


def is_url(location: str | os.PathLike[str]) -> bool:
    """Tell whether a location is an fsspec URL rather than a path.

    Raises
    ------
    StoreError
        If it was a URL before it became a path.

    Examples
    --------
    >>> is_url("s3://bucket/a.zarr"), is_url("a.zarr")
    (True, False)
    """
    text = os.fspath(location)
    lost = re.match(r"(?P<kind>[A-Za-z][A-Za-z0-9+.\-]+):/(?!/)(?P<rest>.*)", text)
    if lost:
        slashes = ":///" if lost["kind"].lower() in ("file", "local") else "://"
        raise StoreError(
            f"{text} is a URL that lost a slash when it was made a path",
            cure=f"give text: {lost['kind'] + slashes + lost['rest']!r}",
        )
    return "://" in text or "::" in text


def find(
    location: str | os.PathLike[str], options: Mapping[str, Any] | None = None
) -> Path | Remote:
    """Return the absolute path of a file or directory, or what is at a URL.

    Parameters
    ----------
    options : mapping, optional
        What the fsspec plugin of the URL is given (``storage_options``).

    Raises
    ------
    StoreError
        If `options` are given for a directory, or a URL has lost a slash.
    """
    text = os.fspath(location)
    if is_url(text) and not text.lower().startswith(LOCAL):
        return Remote(url=text.rstrip("/") or text, options=dict(options or {}))
    if options:
        raise StoreError(
            "are for URLs, and path is a directory",
            cure="leave them out",
            argument="storage_options",
            value=sorted(options),
        )
    bare = text.partition("://")[2] if is_url(text) else text
    return Path(os.path.abspath(os.path.expanduser(bare)))


def options_for(
    location: str | os.PathLike[str], options: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Return `options` where a location is a URL that takes any; None for paths and names."""
    text = os.fspath(location)
    return options if is_url(text) and not text.lower().startswith(LOCAL) else None


def named(place: Path | Remote) -> dict[str, Any]:
    """Return the arguments that name a place to users' functions: ``storage_options`` for URLs."""
    if isinstance(place, Remote):
        return {"path": place.url, "storage_options": dict(place.options) or None}
    return {"path": place}


def find_itself(
    location: str | os.PathLike[str], options: Mapping[str, Any] | None = None
) -> Path | Remote:
    """As `find`; where a link leads to a directory, the directory itself."""
    place = find(location, options)
    return place.resolve() if isinstance(place, Path) else place


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file or folder at a URL.

    Attributes
    ----------
    url : str
        Without a slash at its end.
    options : mapping
        What the fsspec plugin is given.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(url=f"{self.url}/{name}", options=self.options)

    @property
    def name(self) -> str:
        """Last part of the URL."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """The folder that holds it."""
        return Remote(url=self.url.rpartition("/")[0], options=self.options)

    @property
    def protocol(self) -> str:
        """Kind of URL."""
        return self.url.partition("://")[0].lower()

    @property
    def settings(self) -> dict[str, Any]:
        """What the fsspec plugin is given; what other processes write has to be seen."""
        return {"use_listings_cache": False, **self.options}

    def opened(self) -> tuple[Any, str]:
        """Return the fsspec file system, and the path on it."""
        from fsspec.core import url_to_fs

        with self.reached():
            files, root = url_to_fs(self.url, **self.settings)
            return files, str(root).rstrip("/")

    def files(self) -> Any:
        """Return the fsspec file system."""
        return self.opened()[0]

    def read(self, name: str) -> bytes | None:
        """Return an object of the folder; None where there is none."""
        files, root = self.opened()
        with self.reached():
            try:
                found: bytes = files.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None
            return found

    def read_all(self, pattern: str) -> dict[str, bytes]:
        """Return all objects whose names within the folder match a pattern, read side by side."""
        files, root = self.opened()
        with self.reached():
            names = sorted(map(str, files.glob(f"{root}/{pattern}")))
            found = files.cat(names) if names else {}
        return {name[len(root) + 1 :]: found[name] for name in names}

    def read_within(self, name: str) -> dict[str, bytes]:
        """Return the objects of one name in all folders of this one, by folder, side by side."""
        files, root = self.opened()
        with self.reached():
            folders = sorted(str(path).rstrip("/") for path in files.ls(root, detail=False))
            found = files.cat([f"{path}/{name}" for path in folders], on_error="return")
            for one in found.values():
                if isinstance(one, Exception) and not isinstance(one, FileNotFoundError):
                    raise one
        whole = {str(path): data for path, data in found.items() if isinstance(data, bytes)}
        return {path[len(root) + 1 : -len(name) - 1]: whole[path] for path in sorted(whole)}

    def write(self, name: str, data: bytes) -> None:
        """Replace an object of the folder."""
        files, root = self.opened()
        with self.reached():
            files.pipe_file(f"{root}/{name}", data)

    def put(self, file: Path, name: str) -> None:
        """Replace an object of the folder by a file; it is not seen before it is whole."""
        files, root = self.opened()
        with self.reached():
            files.put_file(str(file), f"{root}/{name}")

    def has(self, name: str) -> bool:
        """Tell whether the folder has an object."""
        files, root = self.opened()
        with self.reached():
            return bool(files.exists(f"{root}/{name}"))

    def replace(self, folder: Path, *, last: str) -> None:
        """Put the small files of a folder side by side, instead of all there but one, put last."""
        files, root = self.opened()
        old = [f"{root}/{name}" for name in self.names() if name != last]
        new = {f"{root}/{n}": (folder / n).read_bytes() for n in _files_in(folder) if n != last}
        with self.reached():
            if old:
                files.rm(old)
            files.pipe(new)
        self.write(last, (folder / last).read_bytes())

    def stamps(self) -> dict[str, str]:
        """Return what changes when an object does, by name within the folder."""
        files, root = self.opened()
        with self.reached():
            found = files.find(root, detail=True)
        keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "size")
        return {
            str(path)[len(root) + 1 :]: next((str(facts[k]) for k in keys if facts.get(k)), "")
            for path, facts in found.items()
        }

    def names(self) -> list[str]:
        """Return the names of all objects within the folder."""
        files, root = self.opened()
        with self.reached():
            return sorted(str(name)[len(root) + 1 :] for name in files.find(root))

    def remove(self) -> None:
        """Remove the folder with all in it; it need not be there."""
        files, root = self.opened()
        with self.reached(), suppress(FileNotFoundError):
            files.rm(root, recursive=True)

    def is_occupied(self) -> bool:
        """Tell whether anything lies under the URL."""
        files, root = self.opened()
        with self.reached():
            return bool(files.find(root, maxdepth=1))

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Say what keeps us from a URL; every plugin has errors of its own."""
        try:
            yield
        except (XHarmonizeError, FileNotFoundError, FileExistsError):
            raise
        except ImportError as error:
            extra = EXTRAS.get(self.protocol)
            cure = f"pip install 'xharmonize[{extra}]'" if extra else "install what it names"
            raise MissingDependencyError(
                f"{self.url} needs a package that is not installed ({error})", cure=cure
            ) from error
        except Exception as error:
            raise StoreError(
                f"{self.url} cannot be reached: {error}",
                cure="look at the URL, and at endpoint and credentials in storage_options",
            ) from error

    @property
    def lock(self) -> str:
        """URL of the lock object."""
        parent, _, name = self.url.rpartition("/")
        return f"{parent}/.{name}.lock"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lock that this process holds."""

    place: Remote
    content: bytes
    instead: str
    """What else could be done where this writer is not let in."""

    def require(self) -> None:
        """Raise `StoreError` if somebody has taken the lock away meanwhile."""
        if _content(self.place) != self.content:
            raise StoreError(
                f"the lock {self.place.lock} was taken from this writer while it wrote",
                cure="nothing of this write is shown: run it again when no other writer runs",
            )


@contextmanager
def one_writer(place: Remote, *, instead: str = FOLDER) -> Iterator[Held]:
    """Hold the lock of what is at a URL while the block runs.

    Parameters
    ----------
    instead : str
        What else could be done, for errors.

    Raises
    ------
    StoreError
        If another writer holds it, the object store cannot write conditionally, or nothing can be
        written there.
    """
    if place.protocol not in CONDITIONAL:
        known = ", ".join(f"{kind}://" for kind in CONDITIONAL)
        raise StoreError(
            f"{place.url}: whether {place.protocol}:// has conditional writes, which keep two "
            f"writers apart, was not tested; {known} have",
            cure=instead,
        )
    said = {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine()}
    content = json.dumps({**said, "id": uuid.uuid4().hex}).encode()
    held = Held(place=place, content=content, instead=instead)
    _acquire(held)
    try:
        yield held
    finally:
        if _content(place) == held.content:
            place.files().rm_file(place.lock)


def _acquire(held: Held) -> None:
    """Put the lock where there is none; that of a dead process of this machine is replaced."""
    import fcntl

    name = f"xharmonize-{os.getuid()}-{sha256(held.place.lock.encode()).hexdigest()[:16]}.lock"
    # Two processes of this machine must not both replace the same dead writer's lock.
    descriptor = os.open(Path(gettempdir()) / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not _put(held):
            _remove_if_dead(held.place)
            if not _put(held):
                _refuse(held)
        if _put(held):
            held.place.files().rm_file(held.place.lock)
            raise StoreError(
                f"the object store of {held.place.url} ignores conditions on writes, so two "
                "writers could not be kept apart",
                cure=held.instead,
            )
    finally:
        os.close(descriptor)


def _put(held: Held) -> bool:
    """Write the lock if there is none; tell whether it was written."""
    place = held.place
    try:
        with place.reached():
            place.files().pipe_file(place.lock, held.content, mode="create")
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise StoreError(
            f"nothing can be written to {place.url}: {error}", cure="make the bucket first"
        ) from error
    return True


def _content(place: Remote) -> bytes | None:
    with place.reached():
        try:
            found: bytes = place.files().cat_file(place.lock)
        except FileNotFoundError:
            return None
        return found


def _said(place: Remote) -> dict[str, Any]:
    content = _content(place)
    with suppress(ValueError):
        said = json.loads(content or b"")
        return said if isinstance(said, dict) else {}
    return {}


def _remove_if_dead(place: Remote) -> None:
    said = _said(place)
    pid = said.get("pid")
    if said.get("machine") == machine() and isinstance(pid, int) and not is_alive(pid):
        place.files().rm_file(place.lock)


def _refuse(held: Held) -> None:
    place, said = held.place, _said(held.place)
    raise StoreError(
        f"another process writes {place.url} (process {said.get('pid', 'unknown')} on host "
        f"{said.get('host', 'unknown')})",
        cure=f"wait for it to end and try again (if it is dead, delete {place.lock}), "
        f"or {held.instead}",
    )


@contextmanager
def whole(folder: Path | Remote, name: str) -> Iterator[Path]:
    """Yield a path to write a file to, which is in a folder under its name once it is whole."""
    last = name.rpartition("/")[2]
    if isinstance(folder, Remote):
        with TemporaryDirectory() as scratch:
            yield Path(scratch) / last
            folder.put(Path(scratch) / last, name)
        return
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(target, "partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def read_all(folder: Path | Remote, pattern: str) -> dict[str, bytes]:
    """Return the contents of all files of a folder whose names match, by name and in its order."""
    if isinstance(folder, Remote):
        return folder.read_all(pattern)
    found = sorted(folder.glob(pattern))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


@contextmanager
def put_whole(place: Remote, *, last: str, mode: str) -> Iterator[Path]:
    """Yield an empty folder, whose files are at a URL once the ``with`` block has succeeded.

    Objects cannot be exchanged in one step, so nothing whole is replaced. What a killed writer
    has left, which lacks the file that is put last, is.

    Parameters
    ----------
    last : str
        Name of the file that readers look for first.
    mode : {"w-", "w"}

    Raises
    ------
    StoreError
        If something is there, or another process writes there.
    """
    require_mode(mode)
    with TemporaryDirectory() as scratch, one_writer(place) as held:
        if place.has(last):
            raise StoreError(
                f"{place} exists, and object stores cannot exchange a folder for another in one "
                "step",
                cure="name another URL, or remove it yourself",
            )
        folder = Path(scratch) / place.name
        folder.mkdir()
        yield folder
        strange = set(place.names()) - set(_files_in(folder))
        if strange:
            raise StoreError(
                f"{place} holds something else: {', '.join(sorted(strange)[:3])}",
                cure="name another URL, or remove it yourself",
            )
        held.require()
        for name in sorted(_files_in(folder), key=lambda one: (one == last, one)):
            place.put(folder / name, name)


def _files_in(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
