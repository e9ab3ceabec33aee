"""JSON that was written by others: parsed within bounds, and its values checked one by one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from xharmonize.errors import ModelError

MAX_DEPTH = 16
_MAX_INTEGER = 2**63
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


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


def check_object(
    value: object, where: str, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Return an object that has the required keys and no others than those it may have."""
    if not isinstance(value, dict):
        raise ModelError(f"{where} is {show(value)}; it must be an object")
    lacking = sorted(set(required) - set(value))
    if lacking:
        raise ModelError(f"{where} lacks {', '.join(lacking)}")
    strange = sorted(set(value) - set(required) - set(optional))
    if strange:
        raise ModelError(f"{where} has fields that are not known: {show(', '.join(strange))}")
    return value


def check_list(value: object, where: str, *, least: int = 0, most: int) -> list[Any]:
    """Return a list of bounded length."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ModelError(f"{where} is {show(value)}; it must be a list of {least} to {most} values")
    return value


def check_text(value: object, where: str, *, most: int = 300, pattern: str | None = None) -> str:
    """Return bounded text without control characters."""
    if not isinstance(value, str) or len(value) > most or _CONTROL.search(value):
        raise ModelError(f"{where} is {show(value)}; it must be text of at most {most} characters")
    if pattern is not None and not re.fullmatch(pattern, value):
        raise ModelError(f"{where} is {show(value)}; it must match {pattern}")
    return value


def check_number(value: object, where: str, low: float = -1e6, high: float = 1e6) -> float:
    """Return a number within bounds, as float."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise ModelError(
            f"{where} is {show(value)}; it must be a number between {low:g} and {high:g}"
        )
    return float(value)  # type: ignore[arg-type]


def check_integer(value: object, where: str, low: int, high: int) -> int:
    """Return a whole number within bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ModelError(
            f"{where} is {show(value)}; it must be a whole number between {low} and {high}"
        )
    return value


def check_numbers(
    value: object, where: str, *, length: int | None = None, low: float = -1e6, high: float = 1e6
) -> tuple[float, ...]:
    """Return a list of numbers as a tuple of floats."""
    numbers = check_list(value, where, least=1, most=2**16)
    if length is not None and len(numbers) != length:
        raise ModelError(f"{where} has {len(numbers)} numbers; it must have {length}")
    return tuple(check_number(n, f"{where}[{i}]", low, high) for i, n in enumerate(numbers))


def check_texts(value: object, where: str, *, most: int, pattern: str) -> tuple[str, ...]:
    """Return a list of short texts as a tuple."""
    texts = check_list(value, where, most=most)
    return tuple(check_text(t, f"{where}[{i}]", pattern=pattern) for i, t in enumerate(texts))


def check_mapping(value: object, where: str, *, most: int, pattern: str) -> Mapping[str, Any]:
    """Return an object of bounded size with keys of a pattern."""
    if not isinstance(value, dict) or len(value) > most:
        raise ModelError(
            f"{where} is {show(value)}; it must be an object of at most {most} entries"
        )
    for key in value:
        check_text(key, f"a key of {where}", most=100, pattern=pattern)
    return value
