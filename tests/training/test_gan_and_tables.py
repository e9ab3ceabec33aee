"""GAN and table methods: where they start, what they learn, what stays out, and their bundles."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from helpers.cards import generator_card, lut_card, source
from helpers.generators import sentinel
from helpers.marks import first_quick
from helpers.ranks import Threads

import xharmonize as xh
from xharmonize import testing
from xharmonize.errors import ModelError, OptionError
from xharmonize.models.bundle import write_bundle

torch = pytest.importorskip("torch")

from xharmonize.models.nets.draws import keys_of, uniform  # noqa: E402
from xharmonize.training import config as configs  # noqa: E402
from xharmonize.training.methods import gan, start, tables  # noqa: E402
from xharmonize.training.protocol import Batch, Line, Setup, StepInfo  # noqa: E402
from xharmonize.training.ranks import Alone  # noqa: E402

RANDOM = np.random.default_rng(0)
SMALL = {"width": 4, "discriminator_width": 4, "warm_up": 0, "ramp": 0, "learning_rate": 2e-3}
GANS = [configs.Mgan, configs.Pix2pix, configs.HlsGan]
TABLES = [configs.GlobalLut, configs.GlobalLutConv, configs.TileLut, configs.TileLutConv]
BANDS = ("blue", "green")


def gan_card(config, *, tile=16, ratio=1):
    """Two bands at the target's pixel size, or finer; units that differ from reflectance."""
    inputs = (source("one", BANDS, 30.0 / ratio),)
    options = gan.hyperparameters(config, tile) | {"max_factor": 2}
    name = "mgan-unet" if config.name == "mgan" else "pix2pix"
    card = generator_card(name, inputs=inputs, bands=BANDS, tile=tile, **options)
    inputs = (replace(inputs[0], mean=(0.1, 0.2), scale=(0.5, 0.4)),)
    output = replace(card.output, mean=(0.2, 0.1), scale=(0.25, 0.5))
    return replace(card, inputs=inputs, output=output)


def table_card(config):
    card = replace(lut_card(32, **tables.hyperparameters(config)))
    parts = replace(card.histograms, bands=BANDS, low=(0.0,) * 2, high=(0.4, 0.6))
    output = replace(card.output, bands=BANDS, mean=(0.2, 0.1), scale=(0.25, 0.5))
    name = tables.architecture(config)
    return replace(card, architecture=name, histograms=parts, output=output)


MIXING = Line(
    source_bands=BANDS,
    bands=BANDS,
    matrix=np.array([[0.9, 0.1], [-0.2, 1.1]]),
    offset=np.array([0.01, -0.02]),
)
PER_BAND = replace(MIXING, matrix=np.diag([0.9, 1.1]))


def make(config, card=None, ranks=None, **facts):
    module = gan if isinstance(config, configs.Gan) else tables
    if card is None:
        card = gan_card(config) if module is gan else table_card(config)
    facts = {"line": MIXING, "band_lines": PER_BAND} | facts
    setup = Setup(
        config=config,
        card=card,
        seed=config.seed,
        device=torch.device("cpu"),
        ranks=ranks or Alone(),
        **facts,
    )
    return module.make(setup)


