"""Commands whose arguments are the fields of a dataclass: each is declared once, there.

A field's type is annotated with `typer.Option` or `typer.Argument`; its default is the option's. A
field that is a dataclass itself stands for its own fields.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from xharmonize._replace import Mode
from xharmonize.cluster.local import connect, local
from xharmonize.errors import OptionError

T = TypeVar("T")

OUTPUT = "What to write"


@dataclass(frozen=True)
class Read:
    """Annotates a field that the command line gives as text: the function that reads the text."""

    function: Callable[[str], Any]


def split_names(text: str) -> tuple[str, ...]:
    """Split comma-separated names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_bbox(text: str) -> tuple[float, float, float, float]:
    """Parse ``west,south,east,north``; raise `typer.BadParameter` unless it is four numbers."""
    west, south, east, north = _numbers(text, 4, "--bbox", "WEST,SOUTH,EAST,NORTH")
    return west, south, east, north


def parse_point(text: str) -> tuple[float, float]:
    """Parse ``longitude,latitude``; raise `typer.BadParameter` unless it is two numbers."""
    longitude, latitude = _numbers(text, 2, "--point", "LON,LAT")
    return longitude, latitude


def _numbers(text: str, n_numbers: int, option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != n_numbers:
        words = {2: "two", 4: "four"}[n_numbers]
        raise typer.BadParameter(
            f"{option} {text!r} is not {words} numbers; write {form} in degrees"
        )
    return numbers


def mode_of(overwrite: bool) -> Mode:
    """Return the writers' `mode` of a command, with --overwrite or without."""
    return "w" if overwrite else "w-"


def takes(job: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Decorate ``run(job)`` to take the fields of `job` as arguments, and to be a typer command."""
    parameters = list(_parameters(job))

    def decorate(run: Callable[[T], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            run(_build(job, given))

        command.__name__, command.__doc__ = run.__name__, run.__doc__
        command.__module__, command.__qualname__ = run.__module__, run.__qualname__
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        command.__signature__ = Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        return command

    return decorate


def _parameters(job: type[Any]) -> Iterator[Parameter]:
    """Parameters of the command, in the order of the fields."""
    for name, hint, default in _fields(job):
        if dataclasses.is_dataclass(hint):
            yield from _parameters(hint)  # type: ignore[arg-type]
            continue
        if (reader := _reader(hint)) is not None:
            kind, info = get_args(hint)[0], next(a for a in get_args(hint)[1:] if a is not reader)
            hint = Annotated[str | None if type(None) in get_args(kind) else str, info]
        yield Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _build(job: type[T], given: Mapping[str, Any]) -> T:
    values: dict[str, Any] = {}
    for name, hint, _ in _fields(job):
        if dataclasses.is_dataclass(hint):
            values[name] = _build(hint, given)  # type: ignore[arg-type]
            continue
        value, reader = given[name], _reader(hint)
        values[name] = reader.function(value) if reader and isinstance(value, str) else value
    return job(**values)


def _fields(job: type[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of the fields."""
    hints = get_type_hints(job, include_extras=True)
    for field in dataclasses.fields(job):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield field.name, hints[field.name], default


def _reader(hint: Any) -> Read | None:
    return next((part for part in get_args(hint)[1:] if isinstance(part, Read)), None)


def client_of(workers: int | None, scheduler: str | None) -> AbstractContextManager[Any]:
    """A client of workers: started here, or those of a scheduler; None for none.

    Raises
    ------
    OptionError
        If both are named.
    """
    if workers is not None and scheduler is not None:
        raise OptionError(
            "workers cannot be started and taken from a scheduler at once",
            cure="give one of --workers and --scheduler",
        )
    if workers is not None:
        return local(n_workers=workers, threads_per_worker=1)
    return nullcontext() if scheduler is None else connect(scheduler)
