"""Optional packages: imported where used, with an error that names the extra."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from xharmonize.errors import MissingDependencyError, ModelError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, or say which extra of this package installs it.

    Raises
    ------
    MissingDependencyError
        If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise _missing(module, extra) from error


def require_installed(*modules: str, extra: str) -> None:
    """Raise before work begins that will need these modules; nothing is imported.

    Raises
    ------
    MissingDependencyError
        If one is not installed.
    """
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{module!r} is not installed", cure=f"install it with: pip install 'xharmonize[{extra}]'"
    )


def import_function(path: str) -> Callable[..., Any]:
    """Import the function named ``module:function``.

    Raises
    ------
    ModelError
        If there is none.
    """
    module, _, name = path.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"cannot import {path!r} ({error})", cure="write module:function"
        ) from error
    return function
