"""Write reference/cli.md from the options themselves: ``python docs/make_cli_reference.py``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer import Typer
from typer.models import ArgumentInfo, ParameterInfo

from xharmonize.cli import console
from xharmonize.cli.app import app

PAGE = Path(__file__).parent / "reference" / "cli.md"


def make_page() -> str:
    """Return the page."""
    lines = [
        "# Command line",
        "",
        "Made by `docs/make_cli_reference.py`; `xharmonize COMMAND --help` says the same.",
        "",
        f"{console.EVERYWHERE}",
        "",
        f"{console.EXIT_CODES} Tables and results go to stdout, progress and warnings to stderr.",
        "",
    ]
    for name, command in commands(app):
        lines += describe(name, command)
    return "\n".join(lines).rstrip() + "\n"


def commands(group: Typer, prefix: str = "xharmonize") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield all commands, those of groups after the others."""
    for command in group.registered_commands:
        if command.callback is not None:
            yield f"{prefix} {command.callback.__name__}", command.callback
    for inner in group.registered_groups:
        if inner.typer_instance is None or inner.typer_instance.registered_callback is None:
            continue
        name = f"{prefix} {inner.name}"
        callback = inner.typer_instance.registered_callback.callback
        if callback is not None:
            yield name, callback
        yield from commands(inner.typer_instance, name)


def describe(name: str, command: Callable[..., Any]) -> Iterator[str]:
    """Yield the section of a command."""
    text = inspect.getdoc(command) or ""
    hints = get_type_hints(command, include_extras=True)
    yield from (f"## {name}", "", *text.splitlines(), "")
    signature = inspect.signature(command).parameters.items()
    parameters = {key: value for key, value in signature if get_args(hints[key])}
    if not parameters:
        return
    yield from ("| | | default |", "|---|---|---|")
    for name, parameter in parameters.items():
        kind, info = get_args(hints[name])
        yield f"| {label(name, info)} | {help_of(kind, info)} | {default_of(parameter.default)} |"
    yield ""


def label(name: str, info: ParameterInfo) -> str:
    """Return how a parameter is written."""
    if isinstance(info, ArgumentInfo):
        return f"`{name.upper()}`"
    return f"`--{name.replace('_', '-')}`"


def help_of(kind: Any, info: ParameterInfo) -> str:
    """Return the explanation, with the choices where there are some."""
    text = " ".join(str(info.help).split())
    choices = next((get_args(k) for k in (kind, *get_args(kind)) if get_origin(k) is Literal), ())
    return text + (f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "")


def default_of(value: Any) -> str:
    """Return the default as one would write it; empty where there is none."""
    is_absent = value is None or value is False or value is inspect.Parameter.empty
    return "" if is_absent else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
