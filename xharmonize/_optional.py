"""Optional packages: imported where used, with an error that names the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from xharmonize.errors import MissingDependencyError


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
        raise MissingDependencyError(
            f"{module!r} is not installed",
            cure=f"install it with: pip install 'xharmonize[{extra}]'",
        ) from error
