"""Completion of words in a shell: answered from a table, as commands take seconds to import.

``completion.json`` holds the commands, their options and the values of these that have names. It is
made from the commands themselves by ``python docs/make_cli_reference.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

TABLE = "completion.json"
BUNDLES = "bundles"
"""Stands in the table for the names of bundles, which are looked up when a shell asks."""
GLOBAL = {
    "json": (["--json"], "One JSON object on stdout."),
    "quiet": (["-q", "--quiet"], "Warnings and errors only."),
    "verbose": (["-v", "--verbose"], "Also where an error comes from."),
}
"""Options of all commands, which stand anywhere; `console.begin` takes them."""


def complete() -> None:
    """Answer what a shell asks by the variable ``_XHARMONIZE_COMPLETE``, and exit."""
    table = json.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    make_app(table)(prog_name="xharmonize")


def make_app(table: Mapping[str, Any]) -> typer.Typer:
    """Return the commands of a table: they take the same words as the real ones, and do nothing.

    Parameters
    ----------
    table : mapping
        By words of the command: its ``help``, and its ``parameters``.
    """
    app = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    version = {"name": "version", "options": ["--version"], "is_flag": True}
    app.callback()(_function("", {"parameters": [version]}))
    groups = {"": app}
    for words, entry in table.items():
        group, _, name = words.rpartition(" ")
        if any(other.startswith(f"{words} ") for other in table):
            groups[words] = typer.Typer(help=entry["help"])
            groups[words].callback(invoke_without_command=True)(_function(name, entry))
            groups[group].add_typer(groups[words], name=name)
        else:
            groups[group].command(name)(_function(name, entry))
    return app


def _function(name: str, entry: Mapping[str, Any]) -> Callable[..., None]:
    """A command that takes the parameters of an entry, and those of all commands."""

    def function(**_: Any) -> None:
        """Do nothing."""

    parameters = [*map(_parameter, entry["parameters"]), *_everywhere()]
    function.__name__, function.__doc__ = name or "options", entry.get("help", "")
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    function.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return function


def _everywhere() -> Iterator[Parameter]:
    for name, (options, text) in GLOBAL.items():
        told = {"name": name, "options": options, "help": text, "is_flag": True}
        yield _parameter(told)


def _parameter(told: Mapping[str, Any]) -> Parameter:
    declared, text = told["options"], told.get("help", "")
    asked = _answers(told.get("values", ()), is_list=told.get("is_list", False))
    info: Any = (
        typer.Option(*declared, help=text, autocompletion=asked)
        if declared
        else typer.Argument(help=text, autocompletion=asked)
    )
    kind: Any = list[str] if told.get("is_repeated") else str
    kind = bool if told.get("is_flag") else kind | None
    annotation: Any = Annotated[kind, info]
    default = False if kind is bool else None
    return Parameter(told["name"], Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _answers(values: Iterable[str], *, is_list: bool) -> Callable[[str], list[str]]:
    """Function from the beginning of a word to the words that it may become."""

    def answers(incomplete: str) -> list[str]:
        done, comma, begun = incomplete.rpartition(",") if is_list else ("", "", incomplete)
        taken = done.split(",")
        known = (name for value in values for name in (_bundles() if value == BUNDLES else [value]))
        return [f"{done}{comma}{v}" for v in known if v.startswith(begun) and v not in taken]

    return answers


def _bundles() -> list[str]:
    """Names of the bundles in the folders of XHARMONIZE_MODELS."""
    if not os.environ.get("XHARMONIZE_MODELS"):
        return []  # models take a moment to import
    from xharmonize.errors import ModelError
    from xharmonize.models.bundle import list_bundles

    try:
        return [listed.name for listed in list_bundles()]
    except ModelError:
        return []
