"""A training on the workers of a cluster: what goes to them, and what comes back.

Where workers see the folder of the training, ranks read samples and write checkpoints there.
Where they do not, samples and checkpoints travel over the scheduler's disk.
"""

from __future__ import annotations

import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.cluster import Rank, run_ranks
from xharmonize.cluster.depot import FORGET, READ, SIZE, fetch, send
from xharmonize.cluster.launch import check_workers
from xharmonize.errors import OptionError
from xharmonize.models.places import is_url
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
    from distributed import wait

    with _marked(folder) as mark:
        futures = [
            client.submit(mark.is_seen, workers=[one], allow_other_workers=False, pure=False)
            for one in client.sync(client.scheduler.ncores)
        ]
        try:  # busy workers are not waited for
            done = wait(futures, timeout=SHORT).done if futures else set()
            is_shared = len(done) == len(futures) and all(client.gather(futures, errors="skip"))
        except TimeoutError:
            is_shared = False
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
        parcel = _Parcel(client, job, f"training-{mark.text[:12]}")
        try:
            weights = run_ranks(
                _train,
                job,
                mark,
                parcel.name,
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
class _Parcel:
    """What travels over the scheduler, if any worker does not see the training's folder."""

    client: Any
    job: Job
    name: str
    is_sent: bool = False

    def send(self, workers: Sequence[str]) -> None:  # noqa: ARG002  (any will do)
        """Send samples, and the checkpoints of an interrupted training."""
        from xharmonize.cluster.plugins import Depot

        if self.is_sent:
            return
        self.client.register_plugin(Depot())
        self.is_sent = True
        with tempfile.TemporaryDirectory() as folder:
            files = sorted(Path(self.job.checkpoints).glob("*"))
            if not is_url(self.job.samples):
                packed = Path(folder) / SAMPLES
                with tarfile.open(packed, "w") as archive:
                    archive.add(self.job.samples, "samples")
                files.append(packed)
            for path in files:
                self.client.sync(send, self.client.scheduler, self.name, path, self.client.id)

    def bring_back(self) -> None:
        """Fetch checkpoints, so that the training can go on later; forget all that was sent."""
        if not self.is_sent:
            return
        with suppress(Exception):  # the scheduler may be gone
            target = Path(self.job.checkpoints)
            target.mkdir(parents=True, exist_ok=True)
            self.client.sync(_fetch_checkpoints, self.client.scheduler, self.name, target)
            self.client.sync(getattr(self.client.scheduler, FORGET), folder=self.name)


async def _fetch_checkpoints(scheduler: Any, name: str, target: Path) -> None:
    """Fetch what the facts of each checkpoint name: tensors first, then the facts."""
    import json

    sizes: Mapping[str, int] = await getattr(scheduler, SIZE)(folder=name)
    for facts in [file for file in sizes if file.endswith(".json")]:
        data = await getattr(scheduler, READ)(folder=name, name=facts, offset=0)
        tensors = json.loads(data)["tensors"]
        if tensors in sizes:
            await fetch(scheduler, name, target / tensors, sizes[tensors])
            (target / facts).write_bytes(data)


def _train(rank: Rank, job: Job, mark: _Mark, parcel: str) -> dict[str, AnyArray] | None:
    """One rank; the first has the weights."""
    import torch
    from distributed import get_worker

    from xharmonize.training.checkpoint import RanksCheckpoints
    from xharmonize.training.ranks import Group

    ranks = Group(torch.device(rank.device), rank.check)
    log = Sent(rank.tell) if rank.rank == 0 else Silent()
    if mark.is_seen():
        kept = RanksCheckpoints(Path(job.checkpoints), ranks)
        weights = job.run(log, device=rank.device, ranks=ranks, checkpoints=kept)
        return weights if rank.rank == 0 else None
    worker: Any = get_worker()
    own = Path(worker.local_directory) / "xharmonize" / f"{parcel}-{rank.rank}"
    shutil.rmtree(own, ignore_errors=True)
    try:
        job = _unpacked(worker, job, parcel, own, is_first=rank.rank == 0)
        back = partial(_send_back, worker, parcel)
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


def _send_back(worker: Any, parcel: str, name: str, files: Sequence[Path]) -> None:  # noqa: ARG001
    """Send a checkpoint to the scheduler: its facts last."""
    from distributed.utils import sync

    for path in sorted(files, key=lambda one: one.suffix == ".json"):
        sync(worker.loop, send, worker.scheduler, parcel, path, worker.id)
