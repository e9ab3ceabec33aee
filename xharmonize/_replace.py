"""Writing to a path: what is there stays unless its replacement was asked for and is whole.

One notation everywhere: ``mode="w-"`` writes what is new and refuses what is there, ``"w"``
replaces it, and where entries can be added ``"upsert"`` adds them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from uuid import uuid4

from xharmonize.errors import StoreError, XHarmonizeError

Mode = Literal["w-", "w"]
GrowMode = Literal["w-", "w", "upsert"]

_MEANING = {
    "w-": "write what is new",
    "w": "replace what is there",
    "upsert": "replace and add by key",
}


def require_mode(mode: str, allowed: Sequence[str] = ("w-", "w")) -> None:
    """Raise `StoreError` unless `mode` is one of `allowed`."""
    if mode not in allowed:
        known = ", ".join(f"{name!r} ({_MEANING[name]})" for name in allowed)
        raise StoreError(f"mode is {mode!r}", cure=f"it is one of {known}")


def require_new(
    path: Path, mode: str, *, cure: str = "", error: type[XHarmonizeError] = StoreError
) -> None:
    """Raise an error with ``mode="w-"`` where there is anything but an empty folder.

    Parameters
    ----------
    cure : str
        What else could be done; ``mode='w'`` where not given.
    """
    if mode != "w-" or not os.path.lexists(path):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise error(f"{path} exists; {cure or 'mode=' + repr('w') + ' replaces it'}, or name another")


@contextmanager
def written_aside(
    target: Path, mode: str, *, cure: str = "", error: type[XHarmonizeError] = StoreError
) -> Iterator[Path]:
    """Yield a path of the same name to write a file or folder to; it takes its place when whole.

    An error in the body leaves what was at `target`. A process killed between the two renames
    that exchange folders leaves the old one under a hidden name; the next write brings it back.
    """
    put_back(target)
    require_new(target, mode, cure=cure, error=error)
    hidden = beside(target, "partial")
    hidden.mkdir(parents=True)
    try:
        yield hidden / target.name
        require_new(target, mode, cure=cure, error=error)
        exchange(hidden / target.name, target)
    finally:
        remove(hidden)


def exchange(new: Path, target: Path) -> None:
    """Put a file or folder in place of what is at `target`, which is removed."""
    if not target.is_dir():
        os.replace(new, target)
        return
    if _exchange_names(new, target):
        remove(new)
        return
    old = beside(target, "old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    # What is called old is whole, always: it is renamed before it is taken apart.
    remove(old.rename(beside(target, "partial")))


def _exchange_names(one: Path, other: Path) -> bool:
    """Exchange two names in one step, so that a kill leaves both; False where that is impossible.

    Linux has a system call for it, ``renameat2`` with ``RENAME_EXCHANGE``, on most file systems.
    """
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(call(here, os.fsencode(one), here, os.fsencode(other), flag) == 0)


def put_back(target: Path) -> None:
    """Bring back what was at `target` when a process was killed between two renames."""
    for old in target.parent.glob(f".{escaped(target.name)}.*.old"):
        if target.exists():
            remove(old.rename(beside(target, "partial")))
        else:
            old.rename(target)


def beside(target: Path, what: str) -> Path:
    """Return a hidden name beside `target` that nobody else uses."""
    return target.with_name(f".{target.name}.{uuid4().hex}.{what}")


def remove(path: Path) -> None:
    """Remove a file or folder; it need not be there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def escaped(name: str) -> str:
    """Return a file name as a pattern that matches only itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
