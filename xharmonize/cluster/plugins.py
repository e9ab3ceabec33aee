"""Client of `local`, and plugins that share models; importing this needs distributed.

The scheduler keeps the files on its disk, never in memory, and hands them out piece by piece;
workers that join or restart later fetch them by themselves.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from xharmonize.cluster.depot import DEPOT, FORGET, PIECE, READ, SIZE, WRITE, fetch, plain
from xharmonize.errors import ClusterError, ModelError
from xharmonize.models import places
from xharmonize.models.bundle import open_bundle
from xharmonize.models.refs import ModelRef


class LocalClient(Client):
    """A client that closes its cluster when it is closed.

    Attributes
    ----------
    reason : str
        Kind of cluster that was started, and why.
    """

    reason: str = ""

    def close(self, *args: Any, **options: Any) -> Any:
        """Close the client and its cluster."""
        try:
            return super().close(*args, **options)  # type: ignore[no-untyped-call]
        finally:  # a busy machine may not answer the client in time
            if self.cluster is not None:
                self.cluster.close()

    def __repr__(self) -> str:
        own: str = super().__repr__()  # type: ignore[no-untyped-call]
        return f"{own.removesuffix('>')}, {self.reason}>"


LOCKS, RELEASE = "xharmonize-locks", "xharmonize_release"
SLICE = 2.0
"""Seconds of one wait for locks."""


class Locks(SchedulerPlugin):
    """Gives back the locks of `run_ranks`, those of clients that are gone included."""

    name = LOCKS
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Register the handler."""
        self.scheduler = scheduler
        scheduler.handlers[RELEASE] = self.release

    def release(self, id: str) -> None:
        """Give back what a lock has; what it still waits for, once it has stopped waiting."""
        locks = self.scheduler.extensions["multi_locks"]
        if id in locks.events:
            self.scheduler.loop.call_later(2 * SLICE, self.release, id)
        elif id in locks.requests:
            locks.release(id=id)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Give back all that a client had."""
        for id in list(scheduler.extensions["multi_locks"].requests):
            if str(id).startswith(f"{client}|"):
                self.release(id)


class Depot(SchedulerPlugin):
    """Files on the scheduler's disk, by folder and name; removed when the scheduler closes."""

    name = DEPOT
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Create the directory, and register handlers."""
        self.root = Path(tempfile.mkdtemp(prefix="xharmonize-depot-"))
        own = {READ: self.read, WRITE: self.write, SIZE: self.size, FORGET: self.forget}
        scheduler.handlers |= own

    async def close(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.root, ignore_errors=True)

    async def write(
        self, folder: str, name: str, sender: str, offset: int, size: int, data: bytes
    ) -> None:
        """Write one piece of a file; the file appears once it is complete.

        Until then each sender writes to its own file, so that sharing the same model twice, even
        at the same time, never disturbs a worker that is reading.
        """
        path = self.root / plain(folder) / plain(name)
        part = path.with_name(plain(f"{name}.{sender}.part"))
        path.parent.mkdir(exist_ok=True)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)
        if offset + len(data) == size:
            part.replace(path)

    async def read(self, folder: str, name: str, offset: int) -> bytes:
        """Return the piece of a file that starts at `offset`."""
        with (self.root / plain(folder) / plain(name)).open("rb") as file:
            file.seek(offset)
            return file.read(PIECE)

    async def size(self, folder: str) -> dict[str, int]:
        """Return the files of a folder, and their sizes [byte]."""
        found = (self.root / plain(folder)).glob("*")
        return {one.name: one.stat().st_size for one in found if one.suffix != ".part"}

    async def forget(self, folder: str, names: Sequence[str] | None = None) -> None:
        """Remove a folder, or some of its files."""
        place = self.root / plain(folder)
        if names is None:
            await asyncio.to_thread(shutil.rmtree, place, True)
        for name in names or ():
            (place / plain(name)).unlink(missing_ok=True)


class SharedBundle(WorkerPlugin):
    """Give each worker its own copy of a bundle when it starts.

    Parameters
    ----------
    ref : ModelRef
        The bundle.
    sizes : mapping of str to int
        Its files and their sizes [byte].
    """

    def __init__(self, ref: ModelRef, sizes: dict[str, int]) -> None:
        self.ref, self.sizes = ref, sizes
        self.name = f"xharmonize-bundle-{ref.digest}"

    async def setup(self, worker: Any) -> None:
        """Fetch the files unless they exist, check them, and register their location."""
        self.folder = Path(worker.local_directory) / "xharmonize" / plain(self.ref.digest)
        if not await asyncio.to_thread(self._holds, self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            part = self.folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for name, size in self.sizes.items():
                await fetch(worker.scheduler, self.ref.digest, part / plain(name), size)
            if not await asyncio.to_thread(self._holds, part):
                raise ClusterError(
                    f"the copy of model {self.ref.name!r} on worker {worker.address} is not what "
                    "was shared: its sha256 differs",
                    cure="share it again",
                )
            part.rename(self.folder)
        places.register(self.ref.digest, self.folder)

    def teardown(self, worker: Any) -> None:  # noqa: ARG002  (distributed names it)
        """Unregister the copy; the folder is removed with the worker's local directory."""
        if places.registered(self.ref.digest) == os.path.abspath(self.folder):
            places.forget(self.ref.digest)

    def _holds(self, folder: Path) -> bool:
        """Whether a folder holds the complete bundle."""
        try:
            return open_bundle(folder).ref.digest == self.ref.digest
        except (OSError, ModelError):
            return False
