"""Options declared once: methods and functions that take the options of another function.

What `help`, tab completion and type checkers show is made from that function, so that a new option
of it is there without a line of code.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

INHERITED = ("Parameters", "Returns", "Raises")


class Method(Generic[P, R]):
    """A method of an accessor that calls a function on the accessor's object.

    ``to_landsat = Method(lambda: xh.to_landsat)`` has the docstring, parameters (without the
    first), annotations and return type of the function, which is loaded when first asked for.
    A result of the cube's own type is ``Any`` to type checkers.
    """

    def __init__(self, load: Callable[[], Callable[Concatenate[Any, P], R]]) -> None:
        self._load = load
        self._owner = self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner.__qualname__, name

    def __get__(self, accessor: Any, owner: type | None = None) -> Callable[P, R]:
        method: Any = self._method
        bound: Callable[P, R] = method if accessor is None else method.__get__(accessor, owner)
        return bound

    @functools.cached_property
    def _method(self) -> Callable[..., Any]:
        """The method as a plain function of the accessor, made when first asked for."""
        function: Any = self._load()
        first, *others = _parameters(function)
        if first.kind is Parameter.VAR_POSITIONAL:  # the accessor's object, and others beside it
            others, omitted = [first, *others], ""
        else:
            omitted = first.name

        @functools.wraps(function)
        def method(self: Any, *args: Any, **options: Any) -> Any:
            return function(self._obj, *args, **options)

        itself = Parameter("self", Parameter.POSITIONAL_ONLY)
        _describe(method, [itself, *others], leave_out={omitted})
        method.__doc__ = without_parameters(function.__doc__, {omitted})
        method.__name__, method.__qualname__ = self._name, f"{self._owner}.{self._name}"
        return method


def show_methods(accessor: Any, title: str) -> str:
    """Return a title, and a line for each `Method` of an accessor: its name and what it does."""
    names = [name for name, value in vars(type(accessor)).items() if isinstance(value, Method)]
    width = max(map(len, names), default=0)
    lines = (f"  .{name:<{width}}  {_first_line(getattr(accessor, name))}" for name in names)
    return "\n".join([title, *lines])


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def with_options_of(whole: Callable[..., Any]) -> Callable[[F], F]:
    """Decorate ``f(a, b, **options)``, which passes its options on to `whole`.

    Signature and docstring become those of a function that spells them out: the keyword-only
    parameters of `whole`, and those of its sections that `f` does not write itself.
    """

    def decorate(part: F) -> F:
        own = [p for p in _parameters(part) if p.kind is not Parameter.VAR_KEYWORD]
        options = [p for p in _parameters(whole) if p.kind is Parameter.KEYWORD_ONLY]
        taken = {p.name for p in _parameters(whole)} - {p.name for p in (*own, *options)}
        part.__annotations__.update({p.name: p.annotation for p in options})
        _describe(part, [*own, *options], leave_out={"options"})
        if part.__doc__ and whole.__doc__:
            part.__doc__ = _joined(part.__doc__, without_parameters(whole.__doc__, taken) or "")
        return part

    return decorate


def _parameters(function: Callable[..., Any]) -> Iterator[Parameter]:
    yield from inspect.signature(function).parameters.values()


def _describe(function: Any, parameters: list[Parameter], *, leave_out: set[str]) -> None:
    """Set the signature and the annotations of a function."""
    hints = function.__annotations__
    returns = hints.get("return", Signature.empty)
    function.__signature__ = Signature(parameters, return_annotation=returns)
    function.__annotations__ = {n: hint for n, hint in hints.items() if n not in leave_out}


def without_parameters(doc: str | None, names: set[str]) -> str | None:
    """Return a numpydoc docstring without the entries of some parameters."""
    if not doc:
        return doc
    sections = _sections(doc)
    if "Parameters" in sections:
        entries = re.split(r"\n(?=\S)", sections["Parameters"])
        kept = [entry for entry in entries if entry.split(" :")[0].strip() not in names]
        sections["Parameters"] = "\n".join(kept)
        if not kept:
            del sections["Parameters"]
    return _written(sections)


def describe_parameters(function: Callable[..., Any]) -> dict[str, str]:
    """Return the first sentence that a numpydoc docstring says of each parameter."""
    entries = re.split(r"\n(?=\S)", _sections(function.__doc__ or "").get("Parameters", ""))
    told = (entry.partition("\n") for entry in entries)
    texts = {head.split(" :")[0].strip(): " ".join(body.split()) for head, _, body in told}
    return {name: re.split(r"(?<=[.;:])\s", text)[0].rstrip(".;:") for name, text in texts.items()}


def _joined(own: str, other: str) -> str:
    """Return a docstring with those sections of another that it lacks, in numpydoc's order."""
    mine, theirs = _sections(own), _sections(other)
    head = {"": mine.pop("")}
    inherited = {n: mine.pop(n, theirs[n]) for n in INHERITED if n in theirs}
    return _written(head | inherited | mine)


def _sections(doc: str) -> dict[str, str]:
    """Split a docstring by its underlined titles; what comes before them is titled ''."""
    head, *rest = re.split(r"(?m)^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(doc))
    return {"": head.strip()} | {n: text.strip("\n") for n, text in zip(rest[::2], rest[1::2])}


def _written(sections: dict[str, str]) -> str:
    titled = [f"{n}\n{'-' * len(n)}\n{text}" for n, text in sections.items() if n]
    return "\n\n".join([sections[""], *titled])
