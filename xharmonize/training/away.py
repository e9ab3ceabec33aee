"""A training whose bundle goes to a URL: it runs in a folder of this machine that is copied there.

Copied are settings, log and checkpoints, whenever there is a new checkpoint, each object whole and
a checkpoint's facts after its tensors. So a job that was killed goes on from there on any machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from xharmonize._urls import Remote, one_writer
from xharmonize.errors import ModelError, StoreError, warn
from xharmonize.models.bundle import ITEM

WORK = ".training"
SAMPLES, CHECKPOINTS, LOG, CONFIG = "samples.zarr", "checkpoints", "log.jsonl", "config.toml"
PARCEL = "parcel"
"""File that names what lies on a scheduler; see `xharmonize.training.on_workers`."""
EVERY = 5.0
"""Seconds between looks at whether there is a new checkpoint."""


@contextmanager
def mirrored(place: Remote) -> Iterator[Path]:
    """Yield the folder of a training on this machine, with what the URL keeps of it.

    While the block runs, what is new goes to the URL, and at its end whatever it ended by.

    Parameters
    ----------
    place : Remote
        Where the bundle will be; the training is kept beside it.

    Raises
    ------
    ModelError
        If there is a bundle.
    StoreError
        If another process trains there.
    """
    if place.has(ITEM):
        raise ModelError(f"{place} exists", cure="name another out=, or remove it yourself")
    kept = Remote(url=place.url + WORK, options=place.options)
    with one_writer(kept, instead="name another out="), TemporaryDirectory() as scratch:
        folder = Path(scratch) / kept.name
        _fetch(kept, folder)
        if not (folder / CONFIG).exists():  # a process was killed before it said whose they are
            (kept / SAMPLES).remove()
        mirror = _Mirror(kept=kept, folder=folder)
        ended = threading.Event()
        copying = threading.Thread(target=mirror.keep, args=(ended,), daemon=True)
        copying.start()
        try:
            yield folder
        finally:
            ended.set()
            copying.join()
            mirror.finish()


def _fetch(kept: Remote, folder: Path) -> None:
    """Fetch settings, log and checkpoints."""
    (folder / CHECKPOINTS).mkdir(parents=True)
    for name in (CONFIG, LOG, PARCEL):
        data = kept.read(name)
        if data is not None:
            (folder / name).write_bytes(data)
    for name, facts in kept.read_all(f"{CHECKPOINTS}/*.json").items():
        tensors = f"{CHECKPOINTS}/{json.loads(facts)['tensors']}"
        (folder / tensors).write_bytes(kept.read(tensors) or b"")
        (folder / name).write_bytes(facts)


@dataclass(kw_only=True)
class _Mirror:
    """What of a folder is at a URL."""

    kept: Remote
    folder: Path
    there: dict[str, bytes] = field(default_factory=dict)
    """Contents of small files, by name, as they were put."""

    def keep(self, ended: threading.Event) -> None:
        """Copy what is new, again and again."""
        while not ended.wait(EVERY):
            with suppress(StoreError, OSError):  # there is another time
                self.copy()

    def finish(self) -> None:
        """Copy what is new, and remove what is no more; a failure is told, and hides no other."""
        try:
            self.copy()
            for name in (CONFIG, PARCEL, CHECKPOINTS):
                if not (self.folder / name).exists():
                    (self.kept / name).remove()
        except (StoreError, OSError) as error:
            warn(
                f"the training kept at {self.kept} may lack its last checkpoint ({error})",
                RuntimeWarning,
            )

    def copy(self) -> None:
        """Copy settings and, where there is a new checkpoint, log and checkpoint."""
        self._put(CONFIG)
        self._put(PARCEL)
        for file in sorted((self.folder / CHECKPOINTS).glob("*.json")):
            name, facts = f"{CHECKPOINTS}/{file.name}", file.read_bytes()
            if self.there.get(name) == facts:
                continue
            self._put(LOG)
            tensors = json.loads(facts)["tensors"]
            self.kept.put(self.folder / CHECKPOINTS / tensors, f"{CHECKPOINTS}/{tensors}")
            self.kept.write(name, facts)
            self.there[name] = facts
            for old in (self.kept / CHECKPOINTS).names():
                if old.startswith(f"{file.stem}-") and old != tensors:
                    (self.kept / CHECKPOINTS / old).remove()
        if not (self.folder / CONFIG).exists():
            self._put(LOG)

    def _put(self, name: str) -> None:
        """Put a small file, unless it is there as it is."""
        with suppress(FileNotFoundError):
            data = (self.folder / name).read_bytes()
            if self.there.get(name) != data:
                self.kept.write(name, data)
                self.there[name] = data
