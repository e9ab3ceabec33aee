"""What each writer at work has claimed: its entries, or the whole store.

A claim is a file ``.<name>.<id>.claim`` beside the store, held by `flock` for as long as its writer
fills. The kernel frees it when the writer dies, however it dies. All functions but the leaving of
`claim` are called under `writer_lock`.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xharmonize._replace import escaped
from xharmonize.errors import StoreError

Key = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Entries of a live writer; `keys` is None where it writes the whole store."""

    writer: str
    file: Path
    keys: frozenset[Key] | None


def live_claims(store: Path) -> list[Claim]:
    """Return the claims of living writers, and remove those of dead ones."""
    found = []
    for file in sorted(store.parent.glob(f".{escaped(store.name)}.*.claim")):
        said = json.loads(file.read_text())
        if said["host"] == socket.gethostname() and not _is_held(file):
            file.unlink(missing_ok=True)
            continue
        keys = said["keys"]
        found.append(
            Claim(
                writer=f"process {said['pid']} on host {said['host']}",
                file=file,
                keys=None if keys is None else frozenset((t, s, i) for t, s, i in keys),
            )
        )
    return found


def require_free(claims: Sequence[Claim], keys: Sequence[Key] | None) -> None:
    """Raise `StoreError` if a living writer claims one of `keys`; None stands for all."""
    for claim in claims:
        if keys is None or claim.keys is None:
            what = "the whole store" if claim.keys is None else f"{len(claim.keys)} entries of it"
            raise StoreError(
                f"another process writes {what} ({claim.writer}, claim {claim.file}); wait for it "
                "to end and try again (if it ran on another machine and is dead, delete that file)"
            )
        common = sorted(claim.keys & set(keys))
        if common:
            time, sensor, tile = common[0]
            raise StoreError(
                f"another process writes ({np.datetime64(time, 'us')}, {sensor}, {tile}) "
                f"({claim.writer}, claim {claim.file}); writers at once need different entries: "
                "wait for it to end and try again"
            )


@contextmanager
def claim(store: Path, keys: Sequence[Key] | None) -> Iterator[None]:
    """Claim entries, or with None the whole store, while the block runs."""
    import fcntl

    file = store.with_name(f".{store.name}.{uuid.uuid4().hex}.claim")
    partial = file.with_suffix(".partial-claim")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        said = {"pid": os.getpid(), "host": socket.gethostname(), "keys": keys}
        os.pwrite(descriptor, json.dumps(said).encode(), 0)
        os.rename(partial, file)  # seen only when it is held and says whose it is
        yield
    finally:
        for path in (partial, file):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_held(file: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
