"""A GPU that is not there: streams, events, copies and kernels with logical clocks.

It computes nothing of its own. It holds the code that uses it to the rules of CUDA, and raises
`Misuse` where one is broken, whether or not a real device would have been fast enough to hide it:

- what reads a buffer has to come after what wrote it, and what writes it after all that use it:
  on the same stream, or by an event or a stream that was waited for;
- the host sees a result when it has waited for an event behind it, and writes into memory only when
  no copy from it is under way;
- memory of the device goes back to the stream that it was allocated on: what other streams still
  do with it must have been announced (`record_stream`);
- copies that do not wait need pinned memory;
- a launch has at least one block and at most what a device takes.

Order is kept by vector clocks: per stream, how many operations of each other stream are known to be
done. Durations give a time line as well: one engine each for copies up, copies down and kernels.

`Torch` and `Cupy` stand for the two libraries, with no more of them than the package uses.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

Clock = dict["Stream", int]
Stamp = tuple["Stream", int]


class Misuse(AssertionError):
    """A rule of CUDA is broken."""


class Stream:
    """A queue of operations; `clock` says which operations of any stream are before its next."""

    def __init__(self, device: Device, pointer: int) -> None:
        self.device, self.ptr, self.clock, self.end = device, pointer, {}, 0.0

    def wait_stream(self, other: Stream) -> None:
        merge(self.clock, other.clock)
        self.end = max(self.end, other.end)

    def __enter__(self) -> Stream:
        self.device.entered.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self.device.entered.pop()


class Event:
    """A mark in a stream; one that was never recorded is not waited for."""

    def __init__(self, device: Device) -> None:
        self.device, self.clock, self.end = device, {}, 0.0

    def record(self, stream: Stream) -> None:
        self.clock, self.end = dict(stream.clock), stream.end

    def synchronize(self) -> None:
        merge(self.device.host, self.clock)
        self.device.now = max(self.device.now, self.end)


class Buffer:
    """Memory: where it is, the operation that wrote it, and those that read it since."""

    def __init__(self, place: str, owner: Stream | None = None) -> None:
        self.place, self.owner = place, owner
        self.written: Stamp | None = None
        self.read: list[Stamp] = []
        self.announced: set[Stream] = set()

    @property
    def uses(self) -> list[Stamp]:
        return [*([self.written] if self.written else []), *self.read]


class Device:
    """The device, and what the host knows of it."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = {"up": 0.0, "down": 0.0, "kernel": 0.0} | (seconds or {})
        self.host: Clock = {}
        self.now = 0.0
        self.busy_until = dict.fromkeys(self.seconds, 0.0)
        self.names: dict[Stamp, str] = {}
        self.faults: list[str] = []
        self.launches: list[dict[str, Any]] = []
        self.streams: dict[int, Stream] = {}
        self.entered = [self.stream_at(0)]
        self.of_cupy = self.new_stream()  # its current stream is not that of torch

    def stream_at(self, pointer: int) -> Stream:
        return self.streams.setdefault(pointer, Stream(self, pointer))

    def new_stream(self) -> Stream:
        return self.stream_at(len(self.streams))

    @property
    def current(self) -> Stream:
        return self.entered[-1]

    def run(
        self,
        what: str,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        *,
        engine: str,
        stream: Stream | None = None,
    ) -> None:
        """Put an operation into a stream, the current one by default."""
        stream = self.current if stream is None else stream
        merge(stream.clock, self.host)
        for buffer in reads:
            self.require(stream.clock, [buffer.written], f"{what} reads")
        for buffer in writes:
            self.require(stream.clock, buffer.uses, f"{what} writes")
        stamp = stream, stream.clock.get(stream, 0) + 1
        stream.clock[stream] = stamp[1]
        self.names[stamp] = what
        for buffer in reads:
            buffer.read.append(stamp)
        for buffer in writes:
            buffer.written, buffer.read = stamp, []
        start = max(stream.end, self.now, self.busy_until[engine])
        stream.end = self.busy_until[engine] = start + self.seconds[engine]

    def require(self, clock: Clock, stamps: Sequence[Stamp | None], what: str) -> None:
        for stamp in stamps:
            if stamp and clock.get(stamp[0], 0) < stamp[1]:
                raise Misuse(f"{what} memory that {self.names[stamp]} is not known to be done with")

    def touched_by_host(self, buffer: Buffer) -> None:
        """The host reads or writes memory: nothing may be under way there."""
        self.require(self.host, buffer.uses, "the host uses")

    def freed(self, buffer: Buffer) -> None:
        """Memory goes back to its stream; errors of a finalizer would be lost, so they are kept."""
        if buffer.owner is None:
            return
        known = dict(buffer.owner.clock)
        merge(known, self.host)
        for stream, number in buffer.uses:
            if known.get(stream, 0) < number and stream not in buffer.announced:
                what = self.names[stream, number]
                self.faults.append(f"memory was freed while {what} may still use it")

    def check(self) -> None:
        """Raise what was noticed when memory was freed."""
        if self.faults:
            raise Misuse(self.faults[0])


def merge(clock: Clock, other: Clock) -> None:
    for stream, number in other.items():
        clock[stream] = max(clock.get(stream, 0), number)