def reflectance(n, side, seed=0):
    """Smooth random images of two bands, between 0 and 0.4."""
    drawn = torch.rand(n, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.4
    return torch.nn.functional.interpolate(drawn, (side, side), mode="bicubic").clamp(0, 0.4)


def make_batch(method, n=4, *, ratio=1, valid=None):
    """Samples of which the target is a curve of the source, one level per date."""
    card = method.card
    side = card.lattice.tile if hasattr(card, "lattice") else 16
    image = reflectance(n, side * ratio)
    mean = torch.nn.functional.avg_pool2d(image, ratio)
    date = torch.arange(n) % 2
    target = 0.05 + mean + 1.5 * mean**2 + 0.02 * date[:, None, None, None]
    units = [torch.tensor(part)[:, None, None] for part in (card.output.mean, card.output.scale)]
    histograms = None
    if hasattr(card, "histograms"):
        inputs = image
        counts = np.array(
            [
                [np.histogram(band, card.histograms.bins, (0, high))[0] for band, high in rows]
                for rows in (zip(one.numpy(), card.histograms.high) for one in image)
            ]
        )
        histograms = torch.from_numpy((counts / counts.sum(2, keepdims=True)).astype("f4"))
    else:
        (one,) = card.inputs
        own = [torch.tensor(part)[:, None, None] for part in (one.mean, one.scale)]
        inputs = (image - own[0]) / own[1]
    return Batch(
        inputs=(inputs,),
        target=(target - units[0]) / units[1],
        valid=torch.ones_like(target, dtype=torch.bool) if valid is None else valid,
        index=torch.arange(n) + 10,
        date=date,
        histograms=histograms,
    )


def part_of(batch, part):
    fields = {name: getattr(batch, name) for name in ("target", "valid", "index", "date")}
    found = {name: values[part] for name, values in fields.items()}
    histograms = None if batch.histograms is None else batch.histograms[part]
    inputs = tuple(one[part] for one in batch.inputs)
    return Batch(inputs=inputs, histograms=histograms, **found)


def step_at(step, ranks=None):
    return StepInfo(step=step, epoch=0, seed=0, ranks=ranks or Alone())


def run_step(method, batch, step):
    """What the loop does with one batch."""
    told = {}
    for name, loss, parts in method.losses(batch, step):
        optimizer = method.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        loss.backward(inputs=parameters)
        step.ranks.mean_gradients(parameters)
        optimizer.step()
        optimizer.zero_grad()
        told |= {name: loss.item()} | parts
    return told


def line_error(method, batch, matrix):
    """Of the line alone, in the output's units."""
    card = method.card
    if hasattr(card, "inputs"):
        mean, scale = (np.array(part) for part in (card.inputs[0].mean, card.inputs[0].scale))
        source = batch.inputs[0].numpy() * scale[:, None, None] + mean[:, None, None]
    else:
        source = batch.inputs[0].numpy()
    line = np.einsum("oc,ncyx->noyx", matrix, source) + MIXING.offset[:, None, None]
    mean, scale = (np.array(part)[:, None, None] for part in (card.output.mean, card.output.scale))
    return (line - mean) / scale


@pytest.mark.parametrize("kind", GANS + TABLES, ids=lambda kind: kind.name)
def test_the_recipe_starts_exactly_at_the_line(kind):
    method = make(kind() if kind in TABLES else kind(**SMALL))
    batch = make_batch(method)
    matrix = MIXING.matrix if kind in GANS else PER_BAND.matrix
    expected = line_error(method, batch, matrix)
    atol = 2e-6
    np.testing.assert_allclose(method.predict(batch), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", GANS + TABLES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("is_printed", first_quick([False, True]), ids=["recipe", "printed"])
def test_a_few_samples_are_learnt(kind, is_printed):
    small = SMALL | {"dropout": 0.0} if kind in GANS else {"learning_rate": 1e-2}
    small = small | {"date_weight": 1.0}
    method = make(kind.printed(**small) if is_printed else kind(**small))
    batch = make_batch(method)
    told = [run_step(method, batch, step_at(step)) for step in range(30)]
    assert all(np.isfinite(list(one.values())).all() for one in told)
    assert told[-1]["generator"] < 0.8 * told[0]["generator"]


@pytest.mark.parametrize("kind", [configs.Mgan, configs.HlsGan, configs.TileLutConv])
def test_training_again_gives_the_same_weights(kind):
    def train():
        method = make(kind(**SMALL) if kind in GANS else kind())
        batch = make_batch(method)
        for step in range(3):
            run_step(method, batch, step_at(step))
        return method.networks["generator"].state_dict()

    first, second = train(), train()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", [*GANS, configs.TileLut, configs.TileLutConv])
def test_what_is_not_valid_changes_nothing(kind):
    method = make(kind(**SMALL) if kind in GANS else kind())
    batch = make_batch(method)
    valid = uniform(batch.index, batch.target.shape[1:]) < 0.6
    batch = replace(batch, valid=valid)
    # A discriminator sees what was filled in, beside a prediction that shows the same there.
    names = ["generator"] if kind in TABLES else []
    for strange in (0.0, 5.0):
        other = replace(batch, target=torch.where(valid, batch.target, strange))
        found = {name: loss.item() for name, loss, _ in method.losses(other, step_at(0))}
        for name in names:
            assert found[name] == pytest.approx(
                {n: v.item() for n, v, _ in method.losses(batch, step_at(0))}[name]
            )
    *_, (_, loss, _) = method.losses(batch, step_at(0))
    gradients = torch.autograd.grad(
        loss, list(method.networks["generator"].parameters()), allow_unused=True
    )
    assert all(one is None or one.isfinite().all() for one in gradients)


def test_the_adversary_is_warmed_up_and_does_not_show_what_is_invalid():
    config = configs.Mgan(**SMALL | {"warm_up": 10, "ramp": 5})
    method = make(config)
    weights = [method.adversary_weight(step) for step in (0, 8, 9, 10, 11, 14, 100)]
    assert weights == [0, 0, 0, 0.2, 0.4, 1, 1]
    batch = make_batch(method)
    assert [name for name, *_ in method.losses(batch, step_at(0))] == ["generator"]
    names = [name for name, *_ in method.losses(batch, step_at(50))]
    assert names == ["discriminator", "generator"]
    nothing = replace(batch, valid=batch.valid & False)
    told = {name: parts for name, _, parts in method.losses(nothing, step_at(50))}
    assert told["discriminator"]["real"] == pytest.approx(told["discriminator"]["fake"], abs=1e-6)
    assert make(configs.Mgan(**SMALL, adversary="none")).optimizers.keys() == {"generator"}


def exact(method):
    """In float64 and with plain steps: Adam's first ones take rounding for a direction."""
    for network in method.networks.values():
        network.double()
    for name, optimizer in method.optimizers.items():
        method.optimizers[name] = torch.optim.SGD(optimizer.param_groups[0]["params"], 1e-3)
    return method


@pytest.mark.parametrize(
    "config",
    [
        configs.Mgan(**SMALL | {"dropout": 0.5}),
        configs.TileLutConv(),
        configs.Pix2pix.printed(**SMALL),
    ],
    ids=lambda config: config.name,
)
def test_two_ranks_train_as_one(config):
    """Union of batches: same losses, same weights, whichever samples lie where."""
    whole = exact(make(config))
    batch = make_batch(whole, 4)
    doubles = {name: getattr(batch, name) for name in ("target", "histograms")}
    doubles = {
        name: None if values is None else values.double() for name, values in doubles.items()
    }
    batch = replace(batch, inputs=(batch.inputs[0].double(),), **doubles)
    batch.valid[0] = False  # not as many valid pixels on each rank
    told = [run_step(whole, batch, step_at(step)) for step in range(3)]
    parts = [torch.tensor([0, 3]), torch.tensor([1, 2])]
    # Made once there are ranks to be normalised over, but not at once: torch's generator is shared.
    barrier, exchange = threading.Barrier(2, timeout=60), [None] * 2
    ranks = [Threads(rank, 2, barrier, exchange) for rank in range(2)]
    methods = [exact(make(config, ranks=one)) for one in ranks]

    def work(one):
        own = part_of(batch, parts[one.rank])
        return [run_step(methods[one.rank], own, step_at(step, one)) for step in range(3)]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(work, ranks))
    for step, one in enumerate(told):
        for name in {"generator", "discriminator"} & one.keys():
            mean = np.mean([found[step][name] for found in results])
            assert mean == pytest.approx(one[name], rel=1e-7)
    expected = whole.networks["generator"].state_dict()
    for method in methods:
        weights = method.networks["generator"].state_dict()
        assert weights.keys() == expected.keys()
        for name, values in weights.items():
            torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-9, msg=name)


