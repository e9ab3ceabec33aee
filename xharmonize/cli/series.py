"""``xharmonize composite``, ``smooth``, ``phenology`` and ``table``: steps on a stored series.

Their options are those of the functions, as in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

import xharmonize as xh
from xharmonize._replace import Mode
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, mode_of
from xharmonize.cli.places import (
    Options,
    Storage,
    open_store,
    parse_storage,
    require_local,
    to_store,
)
from xharmonize.recipe import settings
from xharmonize.recipe.steps import read_polygons_file

SERIES = Annotated[
    str, typer.Argument(help="Path or URL of a series, as `harmonize --out` writes it.")
]
OUT = Annotated[str, typer.Option(help="What to write.", rich_help_panel=OUTPUT)]
REPLACE = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there.", rich_help_panel=OUTPUT)
]


def _command(name: str, run: Callable[[Any, Any, str, Mode, Options], None]) -> Callable[..., None]:
    """A command with the options of a table of a recipe."""
    part = settings.part_of(name)

    def command(
        *, source: str, out: str, overwrite: bool, storage_options: str | None, **given: str | None
    ) -> None:
        told = {key: value for key, value in given.items() if value is not None}
        options = settings.read_part(name, told, where="the options")
        storage = parse_storage(storage_options)
        run(open_store(source, storage), options, out, mode_of(overwrite), storage)
        console.say(f"{out}: written")

    parameters = [
        Parameter("source", Parameter.KEYWORD_ONLY, annotation=SERIES),
        Parameter("out", Parameter.KEYWORD_ONLY, annotation=OUT),
        *_options(name),
        Parameter("overwrite", Parameter.KEYWORD_ONLY, annotation=REPLACE, default=False),
        Parameter("storage_options", Parameter.KEYWORD_ONLY, annotation=Storage, default=None),
    ]
    command.__name__ = name
    command.__doc__ = settings.title_of(part)
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    command.__signature__ = Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    return command


def _options(name: str) -> Iterator[Parameter]:
    for key, told in settings.describe_part(name).items():
        said = {"One of ": ", ".join(told.choices), "Default: ": told.default}
        words = [told.text, *(f"{word}{text}" for word, text in said.items() if text)]
        option = typer.Option(help=". ".join(words) + ".")
        kind: Any = str if told.is_required else str | None
        annotation: Any = Annotated[kind, option]
        default = Parameter.empty if told.is_required else None
        yield Parameter(key, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _store(function: Callable[..., Any]) -> Callable[[Any, Any, str, Mode, Options], None]:
    def run(series: Any, options: Any, out: str, mode: Mode, storage: Options) -> None:
        with console.progress(f"Writing {out}"):
            to_store(function(series, **options.options()), out, mode, storage)

    return run


def _to_table(series: Any, options: Any, out: str, mode: Mode, _: Options) -> None:
    require_local(out, "a table")
    fields = read_polygons_file(options.fields)
    xh.series.to_table(series, fields, path=out, mode=mode, **options.options())


composite = _command("composite", _store(xh.series.composite))
smooth = _command("smooth", _store(xh.series.smooth))
phenology = _command("phenology", _store(xh.series.phenology))
table = _command("table", _to_table)
