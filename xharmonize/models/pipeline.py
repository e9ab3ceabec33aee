"""Batches through a network: on a CPU's threads, or on a GPU with transfers behind compute."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xharmonize.errors import ModelError
from xharmonize.models.network import Network
from xharmonize.types import AnyArray

Batch: TypeAlias = Sequence[Any]
"""One array per input of the network, numpy or cupy."""

AHEAD = 2
"""Batches on their way on a GPU besides the one whose result is waited for."""

_THREADS = threading.Lock()
_limited: dict[str, int] = {"users": 0, "threads": 0}


def run(network: Network, batches: Iterable[Batch], *, method: str = "forward") -> Iterator[Any]:
    """Run a prepared network over batches, in order; arrays as for `predict`."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return iter(())
    batches = itertools.chain([first], iterator)
    is_on_gpu = hasattr(first[0], "__cuda_array_interface__")
    if network.device.type != "cuda":
        if is_on_gpu:
            raise ModelError("cupy blocks cannot be run on device='cpu'; give device='cuda'")
        return (_run_on_cpu(network, batch, method) for batch in batches)
    if is_on_gpu:
        return (_run_in_place(network, batch, method) for batch in batches)
    return overlapped(network, batches, method, torch.cuda)


def _run_on_cpu(network: Network, batch: Batch, method: str) -> AnyArray:
    """Run one batch; on the main thread on torch's threads, on any other on one."""
    # torch warns of arrays that it could write to but must not: dask's blocks may be such.
    tensors = [torch.from_numpy(np.require(array, None, ["C", "W"])) for array in batch]
    is_main = threading.current_thread() is threading.main_thread()
    threads: AbstractContextManager[None] = nullcontext() if is_main else _one_thread()
    with threads:
        output: AnyArray = network(tensors, method).numpy()
    return output


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the calling thread compute alone: dask supplies the threads.

    torch keeps the number per thread, but a new thread starts with the number set last by any. So
    the number to go back to is read only while no other thread is limited.
    """
    with _THREADS:
        if not _limited["users"]:
            _limited["threads"] = torch.get_num_threads()
        _limited["users"] += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _THREADS:
            _limited["users"] -= 1
            torch.set_num_threads(_limited["threads"])


def _run_in_place(network: Network, batch: Batch, method: str) -> Any:
    """Run one batch of cupy arrays on cupy's current stream, without a copy in or out."""
    import cupy

    tensors = [torch.from_dlpack(array) for array in batch]
    if any(tensor.device != network.device for tensor in tensors):
        raise ModelError(
            f"cupy blocks lie on {tensors[0].device}, the worker's device is {network.device}; "
            "use one device per worker"
        )
    pointer = cupy.cuda.get_current_stream().ptr
    # One stream for both libraries: memory that cupy takes back is not reused before its readers
    # are done.
    stream = (
        torch.cuda.ExternalStream(pointer, device=network.device)
        if pointer
        else torch.cuda.default_stream(network.device)
    )
    with torch.cuda.stream(stream):
        return cupy.from_dlpack(network(tensors, method))


def overlapped(
    network: Network, batches: Iterable[Batch], method: str, backend: Any
) -> Iterator[AnyArray]:
    """Run batches of numpy arrays on a device, with transfers behind compute.

    Parameters
    ----------
    network : Network
        The network.
    batches : iterable of sequences of numpy arrays
        See `predict`.
    method : str
        Method of the network.
    backend : module
        ``torch.cuda``; ``torch.cpu`` has the same names and runs the same steps in turn.

    Yields
    ------
    float32 array
        In the order of the batches, in pinned memory.
    """
    upload, download = backend.Stream(), backend.Stream()
    pending: deque[tuple[Tensor, Any]] = deque()
    for batch in batches:
        with backend.stream(upload):
            tensors = [_upload(array, network.device) for array in batch]
        compute = backend.current_stream()
        compute.wait_stream(upload)
        for tensor in tensors:
            _used_on(tensor, compute)
        output = network(tensors, method)
        download.wait_stream(compute)
        pending.append(_download(output, download, backend))
        if len(pending) > AHEAD:
            yield _finished(*pending.popleft())
    while pending:
        yield _finished(*pending.popleft())


def _upload(array: AnyArray, device: torch.device) -> Tensor:
    """Copy an array to pinned memory, and start its way to the device on the current stream."""
    pinned = torch.empty(array.shape, dtype=torch.float32, pin_memory=device.type == "cuda")
    if array.flags.writeable and array.flags.c_contiguous:
        pinned.copy_(torch.from_numpy(array))
    else:
        np.copyto(pinned.numpy(), array)
    return pinned.to(device, non_blocking=True)


def _download(output: Tensor, stream: Any, backend: Any) -> tuple[Tensor, Any]:
    """Start the way back of a result; return where it goes and the event of its arrival."""
    event = backend.Event()
    with backend.stream(stream):
        pinned = torch.empty(output.shape, dtype=output.dtype, pin_memory=output.is_cuda)
        pinned.copy_(output, non_blocking=True)
        _used_on(output, stream)
        event.record(stream)
    return pinned, event


def _used_on(tensor: Tensor, stream: Any) -> None:
    """Keep torch from reusing a tensor's memory before `stream` is done with it."""
    if tensor.is_cuda:
        tensor.record_stream(stream)


def _finished(pinned: Tensor, event: Any) -> AnyArray:
    event.synchronize()
    array: AnyArray = pinned.numpy()
    return array
