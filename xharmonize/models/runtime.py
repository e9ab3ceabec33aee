"""Run networks on a worker: load once, and predict batches on its CPU or GPU.

Imported inside block functions only: this module loads torch.

On a GPU one device serves a worker, the current one. Batches go through pinned memory on streams of
their own, so that the upload of the next ones and the download of the last ones run while a batch
is computed; cupy blocks stay on the device and are passed on without a copy.

``float32`` means float32: TF32 is off. cudnn is kept to deterministic algorithms, chosen without
timing them, so that a run can be repeated; batches of another size may still add in another order,
which is rounding.
"""

from __future__ import annotations

import gc
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from xharmonize._cache import Cache
from xharmonize._optional import require
from xharmonize.errors import ModelError
from xharmonize.kernels.cuda import is_on_gpu
from xharmonize.kernels.threads import is_main
from xharmonize.models.architectures import build
from xharmonize.models.card import Call, Card
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray

require("torch", extra="train")  # its error names the extra; that of a bare import would not

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xharmonize.models.nets.layers import with_products, with_subpixels  # noqa: E402

_FLAGS = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network ready to run, with weights, memory layout and precision set.

    Attributes
    ----------
    module : torch.nn.Module
        In evaluation mode, on `device`.
    device : torch.device
        Device it runs on.
    dtype : torch.dtype
        Precision of convolutions and matrix products.
    compile : bool
        Whether methods are compiled.
    compiled : dict
        Methods compiled so far, by name.
    """

    module: Any
    device: torch.device
    dtype: torch.dtype
    compile: bool
    compiled: dict[str, Callable[..., Tensor]]

    def __call__(self, tensors: Sequence[Tensor], method: str = "forward") -> Tensor:
        """Return the answer to one batch on `device`: float32, contiguous."""
        with torch.inference_mode(), self._precision():
            # Inputs have few channels and stay as they are; the layout of weights settles the rest.
            output = self._method(method)(*tensors)
        return output.float().contiguous()

    @property
    def n_bytes(self) -> int:
        """Bytes of weights and buffers."""
        tensors = itertools.chain(self.module.parameters(), self.module.buffers())
        return sum(tensor.nbytes for tensor in tensors)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """Set what holds while kernels are launched, and put it back."""
        with ExitStack() as stack:
            if self.device.type == "cuda":
                # Flags of the whole process: one launch at a time.
                stack.enter_context(_FLAGS)
                products = torch.backends.cuda.matmul
                stack.callback(setattr, products, "allow_tf32", products.allow_tf32)
                products.allow_tf32 = False
                stack.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                    )
                )
            if self.dtype is not torch.float32:
                stack.enter_context(torch.autocast(self.device.type, self.dtype))
            yield

    def _method(self, name: str) -> Callable[..., Tensor]:
        if not self.compile:
            method: Callable[..., Tensor] = getattr(self.module, name)
            return method
        if name not in self.compiled:
            is_on_cpu = self.device.type == "cpu"
            compiled = _compiled(getattr(self.module, name), is_on_cpu=is_on_cpu)
            return self.compiled.setdefault(name, compiled)
        return self.compiled[name]


def prepare(card: Card, weights: Mapping[str, AnyArray], runtime: Runtime) -> Network:
    """Build a network with given weights for the settings in `runtime`; not cached.

    Raises
    ------
    ModelError
        If the weights don't match the card, or the device is not available.
    """
    device = find_device(runtime)
    layout = torch.channels_last if runtime.channels_last else torch.contiguous_format
    dtype: torch.dtype = getattr(torch, runtime.dtype)
    module = build(card, weights).requires_grad_(False)
    if dtype is not torch.float32:
        if device.type == "cpu":
            with_subpixels(module)
        for part in module.modules():
            # What autocast would convert at every batch; the rest stays float32.
            if isinstance(part, (nn.modules.conv._ConvNd, nn.Linear)):
                part.to(dtype)
    elif device.type == "cpu" and runtime.channels_last and not runtime.compile:
        with_products(module)  # a compiler lays out weights itself
    module = module.to(device=device, memory_format=layout)
    _release(module, weights)
    return Network(
        module=module,
        device=device,
        dtype=dtype,
        compile=runtime.compile,
        compiled={},
    )


def _release(module: nn.Module, weights: Mapping[str, AnyArray]) -> None:
    """Copy what still lies in the caller's weights where most of it was rearranged.

    Weights that were read from a file are views of one buffer: a bias would keep all of it.
    """
    places = {array.ctypes.data for array in weights.values()}
    tensors = list(itertools.chain(module.parameters(), module.buffers()))
    left = [tensor for tensor in tensors if tensor.data_ptr() in places]
    if 2 * sum(tensor.nbytes for tensor in left) < sum(tensor.nbytes for tensor in tensors):
        for tensor in left:
            tensor.data = tensor.clone()


def find_device(runtime: Runtime) -> torch.device:
    """Return the device for networks on this worker: its CPU or its current GPU.

    Raises
    ------
    ModelError
        If a GPU is requested and torch finds none.
    """
    has_gpu = torch.cuda.is_available()
    if runtime.device == "cuda" and not has_gpu:
        raise ModelError(
            f"device='cuda' was asked for, but torch {torch.__version__} sees no CUDA device on "
            "this worker",
            cure="install a CUDA build of torch and a driver, or give device='auto'",
        )
    if runtime.device == "cpu" or not has_gpu:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _compiled(method: Callable[..., Tensor], *, is_on_cpu: bool) -> Callable[..., Tensor]:
    """Compile a method at its first call; say what is missing where that is impossible."""
    options: dict[str, str | int | bool | Callable[..., Any]] | None = None
    if is_on_cpu:
        options = {"freezing": True}  # lays out weights once, not per batch
    compiled = torch.compile(method, options=options)

    def call(*tensors: Tensor) -> Tensor:
        try:
            output: Tensor = compiled(*tensors)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ModelError(
                "the network cannot be compiled on this worker (torch.compile needs a C++ "
                f"compiler, and Triton on a GPU): {str(error).splitlines()[0]}",
                cure="give compile=False",
            ) from error
        return output

    return call


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
    on_gpu = is_on_gpu(first[0])
    if network.device.type != "cuda":
        if on_gpu:
            raise ModelError("cupy blocks cannot be run on device='cpu'", cure="give device='cuda'")
        return (_run_on_cpu(network, batch, method) for batch in batches)
    if on_gpu:
        return (_run_in_place(network, batch, method) for batch in batches)
    return overlapped(network, batches, method, torch.cuda)


def _run_on_cpu(network: Network, batch: Batch, method: str) -> AnyArray:
    """Run one batch; on the main thread on torch's threads, on any other on one."""
    # torch warns of arrays that it could write to but must not: dask's blocks may be such.
    tensors = [torch.from_numpy(np.require(array, None, ["C", "W"])) for array in batch]
    threads: AbstractContextManager[None] = nullcontext() if is_main() else _one_thread()
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

    tensors = [torch.utils.dlpack.from_dlpack(array) for array in batch]
    if any(tensor.device != network.device for tensor in tensors):
        raise ModelError(
            f"cupy blocks lie on {tensors[0].device}, the worker's device is {network.device}",
            cure="use one device per worker",
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
    """Run batches of NumPy arrays on a device, overlapping transfers with computation.

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


CACHE: Cache[Network] = Cache(max_entries=8, max_bytes=8 << 30)
"""The worker's networks."""


def predict(
    ref: ModelRef,
    card: Card,
    batches: Iterable[Batch],
    runtime: Runtime,
    *,
    call: Call | None = None,
) -> Iterator[Any]:
    """Run a bundle's network over batches, in order.

    Parameters
    ----------
    ref : ModelRef
        The bundle; loaded once per worker, device and settings.
    card : Card
        Its card.
    batches : iterable of sequences of arrays
        Per batch, one contiguous float32 array (n, …) per input, as defined by the card's kind,
        normalised and without NaN. All NumPy, or all CuPy on the current device. Batches are
        consumed one at a time; on a GPU, two ahead of their results.
    runtime : Runtime
        Device, precision, layout.
    call : Call, optional
        Method of the network's kind to call, such as `LutCard.refine`. Default: `forward`.

    Yields
    ------
    (n, …) float32 array
        In units of the network, not of reflectance; CuPy for CuPy input. On a GPU, NumPy results
        are in pinned memory, which returns to a pool when the array is deleted.

    Raises
    ------
    ModelError
        If the bundle cannot be loaded, its weights don't match its card, the device is not
        available, or the batches don't match the card.
    """
    network, asked = load(ref, card, runtime), call or card.forward
    shapes: deque[tuple[int, ...]] = deque()

    def checked() -> Iterator[Batch]:
        for batch in batches:
            shapes.append(asked.answer(card, [tuple(array.shape) for array in batch]))
            yield batch

    for output in run(network, checked(), method=asked.method):
        shape = shapes.popleft()
        if tuple(output.shape) != shape:
            raise ModelError(
                f"{card.architecture!r} gave {tuple(output.shape)} where the card of {card.name!r} "
                f"says {shape}",
                cure="give the card that the network was trained with",
            )
        yield output


def load(ref: ModelRef, card: Card, runtime: Runtime) -> Network:
    """Return the network of a bundle from the worker's cache, loading it if necessary."""
    from xharmonize.models.bundle import read_weights

    device = find_device(runtime)
    # A card may differ from the bundle's (another tile): what a network is built from counts too.
    settings = (str(device), runtime.dtype, runtime.channels_last, runtime.compile)
    key = (ref.digest, repr(card.network), *settings)
    return CACHE.get(
        key, lambda: prepare(card, read_weights(ref), runtime), lambda network: network.n_bytes
    )


def batch_size(card: Card, runtime: Runtime) -> int:
    """Return the number of samples per batch: from `runtime`, or the default of the kind."""
    return runtime.batch_size or card.n_at_once(find_device(runtime).type)


def free() -> None:
    """Clear the worker's networks and release the GPU memory cached by torch."""
    import torch

    CACHE.clear()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):
            torch.accelerator.empty_host_cache()


