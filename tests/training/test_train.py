"""`train` as users call it: pairs to a model that `to_landsat` maps, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.marks import first_quick
from helpers.training import make_cubes, make_pairs, only

import xharmonize as xh
from xharmonize.errors import (
    BandError,
    ClusterError,
    FitError,
    ModelError,
    OptionError,
    StoreError,
    UnknownModelError,
)
from xharmonize.io.zarr.write import writer_lock
from xharmonize.training import Config, Data, MultiOls, Run, SmallConv, from_toml, to_toml

QUICK = SmallConv(width=4, depth=2, steps=4, evaluate=2, batch=4)
DATA = Data(patch=8, stride=8)


@pytest.fixture(scope="module")
def cubes():
    return make_cubes(4, side=26)


@pytest.fixture(scope="module")
def pairs(cubes):
    return xh.collect_pairs(*cubes, max_score=None)


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    out = tmp_path_factory.mktemp("models") / "small-test"
    config = Config(method=QUICK, data=DATA)
    return xh.train("small-conv", pairs, config=config, out=out, progress=False), out


def test_a_network_maps_the_cubes_it_was_made_from(trained, cubes):
    training, out = trained
    source, target = cubes
    found = source.harmonize.to_landsat(training.model, like=target)
    again = source.harmonize.to_landsat(out, like=target)
    assert found.dims == ("time", "band", "y", "x")
    assert found["band"].values.tolist() == target["band"].values.tolist()
    xr.testing.assert_identical(found.compute(), again.compute())
    error = np.sqrt(np.nanmean((found.values - target.values) ** 2))
    before = source.harmonize.regrid(like=target).sel(band=target["band"].values)
    assert error < 0.7 * np.sqrt(np.nanmean((before.values - target.values) ** 2))


def test_a_network_is_shown_in_training_what_it_is_shown_when_applied(trained, pairs, tmp_path):
    """Cores of samples, by the network alone, are the pixels that `to_landsat` gives."""
    import torch

    from xharmonize.cube.pairs import as_cube
    from xharmonize.models.architectures import build
    from xharmonize.models.bundle import open_bundle, read_weights
    from xharmonize.training import build_store
    from xharmonize.training.feed import Feed

    training, out = trained
    bundle = open_bundle(out)
    store = build_store(pairs, tmp_path / "samples", DATA)
    feed = Feed(store=store, card=bundle.card, constants=None, device=torch.device("cpu"))
    numbers = np.flatnonzero(store.kept & (store.pair == 1))
    network = build(bundle.card, read_weights(bundle.ref))
    with torch.inference_mode():
        tiles = network(*feed.batch(numbers, clip=False).inputs).numpy()
    output, lattice = bundle.card.output, store.lattice
    tiles = tiles * np.array(output.scale)[:, None, None] + np.array(output.mean)[:, None, None]
    source, target = (as_cube(one) for one in sides(pairs, 1))
    applied = xh.to_landsat(source, training.model, like=target).values[0]
    west, north = float(target.x[0]) - 15, float(target.y[0]) + 15
    inner = slice(lattice.buffer, lattice.buffer + lattice.stride)
    n_seen = 0
    for number, tile in zip(numbers, tiles):
        row = store.row[number] + lattice.buffer - round((lattice.phase[1] - north) / 30)
        column = store.column[number] + lattice.buffer - round((west - lattice.phase[0]) / 30)
        at = (slice(row, row + lattice.stride), slice(column, column + lattice.stride))
        wanted = applied[:, at[0], at[1]]
        ok = np.isfinite(wanted)
        # Tiles of the lattice begin elsewhere than samples: only what 5 pixels see is shared.
        np.testing.assert_allclose(tile[:, inner, inner][ok], wanted[ok], atol=2e-6)
        n_seen += ok.sum()
    assert n_seen > 1000


def sides(pairs, number):
    from xharmonize.cube.pairs import source_groups, target_of

    (source,) = source_groups(pairs).values()
    return source.isel(pair=[number]), target_of(pairs).isel(pair=[number])


def test_scores_stand_beside_identity_hls_and_least_squares(trained):
    training, _ = trained
    assert [method for method, _ in training.scores.index] == [
        "identity",
        "hls-v2",
        "ols",
        "small-conv",
    ]
    assert {"ergas", "sam", "ndvi_rmse", "ergas_centred", "rmse_red", "pixels"} <= set(
        training.scores
    )
    assert training.scores["pixels"].nunique() == 1
    assert (
        training.scores.loc[("small-conv", "observed"), "ergas"]
        < (training.scores.loc[("identity", "observed"), "ergas"])
    )
    assert any("tested on" in note for note in training.notes)


def test_the_bundle_says_how_it_came_about(trained):
    _, out = trained
    card = xh.load_model(out).card
    assert {"split", "trained on", "seed", "config", "versions", "best step"} <= set(
        card.provenance
    )
    assert "ols, observed: ergas" in card.scores
    assert card.domain is not None
    assert card.domain.bands == card.bands
    (out.parent / "again.toml").write_text(card.provenance["config"])
    assert from_toml(out.parent / "again.toml").method == QUICK


def test_a_training_and_its_model_are_shown_in_few_lines(trained):
    training, _ = trained
    assert "ergas" in repr(training)
    assert all(note in repr(training) for note in training.notes)
    assert len(repr(training).splitlines()) < 15
    assert len(repr(training.model)) < 3000  # no histograms


def test_the_log_is_kept_and_the_samples_are_not(trained):
    training, out = trained
    work = out.with_name("small-test.training")
    assert "log.jsonl" in {path.name for path in work.iterdir()}
    assert not (work / "config.toml").exists()
    assert not (work / "samples.zarr").exists()
    assert training.history["validation"].notna().sum() == 3


def test_epochs_say_how_many_steps(pairs, tmp_path):
    config = Config(method=replace(QUICK, epochs=1, evaluate=50), data=DATA)
    found = xh.train("small-conv", pairs, config=config, out=tmp_path / "m")
    n = int(found.model.bundle.card.provenance["trained on"].partition(" samples")[0].split()[-1])
    assert found.history["step"].max() == -(-n // QUICK.batch)


def test_an_interrupted_training_goes_on(trained, pairs, tmp_path, monkeypatch):
    from xharmonize.training import loop

    config = Config(method=QUICK, data=DATA, run=Run(save=1))
    step = loop.Loop._step
    monkeypatch.setattr(
        loop.Loop, "_step", lambda self, b, at, w: step(self, b, at, w) if at < 3 else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        xh.train("small-conv", pairs, config=config, out=tmp_path / "m")
    monkeypatch.undo()
    with pytest.raises(StoreError, match="interrupted training with other settings"):
        xh.train("small-conv", pairs, config=SmallConv(width=5), out=tmp_path / "m")
    with pytest.raises(StoreError, match="interrupted training on other pairs"):
        xh.train("small-conv", only(pairs, [0, 1, 3]), config=config, out=tmp_path / "m")
    xh.train("small-conv", pairs, config=config, out=tmp_path / "m")
    ours, whole = (
        (path / "weights.safetensors").read_bytes() for path in (tmp_path / "m", trained[1])
    )
    assert ours == whole


def test_settings_that_cut_no_sample_do_not_stand_in_the_way(pairs, tmp_path):
    bad = Config(method=QUICK, data=Data(patch=4096))
    with pytest.raises(FitError, match="does not fit"):
        xh.train("small-conv", pairs, config=bad, out=tmp_path / "m")
    config = Config(method=QUICK, data=DATA)
    xh.train("small-conv", pairs, config=config, out=tmp_path / "m", progress=False)


def test_what_exists_is_not_overwritten(trained, pairs, monkeypatch):
    from xharmonize.training import closed

    monkeypatch.setattr(closed, "fit", lambda *_: pytest.fail("fitted before"))
    with pytest.raises(ModelError, match="exists; name another out="):
        xh.train("ols", pairs, out=trained[1])
    with pytest.raises(ModelError, match="exists; name another out="):
        xh.train("small-conv", pairs, config=QUICK, out=trained[1])


@pytest.mark.slow
def test_closed_forms_are_those_of_their_functions(pairs):
    from xharmonize.cube.pairs import on_target_grid

    together = on_target_grid(pairs)
    xr.testing.assert_allclose(
        xh.train("ols", pairs).model, xh.fit_linear(together, method="ols").compute()
    )
    training = xh.train("multi-ols", pairs, config=MultiOls(ridge=0.1))
    expected = xh.fit_linear(together, method="multiband", ridge=0.1).compute()
    xr.testing.assert_allclose(training.model, expected)
    assert [method for method, _ in training.scores.index][-1] == "multi-ols"


@pytest.mark.parametrize(
    "method", first_quick(["deming", "per-pixel", "histogram-matching", "auto"])
)
def test_every_closed_form_gives_a_fit_that_is_applied(method, pairs, cubes, tmp_path):
    training = xh.train(method, only(pairs, [0, 1, 2]), out=tmp_path / "fit.zarr")
    assert (method, "observed") in training.scores.index
    source, target = cubes
    found = source.harmonize.to_landsat(tmp_path / "fit.zarr", like=target)
    assert np.isfinite(found.values).mean() > 0.8


@pytest.mark.parametrize("method", first_quick(["ols", "small-conv"]))
def test_pairs_of_one_grid_are_taken_too(method, pairs, cubes):
    """`match_pairs` gives what `collect_pairs` gives of a cube on the target's grid."""
    source, target = cubes
    source = source.harmonize.regrid(like=target, min_valid=1.0)
    config = None if method == "ols" else Config(method=QUICK, data=DATA)
    found = [
        xh.train(method, one, config=config, progress=False).scores
        for one in (
            xh.match_pairs(source, target, bands="all"),
            xh.collect_pairs(source, target, tolerance="2D", max_score=None),
        )
    ]
    pd.testing.assert_frame_equal(*found)


