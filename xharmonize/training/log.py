"""What a training tells: a line of JSON per event, a bar on a terminal, TensorBoard if it is there.

The file of lines is the history: a training that goes on after a stop cuts off what was told after
its checkpoint, so that it reads as if it had not stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from xharmonize._progress import is_shown
from xharmonize.errors import StoreError


class Silent:
    """Log of a rank that is not the first: tells nothing."""

    def begin(self, step: int) -> None:
        """Forget nothing."""

    def tell(self, step: int, **values: Any) -> None:
        """Tell nothing."""

    def advance(self, step: int, text: str) -> None:
        """Move nothing."""

    def close(self) -> None:
        """Finish nothing."""


class Sent(Silent):
    """Log of the first rank on a cluster: sends all to the client, whose `Log` has it.

    Parameters
    ----------
    send : callable
        Takes plain values by name, as `xharmonize.cluster.Rank.tell` does.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self._send, self._shown = send, 0.0

    def begin(self, step: int) -> None:
        """Have the client forget what was told after a step."""
        self._send(call="begin", step=step)

    def tell(self, step: int, **values: Any) -> None:
        """Have the client tell of a step."""
        self._send(call="tell", step=step, values=values)

    def advance(self, step: int, text: str) -> None:
        """Have the client move its bar, now and then: all goes through the scheduler."""
        if time.monotonic() > self._shown + 0.5:
            self._shown = time.monotonic()
            self._send(call="advance", step=step, text=text)


def hear(log: Log, event: Mapping[str, Any]) -> None:
    """Do on a client's log what a rank's `Sent` was called with."""
    step, call = int(event["step"]), event["call"]
    try:
        if call == "begin":
            log.begin(step)
        elif call == "tell":
            log.tell(step, **event["values"])
        else:
            log.advance(step, event["text"])
    except OSError as error:
        raise StoreError(f"{log.path} cannot be written: {error}", cure="make room") from error


class Log(Silent):
    """Log of one training.

    Parameters
    ----------
    path : path
        File of lines.
    steps : int
        Most steps there will be.
    progress : bool, optional
        Whether to draw a bar; by default on a terminal.
    tensorboard : bool
        Whether to write for TensorBoard too, if it is installed.
    """

    def __init__(
        self, path: Path, *, steps: int, progress: bool | None = None, tensorboard: bool = True
    ) -> None:
        self.path, self.steps = path, steps
        shown = is_shown(progress)
        self._bar: Any
        self._task: Any
        self._bar, self._task = _bar(steps) if shown else (None, None)
        self._board = _board(path.parent) if tensorboard else None

    def begin(self, step: int) -> None:
        """Forget what was told after a step."""
        kept = [line for line in self._lines() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        self.path.write_text(text, encoding="utf-8")

    def tell(self, step: int, **values: Any) -> None:
        """Tell of a step: numbers by name."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, step)

    def advance(self, step: int, text: str) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def history(self) -> pd.DataFrame:
        """What was told, one row a line."""
        return pd.DataFrame(self._lines())

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the last one, of a process killed while it wrote
                found.append(json.loads(line))
        return found


def _bar(steps: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.start()
    return bar, bar.add_task("training", total=steps)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
