"""Terminal output of the commands: tables, progress, one-line warnings and errors."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
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
from typer.core import TyperCommand

from xharmonize._progress import tasks_of
from xharmonize.errors import XHarmonizeError, XHarmonizeWarning, printable, worded

# Without a terminal rich would wrap at 80 columns, and tables in a log would be hard to search.
PIPE_WIDTH = 140
OUT = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)

OK, FAILED, USAGE, CONTRADICTION, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, in one line on stderr; 2 wrong usage; "
    "3 pixels contradict the metadata and nothing was written; 130 interrupted."
)
# Arguments are named, as in "pass platform= one of", or come with a value, as in "mode='w'".
_NAMED = re.compile(r"\b([a-z_]+)=(?=[\s;,)]|\.?$|\.\s)")
_GIVEN = re.compile(r"\b([a-z_]+)=(\([^()]*\)|'[^']*'|\"[^\"]*\"|\d[\d.]*(?<!\.))")
# What a cure says in Python, the option of the command that does it (any, where empty), and how.
_HERE = (
    (
        r"settle (?:it|them) with (?:radiometry= of open_stac, or )?xh\.describe(?:\([^)]*\))?",
        "modifier",
        "correct the items with --modifier module:function",
    ),
    (r"\bcollection=", "source_collection", "--source-collection"),
    (r"\bon_error=[\"']skip[\"']", "skip_unreadable", "--skip-unreadable"),
    (r"\bmode='w'", "overwrite", "--overwrite"),
    (r"\bmode='upsert'", "upsert", "--upsert"),
    (r"\bwith to_zarr$", "", "with xharmonize harmonize"),
)
_QUOTES = r"['\"() ]|,(?=\)?$)"
_PYTHON = re.compile(r"\b(?:xh|cube)\.\w")


def say(text: str) -> None:
    """Print a line."""
    OUT.print(plain(text), highlight=False)


def plain(text: object) -> str:
    """Escape text so that neither rich nor the terminal interprets markup or control codes."""
    return escape(printable(text))


# Options of the running command by names of arguments: of the process, as threads complain too.
_OPTIONS: dict[str, str] = {}


def complain(kind: str, message: object, colour: str) -> None:
    """Print a message as one line to stderr.

    Errors are worded from their fields, with options of the running command for arguments.
    """
    text = _worded(message) if isinstance(message, XHarmonizeError) else respell(str(message))
    line = plain(" ".join(text.split()))
    ERR.print(f"[bold {colour}]{kind}:[/] {line}", highlight=False, soft_wrap=True)


def _worded(error: XHarmonizeError) -> str:
    """Return the message of an error as a user of the command line needs it."""
    subject = error.subject
    if error.argument in _OPTIONS:
        subject = f"{_OPTIONS[error.argument]} {_typed(error.value)}"
    cure = _respell_methods(error.cure)
    if _PYTHON.search(cure):
        cure = f"in Python: {cure}"
    else:
        cure = _name_options(_GIVEN.sub(_with_value, cure))
    return worded(subject, _name_options(error.what), cure)


def respell(text: str) -> str:
    """Return text that names arguments of functions with the options of the running command."""
    return _name_options(_respell_methods(text))


def _respell_methods(text: str) -> str:
    for python, option, here in _HERE:
        if not option or option in _OPTIONS:
            text = re.sub(python, here, text)
    return text


def _name_options(text: str) -> str:
    return _NAMED.sub(lambda found: _OPTIONS.get(found[1], found[0]), text)


def _with_value(found: re.Match[str]) -> str:
    option = _OPTIONS.get(found[1])
    return f"{option} {re.sub(_QUOTES, '', found[2])}" if option else found[0]


def _typed(value: object) -> str:
    """Return a value as it is given to an option."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


class Command(TyperCommand):
    """A command whose errors and warnings are lines on stderr that name its options."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        _OPTIONS.update((str(p.name), p.opts[0]) for p in self.params if p.opts[0][:2] == "--")
        try:
            return super().invoke(ctx)
        except XHarmonizeError as error:
            complain("error", error, "red")
            raise typer.Exit(FAILED) from error
        finally:
            _OPTIONS.clear()


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


@contextmanager
def progress(description: str) -> Iterator[None]:
    """Show a progress bar for Dask computations in the block; without a terminal, a plain line."""
    with _bar(description) as (bar, task), tasks_of(bar, task):
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
        if str(message) not in seen and issubclass(category, XHarmonizeWarning):
            complain("warning", message, "yellow")
        seen.add(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", XHarmonizeWarning)
        warnings.showwarning = show
        yield