@pytest.mark.parametrize("method", ["ols", "multi-ols"])
def test_one_date_is_scored_by_quarters_of_its_area(method, pairs):
    training = xh.train(method, only(pairs, [0]))
    error = training.scores["ergas"].droplevel("reference")
    assert error[method] < error["identity"]
    assert any("by quarters of the area" in note for note in training.notes)
    assert int(training.scores["pixels"].iloc[0]) > 0.8 * pairs["target"].sizes["y"] ** 2


def test_a_fit_is_scored_where_hls_does_not_apply(pairs):
    nodes = {"/": pairs.to_dataset(), "/source": pairs["source"].to_dataset()}
    for path, name in (("/", "platform_source"), ("/source", "platform")):
        values = nodes[path][name].copy(data=np.full(nodes[path].sizes["pair"], "unknown"))
        nodes[path] = nodes[path].assign_coords({name: values})
    unknown = xr.DataTree.from_dict({**nodes, "/target": pairs["target"].to_dataset()})
    training = xh.train("ols", unknown)
    assert set(training.scores.index.get_level_values(0)) == {"identity", "ols"}
    assert any("hls-v2 was not scored" in note for note in training.notes)


def test_a_scored_date_is_never_read_by_the_fit(pairs):
    """A fit on other dates' targets alone gives the same score, whatever the scored target is."""
    from xharmonize.cube.pairs import target_of
    from xharmonize.training import closed

    few = only(pairs, [0, 1, 2])
    fits = []
    original = closed.fit

    def fitted(tree, config):
        fits.append(target_of(tree)["time"].values)
        return original(tree, config)

    closed.fit = fitted
    try:
        closed.leave_one_out(few, MultiOls(), None)
    finally:
        closed.fit = original
    every = set(target_of(few)["time"].values)
    left_out = [every - set(times) for times in fits]
    assert all(len(out) == 1 for out in left_out)
    assert set().union(*left_out) == every


