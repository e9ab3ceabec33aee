"""Running networks: the same answer however it is cut, laid out and threaded."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from helpers.cards import generator_card, lut_card
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.errors import MissingDependencyError, ModelError
from xharmonize.models import ModelRef, Runtime
from xharmonize.models.architectures import seeded

torch = pytest.importorskip("torch")

from xharmonize.models import runtime  # noqa: E402
from xharmonize.models import runtime as networks  # noqa: E402
from xharmonize.models import runtime as pipeline  # noqa: E402
from xharmonize.models.kinds.lut import TABLES, LutCard  # noqa: E402
from xharmonize.models.runtime import (  # noqa: E402
    prepare,
    run,
)

CARD = generator_card(width=8, depth=4, max_factor=2)
WEIGHTS = seeded(CARD)
RANDOM = np.random.default_rng(0)
has_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def tiles(n, card=CARD):
    sides = [int(card.lattice.tile * card.lattice.cells(one.gsd)) for one in card.inputs]
    shapes = [(n, len(one.bands), side, side) for one, side in zip(card.inputs, sides)]
    return [RANDOM.random(shape, np.float32) for shape in shapes]


def answer(batch, **settings):
    (found,) = run(prepare(CARD, WEIGHTS, Runtime(device="cpu", **settings)), [batch])
    return found


def assert_same(found, expected, share=1e-5):
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.ptp(expected))


@given(cuts=st.lists(st.integers(1, 6), max_size=5, unique=True), channels_last=st.booleans())
@settings(max_examples=10, deadline=None)
def test_batches_and_layout_do_not_change_the_answer(cuts, channels_last):
    batch = tiles(7)
    expected = answer(batch, channels_last=False)
    parts = zip(*(np.split(array, sorted(cuts)) for array in batch))
    network = prepare(CARD, WEIGHTS, Runtime(device="cpu", channels_last=channels_last))
    assert_same(np.concatenate(list(run(network, parts))), expected)


def test_a_thread_of_dask_gives_what_the_main_thread_gives():
    batch = tiles(4)
    expected = answer(batch)
    with ThreadPoolExecutor(1) as pool:
        assert_same(pool.submit(answer, batch).result(), expected)


def test_bfloat16_stays_near_float32_and_its_difference_is_reported():
    batch = tiles(4)
    expected = answer(batch)
    assert_same(answer(batch, dtype="bfloat16"), expected, share=0.02)
    found = runtime.compare_precision(CARD, WEIGHTS, [batch, batch], Runtime(device="cpu"))
    wrong = np.abs(answer(batch, dtype="bfloat16") - expected)
    assert found.bands == CARD.output.bands
    np.testing.assert_allclose(found.largest, wrong.max((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.rmse, np.sqrt((wrong**2).mean((0, 2, 3))), rtol=1e-4)
    assert all(0 < value < 0.02 for value in found.largest)


def test_bfloat16_converts_weights_once_and_leaves_statistics():
    card = lut_card()
    module = prepare(card, seeded(card), Runtime(device="cpu", dtype="bfloat16")).module
    assert module.last.weight.dtype is torch.bfloat16
    assert module.first[1].running_var.dtype is torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tables_and_refinement_run_in_both_precisions(dtype):
    card = lut_card()
    network = prepare(card, seeded(card), Runtime(device="cpu", dtype=dtype))
    histograms = RANDOM.dirichlet(np.ones(256), (3, 4)).astype(np.float32)
    (tables,) = run(network, [[histograms]])
    assert (tables.shape, tables.dtype) == ((3, 4, 256), np.float32)
    image = RANDOM.random((1, 4, 9, 10), np.float32)
    (refined,) = run(network, [[image]], method="refine")
    assert (refined.shape, refined.dtype) == (image.shape, np.float32)


def test_nothing_is_computed_until_a_result_is_asked_for():
    asked = []

    def batches():
        for number in range(3):
            asked.append(number)
            yield tiles(1)

    results = run(prepare(CARD, WEIGHTS, Runtime(device="cpu")), batches())
    next(results)
    assert asked == [0]
    assert len(list(results)) == 2
    assert list(run(prepare(CARD, WEIGHTS, Runtime(device="cpu")), [])) == []


def test_read_only_and_strided_arrays_neither_warn_nor_differ():
    batch = tiles(2)
    expected = answer(batch)
    wide = [np.repeat(array, 2, axis=3)[..., ::2] for array in batch]
    for array in batch:
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(answer(batch), expected)
        assert_same(answer(wide), expected)
        network = prepare(CARD, WEIGHTS, Runtime(device="cpu"))
        (found,) = pipeline.overlapped(network, [batch], "forward", torch.cpu)
    assert_same(found, expected)


def seen_threads(pool_size):
    """Threads torch has inside blocks, on a pool of dask's."""
    seen = []
    barrier = threading.Barrier(pool_size)

    class Watched(torch.nn.Module):
        def forward(self, image):
            seen.append(torch.get_num_threads())
            barrier.wait(10)
            return image

    network = networks.Network(
        module=Watched(),
        device=torch.device("cpu"),
        dtype=torch.float32,
        compile=False,
        compiled={},
    )

    def block(array):
        (found,) = run(network, [[array]])
        return found

    images = da.zeros((4, 1, 2, 2), chunks=(1, 1, 2, 2), dtype="f4").map_blocks(
        block, dtype="f4", meta=np.empty((0,) * 4, "f4")
    )
    scheduler = "synchronous" if pool_size == 1 else "threads"
    with dask.config.set(scheduler=scheduler, num_workers=pool_size):
        images.compute()
    return seen


