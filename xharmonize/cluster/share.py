"""A model's files on the workers of any cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.errors import ClusterError, ModelError
from xharmonize.models.bundle import HasBundle, copy_bundle, open_bundle
from xharmonize.models.places import find_place
from xharmonize.models.refs import ModelRef

if TYPE_CHECKING:
    from distributed import Client

_INTERVAL = 0.1
"""Seconds between two looks at the cluster."""


def share(
    model: Any, client: Client, *, n_workers: int = 1, timeout: float = 30.0
) -> tuple[str, ...]:
    """Ship the files of a model to every worker of a cluster, those that join later included.

    Needed where workers cannot see the folder the model was loaded from; a folder on a shared file
    system, or a URL, needs nothing. Each worker gets one copy, in its own local directory, checked
    by sha256 there. The client sends the files once; the scheduler keeps them on its disk for
    workers that join or restart, and hands them out 4 MiB at a time. No model is ever pickled.

    Parameters
    ----------
    model : model, ModelRef or path
        From `xharmonize.load_model`, or what it takes.
    client : distributed.Client
        Of a running cluster.
    n_workers : int
        Wait until the cluster has this many workers; 0 where they only come with the first tasks
        (adaptive clusters).
    timeout : float
        How long to wait for workers and for answers [s].

    Returns
    -------
    tuple of str
        Addresses of the workers that have the model now.

    Raises
    ------
    ClusterError
        If the cluster has too few workers, is closed, or does not answer.
    ModelError
        If the model has no files (published coefficients and fits travel in the graph), or the
        files are not those it was loaded from.
    MissingDependencyError
        If distributed is not installed.
    """
    require("distributed", extra="cluster")
    ref = _ref_of(model)
    _wait_for_workers(client, n_workers, timeout)
    try:
        with _files_of(ref) as files:
            return _ship(ref, files, client, timeout)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"the cluster at {_address(client)} was lost while model {ref.name!r} was being "
            f"shared ({error!r})",
            cure="share it again",
        ) from error


@contextmanager
def _files_of(ref: ModelRef) -> Iterator[list[Path]]:
    """Files of a bundle on this machine; those of a URL are fetched for the time being."""
    place = find_place(ref.location)
    if place.filesystem is None:
        if open_bundle(place.root).ref.digest != ref.digest:
            raise ModelError(
                f"model {ref.name!r} at {ref.location} has changed since it was loaded",
                cure="load it again",
            )
        yield sorted(Path(place.root).iterdir())
        return
    with TemporaryDirectory() as folder:
        copy_bundle(ref, Path(folder) / "bundle")
        yield sorted((Path(folder) / "bundle").iterdir())


def _ref_of(model: Any) -> ModelRef:
    """The reference of a bundle, of a harmoniser made from one, or of its path."""
    if isinstance(model, (str, os.PathLike)):
        return open_bundle(model).ref
    if isinstance(model, ModelRef):
        return model
    bundle = model.bundle if isinstance(model, HasBundle) else None
    if bundle is None:
        raise ModelError(
            f"model {getattr(model, 'name', model)!r} has no files to share",
            cure="published "
            "coefficients and fits travel in the graph, only bundles need to be shared",
        )
    return bundle.ref


def _wait_for_workers(client: Client, n_workers: int, timeout: float) -> None:
    if client.asynchronous:
        raise ClusterError(
            "share waits for answers, which an asynchronous client does not",
            cure="call it outside the event loop with a client of its own, Client(address)",
        )
    if client.status != "running":
        raise ClusterError(
            f"the client is {client.status}", cure="connect to a running cluster first"
        )
    seen: list[int] = []
    try:
        client.sync(_watch_workers, client, n_workers, seen, callback_timeout=timeout)
    except (OSError, TimeoutError) as error:
        if not seen:
            raise ClusterError(
                f"the scheduler at {_address(client)} does not answer ({timeout:g} s)",
                cure="start it, or connect to one that runs",
            ) from error
        raise ClusterError(
            f"the cluster at {_address(client)} has {seen[-1]} workers after {timeout:g} s, not "
            f"{n_workers}",
            cure="start some (client.cluster.scale), or share with n_workers=0 where they "
            "come with the first tasks",
        ) from error


async def _watch_workers(client: Client, n_workers: int, seen: list[int]) -> None:
    """Wait for workers; note how many there are each time the scheduler answers."""
    while True:
        scheduler: Any = client.scheduler
        seen.append(len(await scheduler.ncores()))
        if seen[-1] >= n_workers:
            return
        await asyncio.sleep(_INTERVAL)


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else "(closed)"


def _ship(ref: ModelRef, files: list[Path], client: Client, timeout: float) -> tuple[str, ...]:
    """Client to scheduler, then scheduler to workers."""
    from xharmonize.cluster.plugins import Depot, SharedBundle

    client.register_plugin(Depot())
    for path in files:
        client.sync(_upload, client, ref.digest, path, timeout)
    sizes = {path.name: path.stat().st_size for path in files}
    return tuple(sorted(client.register_plugin(SharedBundle(ref, sizes))))


async def _upload(client: Client, digest: str, path: Path, timeout: float) -> None:
    """Send a file to the scheduler, each piece when the one before has arrived."""
    from xharmonize.cluster.plugins import PIECE, WRITE

    write = getattr(client.scheduler, WRITE)
    names = {"digest": digest, "name": path.name, "sender": client.id}
    size = path.stat().st_size
    with path.open("rb") as file:
        for offset in range(0, max(size, 1), PIECE):
            sent = write(**names, offset=offset, size=size, data=file.read(PIECE))
            await asyncio.wait_for(sent, timeout)