class Array:
    """What is a tensor to torch and an array to cupy: values, and the buffer they are in."""

    def __init__(self, device: Device, values: np.ndarray, place: str) -> None:
        owner = device.current if place == "device" else None
        self.simulated, self.values, self.buffer = device, values, Buffer(place, owner)
        weakref.finalize(self, device.freed, self.buffer)

    shape = property(lambda self: self.values.shape)
    size = property(lambda self: self.values.size)
    ndim = property(lambda self: self.values.ndim)
    is_cuda = property(lambda self: self.buffer.place == "device")
    device = property(lambda self: torch.device("cuda" if self.is_cuda else "cpu"))

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if not self.is_cuda:
            raise AttributeError("not on the device")
        return {"shape": self.shape, "version": 3}

    # torch

    def copy_(self, source: Any, non_blocking: bool = False) -> Array:
        if not isinstance(source, Array):
            self.simulated.touched_by_host(self.buffer)
            self.values[...] = source.numpy()
            return self
        if not (non_blocking and self.buffer.place == "pinned"):
            raise Misuse(f"a copy to {self.buffer.place} memory that is not pinned holds the host")
        self.simulated.run("a copy down", [source.buffer], [self.buffer], engine="down")
        self.values[...] = source.values
        return self

    def to(self, device: torch.device, non_blocking: bool = False) -> Array:
        if not (non_blocking and self.buffer.place == "pinned"):
            raise Misuse(f"a copy from {self.buffer.place} memory that is not pinned")
        there = Array(self.simulated, self.values.copy(), "device")
        self.simulated.run("a copy up", [self.buffer], [there.buffer], engine="up")
        return there

    def numpy(self) -> np.ndarray:
        if self.is_cuda:
            raise TypeError("can't convert a CUDA tensor to numpy")
        self.simulated.touched_by_host(self.buffer)
        return self.values

    def record_stream(self, stream: Stream) -> None:
        self.buffer.announced.add(stream)

    def float(self) -> Array:
        return self

    def contiguous(self) -> Array:
        return self

    # cupy

    def __setitem__(self, index: Any, value: Any) -> None:
        with self.simulated.of_cupy:
            self.simulated.run("filling", [], [self.buffer], engine="kernel")

    def astype(self, dtype: Any) -> Array:
        values = np.broadcast_to(np.zeros((), dtype), self.shape)
        with self.simulated.of_cupy:
            there = Array(self.simulated, values, "device")
            self.simulated.run("a conversion", [self.buffer], [there.buffer], engine="kernel")
        return there


class Network:
    """A network of one kernel, which gives twice its first input."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def forward(self, *images: Array) -> Array:
        answer = Array(self.device, 2 * images[0].values, "device")
        read = [image.buffer for image in images]
        self.device.run("the network", read, [answer.buffer], engine="kernel")
        return answer


class Kernel:
    """A compiled kernel: takes a launch as numba does, and holds it to what any device takes."""

    def __init__(self, device: Device, name: str, output: int) -> None:
        self.device, self.name, self.output = device, name, output

    def __getitem__(self, configuration: tuple[Any, int, Any, int]) -> Any:
        (blocks, rows), threads, stream, shared = configuration
        limits = {"blocks": (blocks, 2**31 - 1), "rows of blocks": (rows, 65_535)}
        limits |= {"threads": (threads, 1024)}
        for what, (number, most) in limits.items():
            if not 1 <= number <= most:
                raise Misuse(f"{self.name}: a launch of {number} {what}, not 1 to {most}")
        if shared > 48 * 1024:
            raise Misuse(f"{self.name}: {shared} bytes of shared memory, a block has 49152")

        def launch(*arguments: Any) -> None:
            arrays = [one for one in arguments if isinstance(one, (Array, np.ndarray))]
            if any(isinstance(one, np.ndarray) for one in arrays):
                raise Misuse(f"{self.name}: an array of the host is given to a kernel")
            output = arguments[self.output].buffer
            read = [one.buffer for one in arrays if one.buffer is not output]
            on = stream if isinstance(stream, Stream) else self.device.stream_at(stream)
            self.device.run(self.name, read, [output], engine="kernel", stream=on)
            self.device.launches.append({"kernel": self.name, "shared": shared, "rows": rows})

        return launch


class Torch:
    """torch, but for what concerns the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.cuda = SimpleNamespace(
            Stream=device.new_stream,
            Event=lambda: Event(device),
            current_stream=lambda: device.current,
            default_stream=lambda _: device.stream_at(0),
            ExternalStream=lambda pointer, device: self._device.stream_at(pointer),
            stream=self._on,
        )
        self.utils = SimpleNamespace(dlpack=SimpleNamespace(from_dlpack=lambda array: array))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    @contextlib.contextmanager
    def _on(stream: Stream) -> Iterator[None]:
        with stream:
            yield

    def empty(self, shape: Any, dtype: Any = None, pin_memory: bool = False) -> Array:
        values = np.full(shape, np.nan, np.float32)
        return Array(self._device, values, "pinned" if pin_memory else "pageable")


class Cupy:
    """cupy, all of it on one stream."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.cuda = SimpleNamespace(get_current_stream=lambda: device.of_cupy)

    def asarray(self, array: Any) -> Array:
        if isinstance(array, Array):
            return array
        there = self.empty(np.shape(array), array.dtype)
        there.values = array
        with self._device.of_cupy:  # by way of pinned memory of its own
            self._device.run("a copy up", [], [there.buffer], engine="up")
        return there

    def ascontiguousarray(self, array: Array, dtype: Any = None) -> Array:
        return array if dtype is None or array.dtype == dtype else array.astype(dtype)

    def empty(self, shape: Any, dtype: Any) -> Array:
        with self._device.of_cupy:
            return Array(self._device, np.broadcast_to(np.zeros((), dtype), shape), "device")

    def from_dlpack(self, array: Array) -> Array:
        return array
