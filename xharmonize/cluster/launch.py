"""Run a function as the ranks of a torch process group, one per Dask worker."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.cluster import preflight
from xharmonize.cluster.rank import (
    TOPIC,
    LostError,
    Outcome,
    PeerError,
    Place,
    StoppedError,
    run_rank,
)
from xharmonize.cluster.share import require_usable
from xharmonize.errors import ClusterError, XHarmonizeError, warn

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger("xharmonize.cluster")

INTERVAL = 0.2
"""Seconds between two looks at ranks and workers."""
GRACE = 5.0
"""Seconds that ranks have to end after one has failed or all were told to."""


class _MovedError(LostError):
    """Workers have left before anything was started on them: others are chosen."""


def run_ranks(
    function: Callable[..., Any],
    *args: Any,
    client: Client,
    ranks: int | None = None,
    workers: Sequence[str] | None = None,
    device: str = "auto",
    timeout: float = 60.0,
    wait: float = 3600.0,
    max_restarts: int = 0,
    port: int = 0,
    interface: str | None = None,
    needs_processes: bool = False,
    readable: Mapping[str, bytes] | None = None,
    on_unreadable: Callable[[Sequence[str]], None] | None = None,
    on_size: Callable[[int], None] | None = None,
    on_event: Callable[[Mapping[str, Any]], None] | None = None,
) -> list[Any]:
    """Run a function as the ranks of a torch process group, one per worker; waits for its end.

    Workers are examined before anything starts, and locked, so that two launches on one cluster
    queue. Each rank is one task, pinned to its worker. Rank 0 binds a store on a free port through
    which the others find it; no environment variable is read or set. While the function runs, it is
    in torch's default process group: gloo on CPUs, NCCL where each worker has a GPU.

    If a rank raises, all are stopped and its error is raised here. If a worker is lost, or ranks
    lose each other, all are stopped and started again on the workers there are then, up to
    `max_restarts` times: a function that keeps checkpoints goes on from its last. Ctrl-C stops all
    ranks that call `Rank.check` in their steps or exchange something with those that do.

    Parameters
    ----------
    function : callable
        Called as ``function(rank, *args)`` with a `Rank`; it and `args` are pickled.
    client : distributed.Client
        Client of a running cluster of workers of one thread, each a process.
    ranks : int, optional
        How many; by default one per worker.
    workers : sequence of str, optional
        Addresses of workers to choose from; by default all.
    device : {"auto", "cpu", "cuda"}
        Where ranks compute; by default on GPUs if all workers have one.
    timeout : float
        How long to wait for workers to be there, for ranks to meet, and for each exchange [s].
    wait : float
        How long to wait for workers that another launch has [s].
    max_restarts : int
        How often to start again after a loss.
    port : int
        Where rank 0 listens; 0 takes a free port.
    interface : str, optional
        Network interface that ranks use, such as ``"ib0"``; by default that of the workers.
    needs_processes : bool
        Whether the function starts processes of its own.
    readable : mapping of str to bytes, optional
        Files that each worker must be able to read, and what is in them.
    on_unreadable : callable, optional
        Called with the addresses of workers that cannot, before ranks start; by default an error.
    on_size : callable, optional
        Called with the number of ranks, before anything starts; may refuse it by raising.
    on_event : callable, optional
        Called with each mapping that a rank tells (`Rank.tell`), in a thread of the client.

    Returns
    -------
    list
        What the function returned, by rank.

    Raises
    ------
    ClusterError
        If the workers do not suit, with the cure; if they were lost more often than `max_restarts`,
        with the first cause.
    Exception
        What a rank raised; its traceback is a note of the exception.
    MissingDependencyError
        If torch or distributed is not installed.

    Examples
    --------
    In a script, below ``if __name__ == "__main__":``:

    >>> import xharmonize as xh
    >>> def mean_of_ranks(rank):
    ...     import torch
    ...     value = torch.tensor([float(rank.rank)])
    ...     torch.distributed.all_reduce(value)
    ...     return float(value) / rank.size
    >>> with xh.cluster.local(n_workers=2, threads_per_worker=1) as client:  # doctest: +SKIP
    ...     xh.cluster.run_ranks(mean_of_ranks, client=client)
    [0.5, 0.5]
    """
    require("torch", extra="train")
    require("distributed", extra="cluster")
    if timeout <= 0:
        raise ClusterError("leaves no time", argument="timeout", value=timeout, cure="give seconds")
    require_usable(client)
    asked = _Asked(
        client=client,
        work=partial(run_rank, function=function, args=args),
        ranks=ranks,
        workers=None if workers is None else tuple(workers),
        device=device,
        timeout=timeout,
        wait=wait,
        port=port,
        interface=interface,
        needs_processes=needs_processes,
        readable=dict(readable or {}),
        on_unreadable=on_unreadable,
        on_size=on_size,
        on_event=on_event,
    )
    return _with_restarts(asked, max_restarts)


def _with_restarts(asked: _Asked, most: int) -> list[Any]:
    """Start ranks, and start them again after a loss, so many times."""
    losses: list[LostError] = []
    before, silent = 0, set[str]()
    chosen: list[str] = []
    while True:
        try:
            chosen = _choose(
                asked.client, asked.ranks, asked.timeout, asked.workers, before, silent
            )
            return _once(asked, chosen)
        except _MovedError as error:
            _log.warning("%s: choosing others", error.what)
        except LostError as error:
            before = len(chosen)
            losses.append(error)
            silent.update(error.silent)
            if len(losses) > most:
                raise _last_of(losses) from losses[0]
            warn(f"{error.what}; starting again ({len(losses)} of {most})", RuntimeWarning)
        except XHarmonizeError as error:
            if not losses:
                raise
            error.add_note(f"after: {losses[0]}")
            raise error from losses[0]


def _last_of(losses: Sequence[LostError]) -> LostError:
    """The error of the last loss, which tells of the first."""
    if len(losses) == 1:
        return losses[0]
    last, first = losses[-1], losses[0]
    told = "" if first.what == last.what else f"; the first loss: {first.what}"
    error = LostError(
        f"{last.what}; it was the last of {len(losses) - 1} restarts{told}", cure=last.cure
    )
    for note in getattr(first, "__notes__", ()):
        error.add_note(note)
    return error


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Arguments of `run_ranks`."""

    client: Any
    work: Callable[[Place], Outcome]
    ranks: int | None
    workers: tuple[str, ...] | None
    device: str
    timeout: float
    wait: float
    port: int
    interface: str | None
    needs_processes: bool
    readable: dict[str, bytes]
    on_unreadable: Callable[[Sequence[str]], None] | None
    on_size: Callable[[int], None] | None
    on_event: Callable[[Mapping[str, Any]], None] | None


