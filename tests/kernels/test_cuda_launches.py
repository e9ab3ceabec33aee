"""CUDA kernels are launched on cupy's stream, within what any device takes, on its own memory.

On a device of logical clocks: what they compute, `test_cuda_kernels.py` compares.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import fake_device
from helpers.cuda_compile import KERNELS
from helpers.fake_device import Device, Misuse

from xharmonize.kernels import cuda as twins

LINES = ("scale", "offset", "nodata")
SHAPES = {
    "a tile": (1, 6, 10_980, 10_980),
    "a pixel": (1, 1, 1, 1),
    "nothing": (1, 2, 0, 5),
    "more planes than rows of blocks": (30_000, 6, 2, 2),
}


@pytest.fixture
def device(monkeypatch):
    found = Device()
    monkeypatch.setitem(sys.modules, "cupy", fake_device.Cupy(found))
    monkeypatch.setattr(twins, "cuda", SimpleNamespace(external_stream=found.stream_at))
    outputs = {"_flag_outside": 3, "_count_plane": -2}
    for name in KERNELS:
        kernel = fake_device.Kernel(found, name, outputs.get(name, -1))
        monkeypatch.setattr(twins, name, kernel)
    return found


def launch_all(shape, bins=256):
    """Every twin on pixels of a shape; only their number matters, they take no memory."""
    cupy = sys.modules["cupy"]
    n_times, n_bands, n_y, n_x = shape
    values, dn = cupy.empty(shape, np.float32), cupy.empty(shape, np.uint16)
    values[...] = dn[...] = 0
    flags = twins.zeros((n_times, n_y, n_x), np.uint8, values)
    low, high = np.zeros(n_bands), np.ones(n_bands)
    table = np.zeros((1, 1, 1, n_bands, 256))
    near = np.zeros(n_y, np.int64), np.zeros(n_x, np.int64)
    limits = low, high
    lines = {name: np.zeros((n_times, n_bands)) for name in LINES}
    twins.apply_tables(values, table, *limits, *near)
    twins.apply_tables_to_dn(dn, table, *limits, *near, **lines)
    twins.affine(dn, lines["scale"], lines["offset"], nodata=lines["nodata"])
    twins.blend_tables(values, table, *limits, *near, *(np.zeros(one.size) for one in near))
    twins.flag_outside(values, *limits, flags, 2)
    twins.fill_from_neighbours(values)
    twins.count_values(values, *limits, bins, *near)
    twins.count_dn(dn, *limits, bins, *near, **lines)
    values.simulated.check()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_number_of_pixels_is_launched(shape, device):
    launch_all(shape)
    launched = {launch["kernel"] for launch in device.launches}
    assert launched >= set(KERNELS) - ({"_count_plane"} if 0 in shape else set())


def test_more_bins_than_shared_memory_holds_are_counted_in_passes(device):
    launch_all((1, 2, 64, 64), bins=2**16)
    passes = [one["shared"] for one in device.launches if one["kernel"] == "_count_plane"]
    assert sum(passes) == 2 * 4 * 2**16
    assert max(passes) <= 48 * 1024


def on_another_stream(monkeypatch):
    other = sys.modules["cupy"].cuda.get_current_stream().device.stream_at(0)
    found = SimpleNamespace(external_stream=lambda _: other)
    monkeypatch.setattr(twins, "cuda", found)


BROKEN = {
    "on the default stream": (on_another_stream, "memory that .* is not known to be done with"),
    "more rows of blocks than there are": (
        lambda monkeypatch: monkeypatch.setattr(twins, "MAX_ROWS", 2**17),
        "a launch of 131072 rows of blocks, not 1 to 65535",
    ),
    "more bins than shared memory holds": (
        lambda monkeypatch: monkeypatch.setattr(twins, "BINS", 2**16),
        "bytes of shared memory",
    ),
    "more threads than a block has": (
        lambda monkeypatch: monkeypatch.setattr(twins, "THREADS", 2048),
        "a launch of 2048 threads",
    ),
    "tables that stay on the host": (
        lambda monkeypatch: monkeypatch.setattr(
            twins, "to_device", lambda array, like, dtype=None: array
        ),
        "an array of the host is given to a kernel",
    ),
}


@pytest.mark.parametrize(("breaks", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_noticed(breaks, said, device, monkeypatch):
    breaks(monkeypatch)
    with pytest.raises(Misuse, match=said):
        launch_all((30_000, 6, 2, 2), bins=2**16)