@pytest.mark.slow
def test_one_pair_is_split_by_blocks_or_refused():
    one = make_pairs(1, side=40)
    with pytest.raises(FitError, match=r"1 date cannot be split.*split='block'"):
        xh.train("small-conv", one, config=Config(method=QUICK, data=Data(patch=8, split="date")))
    data = Data(patch=8, block=300.0, guard=30.0)
    training = xh.train("small-conv", one, config=Config(method=QUICK, data=data), progress=False)
    assert training.notes[0].startswith("split by block")
    assert training.scores["pixels"].iloc[0] < 40 * 40 / 2


def test_truth_is_scored_where_pairs_carry_it(pairs):
    from xharmonize.cube.pairs import target_of
    from xharmonize.training import judge

    ideal = target_of(pairs).to_dataset(name="reflectance") + 0.001
    with_truth = pairs.assign({"truth": xr.DataTree(ideal)})
    bands = target_of(pairs)["band"].values.astype(str)
    rows = judge.score_pair({"identity": None}, with_truth, 1, None, bands, {})
    scores = judge.mean_of(rows)
    assert {reference for _, reference in scores.index} == {"observed", "truth"}
    assert scores.loc[("observed target", "truth"), "rmse_red"] == pytest.approx(0.001, abs=1e-5)


