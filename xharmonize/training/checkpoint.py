"""Checkpoints: safetensors and JSON, each written beside, flushed and renamed.

The JSON file names the tensors' file and its sha256, and is renamed last: a process killed at any
moment leaves the checkpoint before, whole. Nothing executable is read back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize._replace import beside
from xharmonize.errors import StoreError
from xharmonize.models.folders import write_file
from xharmonize.training.ranks import Ranks

LAST, BEST = "last", "best"


@dataclass(kw_only=True)
class Progress:
    """Where a training is: all but tensors that its future depends on.

    Attributes
    ----------
    step : int
        Steps taken.
    best, best_step : float, int
        Best validation score so far, and after how many steps.
    stale : int
        Evaluations since.
    """

    step: int = 0
    best: float = float("inf")
    best_step: int = -1
    stale: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of one training in a folder."""

    folder: Path

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace a checkpoint.

        Raises
        ------
        StoreError
            If the disk is full, or the folder cannot be written; the checkpoint before stays.
        """
        from safetensors.torch import save

        data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        file = f"{name}-{digest[:16]}.safetensors"
        text = json.dumps({"tensors": file, "sha256": digest, **facts}, indent=1)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            put(self.folder / file, data)
            put(self.folder / f"{name}.json", text.encode())
            for old in self.folder.glob(f"{name}-*.safetensors"):
                if old.name != file:
                    old.unlink()
        except OSError as error:
            raise StoreError(
                f"checkpoint {name!r} cannot be written to {self.folder}: {error}",
                cure="make room, and call train again: it goes on from the checkpoint before",
            ) from error

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and facts of a checkpoint; None where there is none.

        Raises
        ------
        StoreError
            If it is damaged.
        """
        from safetensors.torch import load

        found = self._read(name)
        if found is None:
            return None
        data, text = found
        return load(data), json.loads(text)

    def _read(self, name: str) -> tuple[bytes, str] | None:
        """Bytes of the tensors, and the facts as JSON."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            data = (self.folder / facts.pop("tensors")).read_bytes()
            is_whole = hashlib.sha256(data).hexdigest() == facts.pop("sha256")
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(name) from error
        if not is_whole:
            raise self._damaged(name)
        return data, json.dumps(facts)

    def _damaged(self, name: str) -> StoreError:
        return StoreError(
            f"checkpoint {name!r} in {self.folder} is damaged", cure="remove it and train again"
        )


@dataclass(frozen=True)
class RanksCheckpoints(Checkpoints):
    """Checkpoints of several ranks: the first one writes and reads them, and sends them to all.

    Attributes
    ----------
    ranks : Ranks
    kept : callable, optional
        Called on the first rank with a checkpoint's name and its files, after each save.
    """

    ranks: Ranks
    kept: Callable[[str, Sequence[Path]], None] | None = None

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace a checkpoint, on the first rank."""
        if self.ranks.rank:
            return
        super().save(name, tensors, facts)
        if self.kept is not None:
            self.kept(name, sorted(self.folder.glob(f"{name}[-.]*")))

    def _read(self, name: str) -> tuple[bytes, str] | None:
        found = super()._read(name) if self.ranks.rank == 0 else None
        text = self.ranks.broadcast(None if found is None else found[1].encode())
        data = self.ranks.broadcast(None if found is None else found[0])
        return (data, text.decode()) if text else None


def put(path: Path, data: bytes) -> None:
    """Write a file beside, flush it, and rename it into place."""
    aside = beside(path, "partial")
    try:
        write_file(aside, data)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def gather(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    average: Mapping[str, Tensor],
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all that a training's future depends on, as tensors and as JSON."""
    tensors = {f"average/{key}": value for key, value in average.items()}
    tensors["random"] = torch.get_rng_state()
    for name, network in networks.items():
        tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
    groups = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        for number, values in state["state"].items():
            tensors |= {
                f"optimizer/{name}/{number}/{key}": torch.as_tensor(v) for key, v in values.items()
            }
    return tensors, {"progress": asdict(progress), "optimizers": groups}


def restore(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> tuple[dict[str, Tensor], Progress]:
    """Put back what `gather` took; return the averaged weights and the progress."""
    for name, network in networks.items():
        network.load_state_dict(dict(_under(tensors, f"network/{name}/")))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, f"optimizer/{name}/"):
            number, _, part = key.partition("/")
            state.setdefault(int(number), {})[part] = value
        groups = facts["optimizers"][name]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["random"])
    return dict(_under(tensors, "average/")), Progress(**facts["progress"])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in tensors.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), value
