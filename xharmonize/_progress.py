"""A bar for work that takes minutes, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def is_shown(progress: bool | None) -> bool:
    """Whether to draw: as asked for, by default where stderr is a terminal."""
    return sys.stderr.isatty() if progress is None else progress


@contextmanager
def counted(words: str, progress: bool | None) -> Iterator[Callable[[int, int], None]]:
    """Yield ``show(done, total)``, which draws a bar, or nothing."""
    if not is_shown(progress):
        yield lambda _done, _total: None
        return
    with _bar(words) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def computing(words: str, progress: bool | None) -> Iterator[None]:
    """Draw a bar of the tasks of Dask that this process runs in the block."""
    if not is_shown(progress):
        yield
        return
    with _bar(words) as (bar, task), tasks_of(bar, task):
        yield


def tasks_of(bar: Any, task: Any) -> Any:
    """Return a Dask callback that counts the tasks of every graph while it is active."""
    from dask.callbacks import Callback

    total = 0

    def start(_: Any, state: Any) -> None:
        nonlocal total
        total += sum(len(state[name]) for name in ("ready", "waiting"))
        bar.update(task, total=total)

    def done(*_: Any) -> None:
        bar.advance(task)

    return Callback(start_state=start, posttask=done)


@contextmanager
def _bar(words: str) -> Iterator[tuple[Any, Any]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task(words, total=None)