def test_scores_do_not_depend_on_chunks(pairs, trained):
    """Lazy pairs are scored block by block, through files, and give what those in memory give."""
    from xharmonize.training import judge

    models = {"identity": None, "small-conv": trained[0].model}
    bands = [str(band) for band in pairs["target"]["band"].values]
    found = [
        judge.mean_of(judge.score_pair(models, tree, 1, None, bands, {}))
        for tree in (pairs, pairs.chunk(y=7, x=11))
    ]
    pd.testing.assert_frame_equal(*found, rtol=1e-4)


@pytest.mark.parametrize("method", ["ols", "small-conv"])
def test_a_place_that_cannot_be_written_and_no_client_are_refused_first(method, pairs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((ModelError, StoreError), match=r"cannot be written|nothing can be written"):
        xh.train(method, pairs, out=tmp_path / "file" / "model.nc")
    with pytest.raises(ClusterError, match="is none; give distributed"):
        xh.train(method, pairs, client="tcp://there")


@pytest.mark.parametrize(
    ("method", "match"),
    [
        ("smallconv", "did you mean 'small-conv'"),
        ("OLS", "did you mean 'ols'"),
        ("resnet", "there are ols, multi-ols"),
        (7, "is no method"),
    ],
)
def test_unknown_methods_are_refused_with_the_nearest(pairs, method, match):
    with pytest.raises(UnknownModelError, match=match):
        xh.train(method, pairs)


def test_two_trainings_do_not_share_a_folder(pairs, tmp_path):
    with (
        writer_lock(tmp_path / "model.training"),
        pytest.raises(StoreError, match=r"another process writes.*model\.training\.lock"),
    ):
        xh.train("small-conv", pairs, config=QUICK, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_wrong_configurations_are_refused(pairs):
    with pytest.raises(OptionError, match="configures 'small-conv', not 'ols'"):
        xh.train("ols", pairs, config=QUICK)
    with pytest.raises(OptionError, match="'multi-ols' is fitted on all pairs"):
        xh.train("multi-ols", pairs, config=Config(method=MultiOls(), data=DATA))
    with pytest.raises(OptionError, match="is a dict"):
        xh.train("ols", pairs, config={"weight": "pair"})
    for options in ({"width": "8"}, {"width": 0}, {"width": True}, {"learning_rate": float("nan")}):
        with pytest.raises(OptionError, match=f"SmallConv: {next(iter(options))} is"):
            SmallConv(**options)


def test_pairs_that_are_none_are_refused(pairs, cubes):
    source = cubes[0]
    for method in ("ols", "small-conv"):
        with pytest.raises(FitError, match="collect_pairs"):
            xh.train(method, source)
        with pytest.raises(FitError, match="there are no pairs"):
            xh.train(method, only(pairs, []))
        with pytest.raises(FitError, match="collect_pairs"):
            xh.train(method, {})


def test_places_of_other_bands_are_refused(cubes):
    source, target = cubes
    places = {
        "a": xh.collect_pairs(source, target),
        "b": xh.collect_pairs(source, target.isel(band=[0, 1])),
    }
    with pytest.raises(BandError, match="place 'b' has bands"):
        xh.train("small-conv", places, config=Config(method=QUICK, data=DATA))


def test_pairs_of_nan_are_refused(pairs):
    from xharmonize.harmonizers.validation import hide_target

    with pytest.raises(FitError, match="no sample of 8 x 8 target pixels is valid enough"):
        xh.train(
            "small-conv",
            hide_target(pairs),
            config=Config(method=QUICK, data=DATA),
        )


def test_settings_survive_toml(tmp_path):
    config = Config(
        method=SmallConv(width=7, learning_rate=2e-4),
        data=Data(patch=24, holdout=("2021-05-01", 'a "b"'), split="scene"),
        run=Run(save=3),
    )
    (tmp_path / "c.toml").write_text(to_toml(config))
    assert from_toml(tmp_path / "c.toml") == config


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ('[method]\nname = "small-conv"\nwitdh = 3', OptionError, "did you mean 'width'"),
        ('[method]\nname = "small-con"', UnknownModelError, "did you mean 'small-conv'"),
        ("[method]\nwidth = 3", OptionError, "has no name"),
        ('[method]\nname = "ols"\n[data]\npach = 3', OptionError, r"\[data\].*mean 'patch'"),
        ('[method]\nname = "ols"\n[run]\nsave = "x"', OptionError, r"\[run\].*save is 'x'"),
        ('method = "ols"', OptionError, r"write it as a table, \[method\]"),
        ("[method", OptionError, "cannot be read"),
    ],
)
def test_wrong_files_are_refused_with_the_nearest(tmp_path, text, error, match):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(error, match=match):
        from_toml(path)
