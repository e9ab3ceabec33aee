"""How the job of a tile ended: a small file beside its store, for whoever asks later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from xharmonize._urls import Remote, read_all, whole
from xharmonize.errors import printable
from xharmonize.io.zarr.missing import held_keys
from xharmonize.io.zarr.store import is_store

State: TypeAlias = Literal["missing", "begun", "whole", "empty", "failed"]
LONGEST = 500
"""Characters of a reason that are kept."""
AT_ONCE = 16
"""Stores at URLs that are looked into at once."""


def write_outcome(out: Path | Remote, tile: str, state: State, **told: Any) -> None:
    """Write how it stands, in one step.

    Parameters
    ----------
    **told
        ``written`` dates, ``seconds``, ``reason``.
    """
    with whole(out, f"{tile}.json") as file:
        file.write_text(json.dumps({"state": state, **told}), encoding="utf-8")


def read_outcomes(out: Path | Remote, stores: Mapping[str, Path | Remote]) -> list[dict[str, Any]]:
    """Return state, dates, written, seconds and reason of tiles; what stores have is counted.

    Those at URLs are looked into side by side.
    """
    said = read_all(out, "*.json")
    n_at_once = AT_ONCE if isinstance(out, Remote) else 1
    with ThreadPoolExecutor(n_at_once) as pool:
        held = dict(zip(stores, pool.map(_held, stores.values())))
    return [_outcome(said.get(f"{tile}.json", b""), *held[tile]) for tile in stores]


def _held(store: Path | Remote) -> tuple[bool, int]:
    """Whether there is a store, and how many dates it has."""
    is_there = is_store(store) if isinstance(store, Remote) else store.exists()
    return is_there, len(held_keys(store)) if is_there else 0


def _outcome(said: bytes, is_there: bool, n_dates: int) -> dict[str, Any]:
    told: dict[str, Any] = {"state": "missing", "written": 0, "seconds": float("nan"), "reason": ""}
    with suppress(ValueError):
        told |= json.loads(said)
    told["dates"] = n_dates
    if told["state"] == "whole" and not is_there:
        told |= {"state": "missing", "written": 0}
    return told


def reason_of(error: BaseException) -> str:
    """An error in one line, with its class."""
    text = " ".join(printable(f"{type(error).__name__}: {error}").split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