@dataclass(frozen=True, kw_only=True)
class PrecisionDifference:
    """Difference between bfloat16 and float32 per output band, in reflectance [1].

    Attributes
    ----------
    bands : tuple of str
        Output bands.
    largest : tuple of float
        Largest absolute difference.
    rmse : tuple of float
        Root of the mean squared difference.
    """

    bands: tuple[str, ...]
    largest: tuple[float, ...]
    rmse: tuple[float, ...]


def compare_precision(
    card: Card, weights: Mapping[str, AnyArray], batches: Iterable[Batch], runtime: Runtime
) -> PrecisionDifference:
    """Run a network in bfloat16 and in float32 and return the difference.

    Parameters
    ----------
    card : Card
        The model's card.
    weights : mapping of str to array
        Its weights.
    batches : iterable of sequences of arrays
        As for `predict`.
    runtime : Runtime
        Device and layout; its dtype is ignored.
    """
    contestants = (
        prepare(card, weights, replace(runtime, dtype="bfloat16")),
        prepare(card, weights, replace(runtime, dtype="float32")),
    )
    scale = np.array(card.output.scale)
    largest, squares, count = np.zeros(len(scale)), np.zeros(len(scale)), 0
    for batch in batches:
        half, full = (np.asarray(next(run(network, [batch]))) for network in contestants)
        difference = np.moveaxis(half.astype(float) - full, 1, 0).reshape(len(scale), -1)
        largest = np.maximum(largest, np.abs(difference).max(1) * scale)
        squares += (difference**2).sum(1) * scale**2
        count += difference.shape[1]
    return PrecisionDifference(
        bands=card.output.bands,
        largest=tuple(largest.tolist()),
        rmse=tuple(np.sqrt(squares / max(count, 1)).tolist()),
    )