def test_hls_gan_is_given_noise_of_the_sample_and_predicts_without():
    method = make(configs.HlsGan.printed(**SMALL))
    batch = make_batch(method)
    generator = method.networks["generator"].eval()
    seen = []
    generator.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    method._generate(batch, step_at(3))
    method._generate(part_of(batch, [2]), step_at(3))
    method.predict(batch)
    assert torch.equal(seen[0]["noise"][[2]], seen[1]["noise"])
    assert seen[0]["noise"].std().item() == pytest.approx(1, abs=0.1)
    assert seen[2] == {}


def test_mgan_takes_pairs_of_one_pixel_size_and_of_several():
    for ratio in (1, 3):
        config = configs.Mgan(**SMALL)
        method = make(config, gan_card(config, ratio=ratio))
        batch = make_batch(method, 2, ratio=ratio)
        assert method.predict(batch).shape == batch.target.shape
        assert np.isfinite(run_step(method, batch, step_at(0))["generator"])


def test_depth_is_what_patches_allow():
    assert gan.hyperparameters(configs.Mgan(), 128)["depth"] == 7
    assert gan.hyperparameters(configs.Mgan(), 256)["depth"] == 7
    assert gan.hyperparameters(configs.Pix2pix(), 256)["depth"] == 8
    assert gan.hyperparameters(configs.Mgan(), 48)["depth"] == 4
    assert gan.hyperparameters(configs.Mgan(depth=3), 48)["depth"] == 3
    with pytest.raises(ModelError, match="patches of 30 target pixels cannot be halved 2 times"):
        gan.hyperparameters(configs.Mgan(), 30)