def test_threads_of_dask_compute_alone_and_torch_keeps_its_number():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert seen_threads(1) == [3] * 4
        for _ in range(3):
            assert seen_threads(2) == [1] * 4
            assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:  # a thread torch has not seen yet
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)


def test_a_failing_network_gives_its_thread_back():
    network = prepare(CARD, WEIGHTS, Runtime(device="cpu"))
    fine, coarse = tiles(1)
    small = [fine[..., :24, :24], coarse[..., :12, :12]]

    def fail():
        with pytest.raises(ModelError, match="multiples of 16"):
            list(run(network, [small]))
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fail).result() == torch.get_num_threads()


def test_the_steps_of_a_gpu_give_batches_in_order():
    network = prepare(CARD, WEIGHTS, Runtime(device="cpu"))
    batches = [tiles(n) for n in (2, 1, 3, 2, 1)]
    asked = []

    def lazily():
        for number, batch in enumerate(batches):
            asked.append(number)
            yield batch

    results = pipeline.overlapped(network, lazily(), "forward", torch.cpu)
    first = next(results)
    assert asked == [0, 1, 2]
    for found, batch in zip([first, *results], batches, strict=True):
        assert_same(found, answer(batch))


def test_batch_sizes_follow_the_tile():
    on_cpu = Runtime(device="cpu")
    assert runtime.batch_size(generator_card(tile=128), on_cpu) == 16
    assert runtime.batch_size(generator_card(tile=256), on_cpu) == 4
    assert runtime.batch_size(generator_card(tile=1024), on_cpu) == 1
    assert runtime.batch_size(lut_card(), on_cpu) == TABLES
    assert runtime.batch_size(CARD, Runtime(device="cpu", batch_size=3)) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ModelError, match=r"sees no CUDA device.*device='auto'"):
        prepare(CARD, WEIGHTS, Runtime(device="cuda"))
    assert prepare(CARD, WEIGHTS, Runtime()).device.type == "cpu"


def answer_shape(card, batch, call=None):
    return (call or card.forward).answer(card, [array.shape for array in batch])


def test_batches_that_do_not_fit_the_card():
    fine, coarse = tiles(1)
    with pytest.raises(ModelError, match=r"takes \[4, 2\] channels"):
        answer_shape(CARD, [fine, coarse[:, :1]])
    with pytest.raises(ModelError, match=r"takes \[4, 2\] channels"):
        answer_shape(CARD, [fine])
    with pytest.raises(ModelError, match="do not cover one window"):
        answer_shape(CARD, [fine, coarse[..., :-2]])
    with pytest.raises(ModelError, match=r"batch of \(n, 4, 256\)"):
        answer_shape(lut_card(), [np.zeros((1, 4, 128), "f4")])
    image = np.zeros((1, 3, 16, 16), "f4")
    with pytest.raises(ModelError, match=r"batch of \(n, 4, 16, 16\)"):
        answer_shape(lut_card(), [image], LutCard.refine)


def test_cupy_blocks_are_refused_on_a_cpu():
    class OnGpu:
        __cuda_array_interface__ = None

    with pytest.raises(ModelError, match="cupy blocks cannot be run on device='cpu'"):
        run(prepare(CARD, WEIGHTS, Runtime(device="cpu")), [[OnGpu()]])


def test_a_worker_without_torch_names_the_extra():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from xharmonize.errors import MissingDependencyError\n"
        "try:\n    import xharmonize.models.runtime\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'xharmonize[train]'" in done.stdout, done.stderr
    assert issubclass(MissingDependencyError, ImportError)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same():
    card = generator_card("small-conv", width=2, depth=1)
    batch = tiles(2, card)
    networks = [
        prepare(card, seeded(card), Runtime(device="cpu", compile=flag)) for flag in (True, False)
    ]
    found, expected = (next(run(network, [batch])) for network in networks)
    assert_same(found, expected)


@pytest.mark.slow
def test_a_compiled_u_net_gives_the_same():
    batch = tiles(2)
    assert_same(answer(batch, compile=True), answer(batch))


