"""What was written by others: JSON parsed within limits, and parts checked by their fields."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, get_type_hints

import numpy as np

from xharmonize.errors import ModelError

MAX_DEPTH = 16
_MAX_INTEGER = 2**63
PLAIN = r"[^\x00-\x08\x0b-\x1f\x7f]*"
"""Pattern of text without control characters but tabs and line ends."""


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that `data` holds.

    Raises
    ------
    ModelError
        If it is no JSON object, names a key twice, holds NaN, an infinity or an integer beyond 64
        bits, text that is no Unicode, or values nested deeper than `MAX_DEPTH`.
    """

    def refuse(constant: str) -> NoReturn:
        raise ModelError(f"{what} holds {constant}, which is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ModelError(f"{what} names a key twice in one object")
        return found

    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError:
        raise ModelError(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{what} is no JSON ({error}); write the bundle again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{what} is no JSON object; write the bundle again")
    require_plain(value, what)
    return value


def require_plain(value: object, what: str) -> None:
    """Raise `ModelError` unless a value is plain JSON: bounded depth, finite numbers, Unicode."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ModelError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(found, dict):
            if not all(isinstance(key, str) for key in found):
                raise ModelError(f"{what} holds a key that is no text")
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, list):
            waiting += [(part, depth + 1) for part in found]
        elif isinstance(found, str):
            _require_unicode(found, what)
        elif isinstance(found, (int, float)):
            if not math.isfinite(found) or abs(found) >= _MAX_INTEGER:
                raise ModelError(f"{what} holds a number that is not finite or too large")
        elif found is not None:
            raise ModelError(f"{what} holds a {type(found).__name__}, which is no JSON")


def _require_unicode(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ModelError(f"{what} holds text that is no Unicode") from None


def show(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


@dataclass(frozen=True)
class Within:
    """Bounds of a number, both allowed; in `Annotated`. Not of truths, NaN or numbers as text."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: type, _: Any) -> Any:
        from pydantic_core import core_schema

        if source is int:
            return core_schema.int_schema(ge=int(self.low), le=int(self.high), strict=True)
        return core_schema.float_schema(ge=self.low, le=self.high, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Matching:
    """Pattern and greatest length of a text; in `Annotated`."""

    pattern: str
    most: int = 300

    def __get_pydantic_core_schema__(self, source: type, _: Any) -> Any:
        from pydantic_core import core_schema

        # \Z, not $, which would let a line end through.
        pattern = re.compile(rf"\A(?:{self.pattern})\Z")
        return core_schema.str_schema(pattern=pattern, max_length=self.most, strict=True)


@dataclass(frozen=True)
class Sized:
    """Bounds of the number of values of a tuple or mapping; in `Annotated`."""

    most: int
    least: int = 0

    def __get_pydantic_core_schema__(self, source: type, handler: Any) -> Any:
        from pydantic_core import core_schema

        values = handler(source)
        if values["type"] == "tuple":
            values["fail_fast"] = True  # a million wrong values are one error
        return core_schema.no_info_before_validator_function(self._require, values)

    def _require(self, value: Any) -> Any:
        """Refuse a wrong number before the values are looked at."""
        if isinstance(value, (tuple, dict)) and not self.least <= len(value) <= self.most:
            raise ValueError(f"{len(value)} values; give {self.least:,} to {self.most:,}")
        return value


class Part:
    """A frozen dataclass whose values lie within the bounds that its fields declare.

    pydantic holds them, when a part is made as when it is read (`read_part`). It is not imported
    for that: its own dataclasses would put a fifth on top of importing the package.
    """

    def __post_init__(self) -> None:
        """Refuse values out of bounds; keep numpy's numbers as Python's, and lists as tuples."""
        part: Any = type(self)  # Any: mypy holds that classes of dataclasses may be unhashable
        kept = _validated(_bare(vars(self)), _fields(part), part.__name__)
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Refuse values that contradict each other."""


def read_part(values: Any, kind: Any, what: str) -> Any:
    """Return plain values as the type that they are to be, checked.

    Raises
    ------
    ModelError
        If one is missing, of a wrong type or out of bounds; fields that are not known are left out.
    """
    return _validated(_bare(values), _adapter(kind), what)


def _validated(values: Any, adapter: Any, what: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    if first["type"] == "missing":
        raise ModelError(f"{what} lacks {_dotted(first['loc'])}; write the bundle again")
    if first["type"] == "unexpected_keyword_argument":
        raise ModelError(f"{what}: {_dotted(first['loc'])} is not known; write the bundle again")
    # Of a union there is one error for each type that the value could have had.
    branches = [one for one in others if one["loc"][:-1] == first["loc"][:-1]]
    branches = [one for one in branches if one["input"] is first["input"]]
    where = ": ".join(filter(None, (what, _dotted(first["loc"][: -1 if branches else None]))))
    if "error" in first.get("ctx", {}):  # of a check of ours, which says what was wrong
        raise ModelError(f"{where}: {first['ctx']['error']}")
    wishes = [one["msg"].partition(" should ")[2] or one["msg"] for one in (first, *branches)]
    raise ModelError(f"{where} is {show(first['input'])}; it should {' or '.join(wishes)}")


def _dotted(place: Sequence[str | int]) -> str:
    return ".".join(map(str, place))


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@cache
def _fields(part: Any) -> Any:
    """Check of the fields of a dataclass alone, without making one."""
    from typing_extensions import TypedDict

    hints = get_type_hints(part, include_extras=True)
    names = [field.name for field in dataclasses.fields(part)]
    return _adapter(TypedDict(part.__name__, {name: hints[name] for name in names}))  # type: ignore[operator]


def _bare(value: Any) -> Any:
    """Numbers of numpy as Python's, lists as tuples."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_bare, value))
    if isinstance(value, dict):
        return {key: _bare(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def plain(value: Any) -> Any:
    """A part as JSON has it: dataclasses as objects, tuples as lists."""
    if isinstance(value, Part):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (tuple, list)) else value