def check_workers(
    client: Client,
    *,
    ranks: int | None = None,
    device: str = "auto",
    timeout: float = 60.0,
    on_size: Callable[[int], None] | None = None,
) -> None:
    """Raise as `run_ranks` would for these workers, before work that would then be in vain.

    Workers that are busy are not waited for: `run_ranks` examines them once it has them.
    """
    require_usable(client)
    chosen = _choose(client, ranks, timeout)
    if on_size is not None:
        on_size(len(chosen))
    busy, threads = _processing(client, chosen), _threads(client)
    idle = [address for address in chosen if not busy.get(address) and address in threads]
    facts = preflight.ask(client, idle, {}, timeout)
    preflight.require_fit(facts, {address: threads[address] for address in idle}, device=device)


def _once(asked: _Asked, chosen: list[str]) -> list[Any]:
    """Lock and examine workers, start ranks and wait for their end."""
    if asked.on_size is not None:
        asked.on_size(len(chosen))
    with _locked(asked.client, chosen, asked.wait):
        threads = _threads(asked.client)
        gone = sorted(set(chosen) - set(threads))
        if gone:
            raise _MovedError(f"worker {gone[0]} has left")
        facts = preflight.ask(asked.client, chosen, asked.readable, asked.timeout)
        backend = preflight.require_fit(
            facts,
            {address: threads[address] for address in chosen},
            device=asked.device,
            needs_processes=asked.needs_processes,
        )
        blind = [address for address, one in facts.items() if any(one.read.values())]
        if blind and asked.on_unreadable is not None:
            asked.on_unreadable(blind)
        elif blind:
            raise preflight.unreadable(blind[0], facts[blind[0]])
        with _Launch(asked, chosen, backend) as launch:
            return launch.wait()


def _threads(client: Any) -> dict[str, int]:
    """How many tasks each worker runs at once, by its address."""
    try:
        found: dict[str, int] = client.sync(client.scheduler.ncores)
    except OSError as error:
        raise ClusterError(
            f"the scheduler does not answer: {error}", cure="start it, or connect to one that runs"
        ) from error
    return found


