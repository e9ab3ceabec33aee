"""Warnings that point to the line of the caller."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_HERE = str(Path(__file__).parent)


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the innermost line outside this package, however deep the call is.

    ``skip_file_prefixes`` of `warnings.warn` does this from Python 3.12 on.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level - 1)
