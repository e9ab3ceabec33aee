"""Terminal output of the commands: tables, progress, one-line warnings and errors."""

from __future__ import annotations

import json
import math
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table
from typer.core import TyperCommand

from xharmonize._progress import make_bar, tasks_of
from xharmonize.cli.completion import GLOBAL
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
EVERYWHERE = (
    "Every command takes --json (one JSON object: tables, messages, warnings, the error), "
    "-q, --quiet (warnings and errors only) and -v, --verbose (also where an error comes from)."
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


@dataclass(kw_only=True)
class Style:
    """How the running command prints.

    Attributes
    ----------
    is_quiet : bool
        Only errors, warnings and what `--json` asks for.
    is_verbose : bool
        Also where an error comes from, and the warnings of other packages.
    is_json : bool
        One JSON object on stdout, at the end, of what would be printed.
    told : dict
        For it: messages, tables, warnings, and the error.
    """

    is_quiet: bool = False
    is_verbose: bool = False
    is_json: bool = False
    told: dict[str, Any] = field(
        default_factory=lambda: {"messages": [], "tables": [], "warnings": [], "error": None}
    )


STYLE = Style()


_FLAGS = {option: f"is_{name}" for name, (options, _) in GLOBAL.items() for option in options}


def begin(arguments: Sequence[str]) -> list[str]:
    """Take the options that every command has, wherever they stand; return the other arguments.

    Versions of typer have no way in common to add an option to all commands.
    """
    options, ends, rest = list(arguments), [], []
    if "--" in options:
        at = options.index("--")
        options, ends = options[:at], options[at:]
    STYLE.__dict__.update(vars(Style()))
    for argument in options:
        if argument in _FLAGS:
            setattr(STYLE, _FLAGS[argument], True)
        else:
            rest.append(argument)
    return rest + ends


def end(code: object) -> None:
    """Print what was told as JSON, where it was asked for."""
    if STYLE.is_json:
        text = json.dumps({"exit_code": code or 0, **STYLE.told}, default=str, ensure_ascii=False)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def say(text: str) -> None:
    """Print a line."""
    STYLE.told["messages"].append(text)
    if not (STYLE.is_quiet or STYLE.is_json):
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
    if kind == "error":
        STYLE.told["error"] = _fields(message, text)
        if STYLE.is_verbose and isinstance(message, BaseException):
            ERR.print(plain("".join(traceback.format_exception(message))), highlight=False)
    elif kind == "warning":
        STYLE.told["warnings"].append(text)
    line = plain(" ".join(text.split()))
    ERR.print(f"[bold {colour}]{kind}:[/] {line}", highlight=False, soft_wrap=True)


def _fields(error: object, text: str) -> dict[str, Any]:
    """Class and fields of an error, and its text as printed."""
    names = ("what", "cure", "argument", "value", "item")
    known = {name: getattr(error, name, None) for name in names}
    return {"class": type(error).__name__, "text": text, **known}


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
    told = [{name: _json(value) for name, value in row.items()} for row in rows]
    STYLE.told["tables"].append({"title": title, "rows": told})
    if STYLE.is_quiet or STYLE.is_json:
        return
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


def as_plain(value: Any) -> Any:
    """A value as a plain number, text or None, for tables and JSON."""
    item = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return item if isinstance(item, (int, float, str, type(None))) else str(item)


def _json(value: Any) -> Any:
    """A cell as JSON has it: null for NaN."""
    item = as_plain(value)
    return None if isinstance(item, float) and not math.isfinite(item) else item


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
    if not ERR.is_terminal and not STYLE.is_quiet:
        ERR.print(f"{plain(description)} …", highlight=False)
    is_off = STYLE.is_quiet or not ERR.is_terminal
    with make_bar(ERR, is_off=is_off) as bar:
        task = bar.add_task(plain(description), total=None)
        yield bar, task
        bar.update(task, total=1, completed=1)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print this package's warnings as one line each, and each distinct text once."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        is_ours = issubclass(category, XHarmonizeWarning)
        if str(message) not in seen and (is_ours or STYLE.is_verbose):
            complain("warning", message, "yellow")
        seen.add(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", XHarmonizeWarning)
        warnings.showwarning = show
        yield
