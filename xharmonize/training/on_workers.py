"""A training on the workers of a cluster: what goes to them, and what comes back.

Where workers see the folder of the training, ranks read samples and write checkpoints there.
Where they do not, samples and checkpoints travel over the scheduler's disk.
"""

from __future__ import annotations

import secrets
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize._urls import is_url
from xharmonize.cluster import Rank, run_ranks
from xharmonize.cluster.depot import FORGET, READ, SIZE, fetch, send
from xharmonize.cluster.launch import check_workers
from xharmonize.errors import OptionError, warn
from xharmonize.training.away import PARCEL
from xharmonize.training.config import Config
from xharmonize.training.log import Log, Sent, Silent, hear
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    from xharmonize.training.job import Job

SAMPLES = "samples.tar"
SHORT = 10.0
"""Seconds that workers have to say what they see."""


def require_workers(client: Any, config: Config) -> None:
    """Raise unless the workers suit, before samples are cut.

    Raises
    ------
    OptionError
        If a batch has no equal part for each rank.
    ClusterError
        See `xharmonize.cluster.run_ranks`.
    """
    require("distributed", extra="cluster")
    run = config.run
    check_workers(
        client,
        ranks=run.ranks,
        device=run.device,
        timeout=run.timeout,
        on_size=partial(require_parts_of_batch, config),
    )


@contextmanager
def cutting(client: Any, folder: Path, samples: str | None = None) -> Iterator[None]:
    """Have Dask cut samples: on the workers if all see the folder or a URL is given, else here."""
    import dask

    if client is None:
        yield
        return
    with _marked(folder) as mark:
        futures = [
            client.submit(mark.is_seen, workers=[one], allow_other_workers=False, pure=False)
            for one in client.sync(client.scheduler.ncores)
        ]
        until = time.monotonic() + SHORT  # busy workers are not waited for
        try:
            while not all(one.done() for one in futures) and time.monotonic() < until:
                time.sleep(0.05)
            is_done = bool(futures) and all(one.status == "finished" for one in futures)
            is_shared = is_done and all(client.gather(futures))
        finally:
            client.cancel(futures)
    with dask.config.set(scheduler=client if is_shared or samples else "threads"):
        yield


@contextmanager
def _marked(folder: Path) -> Iterator[_Mark]:
    """A file by which workers tell this folder from one of the same name on another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = _Mark(path=str(folder.absolute() / "mark"), text=secrets.token_hex(16))
    Path(mark.path).write_text(mark.text, encoding="utf-8")
    try:
        yield mark
    finally:
        Path(mark.path).unlink(missing_ok=True)


def train_on(client: Any, job: Job, log: Log) -> dict[str, AnyArray]:
    """Train on one rank per worker, and return the best weights.

    Raises
    ------
    OptionError
        If a batch has no equal part for each rank.
    ClusterError
        See `xharmonize.cluster.run_ranks`.
    """
    run, folder = job.config.run, Path(job.checkpoints).parent
    job = replace(
        job,
        samples=job.samples if is_url(job.samples) else str(Path(job.samples).absolute()),
        checkpoints=str(Path(job.checkpoints).absolute()),
    )
    with _marked(folder) as mark:
        parcel = _Parcel(client, job, folder / PARCEL)
        parcel.bring_back()  # of a client that was killed
        try:
            weights = run_ranks(
                _train,
                job,
                parcel.way,
                client=client,
                ranks=run.ranks,
                device=run.device,
                timeout=run.timeout,
                wait=run.wait,
                max_restarts=run.max_restarts,
                port=run.port,
                interface=run.interface,
                readable={mark.path: mark.text.encode()},
                on_unreadable=parcel.send,
                on_size=partial(require_parts_of_batch, job.config),
                on_event=partial(hear, log),
            )
        finally:
            parcel.bring_back()
            log.close()
    found: dict[str, AnyArray] = weights[0]
    return found


def require_parts_of_batch(config: Config, n: int) -> None:
    """Raise `OptionError` unless each of `n` ranks has an equal part of a batch."""
    batch = config.method.batch  # type: ignore[union-attr]  # of a network
    if batch % n:
        raise OptionError(
            f"has no equal part for each of {n} ranks",
            argument="batch",
            value=batch,
            cure="make it a multiple of their number, or give Run(ranks=...)",
        )


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A file of the training's folder."""

    path: str
    text: str

    def is_seen(self) -> bool:
        with suppress(OSError):
            return Path(self.path).read_text(encoding="utf-8") == self.text
        return False


@dataclass
class _Way:
    """How files travel: over the scheduler, under a name, or not at all.

    One answer for all ranks of a training, restarted ones too: a checkpoint is in one place.
    """

    name: str
    is_over_scheduler: bool = False


