"""Files on the scheduler's disk: the way between machines that share no folder.

They are sent and fetched piece by piece, and are never in the scheduler's memory as a whole.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from xharmonize.errors import ClusterError

DEPOT = "xharmonize-depot"
READ, WRITE, SIZE, FORGET = (
    f"xharmonize_{name}_file" for name in ("read", "write", "size", "forget")
)
PIECE = 4 * 2**20
"""Bytes sent at once: what a worker that fetches costs the scheduler in memory."""


async def send(scheduler: Any, folder: str, path: Path, sender: str, timeout: float = 60.0) -> None:
    """Send a file to the scheduler, each piece when the one before has arrived.

    Parameters
    ----------
    scheduler : rpc
        ``client.scheduler`` or ``worker.scheduler``.
    folder : str
        Where the scheduler keeps it: the digest of a bundle, the name of a training.
    path : Path
        File to send; kept under its name.
    sender : str
        Unique; see `Depot.write`.
    timeout : float
        How long one piece may take [s].
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for offset in range(0, max(size, 1), PIECE):
            sent = getattr(scheduler, WRITE)(
                folder=folder,
                name=path.name,
                sender=sender,
                offset=offset,
                size=size,
                data=file.read(PIECE),
            )
            await asyncio.wait_for(sent, timeout)


async def fetch(scheduler: Any, folder: str, path: Path, size: int) -> None:
    """Fetch a file of `size` bytes from the scheduler, under its own name."""
    with path.open("wb") as file:
        while (offset := file.tell()) < size:
            data = await getattr(scheduler, READ)(folder=folder, name=path.name, offset=offset)
            if not data:
                raise ClusterError(
                    f"the scheduler has {offset} of {size} bytes of {path.name} of {folder}",
                    cure="share it again",
                )
            await asyncio.to_thread(file.write, data)


def plain(name: str) -> str:
    """Return a file name, or raise `ClusterError` if it could point outside its folder."""
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise ClusterError(f"{name!r} is no plain file name")
    return name
