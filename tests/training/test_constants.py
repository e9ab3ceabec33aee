"""Constants and lines come from training samples alone, and are what they say."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.training import make_cubes, make_pairs

import xharmonize as xh
from xharmonize.errors import FitError
from xharmonize.training import Data, build_store, split

constants = pytest.importorskip("xharmonize.training.constants")


@pytest.fixture(scope="module")
def pairs():
    return make_pairs()


@pytest.fixture(scope="module")
def store(pairs, tmp_path_factory):
    return build_store(pairs, tmp_path_factory.mktemp("store") / "samples", Data(patch=16))


def test_constants_are_those_of_numpy(store):
    samples = np.flatnonzero(store.kept)
    found = constants.measure(store, samples, (1.0, 99.0))
    fine, exact, target = (store.read(samples).inputs[0], store.read(samples).exact,
                           store.read(samples).target)  # fmt: skip
    is_seen = np.isfinite(np.kron(exact[:, :4], np.ones((3, 3))))
    values = dict(enumerate(np.where(is_seen, fine, np.nan).swapaxes(0, 1)))
    values |= dict(enumerate(target.swapaxes(0, 1), start=found.n_source))
    for k, band in values.items():
        own = band[np.isfinite(band)].astype(float)
        low, high = np.percentile(own, (1, 99))
        clipped = np.clip(own, low, high)
        assert found.low[k] == pytest.approx(low, abs=2e-4)
        assert found.high[k] == pytest.approx(high, abs=2e-4)
        assert found.mean[k] == pytest.approx(clipped.mean(), abs=1e-4)
        assert found.deviation[k] == pytest.approx(clipped.std(), abs=1e-4)


def test_pixels_that_were_filled_do_not_count(tmp_path):
    """Holes are filled with the mean of the sample: percentiles would be drawn to it."""
    pairs = make_pairs(2, missing=0.0)
    source = pairs["source"].to_dataset()
    holes = source["reflectance"].copy(data=source["reflectance"].values.copy())
    holes[:, :, 10:40, 10:40] = np.nan
    nodes = {"/": pairs.to_dataset(), "/target": pairs["target"].to_dataset()}
    tree = xr.DataTree.from_dict({**nodes, "/source": source.assign(reflectance=holes)})
    store = build_store(tree, tmp_path / "s", Data(patch=16, min_valid=0.2, max_cloud=1.0))
    samples = np.flatnonzero(store.kept)
    found = constants.measure(store, samples, (0.0, 100.0))
    image, exact = store.read(samples).inputs[0][:, 2], store.read(samples).exact[:, 2]
    seen = image[np.isfinite(np.kron(exact, np.ones((3, 3))))]
    assert seen.size < image.size
    assert found.mean[2] == pytest.approx(seen.mean(), abs=2e-4)
    assert found.mean[2] != pytest.approx(image.mean(), abs=2e-4)


def test_lines_recover_what_made_the_target(tmp_path):
    """Levels of dates differ by more than the line does: slopes must not follow them."""
    source, target = make_cubes(4)
    seen = xh.regrid(source, like=target, min_valid=1.0).sel(band=["red"]).values
    levels = np.array([0.0, 0.1, 0.05, 0.2], np.float32)[:, None, None, None]
    target = target.sel(band=["red"]).copy(data=(0.8 * seen + 0.01 + levels).astype("f4"))
    data = Data(patch=16, source_bands=("red",))
    store = build_store(xh.collect_pairs(source, target, max_score=None), tmp_path / "s", data)
    samples = np.flatnonzero(store.kept)
    every, own = constants.fit_lines(store, samples, grid="exact")
    # Ridge 1e-2 of the slope's own variance, towards 1.
    assert own.matrix[0, 0] == pytest.approx((0.8 + 0.01) / 1.01, abs=2e-3)
    assert every.matrix == pytest.approx(own.matrix)
    x = store.read(samples).exact
    mean = np.nanmean([np.nanmean(x[store.pair[samples] == k]) for k in range(4)])
    expected = 0.8 * mean + 0.01 + levels.mean() - own.matrix[0, 0] * mean
    assert own.offset[0] == pytest.approx(expected, abs=2e-3)


def test_held_out_samples_are_not_read(pairs, store, tmp_path):
    """A store whose held-out dates are ruined gives the same numbers."""
    parts = split(store, Data(patch=16))
    held = {int(k) for part in (parts.validation, parts.test) for k in store.pair[part]}
    ruined = pairs.map_over_datasets(
        lambda node: (
            node.assign(reflectance=node["reflectance"].where(~node["pair"].isin(list(held)), 0.77))
            if "reflectance" in node
            else node
        )
    )
    other = build_store(ruined, tmp_path / "s", Data(patch=16))
    np.testing.assert_array_equal(other.kept, store.kept)
    for function in (
        lambda one: constants.measure(one, parts.training, (1.0, 99.0)),
        lambda one: constants.fit_lines(one, parts.training)[0].matrix.tolist(),
        lambda one: constants.domains_of(one, parts.training)["cube"],
    ):
        assert function(store) == function(other)


@pytest.mark.slow
def test_no_more_than_a_few_samples_are_in_memory(pairs, tmp_path, monkeypatch):
    """What is measured, and the line that is scored beside, read a store a few samples a time."""
    from xharmonize.harmonizers.linear import fit_linear
    from xharmonize.training import judge
    from xharmonize.training import store as stores

    store = build_store(pairs, tmp_path / "s", Data(patch=8, stride=2))
    samples = np.flatnonzero(store.kept)
    whole = constants.domains_of(store, samples)["cube"]
    line = fit_linear(judge.as_pairs(store, samples)).compute()
    monkeypatch.setattr(stores, "IN_MEMORY", 0)
    most = []
    read = stores._rows
    monkeypatch.setattr(stores, "_rows", lambda a, n: most.append(len(n)) or read(a, n))
    again = stores.open_store(tmp_path / "s")
    assert constants.domains_of(again, samples)["cube"] == whole
    np.testing.assert_array_equal(
        fit_linear(judge.as_pairs(again, samples)).compute()["slope"], line["slope"]
    )
    assert max(most) <= 256 < len(samples)


def test_tables_see_training_samples_clipped_as_their_target_is(store):
    """Of source and target alike: else the brightest source pixels go with clipped targets."""
    import torch

    from xharmonize.training import cards, split
    from xharmonize.training.config import Data as Options
    from xharmonize.training.feed import Feed

    parts = split(store, Options(patch=16))
    measured = constants.measure(store, parts.training, (5.0, 95.0))
    domain = constants.domains_of(store, parts.training)["cube"]
    facts = cards.Facts(store=store, constants=measured, domains={"cube": domain}, name="tables")
    card = cards.lut_card(facts, title="t", architecture="unet-lut", hyperparameters={})
    feed = Feed(store=store, card=card, constants=measured, device=torch.device("cpu"))
    (image,) = feed.batch(parts.training, clip=True).inputs
    (as_applied,) = feed.batch(parts.training, clip=False).inputs
    for band, values, plain in zip(card.histograms.bands, image.unbind(1), as_applied.unbind(1)):
        highest = measured.high[measured.bands.index(band)]
        assert float(values.max()) <= highest + 1e-6 < float(plain.max())


def test_constant_bands_are_refused(tmp_path):
    source, target = make_cubes(3)
    source[:, 1] = 0.1
    store = build_store(
        xh.collect_pairs(source, target, max_score=None), tmp_path / "s", Data(patch=16)
    )
    with pytest.raises(FitError, match=r"band 'green' is 0.1 in all training samples"):
        constants.measure(store, np.flatnonzero(store.kept), (1.0, 99.0))


def test_the_domain_does_not_count_what_was_filled(tmp_path):
    """Bright columns beside a hole would be copied into all of it."""
    source, target = make_cubes(3)
    source[:, :, 6:18, 24:30] = 0.9
    source[:, :, 6:18, 30:42] = np.nan
    data = Data(patch=16, min_valid=0.5, max_cloud=0.5)
    store = build_store(
        xh.collect_pairs(source, target, min_valid=0, max_score=None), tmp_path / "s", data
    )
    domain = constants.domains_of(store, np.flatnonzero(store.kept))["cube"]
    is_seen = np.isfinite(source.values)
    share = (source.values > 0.85).sum() / is_seen.sum()
    bright = int(0.9 * len(domain.histograms[0]))
    for counts in domain.histograms:
        assert 0.3 * share < counts[bright] < 2 * share