class _Parcel:
    """What travels over the scheduler, if any worker does not see the training's folder.

    Its name is kept in a file, by which a client finds the checkpoints after it was killed.
    """

    def __init__(self, client: Any, job: Job, file: Path) -> None:
        self.client, self.job, self.file = client, job, file
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        self.way = _Way(known or f"training-{secrets.token_hex(6)}")

    def send(self, workers: Sequence[str]) -> None:  # noqa: ARG002  (any will do)
        """Send samples, and the checkpoints of an interrupted training."""
        from xharmonize.cluster.plugins import Depot

        if self.way.is_over_scheduler:
            return
        self.client.register_plugin(Depot())
        self.file.write_text(self.way.name, encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            files = sorted(Path(self.job.checkpoints).glob("*"))
            if not is_url(self.job.samples):
                packed = Path(folder) / SAMPLES
                with tarfile.open(packed, "w") as archive:
                    archive.add(self.job.samples, "samples")
                files.append(packed)
            for path in files:
                self.client.sync(send, self.client.scheduler, self.way.name, path, self.client.id)
        self.way.is_over_scheduler = True

    def bring_back(self) -> None:
        """Fetch checkpoints, so that the training can go on later; forget all that was sent."""
        if not self.file.exists():
            return
        from xharmonize.cluster.plugins import Depot

        target, scheduler = Path(self.job.checkpoints), self.client.scheduler
        try:
            self.client.register_plugin(Depot())
            target.mkdir(parents=True, exist_ok=True)
            self.client.sync(_fetch_checkpoints, scheduler, self.way.name, target)
            self.client.sync(getattr(scheduler, FORGET), folder=self.way.name)
            self.file.unlink()
        except Exception as error:  # the cause of a failed training must not be hidden by this
            warn(
                f"the checkpoints of {target.parent} could not be fetched from the scheduler "
                f"({error}); while it runs, training again fetches them",
                RuntimeWarning,
            )


async def _fetch_checkpoints(scheduler: Any, name: str, target: Path) -> None:
    """Fetch what the facts of each checkpoint name: tensors first, then the facts."""
    import json

    from xharmonize.training.checkpoint import put

    sizes: Mapping[str, int] = await getattr(scheduler, SIZE)(folder=name)
    for facts in [file for file in sizes if file.endswith(".json")]:
        data = await getattr(scheduler, READ)(folder=name, name=facts, offset=0)
        tensors = json.loads(data)["tensors"]
        if tensors in sizes:
            await fetch(scheduler, name, target / tensors, sizes[tensors])
            put(target / facts, data)


def _train(rank: Rank, job: Job, way: _Way) -> dict[str, AnyArray] | None:
    """One rank; the first has the weights."""
    import torch
    from distributed import get_worker

    from xharmonize.training.checkpoint import RanksCheckpoints
    from xharmonize.training.ranks import Group

    ranks = Group(torch.device(rank.device), rank.check)
    log = Sent(rank.tell) if rank.rank == 0 else Silent()
    if not way.is_over_scheduler:
        kept = RanksCheckpoints(Path(job.checkpoints), ranks)
        weights = job.run(log, device=rank.device, ranks=ranks, checkpoints=kept)
        return weights if rank.rank == 0 else None
    worker: Any = get_worker()
    own = Path(worker.local_directory) / "xharmonize" / f"{way.name}-{rank.rank}"
    shutil.rmtree(own, ignore_errors=True)
    try:
        job = _unpacked(worker, job, way.name, own, is_first=rank.rank == 0)
        back = partial(_send_back, worker, way.name)
        kept = RanksCheckpoints(Path(job.checkpoints), ranks, back)
        weights = job.run(log, device=rank.device, ranks=ranks, checkpoints=kept)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return weights if rank.rank == 0 else None


def _unpacked(worker: Any, job: Job, parcel: str, own: Path, *, is_first: bool) -> Job:
    """The job with samples and checkpoints in the worker's own folder."""
    from distributed.utils import sync

    (own / "checkpoints").mkdir(parents=True)
    if is_first:
        sync(worker.loop, _fetch_checkpoints, worker.scheduler, parcel, own / "checkpoints")
    if not is_url(job.samples):
        sizes = sync(worker.loop, getattr(worker.scheduler, SIZE), folder=parcel)
        packed = own / SAMPLES
        sync(worker.loop, fetch, worker.scheduler, parcel, packed, sizes[SAMPLES])
        with tarfile.open(packed) as archive:
            archive.extractall(own, filter="data")
        packed.unlink()
        job = replace(job, samples=str(own / "samples"))
    return replace(job, checkpoints=str(own / "checkpoints"))


def _send_back(worker: Any, parcel: str, name: str, files: Sequence[Path]) -> None:
    """Send a checkpoint to the scheduler, its facts last, and have it forget the one before."""
    from distributed.utils import sync

    for path in sorted(files, key=lambda one: one.suffix == ".json"):
        sync(worker.loop, send, worker.scheduler, parcel, path, worker.id)
    sizes = sync(worker.loop, getattr(worker.scheduler, SIZE), folder=parcel)
    new = {path.name for path in files}
    old = [one for one in sizes if one.startswith(f"{name}-") and one not in new]
    sync(worker.loop, getattr(worker.scheduler, FORGET), folder=parcel, names=old)
