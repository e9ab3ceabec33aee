"""Terminal output of the commands: tables, progress, one-line warnings and errors."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dask.callbacks import Callback
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from xharmonize.errors import RadiometryWarning, printable

# Without a terminal rich would wrap at 80 columns, and tables in a log would be hard to search.
PIPE_WIDTH = 140
OUT = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)

OK, FAILED, USAGE, CONTRADICTION, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, in one line on stderr; 2 wrong usage; "
    "3 pixels contradict the metadata and nothing was written; 130 interrupted."
)
# "pass platform= one of" addresses callers of functions; "bbox=(3.0, 50.0)" quotes a value, and
# must not become an option.
_ARGUMENT = re.compile(r"\b(platform|tile|tolerance|resolution|bands|bbox|datetime)=(?=[\s;,.]|$)")

_NAMES = re.compile(r"\b(schemes)=\(([^()]*)\)")
QUOTES = r"['\" ]|,$"


def say(text: str) -> None:
    """Print a line."""
    OUT.print(plain(text), highlight=False)


def plain(text: object) -> str:
    """Escape text so that neither rich nor the terminal interprets markup or control codes."""
    return escape(printable(text))


def complain(kind: str, message: object, colour: str) -> None:
    """Print a message as one line to stderr.

    Function arguments that the message suggests are replaced by the matching options.
    """
    line = _ARGUMENT.sub(lambda found: f"--{found[1]}", " ".join(str(message).split()))
    line = _NAMES.sub(lambda found: f"--{found[1]} {re.sub(QUOTES, '', found[2])}", line)
    ERR.print(f"[bold {colour}]{kind}:[/] {plain(line)}", highlight=False, soft_wrap=True)


def print_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Print rows with the same keys as a table; wide cells wrap."""
    table = Table(
        title=plain(title) or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    if not rows:
        say(f"{title}: nothing".strip(": "))
        return
    for name, value in rows[0].items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        table.add_column(plain(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(plain(_cell(value)) for value in row.values()))
    OUT.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return str(value)


class _Bar(Callback):
    """Count the tasks of every graph that runs while this callback is active."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._progress, self._task, self._total = progress, task, 0

    def _start_state(self, _: Any, state: Mapping[str, Any]) -> None:
        self._total += sum(len(state[name]) for name in ("ready", "waiting"))
        self._progress.update(self._task, total=self._total)

    def _posttask(self, *_: Any) -> None:
        self._progress.advance(self._task)


@contextmanager
def progress(description: str) -> Iterator[None]:
    """Show a progress bar for Dask computations in the block; without a terminal, a plain line."""
    with _bar(description) as (bar, task), _Bar(bar, task):
        yield


@contextmanager
def counted(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; yield ``show(done, total)``, which updates it."""
    with _bar(description) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _bar(description: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    if not ERR.is_terminal:
        ERR.print(f"{plain(description)} …", highlight=False)
    with Progress(*columns, console=ERR, disable=not ERR.is_terminal) as bar:
        task = bar.add_task(plain(description), total=None)
        yield bar, task
        bar.update(task, total=1, completed=1)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print this package's warnings as one line each, and each distinct text once."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if str(message) not in seen and issubclass(category, RadiometryWarning):
            complain("warning", message, "yellow")
        seen.add(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", RadiometryWarning)
        warnings.showwarning = show
        yield