def _choose(
    client: Any,
    ranks: int | None,
    timeout: float,
    workers: Sequence[str] | None = None,
    before: int = 0,
    silent: Collection[str] = (),
) -> list[str]:
    """Workers for the ranks, idle ones first and silent ones last; waits for as many as are needed.

    Where no number was asked for, as many as `before` are waited for, and fewer are taken in the
    end: a cluster that has lost a worker may not get another.
    """
    if ranks is not None and ranks < 1:
        raise ClusterError(
            "is no number of ranks", argument="ranks", value=ranks, cure="give 1 or more"
        )
    least = ranks or len(workers or ()) or 1
    until = time.monotonic() + timeout
    while True:
        found = sorted(_threads(client))
        if workers is not None:
            found = [address for address in found if address in workers]
        is_late = time.monotonic() > until
        if len(found) >= max(least, 0 if is_late else before):
            break
        if is_late:
            raise ClusterError(
                f"there are {len(found)} workers after {timeout:g} s, and {least} ranks are asked "
                "for",
                cure="start more (client.cluster.scale), or ask for fewer ranks",
            )
        time.sleep(INTERVAL)
    busy = _processing(client, found)
    if ranks is None:  # as many as answer
        found = [address for address in found if address not in silent] or found
    found.sort(key=lambda address: (address in silent, len(busy.get(address, ()))))
    return sorted(found[:ranks])


def _processing(client: Any, workers: Sequence[str]) -> Mapping[str, Any]:
    """Tasks that each worker has; empty where one has left meanwhile."""
    with suppress(KeyError):
        found: Mapping[str, Any] = client.processing(workers)
        return found
    return {}


@contextmanager
def _locked(client: Any, workers: Sequence[str], wait: float) -> Iterator[None]:
    """Have workers for ourselves; given back even if this client is killed.

    All locks are taken at once: two launches that each have half of what they need would wait for
    ever. (As in xgboost and LightGBM, after reports of that: dmlc/xgboost #6649 and neighbours.)
    """
    from distributed import MultiLock

    from xharmonize.cluster.plugins import SLICE, Locks

    client.register_plugin(Locks())
    lock = MultiLock([f"{TOPIC}-{address}" for address in workers], client=client)
    lock.id = f"{client.id}|{lock.id}"  # by which the scheduler knows whose it is
    until = time.monotonic() + wait
    is_told = False
    try:
        # In slices, so that Ctrl-C is heard.
        while not lock.acquire(timeout=min(SLICE, max(0.01, until - time.monotonic()))):
            if time.monotonic() > until:
                raise ClusterError(
                    f"another launch has had the workers for {wait:g} s ({', '.join(workers)})",
                    cure="wait for its end, choose other workers, or allow more time (wait=...)",
                )
            gone = set(workers) - set(_threads(client))
            if gone:
                raise _MovedError(f"worker {min(gone)} has left")
            if not is_told:
                is_told = True
                _log.warning("waiting for workers that another launch has")
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.sync(client.scheduler.xharmonize_release, id=lock.id)