@pytest.mark.slow
def test_without_a_compiler_compilation_says_so(tmp_path):
    script = (
        "import numpy as np\n"
        "from helpers.cards import generator_card\n"
        "from xharmonize.errors import ModelError\n"
        "from xharmonize.models import Runtime\n"
        "from xharmonize.models.runtime import prepare\n"
        "from xharmonize.models.runtime import run\n"
        "from xharmonize.models.architectures import seeded\n"
        "card = generator_card('small-conv', width=1, depth=1)\n"
        "network = prepare(card, seeded(card), Runtime(device='cpu', compile=True))\n"
        "images = [np.zeros((1, 4, 48, 48), 'f4'), np.zeros((1, 2, 24, 24), 'f4')]\n"
        "try:\n    list(run(network, [images]))\n"
        "except ModelError as error:\n    print(error)\n"
    )
    tests = __file__.rpartition("/models/")[0]
    environment = {"CXX": "/nowhere/c++", "PYTHONPATH": tests, "HOME": str(tmp_path), "PATH": ""}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert "needs a C++ compiler" in done.stdout, done.stderr
    assert "compile=False" in done.stdout


@pytest.fixture
def bundle(tmp_path):
    from xharmonize.models.bundle import write_bundle

    runtime.free()
    return write_bundle(tmp_path / "bundle", CARD, WEIGHTS)


def test_a_bundle_is_loaded_once_from_many_threads(bundle):
    batch = tiles(2)
    loads = runtime.CACHE.loads

    def block(_):
        return next(runtime.predict(bundle, CARD, [batch], Runtime(device="cpu")))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(block, range(16)))
    assert runtime.CACHE.loads == loads + 1
    for one in found:
        assert_same(one, answer(batch))
    next(runtime.predict(bundle, CARD, [batch], Runtime(device="cpu", dtype="bfloat16")))
    assert (runtime.CACHE.loads, len(runtime.CACHE)) == (loads + 2, 2)
    runtime.free()
    assert (len(runtime.CACHE), runtime.CACHE.n_bytes) == (0, 0)


def test_a_card_that_differs_is_another_network(bundle):
    other = replace(CARD, output=replace(CARD.output, mean=(0.5,) * 6))
    first, same, second = (
        runtime.load(bundle, card, Runtime(device="cpu")) for card in (CARD, CARD, other)
    )
    assert first is same
    assert first is not second


def test_a_bundle_that_is_gone_is_asked_for_anew(bundle):
    loads = runtime.CACHE.loads
    gone = ModelRef(digest="0" * 64, location="/nowhere", name="gone")
    for _ in range(2):
        with pytest.raises(ModelError):
            next(runtime.predict(gone, CARD, [tiles(1)], Runtime(device="cpu")))
    assert (runtime.CACHE.loads, len(runtime.CACHE)) == (loads, 0)


def test_a_network_that_answers_in_another_shape_is_named(bundle, monkeypatch):
    from xharmonize.models import architectures

    monkeypatch.setattr(architectures, "_REGISTERED", {"mgan-unet": lambda card: OtherShape(card)})
    runtime.free()
    with pytest.raises(ModelError, match=r"gave \(1, 3, 16, 16\).*says \(1, 6, 16, 16\)"):
        next(runtime.predict(bundle, CARD, [tiles(1)], Runtime(device="cpu")))
    runtime.free()


class OtherShape(torch.nn.Module):
    """The U-Net without its last bands."""

    def __new__(cls, card):
        from xharmonize.models.nets.mgan_unet import from_card

        network = from_card(card)
        network.activation = FirstThree()
        return network


class FirstThree(torch.nn.Module):
    def forward(self, image):
        return image[:, :3]


@pytest.mark.gpu
@has_gpu
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_gpu_gives_what_the_cpu_gives(channels_last):
    batches = [tiles(n) for n in (4, 1, 3, 4, 2)]
    network = prepare(CARD, WEIGHTS, Runtime(device="cuda", channels_last=channels_last))
    for found, batch in zip(run(network, batches), batches, strict=True):
        assert_same(found, answer(batch))


@pytest.mark.gpu
@has_gpu
def test_cupy_passes_through_on_its_own_stream():
    cupy = pytest.importorskip("cupy")
    network = prepare(CARD, WEIGHTS, Runtime(device="cuda"))
    batch = tiles(3)
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with stream:
            (found,) = run(network, [[cupy.asarray(array) for array in batch]])
            assert isinstance(found, cupy.ndarray)
            assert_same(cupy.asnumpy(found), answer(batch))


@pytest.mark.gpu
@has_gpu
def test_memory_is_given_back(tmp_path):
    from xharmonize.models.bundle import write_bundle

    runtime.free()
    before = torch.cuda.memory_reserved()
    ref = write_bundle(tmp_path / "bundle", CARD, WEIGHTS)
    list(runtime.predict(ref, CARD, [tiles(4)], Runtime(device="cuda")))
    assert torch.cuda.memory_reserved() > before
    runtime.free()
    assert torch.cuda.memory_reserved() <= before
