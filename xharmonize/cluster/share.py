"""Share the files of a model with the workers of a cluster."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.cluster.depot import send
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
    """Send the files of a model to every worker of a cluster, including those that join later.

    Needed only if workers cannot access the folder the model was loaded from; folders on a shared
    file system and URLs work without it. Each worker gets one copy in its local directory,
    verified by sha256. The client sends the files once; the scheduler keeps them on disk for
    workers that join or restart, and serves them 4 MiB at a time. Models are never pickled.

    Parameters
    ----------
    model : model, ModelRef or path
        Model from `xharmonize.load_model`, or any argument it accepts.
    client : distributed.Client
        Client of a running cluster.
    n_workers : int
        Number of workers to wait for; 0 for adaptive clusters, which start workers with the first
        tasks.
    timeout : float
        How long to wait for workers and responses [s].

    Returns
    -------
    tuple of str
        Addresses of the workers that now have the model.

    Raises
    ------
    ClusterError
        If the cluster has too few workers, is closed, or does not respond.
    ModelError
        If the model has no files (published coefficients and fits are part of the graph), or its
        files have changed since it was loaded.
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
    """Files of a bundle on this machine; files at a URL are downloaded temporarily."""
    place = find_place(ref.location, ref.options)
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
    """Reference to a bundle, given as such, as its path, or as a harmonizer made from it."""
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


def require_usable(client: Client) -> None:
    """Raise `ClusterError` unless it is a client that is connected, and waits for answers."""
    from distributed import Client

    if not isinstance(client, Client):
        raise ClusterError(
            "is none", argument="client", value=client, cure="give distributed.Client(address)"
        )
    if client.asynchronous:
        raise ClusterError(
            "answers are waited for, which an asynchronous client does not",
            cure="call it outside the event loop with a client of its own, Client(address)",
        )
    if client.status != "running":
        raise ClusterError(
            f"the client is {client.status}", cure="connect to a running cluster first"
        )


def _wait_for_workers(client: Client, n_workers: int, timeout: float) -> None:
    require_usable(client)
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
        client.sync(send, client.scheduler, ref.digest, path, client.id, timeout)
    sizes = {path.name: path.stat().st_size for path in files}
    return tuple(sorted(client.register_plugin(SharedBundle(ref, sizes))))