@dataclass
class _Launch:
    """Ranks that run: one attempt."""

    asked: _Asked
    workers: list[str]
    backend: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    futures: list[Any] = field(default_factory=list)
    begun: float = field(default_factory=time.time)
    trouble: list[Exception] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def __enter__(self) -> _Launch:
        client = self.asked.client
        client.subscribe_topic(self.topic, self._hear)
        try:
            for rank, address in enumerate(self.workers):
                place = Place(
                    launch=self.name,
                    rank=rank,
                    size=len(self.workers),
                    backend=self.backend,
                    timeout=self.asked.timeout,
                    port=self.asked.port,
                    interface=self.asked.interface,
                )
                future = client.submit(
                    self.asked.work,
                    place,
                    workers=[address],
                    allow_other_workers=False,
                    pure=False,
                    retries=0,
                    key=f"rank-{self.name}-{rank}",
                )
                self.futures.append(future)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop()

    @property
    def topic(self) -> str:
        return f"{TOPIC}-{self.name}"

    def _hear(self, event: tuple[Any, Mapping[str, Any]]) -> None:
        _, told = event
        kind, rank = told.get("event"), int(told["rank"])
        if kind == "started":
            self.started.add(rank)
        elif kind == "ended":
            self.ended.add(rank)
        elif self.asked.on_event is not None and not self.trouble:
            try:
                self.asked.on_event(told)
            except Exception as error:  # Dask would only log it; a full disk, say
                self.trouble.append(error)

    def wait(self) -> list[Any]:
        """Wait for all ranks; what they return, or the cause of a failure."""
        begun, failed = time.monotonic(), None
        while not all(future.done() for future in self.futures):
            if self.trouble:
                raise self.trouble[0]
            lost = self._lost()
            if failed or lost or self._has_failed():
                failed = failed or time.monotonic()
                # Others hear of it by themselves; what they say may name the cause.
                if time.monotonic() > failed + GRACE or (lost and self._rest_is_done(lost)):
                    break
            late = set(range(len(self.workers))) - self.started
            if late and time.monotonic() > begun + self.asked.timeout:
                raise self._never_came(min(late))
            time.sleep(INTERVAL)
        if self.trouble:
            raise self.trouble[0]
        return self._result()

    def _lost(self) -> dict[int, str]:
        """Ranks that have not ended and whose worker is gone."""
        there = _threads(self.asked.client)
        return {
            rank: address
            for rank, address in enumerate(self.workers)
            if address not in there and not self._has_result(rank)
        }

    def _has_result(self, rank: int) -> bool:
        return bool(self.futures[rank].status == "finished")

    def _has_failed(self) -> bool:
        return any(
            future.status in ("error", "cancelled", "lost")
            or (future.status == "finished" and rank in self.ended and self._outcome(rank).error)
            for rank, future in enumerate(self.futures)
        )

    def _rest_is_done(self, lost: Mapping[int, str]) -> bool:
        return all(f.done() for rank, f in enumerate(self.futures) if rank not in lost)

    def _outcome(self, rank: int) -> Outcome:
        """How a rank ended, kept once it is known."""
        if rank not in self.outcomes:
            self.outcomes[rank] = self._find_outcome(rank)
        return self.outcomes[rank]

    def _find_outcome(self, rank: int) -> Outcome:
        from distributed import KilledWorker

        future, address = self.futures[rank], self.workers[rank]
        lost = LostError(
            f"rank {rank} is lost: its worker {address} {self._why_gone(address)}",
            cure="look for the reason in its log",
        )
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            is_lost = error is None or isinstance(error, KilledWorker)
            return Outcome(rank=rank, error=lost if is_lost else error)
        try:
            found: Outcome = future.result(timeout=self.asked.timeout)
        except Exception:
            return Outcome(rank=rank, error=lost)
        return found

    def _why_gone(self, address: str) -> str:
        """What Dask says of a worker that has left."""
        with suppress(Exception):
            for when, event in self.asked.client.get_events("worker-restart-memory"):
                if event.get("worker") == address and when > self.begun - GRACE:
                    return f"ran out of memory ({event['rss'] / 1e9:.2f} GB) and was ended by Dask"
        return "has left, or its process was killed"

    def _never_came(self, rank: int) -> ClusterError:
        address = self.workers[rank]
        return LostError(
            f"rank {rank} has not come within {self.asked.timeout:g} s: its worker {address} is "
            "busy with another task, or hangs",
            cure="restart the worker, or allow more time (timeout=...)",
        )

    def _result(self) -> list[Any]:
        """Values by rank, or the cause: a rank's own error, then a loss, then a lost peer."""
        lost = self._lost()
        silent = [r for r, f in enumerate(self.futures) if not f.done() and r not in lost]
        outcomes = [self._outcome(r) for r in range(len(self.futures)) if r not in silent]
        failed = [one for one in outcomes if one.error is not None]
        if not failed and not silent:
            return [one.value for one in outcomes]
        own = [o for o in failed if not isinstance(o.error, (PeerError, StoppedError, LostError))]
        if own:
            raise self._of_rank(own[0])
        for one in failed:
            if isinstance(one.error, LostError):
                raise one.error
        if silent:
            raise LostError(
                f"rank {silent[0]} on worker {self.workers[silent[0]]} does not answer the others "
                f"({self.asked.timeout:g} s)",
                cure="it may hang in reading data; or allow more time (timeout=...)",
            )
        first: Any = failed[0].error
        error = LostError(first.what, cure=first.cure)
        error.add_note(failed[0].trace)
        raise error

    def _of_rank(self, outcome: Outcome) -> Exception:
        error = outcome.error
        assert error is not None
        where = f"on rank {outcome.rank}, worker {self.workers[outcome.rank]}"
        error.add_note(f"{where}:\n{outcome.trace}" if outcome.trace else where)
        return error

    def _stop(self) -> None:
        """Stop ranks that run, and wait until their workers are free."""
        client = self.asked.client
        with suppress(Exception):
            client.cancel(self.futures, force=True)
            self._wait_for_ends()
        with suppress(Exception):
            client.unsubscribe_topic(self.topic)
        with suppress(Exception):
            from distributed import Variable

            Variable(self.topic, client=client).delete()
        self.futures.clear()

    def _wait_for_ends(self) -> None:
        """Wait for ranks that have started; restart the workers of those that hang."""
        if time.time() < self.begun + 1:
            time.sleep(1)  # what has just started may not have told it yet
        until = time.monotonic() + GRACE
        while True:
            there = _threads(self.asked.client)
            left = [
                self.workers[rank]
                for rank in self.started - self.ended
                if self.workers[rank] in there
            ]
            if not left:
                return
            if time.monotonic() > until:
                break
            time.sleep(INTERVAL)
        _log.warning("ranks do not end: restarting %s", ", ".join(left))
        self.asked.client.restart_workers(left, timeout=30, raise_for_error=False)
