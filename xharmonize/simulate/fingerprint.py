"""A number that changes when the scenes do: code of the simulator, bands, and what was asked for.

Comments, docstrings and layout do not count, nor does the platform: tokens are hashed, not bytes.
"""

from __future__ import annotations

import io
import json
import tokenize
from dataclasses import asdict
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from xharmonize.sensors import get_sensor
from xharmonize.sensors.bandpass import C_FACTOR
from xharmonize.simulate.config import Simulation

_FILES = (
    "atmosphere", "config", "imaging", "landscape", "noise", "passes", "relief", "surface",
    "truth", "vegetation",
)  # fmt: skip
_SILENT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip
_LINE_ENDS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def fingerprint(simulation: Simulation | None = None, *more: str) -> str:
    """Return 16 hexadecimal digits for the simulator's code and a simulation.

    Parameters
    ----------
    simulation : Simulation, optional
        None asks for the code alone.
    *more : str
        Whatever else decides about pixels.
    """
    said = [] if simulation is None else [json.dumps(asdict(simulation), sort_keys=True)]
    return sha256("\n".join([_code(), *said, *more]).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _code() -> str:
    folder = Path(__file__).parent
    parts = [tokens_of((folder / f"{name}.py").read_text("utf-8")) for name in _FILES]
    for name in ("sentinel-2-l2a", "landsat-c2-l2", "gaofen-1-ard"):
        for instrument in get_sensor(name).instruments:
            bands = [(b.name, b.center, b.low, b.high, b.gsd) for b in instrument.bands]
            parts.append(f"{name} {instrument.platform} {bands}")
    parts.append(str({name: (row.iso, row.vol, row.geo) for name, row in C_FACTOR.items()}))
    return "\n".join(parts)


def tokens_of(code: str) -> str:
    """Return the code without comments, docstrings, blanks and trailing commas."""
    words: list[str] = []
    starts_line = True
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in _SILENT:
            starts_line = starts_line or token.type in _LINE_ENDS
            continue
        is_docstring = starts_line and token.type == tokenize.STRING
        starts_line = False
        if is_docstring:
            continue
        if token.string in ")]}" and words and words[-1] == ",":
            words.pop()
        words.append(token.string)
    return "".join(words)
