"""Bits of the companion layers ``origin`` and ``flag``, with their CF attributes."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

import numpy as np


class Origin(IntFlag):
    """How a value came about; composites OR the bits."""

    OBSERVED = 1
    HARMONISED = 2
    FILLED = 4


class ResultFlag(IntFlag):
    """What is to be known about a value besides its number."""

    OUT_OF_DOMAIN = 1
    SATURATED = 2
    PARTIAL_CONTEXT = 4
    SKIPPED = 8
    UNDEFINED_INDEX = 16
    NEAR_MISSING = 32
    OUTLIER = 64


def cf_attrs(flags: type[IntFlag], *, dtype: str, long_name: str) -> dict[str, Any]:
    """Return CF ``flag_masks`` and ``flag_meanings`` of a set of bits."""
    return {
        "long_name": long_name,
        "flag_masks": np.array([int(flag) for flag in flags], dtype),
        "flag_meanings": " ".join(str(flag.name).lower() for flag in flags),
    }
