"""How the job of a tile ended: a small file beside its store, for whoever asks later."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from xharmonize._urls import whole
from xharmonize.errors import printable
from xharmonize.io.zarr.missing import held_keys

State: TypeAlias = Literal["missing", "begun", "whole", "empty", "failed"]
LONGEST = 500
"""Characters of a reason that are kept."""


def write_outcome(out: Path, tile: str, state: State, **told: Any) -> None:
    """Write how it stands, in one step.

    Parameters
    ----------
    **told
        ``written`` dates, ``seconds``, ``reason``.
    """
    with whole(out, f"{tile}.json") as file:
        file.write_text(json.dumps({"state": state, **told}), encoding="utf-8")


def read_outcome(out: Path, tile: str, store: Path) -> dict[str, Any]:
    """Return state, dates, written, seconds and reason of a tile; what the store has is counted."""
    told: dict[str, Any] = {"state": "missing", "written": 0, "seconds": float("nan"), "reason": ""}
    with suppress(OSError, ValueError):
        told |= json.loads((out / f"{tile}.json").read_text(encoding="utf-8"))
    told["dates"] = len(held_keys(store))
    if told["state"] == "whole" and not store.exists():
        told |= {"state": "missing", "written": 0}
    return told


def reason_of(error: BaseException) -> str:
    """An error in one line, with its class."""
    text = " ".join(printable(f"{type(error).__name__}: {error}").split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
