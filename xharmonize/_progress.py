"""A bar for work that takes minutes: on a terminal, in a notebook, or nowhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any
from uuid import uuid4

from xharmonize._settings import option

DELAY = 1.0
"""Seconds before a bar appears in a notebook: what is done sooner shows none."""

# Bars that are drawn at this moment: work within work belongs to the outer bar.
_drawn: list[str] = []


def is_shown(progress: bool | None) -> bool:
    """Whether to draw: as asked for, else as `set_options` says, else where somebody sees it."""
    asked = option("progress") if progress is None else progress
    return is_seen() if asked is None else bool(asked)


def is_seen() -> bool:
    """Whether stderr is a terminal, or this process a notebook's."""
    return sys.stderr.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this process shows its output in a notebook."""
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return type(found).__name__ == "ZMQInteractiveShell"


@contextmanager
def counted(words: str, progress: bool | None) -> Iterator[Callable[[int, int], None]]:
    """Yield ``show(done, total)``, which draws a bar, or nothing."""
    if _drawn or not is_shown(progress):
        yield lambda _done, _total: None
        return
    with _bar(words) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def computing(words: str, progress: bool | None) -> Iterator[None]:
    """Draw a bar of the tasks of Dask that this process runs in the block."""
    if _drawn or not is_shown(progress):
        yield
        return
    with _bar(words) as (bar, task), tasks_of(bar, task):
        yield


@contextmanager
def tasks_of(bar: Any, task: Any) -> Iterator[None]:
    """Count the tasks of every graph that is computed in the block: here, or by a cluster."""
    from dask.callbacks import Callback

    total = 0

    def start(_: Any, state: Any) -> None:
        nonlocal total
        total += sum(len(state[name]) for name in ("ready", "waiting"))
        bar.update(task, total=total)

    def done(*_: Any) -> None:
        bar.advance(task)

    with Callback(start_state=start, posttask=done), _tasks_of_client(bar, task):
        yield


@contextmanager
def _tasks_of_client(bar: Any, task: Any) -> Iterator[None]:
    """Count the tasks of the client that computes by default, if there is one.

    The scheduler counts, since results of intermediate tasks never reach the client, and tells a
    few times a second. Other clients of the scheduler are not counted.
    """
    client = _default_client()
    if client is None:
        yield
        return
    topic, counts = f"xharmonize-progress-{uuid4().hex}", [0, 0]

    def show(event: tuple[float, tuple[int, int]]) -> None:
        counts[:] = event[1]
        bar.update(task, completed=counts[0], total=counts[1])

    client.subscribe_topic(topic, show)
    client.register_plugin(_make_counter(client.id, topic), name=topic)
    try:
        yield
    finally:
        client.unregister_scheduler_plugin(topic)
        client.unsubscribe_topic(topic)
    bar.update(task, completed=counts[1], total=counts[1])  # the last message may be on its way


def _default_client() -> Any:
    """The client of distributed that computes what names no scheduler, or None."""
    if "distributed" not in sys.modules:
        return None
    from dask.base import get_scheduler

    client: Any = getattr(get_scheduler(), "__self__", None)
    is_client = isinstance(client, sys.modules["distributed"].Client)
    return client if is_client and not client.asynchronous else None


def _make_counter(client: str, topic: str) -> Any:
    """Return a plugin of the scheduler that logs (done, total) of a client's tasks to a topic.

    Its class is made here so that it travels by value: the scheduler need not have this package.
    """
    plugin: Any = sys.modules["distributed"].SchedulerPlugin  # loaded: there is a client

    class Counter(plugin):  # type: ignore[misc]
        name = topic

        def __init__(self) -> None:
            self.open: set[Any] = set()
            self.total, self.told = 0, 0.0

        def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler

        def update_graph(self, scheduler: Any, *, client: str, tasks: Any, **_: Any) -> None:
            if client == owner:
                known = scheduler.tasks
                new = {k for k in tasks if k in known and known[k].state != "memory"} - self.open
                self.open |= new
                self.total += len(new)

        def transition(self, key: Any, _: str, finish: str, *__: Any, **___: Any) -> None:
            if key not in self.open or finish not in ("memory", "erred"):
                return
            import time

            self.open.discard(key)
            now = time.monotonic()
            if now - self.told > 0.2 or not self.open:
                self.told = now
                self.scheduler.log_event(topic, (self.total - len(self.open), self.total))

    owner = client
    return Counter()


@contextmanager
def _bar(words: str) -> Iterator[tuple[Any, Any]]:
    _drawn.append(words)
    try:
        with (_notebook_bar if in_notebook() else _terminal_bar)(words) as drawn:
            yield drawn
    finally:
        _drawn.remove(words)


def make_bar(console: Any, *, is_off: bool = False) -> Any:
    """Return a bar of rich on a console."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    words = TextColumn("{task.description}")
    columns = (words, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=is_off)


@contextmanager
def _terminal_bar(words: str) -> Iterator[tuple[Any, Any]]:
    from rich.console import Console

    with make_bar(Console(stderr=True)) as bar:
        yield bar, bar.add_task(words, total=None)


@contextmanager
def _notebook_bar(words: str) -> Iterator[tuple[Any, Any]]:
    bar = NotebookBar(words)
    try:
        yield bar, None
    finally:
        bar.close()


class NotebookBar:
    """A bar that a notebook draws in HTML, with the methods of rich's that are used here."""

    def __init__(self, words: str) -> None:
        self._words = words
        self._done, self._total = 0, 0
        self._began = self._told = time.monotonic()
        self._handle: Any = None

    def update(
        self, _task: Any = None, *, completed: int | None = None, total: int | None = None
    ) -> None:
        """Set what is done, and of how many."""
        self._done = self._done if completed is None else completed
        self._total = self._total if total is None else total
        self._tell()

    def advance(self, _task: Any = None) -> None:
        """One more is done."""
        self.update(completed=self._done + 1)

    def close(self) -> None:
        """Leave one line, where a bar was drawn."""
        if self._handle is not None:
            took = f"<small>{escape(self._words)}: {self._took()}</small>"
            self._handle.update(_Html(took))

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._began < DELAY or (self._handle is not None and now - self._told < 0.3):
            return
        self._told = now
        bar = (
            f"{escape(self._words)} <progress value='{self._done}' max='{max(self._total, 1)}'>"
            f"</progress> {self._done}/{self._total}, {self._took()}"
        )
        if self._handle is None:
            from IPython.display import display

            self._handle = display(_Html(bar), display_id=True)
        else:
            self._handle.update(_Html(bar))

    def _took(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"


class _Html:
    """Text that a notebook shows as HTML; IPython's own class warns of what it takes for frames."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return ""
