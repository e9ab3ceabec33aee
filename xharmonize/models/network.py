"""A network made ready to run: weights in place, device, layout and precision settled."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from xharmonize._optional import require
from xharmonize.errors import ModelError
from xharmonize.models.card import Card
from xharmonize.models.refs import Runtime
from xharmonize.models.registry import build
from xharmonize.types import AnyArray

require("torch", extra="train")  # its error names the extra; that of a bare import would not

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xharmonize.models.nets.products import with_products  # noqa: E402
from xharmonize.models.nets.subpixel import with_subpixels  # noqa: E402

_FLAGS = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network ready to run: weights in place, layout and precision settled.

    Attributes
    ----------
    module : torch.nn.Module
        In evaluation mode, on `device`.
    device : torch.device
        Where it runs.
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
    """Return a network with given weights as `runtime` wants it run; not cached.

    Raises
    ------
    ModelError
        If the weights do not fit the card, or the device is not there.
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
    """Return where a worker runs networks: its CPU or its current GPU.

    Raises
    ------
    ModelError
        If a GPU is asked for and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if runtime.device == "cuda" and not has_gpu:
        raise ModelError(
            f"device='cuda' was asked for, but torch {torch.__version__} sees no CUDA device on "
            "this worker; install a CUDA build of torch and a driver, or give device='auto'"
        )
    if runtime.device == "cpu" or not has_gpu:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _compiled(method: Callable[..., Tensor], *, is_on_cpu: bool) -> Callable[..., Tensor]:
    """Compile a method at its first call; say what is missing where that is impossible."""
    options = {"freezing": True} if is_on_cpu else None  # lays out weights once, not per batch
    compiled = torch.compile(method, options=options)

    def call(*tensors: Tensor) -> Tensor:
        try:
            output: Tensor = compiled(*tensors)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ModelError(
                "the network cannot be compiled on this worker (torch.compile needs a C++ "
                f"compiler, and Triton on a GPU): {str(error).splitlines()[0]}; give "
                "compile=False"
            ) from error
        return output

    return call
