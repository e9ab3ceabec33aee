"""Networks and the registry: sizes, shapes, and what is refused before memory is taken."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.cards import OLI, generator_card, lut_card, output, source

from xharmonize.errors import ModelError, UnknownModelError
from xharmonize.models import architectures as registry
from xharmonize.models.architectures import architectures, build, build_empty, seeded

torch = pytest.importorskip("torch")

from xharmonize.kernels import lut  # noqa: E402
from xharmonize.models.nets import draws, layers, patchgan, unet_lut  # noqa: E402

TINY = {"width": 4, "depth": 4, "max_factor": 2}
RANDOM = np.random.default_rng(0)


def images(card, n=1, tile=None):
    """Random inputs for a tile of the card."""
    shapes = [
        (n, len(one.bands), *[int((tile or card.lattice.tile) * card.lattice.cells(one.gsd))] * 2)
        for one in card.inputs
    ]
    return [torch.from_numpy(RANDOM.standard_normal(shape, np.float32)) for shape in shapes]


def answer(card, tensors, weights=None, method="forward"):
    network = build(card, seeded(card) if weights is None else weights)
    with torch.inference_mode():
        return getattr(network, method)(*tensors).numpy()


def n_parameters(card):
    return sum(parameter.numel() for parameter in build_empty(card).parameters())


def test_the_u_net_has_the_size_of_pix2pix():
    assert n_parameters(generator_card(tile=128)) == 41_835_392


@pytest.mark.parametrize(
    ("bands", "depth", "millions"), [(OLI[:3], 8, 54.4), (OLI, 7, 41.8)], ids=["256", "128"]
)
def test_pix2pix_has_the_sizes_of_the_reference_implementation(bands, depth, millions):
    inputs = (source("30m", bands, 30.0),)
    card = generator_card("pix2pix", inputs=inputs, bands=bands, tile=256, depth=depth)
    assert round(n_parameters(card) / 1e6, 1) == millions


def test_unet_lut_has_the_size_of_the_paper():
    assert n_parameters(lut_card()) == 171_448
    assert n_parameters(lut_card(base="line", refine_activation="identity")) == 171_448
    assert n_parameters(lut_card(refine=False)) == 171_448 - 4 * 4 * 9 - 4 - 8


@pytest.mark.parametrize(
    ("resolution", "gsds", "tile"),
    [(30.0, (10.0, 20.0), 16), (30.0, (30.0,), 16), (10.0, (30.0,), 48), (10.0, (30.0, 15.0), 48)],
)
@pytest.mark.parametrize("architecture", ["mgan-unet", "pix2pix", "small-conv"])
def test_any_ratio_of_pixel_sizes_lands_on_the_target(architecture, resolution, gsds, tile):
    inputs = tuple(source(f"{gsd:g}m", ("blue", f"b{gsd:g}"), gsd) for gsd in gsds)
    sizes = {"width": 4} if architecture == "small-conv" else TINY
    card = generator_card(architecture, inputs=inputs, tile=tile, resolution=resolution, **sizes)
    assert answer(card, images(card, 2)).shape == (2, 6, tile, tile)


def test_a_larger_tile_works_and_another_side_is_refused():
    card = generator_card(**TINY)
    assert answer(card, images(card, tile=32)).shape == (1, 6, 32, 32)
    with pytest.raises(ModelError, match=r"multiples of 16 target pixels, not 24 x 24"):
        answer(card, images(card, tile=24))


def test_stems_keep_a_flat_field_flat():
    card = generator_card(**TINY)
    network = build(card, seeded(card))
    for stem, tensor in zip(network.stems, images(card)):
        inner = stem(torch.ones_like(tensor))[..., 1:-1, 1:-1].detach().numpy()
        assert np.ptp(inner, axis=(2, 3)).max() < 1e-6


def test_the_stem_of_20_m_bands_can_be_the_area_mean():
    card = generator_card(**TINY)
    weights = seeded(card)
    kernel = weights["stems.1.convolution.weight"]
    kernel[:] = 0
    for band in range(2):
        kernel[band, band, 1:4, 1:4] = 1 / 9
    image = images(card)[1]
    found = build(card, weights).stems[1](image).detach().numpy()
    fine = image.numpy().repeat(2, 2).repeat(2, 3)
    mean = fine.reshape(1, 2, 16, 3, 16, 3).mean((3, 5))
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_small_conv_of_zero_is_the_area_mean_in_reflectance():
    card = generator_card("small-conv")
    inputs = tuple(
        replace(one, mean=(0.1,) * len(one.bands), scale=(0.5,) * len(one.bands))
        for one in card.inputs
    )
    wanted = replace(card.output, mean=(0.2,) * 6, scale=(2.0,) * 6)
    card = replace(card, inputs=inputs, output=wanted)
    weights = {name: np.zeros_like(array) for name, array in seeded(card).items()}
    fine, coarse = images(card)
    found = answer(card, [(fine - 0.1) / 0.5, (coarse - 0.1) / 0.5], weights) * 2.0 + 0.2
    coarse = coarse.numpy().repeat(2, 2).repeat(2, 3)
    both = np.concatenate([fine.numpy(), coarse], 1)
    np.testing.assert_allclose(found, both.reshape(1, 6, 16, 3, 16, 3).mean((3, 5)), atol=1e-6)


def on_a_line(architecture, **options):
    """A card whose units differ per band, and weights of zero but for a line of all bands."""
    card = generator_card(architecture, base="line", **options)
    weights = {name: np.zeros_like(array) for name, array in seeded(card).items()}
    weights["line.matrix"][:] = RANDOM.normal(size=(6, 6))
    weights["line.offset"][:] = RANDOM.normal(size=6)
    return card, weights


@pytest.mark.parametrize(
    ("architecture", "options"), [("mgan-unet", TINY), ("pix2pix", TINY), ("small-conv", {})]
)
def test_a_network_that_answers_zero_is_exactly_its_line(architecture, options):
    card, weights = on_a_line(architecture, **options)
    fine, coarse = (tensor * 3 for tensor in images(card, 2))
    held = coarse.numpy().repeat(2, 2).repeat(2, 3)
    both = np.concatenate([fine.numpy(), held], 1).astype(np.float64)
    means = both.reshape(2, 6, 16, 3, 16, 3).mean((3, 5))
    expected = np.einsum("oc,ncyx->noyx", weights["line.matrix"], means)
    expected += weights["line.offset"][:, None, None]
    found = answer(card, [fine, coarse], weights)
    assert np.abs(expected).max() > 3  # beyond what tanh could give
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_line_is_not_rounded_to_bfloat16_and_not_trained():
    card, weights = on_a_line("small-conv")
    network, inputs = build(card, weights), images(card)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(*inputs)
    torch.testing.assert_close(half, network(*inputs), rtol=0, atol=0)
    assert not any(name.startswith("line") for name, _ in network.named_parameters())


def test_noise_is_an_input_of_training_and_zero_when_applied():
    inputs = (source("30m", ("green",), 30.0),)
    card = generator_card("pix2pix", inputs=inputs, bands=("green",), noise=2, **TINY)
    network, tensors = build(card, seeded(card)), images(card)
    noise = torch.ones(1, 2, 16, 16)
    with torch.inference_mode():
        still = network(*tensors)
        assert torch.equal(still, network(*tensors, noise=noise * 0))
        assert not torch.equal(still, network(*tensors, noise=noise))


def test_dropout_is_a_function_of_the_sample():
    card = generator_card(**TINY)
    network, inputs = build(card, seeded(card)).train(), images(card, 3)
    keys = draws.keys_of(torch.arange(3), 1)

    def run(part):
        draws.set_keys(network, keys[part])
        return network(*(tensor[part] for tensor in inputs)).detach()

    whole = run([0, 1, 2])
    torch.testing.assert_close(run([2, 0]), whole[[2, 0]], rtol=0, atol=1e-6)
    draws.set_keys(network, keys + 1)
    assert not torch.allclose(network(*inputs), whole)
    draws.set_keys(network, None)
    assert not torch.equal(network(*inputs), network(*inputs))


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout = draws.SampleDropout(0.3)
    draws.set_keys(dropout, draws.keys_of(torch.arange(50)))
    found = dropout(torch.ones(50, 40, 40))
    assert (found == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert found.mean().item() == pytest.approx(1, abs=0.01)


def test_small_conv_starts_at_nothing_for_a_band_no_input_has():
    card = generator_card("small-conv", bands=("blue", "coastal"))
    weights = {name: np.zeros_like(array) for name, array in seeded(card).items()}
    found = answer(card, images(card), weights)
    assert found[:, 0].any()
    assert not found[:, 1].any()


def test_small_conv_sees_seven_target_pixels():
    card = generator_card("small-conv", tile=32)
    inputs = images(card)
    before = answer(card, inputs)
    inputs[0][..., 16 * 3 : 17 * 3, 16 * 3 : 17 * 3] += 1
    changed = np.nonzero((answer(card, inputs) != before).any((0, 1)))
    assert [(axis.min(), axis.max()) for axis in changed] == [(13, 19), (13, 19)]


def test_tables_and_their_refinement():
    card = lut_card()
    histograms = RANDOM.dirichlet(np.ones(256), (3, 4)).astype(np.float32)
    assert answer(card, [torch.from_numpy(histograms)]).shape == (3, 4, 256)
    image = torch.from_numpy(RANDOM.random((2, 4, 20, 21), np.float32))
    assert (answer(card, [image], method="refine") >= image.numpy()).all()
    with pytest.raises(ModelError, match="no convolution"):
        answer(lut_card(refine=False), [image], method="refine")


def test_a_residual_table_of_zero_is_the_identity():
    card = lut_card(base="ramp")
    weights = {name: np.zeros_like(array) for name, array in seeded(card).items()}
    found = answer(card, [torch.zeros(1, 4, 256)], weights)
    np.testing.assert_allclose(found[0], np.tile(np.linspace(0, 1, 256), (4, 1)), atol=1e-6)


@pytest.mark.parametrize("architecture", ["unet-lut", "global-lut"])
def test_tables_of_zero_are_their_line(architecture):
    card = replace(lut_card(base="line", refine=False), architecture=architecture)
    weights = {name: np.zeros_like(array) for name, array in seeded(card).items()}
    weights["line"][:] = [[0.3, 0.01], [0.3, 0.0], [0.4, -0.02], [0.6, 0.0]]
    found = answer(card, [torch.zeros(2, 4, 256)], weights)[1]
    ramp = np.linspace(0, 1, 256)
    np.testing.assert_allclose(found, [a * ramp + b for a, b in weights["line"]], atol=1e-6)


def test_looking_up_in_training_is_what_the_kernel_does_when_applied():
    tables = RANDOM.normal(size=(2, 4, 33)).astype(np.float32)
    image = RANDOM.uniform(-0.2, 1.2, (2, 4, 9, 7)).astype(np.float32)
    found = unet_lut.look_up(*map(torch.from_numpy, (tables, image))).numpy()
    limits = np.zeros(4), np.ones(4)
    tile = np.zeros(9, np.int64), np.zeros(7, np.int64)
    expected = lut.apply_tables(image, tables[:, None, None], *limits, *tile)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_refinement_that_starts_at_zero_learns_only_without_relu():
    gradients = {}
    for activation in ("relu", "identity"):
        card = lut_card(refine_activation=activation)
        weights = seeded(card)
        weights["convolution.1.weight"][:] = 0
        network = build(card, weights).train()
        image = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        refined = network.refine(image)
        torch.testing.assert_close(refined, image, rtol=0, atol=0)
        (refined - 0.5).square().mean().backward()
        gradients[activation] = network.convolution[1].weight.grad.abs().sum().item()
    assert gradients["relu"] == 0  # for ever
    assert gradients["identity"] > 0


def test_patchgan_sees_70_pixels_and_gives_one_value_per_patch():
    assert patchgan.receptive_field(3) == 70
    assert [patchgan.receptive_field(depth) for depth in (1, 2)] == [16, 34]
    network = patchgan.make_patchgan(6, width=2, norm="none").double().eval()
    image = torch.rand(1, 6, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 1, 14, 14)
    logits[0, 0, 7, 7].backward()
    seen = image.grad[0].abs().sum(0).nonzero()
    assert [int(axis.max() - axis.min()) + 1 for axis in seen.T] == [70, 70]


def test_patchgan_has_the_layers_of_the_papers():
    network = patchgan.PatchGan(6)
    convolutions = [one for one in network.layers if isinstance(one, torch.nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [64, 128, 256, 512, 1]
    assert [one.stride[0] for one in convolutions] == [2, 2, 2, 1, 1]
    norms = [one for one in network.layers if isinstance(one, torch.nn.InstanceNorm2d)]
    assert [one.num_features for one in norms] == [128, 256, 512]
    assert sum(p.numel() for p in patchgan.PatchGan(6, norm="batch").parameters()) == 2_768_705


def test_spectral_normalisation_keeps_kernels_to_one():
    network = patchgan.make_patchgan(6, width=8, seed=3)
    for _ in range(30):
        network(torch.rand(1, 6, 32, 32))
    network.eval()
    for layer in network.layers:
        if isinstance(layer, torch.nn.Conv2d):
            kernel = layer.weight.detach().flatten(1).numpy()
            assert np.linalg.svd(kernel)[1][0] == pytest.approx(1, abs=0.02)


def test_a_seed_means_the_same_discriminator_and_leaves_torch_alone():
    state = torch.random.get_rng_state()
    first, second, other = (patchgan.make_patchgan(2, width=4, seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    image = torch.rand(2, 2, 32, 32)
    assert torch.equal(first(image), second(image))
    assert not torch.allclose(first(image), other(image))


def test_patches_smaller_than_the_discriminator_needs_are_refused():
    network = patchgan.make_patchgan(2, width=4)
    assert network(torch.rand(2, 2, 24, 24)).shape == (2, 1, 1, 1)
    with pytest.raises(ModelError, match=r"depth 3 needs images of 24 pixels a side, not 16 x 40"):
        network(torch.rand(2, 2, 16, 40))
    assert patchgan.make_patchgan(2, width=4, depth=2)(torch.rand(2, 2, 16, 40)).isfinite().all()


def test_networks_predict_without_dropout_and_with_fixed_statistics():
    card = generator_card(**TINY)
    network = build(card, seeded(card))
    assert not any(part.training for part in network.modules())
    inputs = images(card)
    np.testing.assert_array_equal(network(*inputs).detach(), network(*inputs).detach())
    network.train()
    assert not torch.equal(network(*inputs), network(*inputs))


def test_a_seed_means_the_same_weights_and_glorot_bounds():
    card = generator_card(**TINY)
    first, second, other = seeded(card, 1), seeded(card, 1), seeded(card, 2)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["body.down.weight"], other["body.down.weight"])
    kernel = first["body.down.weight"]
    bound = np.sqrt(6 / ((kernel.shape[0] + kernel.shape[1]) * 16))
    assert 0.9 * bound < np.abs(kernel).max() <= bound
    assert not first["body.down.bias"].any()


@pytest.mark.parametrize("change", [{"inputs": True}, {"output": True}])
def test_a_wrong_band_count_is_refused_by_the_tensors_that_differ(change):
    card = generator_card(**TINY)
    weights = seeded(card)
    if "inputs" in change:
        wrong = replace(
            card, inputs=(source("10m", ("blue", "green", "red"), 10.0), card.inputs[1])
        )
        tensor, shapes = "stems.0.convolution.weight", r"\(4, 4, 5, 5\).*\(3, 3, 5, 5\)"
    else:
        wrong = replace(card, output=output(("blue",)))
        tensor, shapes = "body.up.weight", r"\(8, 6, 4, 4\).*\(8, 1, 4, 4\)"
    with pytest.raises(ModelError, match=f"'{re.escape(tensor)}' is float32 {shapes}"):
        build(wrong, weights)


def test_missing_extra_and_mistyped_tensors_are_named():
    card = generator_card(**TINY)
    weights = seeded(card)
    removed = weights.pop("body.down.bias")
    with pytest.raises(ModelError, match=r"'body.down.bias' is missing, the network has float32"):
        build(card, weights)
    with pytest.raises(ModelError, match=r"'other' is float32 \(2,\), the network has none"):
        build(card, {**weights, "body.down.bias": removed, "other": np.zeros(2, np.float32)})
    with pytest.raises(ModelError, match=r"'body.down.bias' is float64"):
        build(card, {**weights, "body.down.bias": removed.astype(float)})


def test_an_absurd_card_takes_no_memory():
    card = generator_card(tile=512, width=256, depth=9, max_factor=16)
    assert n_parameters(card) > 1e9
    with pytest.raises(ModelError, match=r"and \d+ more"):
        build(card, seeded(generator_card(**TINY)))


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"width": 10**9}, "width=1000000000; give a whole number from 1 to 256"),
        ({"width": True}, "width=True"),
        ({"width": 8.5}, "width=8.5"),
        ({"dropout": 0.95}, "dropout=0.95; give a number from 0 to 0.9"),
        ({"dropout": float("nan")}, "hyperparameters.dropout is nan; it should be"),
        ({"output_activation": "os.system"}, "one of 'tanh', 'identity', 'sigmoid'"),
        ({"color": 3}, "no hyperparameter 'color'; it has base, depth, dropout"),
    ],
)
def test_hyperparameters_are_bounded(hyperparameters, message):
    with pytest.raises(ModelError, match=re.escape(message)):
        build_empty(generator_card(**hyperparameters))


def test_tables_need_as_many_knots_as_bins_and_bins_that_halve():
    card = lut_card()
    with pytest.raises(ModelError, match="as many knots as bins"):
        build_empty(replace(card, histograms=replace(card.histograms, knots=64)))
    with pytest.raises(ModelError, match="100 bins cannot be halved 4 times"):
        build_empty(lut_card(n_bins=100))


@pytest.mark.parametrize(
    ("name", "card"), [("unet-lut", generator_card()), ("mgan-unet", lut_card())]
)
def test_an_architecture_for_the_other_kind_is_refused(name, card):
    with pytest.raises(ModelError, match=rf"'{name}' is for cards of kind '(lut|generator)'"):
        build_empty(replace(card, architecture=name, hyperparameters={}))


def test_an_unknown_architecture_names_the_nearest_and_how_to_register():
    with pytest.raises(
        UnknownModelError, match=r"'mgan-net'.*did you mean 'mgan-unet'.*register_architecture"
    ):
        build_empty(generator_card("mgan-net"))


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """An installed package that brings two architectures, one of them broken."""
    (tmp_path / "their_networks.py").write_text(
        "from torch import nn\n"
        "def make(card):\n"
        "    return nn.Conv2d(len(card.inputs[0].bands), len(card.output.bands), 1)\n"
        "def statistics(card):\n"
        "    import torch\n"
        "    network = make(card)\n"
        "    network.register_buffer('mean', torch.zeros(3), persistent=False)\n"
        "    return network\n"
        "def nothing(card):\n"
        "    return 42\n"
    )
    info = tmp_path / "their_networks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-networks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\npointwise = their_networks:make\nbroken = their_networks:gone\n"
        "statistics = their_networks:statistics\nnothing = their_networks:nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("their_networks", None)


def test_a_third_party_brings_architectures_by_entry_point(third_party):
    assert {"pointwise", "mgan-unet"} <= set(architectures())
    card = generator_card("pointwise", inputs=(source("30m", ("blue", "red"), 30.0),))
    assert answer(card, images(card)).shape == (1, 6, 16, 16)
    with pytest.raises(ModelError, match=r"'broken' is announced as 'their_networks:gone'"):
        build_empty(replace(card, architecture="broken"))
    with pytest.raises(ModelError, match="gave a int"):
        build_empty(replace(card, architecture="nothing"))
    with pytest.raises(ModelError, match=r"buffer 'mean'.*persistent"):
        build(replace(card, architecture="statistics"), seeded(card))


def test_an_architecture_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register_architecture("mine", lambda card: torch.nn.Conv2d(4, 6, 1))
    assert "mine" in architectures()
    with pytest.raises(ModelError, match="'mine' exists"):
        registry.register_architecture("mine", lambda card: None)
    with pytest.raises(ModelError, match="'mgan-unet' exists"):
        registry.register_architecture("mgan-unet", lambda card: None)
    registry.register_architecture("mine", lambda card: torch.nn.Conv2d(4, 2, 1), replace=True)
    assert n_parameters(generator_card("mine")) == 10


def test_transposed_convolutions_as_ordinary_ones_give_the_same():
    card = generator_card(**TINY)
    weights = {name: array + 0.01 for name, array in seeded(card).items()}
    network, inputs = build(card, weights), images(card, 2)
    with torch.inference_mode():
        expected = network(*inputs)
        layers.with_subpixels(network)
        found = network(*inputs)
    assert not any(isinstance(part, torch.nn.ConvTranspose2d) for part in network.modules())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
@pytest.mark.parametrize(("side", "bias"), [(2, True), (6, False)])
def test_wide_convolutions_as_products_give_the_same(kind, side, bias):
    network = torch.nn.Sequential(kind(256, 1024, 4, 2, padding=1, bias=bias))
    image = torch.randn(2, 256, side, side + 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(image)
        layers.with_products(network)
        found = network(image)
    assert type(network[0]).__name__.startswith("Product")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"kernel_size": 3}, {"groups": 2}, {"output_padding": 1}])
def test_other_transposed_convolutions_stay(options):
    layer = {"kernel_size": 4, "stride": 2, "padding": 1, **options}
    network = torch.nn.Sequential(torch.nn.ConvTranspose2d(512, 512, **layer, device="meta"))
    layers.with_subpixels(network)
    layers.with_products(network)
    assert isinstance(network[0], torch.nn.ConvTranspose2d)


@pytest.mark.parametrize(
    "card", [generator_card(**TINY), generator_card("small-conv", width=4)], ids=["u-net", "small"]
)
def test_gradients_reach_every_weight(card):
    network = build(card, seeded(card)).train()
    network(*images(card, 2)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_tables_learn_from_what_their_refinement_gives():
    card = lut_card()
    network = build(card, seeded(card)).train()
    tables = network(torch.rand(2, 4, 256))
    network.refine(tables[:, :, :, None].expand(-1, -1, -1, 5)).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_small_conv_gives_the_same_on_any_tile_that_holds_what_it_sees():
    card = generator_card("small-conv", tile=32)
    inputs = images(card)
    whole = answer(card, inputs)
    part = answer(
        card,
        [array[..., side : 3 * side, side : 3 * side] for array, side in zip(inputs, (24, 12))],
    )
    np.testing.assert_allclose(part[..., 3:-3, 3:-3], whole[..., 11:21, 11:21], atol=1e-6)