def test_settings_as_printed_are_those_of_the_papers():
    mgan = configs.Mgan.printed()
    assert (mgan.width, mgan.batch, mgan.learning_rate, mgan.base) == (64, 16, 1e-4, "none")
    assert (mgan.l1_weight, mgan.adversary, mgan.spectral) == (100, "relativistic", True)
    assert configs.HlsGan.printed().steps == 45_000
    tile = configs.TileLutConv.printed()
    assert (tile.batch, tile.learning_rate, tile.weight_decay) == (4, 1e-3, 1e-4)
    assert (tile.smooth, tile.monotone, tile.refine_activation) == (0.01, 0.01, "relu")
    assert configs.TileLut.printed().refine is False
    assert configs.Mgan.printed(width=8).width == 8
    assert (mgan.epochs, tile.epochs, configs.HlsGan.printed().epochs) == (100, 200, 0)
    assert configs.Pix2pix.printed().epochs == 200
    with pytest.raises(OptionError, match="small-conv is in no paper"):
        configs.SmallConv.printed()


def test_epochs_are_steps_for_as_many_samples_as_there_are():
    mgan = configs.Mgan.printed()
    assert mgan.for_samples(1000).steps == 100 * 1000 / 16 == 6250
    assert mgan.for_samples(1).steps == 7  # the last batch is whole
    assert mgan.for_samples(1000).epochs == 100
    assert configs.Mgan.printed(steps=30).for_samples(1000).steps == 30  # what is given decides
    assert configs.SmallConv(steps=30).for_samples(1000).steps == 30
    assert configs.SmallConv(steps=30, epochs=2).for_samples(80).steps == 20


def test_a_convolution_that_could_never_learn_is_refused():
    with pytest.raises(OptionError, match="never learns"):
        configs.TileLutConv(refine_activation="relu")
    assert configs.TileLutConv(refine_activation="relu", refine_scale=0.1)


@pytest.mark.parametrize("kind", [configs.Mgan, configs.HlsGan])
def test_bundles_of_generators_map_lazily_and_in_any_chunks(kind, tmp_path, no_compute):
    config = kind(**SMALL)
    inputs = (source("one", ("blue", "green"), 10.0),)
    options = gan.hyperparameters(config, 16) | {"max_factor": 2}
    name = "mgan-unet" if kind is configs.Mgan else "pix2pix"
    card = generator_card(name, inputs=inputs, bands=BANDS, tile=16, **options)
    method = make(config, card)
    run_step(method, make_batch(method, 2, ratio=3), step_at(0))
    model = written(method, card, tmp_path)
    cube = sentinel(shape=(96, 120), dates=2)
    whole = cube.harmonize.to_landsat(model)
    with no_compute():
        lazy = cube.chunk(time=1, y=41, x=60).harmonize.to_landsat(model)
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=0, atol=1e-5)
    assert np.isfinite(whole).any()


@pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")  # of cut-off tiles
@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.name)
def test_bundles_of_tables_map_lazily_and_in_any_chunks(kind, tmp_path, no_compute):
    method = make(kind())
    batch = make_batch(method)
    run_step(method, batch, step_at(0))
    model = written(method, method.card, tmp_path)
    cube = testing.example_cube(shape=(70, 90), bands=("blue", "green", "red"))
    whole = model(cube)
    with no_compute():
        lazy = model(cube.chunk(time=1, y=31, x=40))
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=0, atol=1e-5)
    assert list(whole.band.values) == list(BANDS)


def written(method, card, folder):
    """The model that a bundle of the generator opens as."""
    weights = {
        name: values.numpy() for name, values in method.networks["generator"].state_dict().items()
    }
    write_bundle(folder / "bundle", card, weights)
    return xh.load_model(folder / "bundle")


def test_the_line_of_tables_is_the_line_of_reflectance():
    card = table_card(configs.TileLut())
    rise, begin = start.line_of_tables(PER_BAND, card).T
    x = np.array([0.13, 0.37])
    low, high = np.array(card.histograms.low), np.array(card.histograms.high)
    units = rise * (x - low) / (high - low) + begin
    found = units * np.array(card.output.scale) + np.array(card.output.mean)
    np.testing.assert_allclose(found, np.diag(PER_BAND.matrix) * x + PER_BAND.offset)


def test_keys_of_steps_differ():
    index = torch.arange(5)
    assert not torch.equal(keys_of(index, 0, 1, 0), keys_of(index, 0, 2, 0))
