"""Formulas of bands: read, evaluated with NumPy, and differentiated; nothing else is executed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from xharmonize.types import AnyArray, Float64Array, FloatArray

LONGEST = 500
"""Characters of a formula."""

Dual: TypeAlias = "tuple[Any, list[Any]]"
"""A value, and its derivative with respect to each band."""

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "abs": (np.abs, lambda x, _: np.sign(x)),
    "exp": (np.exp, lambda _, y: y),
    "log": (np.log, lambda x, _: 1 / x),
    "log10": (np.log10, lambda x, _: 1 / (x * np.log(10.0))),
    "sqrt": (np.sqrt, lambda _, y: 0.5 / y),
    "tanh": (np.tanh, lambda _, y: 1 - y**2),
}
"""By name: a function, and its derivative from argument and value."""


@dataclass(frozen=True)
class Formula:
    """A formula of bands.

    Attributes
    ----------
    text : str
        ``"(nir - red) / (nir + red)"``: numbers, names, ``+ - * / **``, brackets, and the functions
        of `FUNCTIONS`.
    names : tuple of str
        Its bands, in the order in which arrays are given.
    """

    text: str
    names: tuple[str, ...]


def read_formula(text: str) -> Formula:
    """Read a formula.

    Raises
    ------
    ValueError
        If it has anything else than what `Formula` says; the message says what.
    """
    names: dict[str, None] = {}
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Call):
            _require_function(node)
        elif isinstance(node, ast.Name) and node.id not in FUNCTIONS:
            names[node.id] = None
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, int | float):
                raise ValueError(f"{node.value!r} is no number")
        elif not isinstance(node, (ast.Name, ast.BinOp, ast.UnaryOp, *_SYNTAX)):
            raise ValueError(f"{ast.unparse(node)!r} is no part of a formula")
    if not names:
        raise ValueError("it names no band")
    ordered = sorted(names, key=lambda name: text.index(name))
    return Formula(text=text, names=tuple(ordered))


_SYNTAX = (ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.USub, ast.UAdd)


def _tree(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ValueError(f"it has more than {LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"it cannot be read ({getattr(error, 'msg', error)})") from None


def _require_function(node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in FUNCTIONS or len(node.args) != 1 or node.keywords:
        raise ValueError(
            f"{ast.unparse(node)!r}: functions are {', '.join(FUNCTIONS)}, of one value"
        )


def is_same(text: str, other: str) -> bool:
    """Whether two formulas are written alike but for spaces and needless brackets."""
    return ast.dump(_tree(text)) == ast.dump(_tree(other))


def formula_index(bands: Sequence[FloatArray], formula: Formula) -> FloatArray:
    """Evaluate a formula.

    Parameters
    ----------
    bands : sequence of (...) float array
        Reflectance [1] in the order of the names, all of one shape; NaN marks a missing pixel.

    Returns
    -------
    (...) float32 array
        NaN where a band is missing or the value is not finite.
    """
    value, _ = _evaluated(bands, formula, differentiate=False)
    return _finite(np.broadcast_to(value, bands[0].shape))


def formula_undefined(bands: Sequence[FloatArray], formula: Formula) -> AnyArray:
    """Tell where all bands are there but the value is not finite: (...) bool array."""
    there = np.logical_and.reduce([np.isfinite(band) for band in bands])
    undefined: AnyArray = there & np.isnan(formula_index(bands, formula))
    return undefined


def formula_uncertainty(
    bands: Sequence[FloatArray], errors: Sequence[FloatArray], formula: Formula
) -> FloatArray:
    """Propagate the bands' standard deviations to first order, bands taken as independent.

    Returns
    -------
    (...) float32 array
        Standard deviation of the value; NaN where it is undefined or an error is missing.
    """
    value, slopes = _evaluated(bands, formula, differentiate=True)
    with np.errstate(all="ignore"):
        variance = sum((slope * error) ** 2 for slope, error in zip(slopes, errors))
        spread = np.sqrt(np.where(np.isfinite(value), variance, np.nan))
    return _finite(np.broadcast_to(spread, bands[0].shape))


def _finite(values: Float64Array) -> FloatArray:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    single[~np.isfinite(single)] = np.nan
    return single


def _evaluated(bands: Sequence[FloatArray], formula: Formula, *, differentiate: bool) -> Dual:
    numbers = [np.asarray(band, np.float64) for band in bands]
    n_slopes = len(bands) if differentiate else 0
    known = {
        name: (number, [float(i == k) for k in range(n_slopes)])
        for i, (name, number) in enumerate(zip(formula.names, numbers))
    }
    with np.errstate(all="ignore"):
        return _value(_tree(formula.text), known, n_slopes)


def _value(node: ast.expr, known: dict[str, Dual], n: int) -> Dual:
    """Evaluate a node that `read_formula` has let through."""
    if isinstance(node, ast.Constant):
        return np.float64(node.value), [0.0] * n  # type: ignore[arg-type]  # a number, see above
    if isinstance(node, ast.Name):
        return known[node.id]
    if isinstance(node, ast.UnaryOp):
        value, slopes = _value(node.operand, known, n)
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return sign * value, [sign * slope for slope in slopes]
    if isinstance(node, ast.Call):
        function, derivative = FUNCTIONS[node.func.id]  # type: ignore[attr-defined]
        inner, slopes = _value(node.args[0], known, n)
        value = function(inner)
        outer = derivative(inner, value) if n else 0.0
        return value, [outer * slope for slope in slopes]
    assert isinstance(node, ast.BinOp)
    return _joined(node.op, _value(node.left, known, n), _value(node.right, known, n))


def _joined(op: ast.operator, left: Dual, right: Dual) -> Dual:
    (a, da), (b, db) = left, right
    both = list(zip(da, db))
    if isinstance(op, ast.Add):
        return a + b, [p + q for p, q in both]
    if isinstance(op, ast.Sub):
        return a - b, [p - q for p, q in both]
    if isinstance(op, ast.Mult):
        return a * b, [p * b + q * a for p, q in both]
    if isinstance(op, ast.Div):
        return a / b, [(p - a / b * q) / b for p, q in both]
    value = a**b
    return value, [b * a ** (b - 1) * p + _exponential(value, a, q) for p, q in both]


def _exponential(value: Any, base: Any, slope: Any) -> Any:
    """Derivative of a power by its exponent; a constant one needs no logarithm of the base."""
    return 0.0 if isinstance(slope, float) and slope == 0 else value * np.log(base) * slope
