"""One process at a time reserves, commits or swaps: a lock file beside the store."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xharmonize.errors import StoreError

LOCK_WAIT = 60.0
"""How long to wait for the lock [s]; it is held for parts of a second, never while pixels are
written."""


@contextmanager
def writer_lock(store: Path, *, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold the only right to change what entries a store has.

    The lock is an `flock` on ``.<name>.lock``, so the kernel frees it when a process dies, however
    it dies. The file says which process on which host holds it. A file left by a dead process of
    this host is taken over; one left by another host is refused, because not every network file
    system passes locks between hosts.

    Raises
    ------
    StoreError
        If another writer still holds the lock after `wait` seconds, or a writer on another host
        left its file.
    """
    file = lock_path(store)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(file, until=time.monotonic() + wait)
    try:
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        # Unlinked while held: whoever opened the old file sees in _is_current that it is gone.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def lock_path(store: Path) -> Path:
    """Return the lock file of a store."""
    return store.with_name(f".{store.name}.lock")


def _acquire(file: Path, *, until: float) -> int:
    while True:
        try:
            descriptor = _try(file)
        except StoreError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)
        else:
            if descriptor is not None:
                return descriptor


def _try(file: Path) -> int | None:
    """Return the locked descriptor, None where the file was replaced meanwhile, or raise."""
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(descriptor, file):
            _refuse_other_host(descriptor, file)
            return descriptor
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise StoreError(
            f"another process writes this store ({holder}, lock file {file}); "
            "wait for it to end and try again"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_current(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _refuse_other_host(descriptor: int, file: Path) -> None:
    holder = _holder(descriptor)
    if holder and f"host {socket.gethostname()}" not in holder:
        raise StoreError(
            f"a writer on another machine left its lock ({holder}); "
            f"if it no longer runs, delete {file} and try again"
        )


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 4096, 0).decode(errors="replace")
    try:
        said = json.loads(text)
        return f"process {said['pid']} on host {said['host']}"
    except (ValueError, KeyError, TypeError):
        return text.strip()
