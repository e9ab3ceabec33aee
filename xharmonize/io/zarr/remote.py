"""Stores by URL, through fsspec: one writer at a time, held off by a lock object.

An object is replaced whole and at once, but nothing can be renamed, and no kernel frees what a dead
process held. So a writer puts ``.<name>.lock`` beside the store *if there is none* (a conditional
write) and keeps it until it has committed. That the object store knows conditional writes is
tried, not believed: putting the lock a second time has to fail.

References
----------
Amazon S3 user guide, "How to prevent object overwrites with conditional writes".
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from xharmonize.errors import MissingDependencyError, StoreError, XHarmonizeError
from xharmonize.io.zarr.owner import is_alive, machine

CONDITIONAL = ("s3", "s3a", "gs", "gcs")
"""Kinds of URL whose fsspec plugin can ask to write only what is not there."""

EXTRAS = {"s3": "s3", "s3a": "s3"}
ICECHUNK = "write to an Icechunk repository there, whose commits are safe"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A store at a URL.

    Attributes
    ----------
    url : str
        Of the root group, without a slash at its end.
    options : mapping
        What the fsspec plugin is given.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.url

    @property
    def protocol(self) -> str:
        """Kind of URL."""
        return self.url.partition("://")[0].lower()

    @property
    def _settings(self) -> dict[str, Any]:
        # What other processes write has to be seen.
        return {"use_listings_cache": False, **self.options}

    def files(self) -> Any:
        """Return the fsspec file system."""
        import fsspec

        with self._reached():
            return fsspec.filesystem(self.protocol, **self._settings)

    def store(self) -> Any:
        """Return the Zarr store."""
        from zarr.storage import FsspecStore

        with self._reached():
            return FsspecStore.from_url(self.url, storage_options=self._settings)

    @property
    def lock(self) -> str:
        """URL of the lock object."""
        parent, _, name = self.url.rpartition("/")
        return f"{parent}/.{name}.lock"

    def read(self, name: str) -> bytes | None:
        """Return an object of the store; None where there is none."""
        with self._reached():
            try:
                found: bytes = self.files().cat_file(f"{self.url}/{name}")
            except FileNotFoundError:
                return None
            return found

    def write(self, name: str, data: bytes) -> None:
        """Replace an object of the store."""
        with self._reached():
            self.files().pipe_file(f"{self.url}/{name}", data)

    def document(self) -> dict[str, Any] | None:
        """Return the root ``zarr.json``; None where there is none, or it is no JSON object."""
        found = self.read("zarr.json")
        with suppress(ValueError):
            document = json.loads(found or b"")
            return document if isinstance(document, dict) else None
        return None

    def is_occupied(self) -> bool:
        """Tell whether anything lies under the URL."""
        with self._reached():
            return bool(self.files().find(self.url, maxdepth=1))

    @contextmanager
    def _reached(self) -> Iterator[None]:
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


def as_zarr(place: Any) -> Any:
    """Return what zarr opens: the store of a URL, and everything else as it is."""
    return place.store() if isinstance(place, Remote) else place


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lock that this process holds."""

    place: Remote
    content: bytes

    def require(self) -> None:
        """Raise `StoreError` if somebody has taken the lock away meanwhile."""
        if _content(self.place) != self.content:
            raise StoreError(
                f"the lock {self.place.lock} was taken from this writer while it wrote",
                cure="nothing of this write is shown: run it again when no other writer runs",
            )


@contextmanager
def one_writer(place: Remote) -> Iterator[Held]:
    """Hold the lock of a store while the block runs.

    Raises
    ------
    StoreError
        If another writer holds it, the object store cannot write conditionally, or nothing can be
        written there.
    """
    if place.protocol not in CONDITIONAL:
        raise StoreError(
            f"{place.url}: {place.protocol}:// has no conditional writes, which keep two writers "
            "apart",
            cure=f"{ICECHUNK}, or write to a directory and copy it",
        )
    said = {"pid": os.getpid(), "host": socket.gethostname(), "machine": machine()}
    held = Held(place=place, content=json.dumps({**said, "id": uuid.uuid4().hex}).encode())
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
                _refuse(held.place)
        if _put(held):
            held.place.files().rm_file(held.place.lock)
            raise StoreError(
                f"the object store of {held.place.url} ignores conditions on writes, so two "
                "writers could not be kept apart",
                cure=ICECHUNK,
            )
    finally:
        os.close(descriptor)


def _put(held: Held) -> bool:
    """Write the lock if there is none; tell whether it was written."""
    place = held.place
    try:
        with place._reached():
            place.files().pipe_file(place.lock, held.content, mode="create")
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise StoreError(
            f"nothing can be written to {place.url}: {error}", cure="make the bucket first"
        ) from error
    return True


def _content(place: Remote) -> bytes | None:
    with place._reached():
        try:
            found: bytes = place.files().cat_file(place.lock)
        except FileNotFoundError:
            return None
        return found


def _said(place: Remote) -> dict[str, Any]:
    with suppress(ValueError):
        said = json.loads(_content(place) or b"")
        return said if isinstance(said, dict) else {}
    return {}


def _remove_if_dead(place: Remote) -> None:
    said = _said(place)
    pid = said.get("pid")
    if said.get("machine") == machine() and isinstance(pid, int) and not is_alive(pid):
        place.files().rm_file(place.lock)


def _refuse(place: Remote) -> None:
    said = _said(place)
    raise StoreError(
        f"another process writes {place.url} (process {said.get('pid', 'unknown')} on host "
        f"{said.get('host', 'unknown')})",
        cure=f"wait for it to end and try again (if it is dead, delete {place.lock}), "
        f"or for writers at once {ICECHUNK}",
    )
