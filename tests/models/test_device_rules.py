"""What runs networks on a GPU keeps the rules of CUDA, on a device of logical clocks.

The code is the package's own. Each rule is then broken in a copy of it, so that a device which
would overlook a misuse fails as well. None of this ran on a GPU.
"""

import gc
import inspect
import sys
import types

import numpy as np
import pytest
import torch
from helpers import fake_device
from helpers.fake_device import Device, Misuse

from xharmonize.models import runtime

N_BATCHES = 20
DURATIONS = {
    "computing takes longest": {"up": 0.8, "kernel": 1.0, "down": 0.6},
    "copying takes longest": {"up": 1.0, "kernel": 0.7, "down": 0.5},
}


def with_changes(device, monkeypatch, changes=()):
    """The runtime's module, its source changed, with a device in place of torch's."""
    source = inspect.getsource(runtime)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} is not in the code once: mend this test"
        source = source.replace(old, new)
    module = types.ModuleType(runtime.__name__)
    exec(compile(source, runtime.__file__, "exec"), module.__dict__)
    monkeypatch.setattr(module, "torch", fake_device.Torch(device), raising=True)
    return module


def network_on(module, device):
    return module.Network(
        module=fake_device.Network(device),
        device=torch.device("cuda"),
        dtype=torch.float32,
        compile=False,
        compiled={},
    )


def run_batches(device, monkeypatch, changes=()):
    """Numpy in, numpy out; raises `Misuse` where a rule is broken or transfers are not hidden."""
    module = with_changes(device, monkeypatch, changes)
    batches = [[np.full((2, 1, 3, 3), n, np.float32)] for n in range(N_BATCHES)]
    results = module.run(network_on(module, device), iter(batches))
    found = [array.copy() for array in results]
    del results
    gc.collect()
    device.check()
    slowest = max(device.seconds.values()) * N_BATCHES
    if device.now > 1.15 * slowest:
        raise Misuse(f"transfers are not hidden: {device.now / slowest:.2f} times the slowest part")
    return found, batches


@pytest.mark.parametrize("seconds", DURATIONS.values(), ids=DURATIONS)
def test_batches_follow_the_rules_and_hide_their_transfers(seconds, monkeypatch):
    found, batches = run_batches(Device(seconds), monkeypatch)
    for array, (batch,) in zip(found, batches, strict=True):
        np.testing.assert_array_equal(array, 2 * batch)


EMPTY = 'torch.empty(array.shape, dtype=torch.float32, pin_memory=device.type == "cuda")'
BROKEN = {
    "a network that does not wait for its input": (
        [("compute.wait_stream(upload)", "pass")],
        "the network reads memory that a copy up",
    ),
    "a copy that does not wait for the network": (
        [("download.wait_stream(compute)", "pass")],
        "a copy down reads memory that the network",
    ),
    "a result read before it has arrived": (
        [("    event.synchronize()\n", "")],
        "the host uses memory that a copy down",
    ),
    "an event that was not recorded": (
        [("event.record(stream)", "pass")],
        "the host uses memory that a copy down",
    ),
    "an input freed while the network reads it": (
        [("_used_on(tensor, compute)", "pass")],
        "freed while the network",
    ),
    "a result freed while it is copied": (
        [("_used_on(output, stream)", "pass")],
        "freed while a copy down",
    ),
    "input that is not pinned": (
        [('pin_memory=device.type == "cuda"', "pin_memory=False")],
        "a copy from pageable memory",
    ),
    "output that is not pinned": (
        [("pin_memory=output.is_cuda", "pin_memory=False")],
        "a copy to pageable memory",
    ),
    "one pinned buffer for all batches": (
        [(EMPTY, f"globals().setdefault('KEPT', {EMPTY})")],
        "the host uses memory that a copy up",
    ),
    "uploads on the stream that computes": (
        [("with backend.stream(upload):", "with nullcontext():")],
        "transfers are not hidden",
    ),
    "downloads on the stream that computes": (
        [("with backend.stream(stream):", "with nullcontext():")],
        "the host uses memory that a copy down",
    ),
    "one stream for both ways": (
        [("download = backend.Stream(), backend.Stream()", "download = (backend.Stream(),) * 2")],
        "transfers are not hidden",
    ),
    "no batch ahead": ([("AHEAD = 2", "AHEAD = 0")], "transfers are not hidden"),
}


@pytest.mark.parametrize(("changes", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_noticed(changes, said, monkeypatch):
    with pytest.raises(Misuse, match=said):
        run_batches(Device(DURATIONS["computing takes longest"]), monkeypatch, changes)


def run_in_place(monkeypatch, changes=()):
    """cupy in, cupy out, on a stream of cupy's."""
    device = Device()
    module = with_changes(device, monkeypatch, changes)
    cupy = fake_device.Cupy(device)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    there = cupy.asarray(np.ones((2, 1, 3, 3), np.float32))
    (found,) = module.run(network_on(module, device), [[there]])
    found.astype(np.float64)
    return device, found


def test_cupy_passes_through_without_a_copy(monkeypatch):
    device, found = run_in_place(monkeypatch)
    assert found.is_cuda
    assert sorted(device.names.values()) == ["a conversion", "a copy up", "the network"]


def test_a_network_on_another_stream_than_cupy_is_noticed(monkeypatch):
    change = ("with torch.cuda.stream(stream):", "with nullcontext():")
    with pytest.raises(Misuse, match="the network reads memory that a copy up"):
        run_in_place(monkeypatch, [change])
