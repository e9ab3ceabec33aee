"""One rank on a Dask worker: it joins the others, runs a function, and tells how that ended.

Runs in the worker's thread of tasks, never on its event loop. Nothing is read from or written to
the environment; a process group that is there already is refused, and ours is gone afterwards.
"""

from __future__ import annotations

import pickle
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from xharmonize.errors import ClusterError

TOPIC = "xharmonize-ranks"
"""Topic of Dask's events under which ranks tell; followed by the launch's name."""
GLOO = "xharmonize_gloo"
"""Torch's gloo on an address that we choose: its own takes what the machine's name resolves to."""

_OF_PEERS = re.compile(
    r"gloo|nccl|connection (was )?(closed|reset|refused)|broken pipe|socket|tcpstore|store\b.*time|"
    r"wait timeout|timed out",
    re.IGNORECASE,
)


class StoppedError(ClusterError):
    """The launch was stopped from outside: its client cancelled it or is gone."""


class PeerError(ClusterError):
    """Another rank did not answer: it has failed, is gone, or is too slow."""


class LostError(ClusterError):
    """Workers or connections between them were lost: starting again may help."""

    silent: tuple[str, ...] = ()
    """Workers that the scheduler lists and that do not answer."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a rank runs and how it meets the others.

    Attributes
    ----------
    launch : str
        Name of the launch: of the variable that holds rank 0's address, and of its events.
    rank, size : int
    backend : {"gloo", "nccl"}
    timeout : float
        How long to wait for the others, at the start and whenever all exchange something [s].
    port : int
        Where rank 0 listens; 0 takes a free port.
    interface : str, optional
        Network interface to listen on; by default the one of the worker's own address.
    """

    launch: str
    rank: int
    size: int
    backend: str
    timeout: float
    port: int = 0
    interface: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rank:
    """What a function is given: which of how many it is.

    Torch's default process group joins the ranks while the function runs, so that
    ``torch.distributed.all_reduce`` or ``DistributedDataParallel`` work as anywhere.

    Attributes
    ----------
    rank, size : int
        Number of this rank, from 0, and how many there are.
    device : str
        Torch's name of the rank's device: ``"cuda:0"``, the worker's own GPU, or ``"cpu"``.
    launch : str
        Name of the launch.
    """

    rank: int
    size: int
    device: str
    launch: str

    def tell(self, **event: Any) -> None:
        """Send plain values to the client: `run_ranks(on_event=...)` gets them in their order."""
        from distributed import get_worker

        event = {"rank": self.rank, **event}
        get_worker().log_event(f"{TOPIC}-{self.launch}", event)

    def check(self) -> None:
        """Raise `StoppedError` if the launch was stopped; cheap, to be called in every step."""
        if _is_cancelled():
            raise StoppedError("the launch was stopped")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a rank ended.

    Attributes
    ----------
    rank : int
    value : object
        What the function returned.
    error : Exception, optional
        What it raised; a `PeerError` says that the cause is elsewhere.
    trace : str
        Where.
    """

    rank: int
    value: Any = None
    error: Exception | None = None
    trace: str = ""


def run_rank(place: Place, function: Callable[..., Any], args: tuple[Any, ...]) -> Outcome:
    """Join the others, call ``function(rank, *args)``, leave; never raises an `Exception`."""
    rank = Rank(
        rank=place.rank,
        size=place.size,
        device="cuda:0" if place.backend == "nccl" else "cpu",
        launch=place.launch,
    )
    rank.tell(event="started")
    try:
        with _joined(place):
            value = function(rank, *args)
            _meet(place)
        outcome = Outcome(rank=place.rank, value=value)
    except Exception as error:
        trace = traceback.format_exc()
        outcome = Outcome(rank=place.rank, error=_portable(error, place), trace=trace)
    _free_memory(place)
    rank.tell(event="ended")
    return outcome


def _portable(error: Exception, place: Place) -> Exception:
    """The error as the client can have it: one of peers as such, and nothing unpicklable."""
    if not isinstance(error, (PeerError, StoppedError)) and is_of_peers(error):
        return PeerError(
            f"rank {place.rank} lost the others: {_first_line(error)}",
            cure="look for the cause at the other ranks, or allow more time (timeout=...)",
        )
    try:
        plain: Exception = pickle.loads(pickle.dumps(error))  # without frames and what they hold
    except Exception:
        return ClusterError(f"{type(error).__name__}: {error}")
    return plain


def is_of_peers(error: BaseException) -> bool:
    """Whether an error of torch says that another rank is gone or late."""
    from torch import distributed

    if isinstance(error, (distributed.DistNetworkError, distributed.DistStoreError)):
        return True
    if type(error) not in (RuntimeError, distributed.DistBackendError):
        return False
    # Others raise RuntimeError of timeouts too: a reader of files, say.
    frames = traceback.extract_tb(error.__traceback__)
    where = frames[-1].filename.replace("\\", "/") if frames else ""
    ours = ("xharmonize/cluster/rank.py", "xharmonize/training/ranks.py")  # joining, exchanging
    is_exchange = "/torch/" in where or where.endswith(ours)
    return is_exchange and bool(_OF_PEERS.search(str(error)))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _joined(place: Place) -> Iterator[None]:
    """Be a rank of the process group."""
    from torch import distributed

    if distributed.is_initialized():
        raise ClusterError(
            f"{_address()} is in a process group of another training already",
            cure="restart this worker (client.restart_workers([...])), or wait for what it runs",
        )
    host = _host(place.interface)
    timeout = timedelta(seconds=place.timeout)
    store = _meeting_point(place, host)
    try:
        if store.add(f"joined-{place.rank}", 1) != 1:  # Dask ran the task again
            raise PeerError(f"rank {place.rank} was started twice: its worker was restarted")
        if _is_cancelled():
            raise StoppedError("the launch was stopped")
        _number_from_zero(host)
        distributed.init_process_group(
            _backend(place.backend, host),
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=timeout,
        )
        yield
    finally:
        # After a failed start there is no group to leave, and trying would hide the cause.
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _number_from_zero(host: str) -> None:
    """Have torch number groups from 0 in this process.

    It names a group by how many there were, and a start that failed is not taken back: ranks whose
    processes have counted differently would look for each other under other names until the
    timeout. Leaving a group of one's own begins anew.
    """
    from torch import distributed
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    distributed.init_process_group(_backend("gloo", host), store=HashStore(), rank=0, world_size=1)
    distributed.destroy_process_group()


def _meeting_point(place: Place, host: str) -> Any:
    """The store through which ranks find each other; rank 0 binds it and tells its port."""
    from distributed import Variable, get_client
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    variable = Variable(f"{TOPIC}-{place.launch}", client=get_client())
    timeout = timedelta(seconds=place.timeout)
    if place.rank == 0:
        # Bound by us: by itself the store listens on every interface of the machine.
        try:
            listening = _bound(host, place.port)
        except ClusterError:
            variable.set(None)  # the others need not wait
            raise
        port = listening.getsockname()[1]
        store = TCPStore(
            host,
            port,
            place.size,
            is_master=True,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
        variable.set([host, port])
        return store
    told = _told(variable, place)
    if told is None:
        raise PeerError(f"rank {place.rank} cannot start: rank 0 has failed")
    address, port = told
    try:
        return TCPStore(address, port, place.size, is_master=False, timeout=timeout)
    except Exception as error:
        raise PeerError(
            f"rank {place.rank} cannot reach rank 0 at {address}:{port}: {_first_line(error)}",
            cure="where a firewall lies between, open a port and give it as port=, or name the "
            "network that workers share with interface=",
        ) from error


def _told(variable: Any, place: Place) -> tuple[str, int] | None:
    """What rank 0 tells: its address, or that it has none."""
    until = time.monotonic() + place.timeout
    while time.monotonic() < until:
        if _is_cancelled():
            raise StoppedError("the launch was stopped")
        with suppress(TimeoutError):
            found: tuple[str, int] | None = variable.get(timeout=1)
            return found
    raise PeerError(f"rank {place.rank} waited {place.timeout:g} s for rank 0 to tell its address")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ClusterError(
            f"rank 0 cannot listen at {host}:{port}: {error}",
            cure="give another port=, 0 for a free one, or another interface=",
        ) from error


def _backend(name: str, host: str) -> str:
    """Name of the backend, gloo's on the address given."""
    from torch.distributed import Backend, ProcessGroupGloo

    if name != "gloo":
        return name

    def create(store: Any, rank: int, size: int, timeout: timedelta) -> Any:
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname=_HOST[0])]
        options._timeout = timeout
        return ProcessGroupGloo(store, rank, size, options)

    _HOST[:] = [host]  # a backend is registered once in a process
    if GLOO not in Backend.backend_list:
        Backend.register_backend(GLOO, create, devices=["cpu"])
    return GLOO


_HOST: list[str] = []


def _host(interface: str | None) -> str:
    from distributed.utils import get_ip_interface

    if interface is None:
        host = _address().rpartition(":")[0].partition("://")[2]
        return host or "127.0.0.1"  # workers in one process have no address of the network
    try:
        return str(get_ip_interface(interface))
    except ValueError as error:
        raise ClusterError(f"{_address()}: {error}", cure="name another interface=") from error


def _address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def _meet(place: Place) -> None:
    """Wait for all: rank 0 holds the store, and may leave last."""
    from torch import distributed

    try:
        distributed.barrier()
    except RuntimeError as error:
        raise PeerError(f"rank {place.rank} was done, and another did not come") from error


def _is_cancelled() -> bool:
    """Whether Dask has cancelled the task that this thread runs, as when its client is gone."""
    from distributed.worker import thread_state  # type: ignore[attr-defined]

    with suppress(AttributeError):
        worker, key = thread_state.execution_state["worker"], thread_state.key
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing"
    return False


def _free_memory(place: Place) -> None:
    """Give back what torch keeps of the GPU's memory."""
    if place.backend == "nccl":
        import gc

        import torch

        gc.collect()
        torch.cuda.empty_cache()
