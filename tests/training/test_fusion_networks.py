"""Networks of several cubes: they learn, their bundles sharpen and fill, at any chunks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.benchmarks import import_benchmark
from helpers.fusion_cubes import FILL_BANDS, filling_cubes, sharpening_cubes
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize import testing
from xharmonize.errors import FitError, ModelError, OptionError
from xharmonize.training import collect_sources
from xharmonize.training import config as configs
from xharmonize.training.config import Config, Data, Run

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from xharmonize.training import build_store, split  # noqa: E402
from xharmonize.training.cards import Facts  # noqa: E402
from xharmonize.training.job import make_job  # noqa: E402
from xharmonize.training.log import Silent  # noqa: E402
from xharmonize.training.protocol import StepInfo  # noqa: E402
from xharmonize.training.ranks import Alone  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")
RUN = Run(save=100, log=1, tensorboard=False)
SHORT = {"steps": 4, "evaluate": 2, "batch": 4, "patience": 0}
SMALL = {"width": 4, "discriminator_width": 4, "warm_up": 1, "ramp": 2}
SHARPEN = {"esrcnn": {"width": 8, "narrow": 4}, "dstfn": {"width": 4, "growth": 2}}
FILL = ("mccgan", "mtcgan", "dcstfn-os", "rdcstfn-os", "cyclegan", "s-cyclegan", "pix2pix")
SHARPEN_DATA = Data(patch=12, stride=3, min_valid=0.5, split="date")
FILL_DATA = Data(patch=16, stride=8)


@pytest.fixture(scope="module")
def filling():
    return filling_cubes()


@pytest.fixture(scope="module")
def sharpening():
    return sharpening_cubes()


@pytest.fixture(scope="module")
def fill_pairs(filling):
    roles = ("reference", "sentinel1", "sentinel1_reference")
    return collect_sources(filling["clear"], **{role: filling[role] for role in roles})


@pytest.fixture(scope="module")
def sharpen_pairs(sharpening):
    return collect_sources(sharpening["cube"], degrade=3, fine=sharpening["fine"])


@pytest.fixture(scope="module")
def fill_store(fill_pairs, tmp_path_factory):
    return build_store(fill_pairs, tmp_path_factory.mktemp("fill") / "s", FILL_DATA)


@pytest.fixture(scope="module")
def sharpen_store(sharpen_pairs, tmp_path_factory):
    return build_store(sharpen_pairs, tmp_path_factory.mktemp("sharpen") / "s", SHARPEN_DATA)


FACTS = {}


def loop_of(method, store, data, folder):
    """The loop of a training; what samples tell is found out once per store and sources."""
    config = Config(method=method, data=data, run=RUN)
    view = store.only(config.roles)
    key = (store.path, view.sources)
    if key not in FACTS:
        parts = split(view, data)
        FACTS[key] = parts, Facts.of(view, parts.training, name="model")
    parts, facts = FACTS[key]
    job = make_job(config, parts, facts, checkpoints=folder)
    return job.loop(Silent(), device="cpu"), parts


def run_steps(loop, numbers, n):
    told = []
    batch = loop.feed.batch(numbers, clip=True)
    for step in range(n):
        found = {}
        info = StepInfo(step=step, epoch=0, seed=0, ranks=Alone())
        for name, loss, parts in loop.method.losses(batch, info):
            loop._improve(loop.method.optimizers[name], loss)
            found |= {name: loss.item()} | parts
        told.append(found)
    return told


def method_of(name, **changes):
    kind = configs.NETWORKS[name]
    small = SHARPEN.get(name, SMALL)
    if name in ("mtcgan", "cyclegan", "s-cyclegan"):
        small = small | {"blocks": 1}
    return kind(**small | changes)


@pytest.mark.parametrize("name", first_quick(SHARPEN))
def test_sharpening_starts_at_the_cube_and_learns(name, sharpen_store, tmp_path):
    method = method_of(name, learning_rate=5e-3)
    loop, parts = loop_of(method, sharpen_store, SHARPEN_DATA, tmp_path)
    numbers = parts.training[:8]
    batch = loop.feed.batch(numbers, clip=True)
    (coarse,) = (image for image in batch.inputs if image.shape[2] == 4)
    cubic = torch.nn.functional.interpolate(coarse, size=(12, 12), mode="bicubic")
    line = [np.array(getattr(loop.feed.card.inputs[0], part)) for part in ("mean", "scale")]
    output = [np.array(getattr(loop.feed.card.output, part)) for part in ("mean", "scale")]
    expected = cubic.numpy() * line[1][:, None, None] + line[0][:, None, None]
    found = loop.method.predict(batch).numpy() * output[1][:, None, None] + output[0][:, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    told = run_steps(loop, numbers, 40)
    assert told[-1]["generator"] < 0.7 * told[0]["generator"]


def test_the_adaptive_loss_is_the_papers(sharpen_store, tmp_path):
    loop, parts = loop_of(method_of("dstfn"), sharpen_store, SHARPEN_DATA, tmp_path)
    (told,) = run_steps(loop, parts.training[:4], 1)
    terms = np.array([told[name] for name in ("l1", "frobenius", "degradation")])
    assert (terms > 0).all()
    assert told["generator"] == pytest.approx((terms**2).sum() / terms.sum(), rel=1e-5)


def test_an_estimate_that_averages_to_the_cube_has_no_degradation(sharpen_store, tmp_path):
    loop, parts = loop_of(method_of("dstfn"), sharpen_store, SHARPEN_DATA, tmp_path)
    batch = loop.feed.batch(parts.training[:4], clip=False)
    info = StepInfo(step=0, epoch=0, seed=0, ranks=Alone())
    truth = loop.method._degradation(batch.target, batch, batch.valid, info)
    other = loop.method._degradation(batch.target + 0.1, batch, batch.valid, info)
    assert float(truth) < 1e-9
    assert float(other) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILL)
def test_methods_of_filling_learn(name, fill_store, tmp_path):
    data = Data(patch=16, stride=8, sources=("sentinel1",)) if name == "pix2pix" else FILL_DATA
    method = method_of(name, learning_rate=2e-3)
    loop, parts = loop_of(method, fill_store, data, tmp_path)
    told = run_steps(loop, parts.training[:4], 12)
    assert all(np.isfinite(list(one.values())).all() for one in told)
    watched = "cycle" if "cycle" in name else "l1"
    assert told[-1][watched] < 0.95 * told[1][watched]
    n_inputs = {"cyclegan": 1, "s-cyclegan": 1, "pix2pix": 1}.get(name, 3)
    assert len(loop.feed.card.inputs) == n_inputs


@pytest.mark.slow
def test_no_loss_of_cyclegan_knows_which_target_goes_with_which_input(fill_store, tmp_path):
    from dataclasses import replace

    loop, parts = loop_of(method_of("cyclegan"), fill_store, FILL_DATA, tmp_path)
    batch = loop.feed.batch(parts.training[:4], clip=True)
    batch = replace(batch, valid=torch.ones_like(batch.valid))
    mixed = replace(batch, target=batch.target.roll(1, 0))
    info = StepInfo(step=5, epoch=0, seed=0, ranks=Alone())
    method = replace(loop.method.config, augmentation=())
    loop.method.config = method
    one, other = (
        [loss.item() for _, loss, _ in loop.method.losses(each, info)] for each in (batch, mixed)
    )
    assert one == pytest.approx(other, rel=1e-4)


def train(method, data, pairs, out):
    return xh.train(
        method, pairs, config=Config(method=method, data=data, run=RUN), out=out, progress=False
    )


@pytest.mark.slow
def test_a_bundle_trained_on_degraded_pixels_sharpens_the_original_ones(
    sharpening, sharpen_pairs, tmp_path
):
    method = method_of("esrcnn", **SHORT | {"steps": 60, "evaluate": 20, "learning_rate": 3e-3})
    training = train(method, SHARPEN_DATA, sharpen_pairs, tmp_path / "model")
    assert {"esrcnn", "cube as it is"} <= set(training.scores.index.get_level_values(0))
    model = xh.load_model(tmp_path / "model")
    assert [one.gsd for one in model.card.inputs] == [30.0, 10.0]
    assert (model.card.lattice.resolution, model.card.lattice.phase) == (10.0, (15.0, 15.0))
    cube, fine = sharpening["cube"], sharpening["fine"]
    found = model(cube, fine=fine)
    truth = xh.regrid(sharpening["truth"], like=found, min_valid=0.9)
    inner = {"y": slice(12, -12), "x": slice(12, -12)}
    held = xh.regrid(cube, like=found, method="bilinear")
    errors = [
        float(np.sqrt(((one - truth.values) ** 2).isel(inner).mean())) for one in (found, held)
    ]
    assert errors[0] < 0.97 * errors[1]
    with testing.no_compute():
        lazy = model(cube.chunk(time=1, y=7), fine=fine.chunk(time=2, x=31))
    xr.testing.assert_allclose(lazy.compute(), found, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_a_bundle_of_two_dates_fills(filling, fill_pairs, tmp_path):
    method = method_of("dcstfn-os", **SHORT)
    training = train(method, FILL_DATA, fill_pairs, tmp_path / "model")
    scores = training.scores
    assert {"dcstfn-os", "reference as it is"} <= set(scores.index.get_level_values(0))
    model = xh.load_model(tmp_path / "model")
    assert model.sources == ("cube", "reference", "sentinel1", "sentinel1_reference")
    assert set(model.card.source_domains) == set(model.sources[1:])
    others = {role: filling[role] for role in model.sources[1:]}
    cloudy = filling["clear"].where(False)
    found = model(cloudy, **others)
    assert found["band"].values.tolist() == list(FILL_BANDS)
    error = float(np.sqrt(((found - filling["clear"]) ** 2).mean()))
    assert error < 0.1
    with testing.no_compute():
        lazy = model(
            cloudy.chunk(time=1, y=17),
            **{role: one.chunk(time=2, x=13) for role, one in others.items()},
        )
    xr.testing.assert_allclose(lazy.compute(), found, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_networks_that_do_not_suit_the_sources(fill_store, sharpen_store, tmp_path):
    with pytest.raises(FitError, match="nothing for 'esrcnn' to sharpen"):
        loop_of(method_of("esrcnn"), fill_store.only(["reference"]), FILL_DATA, tmp_path)
    with pytest.raises(FitError, match="no source 'reference'"):
        loop_of(method_of("mccgan"), sharpen_store, SHARPEN_DATA, tmp_path)
    data = Data(patch=16, stride=8, sources=("reference", "sentinel1"))
    with pytest.raises(ModelError, match="one source at both dates"):
        loop_of(method_of("dcstfn-os"), fill_store, data, tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (configs.MtcGan, {"depth": 3}),
        (configs.DcstfnOs, {"dropout": 0.5}),
        (configs.CycleGan, {"l1_weight": 100.0}),
        (configs.CycleGan, {"base": "line"}),
        (configs.SCycleGan, {"conditional": True}),
    ],
)
def test_options_that_would_be_ignored_are_refused(kind, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        kind(**options)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(import_benchmark("training_speed").fusion_cases()))
def test_one_step_at_the_printed_size(name):
    """A finite loss, and weights that move: a last layer that starts at zero moves alone."""
    speed = import_benchmark("training_speed")
    case = speed.fusion_cases()[name]
    method = speed.make_method(case, torch.device("cpu"))
    before = {k: v.clone() for k, v in method.networks["generator"].named_parameters()}
    batch = speed.make_batch(case, speed.make_card(case), torch.device("cpu"))
    speed.run_step(method, batch)
    after = dict(method.networks["generator"].named_parameters())
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert sum(not torch.equal(before[key], value) for key, value in after.items()) > 1
