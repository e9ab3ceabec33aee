"""Write what is made from the options themselves: ``python docs/make_cli_reference.py``.

That is the page ``reference/cli.md``, and the table by which shells complete words.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer import Typer
from typer.main import get_command
from typer.models import ArgumentInfo, ParameterInfo

from xharmonize.cli import completion, console
from xharmonize.cli.app import app
from xharmonize.cube.indices import list_indices
from xharmonize.fusion import METHODS
from xharmonize.fusion.fill import FILLERS
from xharmonize.metrics import list_metrics
from xharmonize.recipe import settings
from xharmonize.sensors import list_sensors
from xharmonize.sensors.bandpass import list_tables
from xharmonize.sensors.registry import all_sensors
from xharmonize.sensors.spec import Flag
from xharmonize.simulate.config import DEFAULT_ORBITS

PAGE = Path(__file__).parent / "reference" / "cli.md"
TABLE = Path(completion.__file__).with_name(completion.TABLE)

_INSTRUMENTS = [instrument for sensor in all_sensors() for instrument in sensor.instruments]
_PLATFORMS = sorted({instrument.platform for instrument in _INSTRUMENTS})
# Names that an option takes; of an option that all commands share, by its name alone.
VALUES = {
    "bands": list(dict.fromkeys(band.name for one in _INSTRUMENTS for band in one.bands)),
    "index": list_indices(),
    "mask": ["clear", "none", *(flag.label for flag in Flag)],
    "metrics": list_metrics(),
    "platform": ["infer", *_PLATFORMS],
    "sensor": list_sensors(),
    "reference_sensor": list_sensors(),
    "simulate sensor": list(dict.fromkeys(orbit.sensor for orbit in DEFAULT_ORBITS)),
    "harmonize model": [*list_tables(), completion.BUNDLES],
    "fit model": [completion.BUNDLES],
    "sharpen model": [*METHODS, completion.BUNDLES],
    "fill model": [*FILLERS, completion.BUNDLES],
    "models show name": [*list_tables(), completion.BUNDLES],
}
LISTS = {"bands", "mask", "metrics"}  # several names, separated by commas
OF_RECIPES = ("composite", "smooth", "phenology", "table")  # commands with the keys of a recipe


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


def make_table() -> str:
    """Return the table for shells: `xharmonize.cli.completion.make_app` says what it holds."""
    table = {}
    for whole, function in commands(app):
        words = whole.split(" ")[1:]
        found: Any = get_command(app)
        for word in words:
            found = found.commands[word]
        hints = get_type_hints(function, include_extras=True)
        told = [
            entry_of(" ".join(words), p, hints[p.name]) for p in found.params if p.name in hints
        ]
        text = (inspect.getdoc(function) or "").partition("\n")[0]
        table[" ".join(words)] = {"help": text, "parameters": told}
    lines = json.dumps(table, ensure_ascii=False).replace(', {"options"', ',\n{"options"')
    return lines.replace("]}, ", "]},\n") + "\n"


def entry_of(command: str, parameter: Any, hint: Any) -> dict[str, Any]:
    """Return what completion knows of a parameter; what is false or empty is left out."""
    kind, info = get_args(hint)
    is_flag, name = kind is bool, parameter.name
    no = "".join(f"/{option}" for option in parameter.secondary_opts)
    known = settings.describe_part(command) if command in OF_RECIPES else {}
    values = VALUES.get(f"{command} {name}", VALUES.get(name, []))
    if name in known and known[name].choices:
        values = list(known[name].choices)
    is_option = not isinstance(info, ArgumentInfo)
    entry = {
        "name": name,
        "help": " ".join(str(info.help).split()).partition(". ")[0],
        "is_flag": is_flag,
        "is_repeated": any(get_origin(k) is list for k in (kind, *get_args(kind))),
        "is_list": name in LISTS,
        "values": list(choices_of(kind)) or values,
    }
    options = [f"{option}{no}" for option in parameter.opts] if is_option else []
    return {"options": options} | {key: value for key, value in entry.items() if value}


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the names of a closed set; empty for other types."""
    return next((get_args(k) for k in (kind, *get_args(kind)) if get_origin(k) is Literal), ())


def label(name: str, info: ParameterInfo) -> str:
    """Return how a parameter is written."""
    if isinstance(info, ArgumentInfo):
        return f"`{name.upper()}`"
    return f"`--{name.replace('_', '-')}`"


def help_of(kind: Any, info: ParameterInfo) -> str:
    """Return the explanation, with the choices where there are some."""
    text = " ".join(str(info.help).split())
    choices = choices_of(kind)
    return text + (f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "")


def default_of(value: Any) -> str:
    """Return the default as one would write it; empty where there is none."""
    is_absent = value is None or value is False or value is inspect.Parameter.empty
    return "" if is_absent else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
    TABLE.write_text(make_table(), encoding="utf-8")
