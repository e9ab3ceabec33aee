"""Trained models, tables and fits on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call
from helpers.generators import generator, small_card
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.app import main
from xharmonize.cube.companions import ResultFlag
from xharmonize.models import Lattice
from xharmonize.simulate import Simulation, write_catalog

pytest.importorskip("torch")
SOURCE, TARGET = "sentinel-2-l2a", "landsat-c2-l2"
PAIR = ["--source-collection", SOURCE, "--target-collection", TARGET]
LATTICE = Lattice(resolution=30.0, tile=8, buffer=2, phase=(15.0, 15.0))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(600, 600),
        start="2022-06-08",
        end="2022-06-12",
        cloudiness=0.0,
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A small generator for Landsat's grid."""
    folder = tmp_path_factory.mktemp("models")
    return Path(generator(folder, small_card("small-conv", LATTICE)).ref.location)


@pytest.fixture(scope="module")
def histogram(scenes, tmp_path_factory) -> Path:
    """A fit of histogram matching, made on the command line."""
    path = tmp_path_factory.mktemp("fits") / "histogram.zarr"
    with pytest.raises(SystemExit) as ended:
        main(["fit", str(scenes), *PAIR, "--method", "histogram", "--out", str(path)])
    assert not ended.value.code
    return path


def harmonised(path: Path):
    """What a store holds of Sentinel-2."""
    stored = xh.open_series(path)
    return stored.isel(time=(stored["sensor"] == SOURCE).values).compute()


def test_a_bundle_is_applied_like_a_name(capsys, scenes, bundle, tmp_path):
    out = tmp_path / "s.zarr"
    code, _, err = call(
        capsys, "harmonize", scenes, *PAIR, "--model", bundle, "--flags", "--out", out
    )
    assert code == 0, err
    model = xh.load_model(bundle)
    source = xh.open_stac(scenes, collection=SOURCE, bands=list(model.bands))
    landsat = xh.open_stac(scenes, collection=TARGET, bands=list(model.card.output.bands))
    expected = xh.to_landsat(source, model, like=landsat, flags=True).compute()
    actual = harmonised(out).sel(band=list(model.card.output.bands))
    np.testing.assert_allclose(
        actual["reflectance"], expected["reflectance"].sortby("time"), atol=1e-4
    )
    np.testing.assert_array_equal(actual["flag"], expected["flag"].sortby("time"))


def test_bands_and_index_are_those_of_the_result(capsys, scenes, bundle, tmp_path):
    model = ["--source-collection", SOURCE, "--model", bundle, "--skip-check"]
    call(capsys, "harmonize", scenes, *model, "--bands", "nir08,red", "--out", tmp_path / "b.zarr")
    assert set(xh.open_series(tmp_path / "b.zarr")["band"].values) == {"nir08", "red"}
    code, _, err = call(
        capsys, "harmonize", scenes, *model, "--bands", "rededge1", "--out", tmp_path / "c.zarr"
    )
    assert code == console.FAILED
    assert "gives blue, green, red" in err
    assert not (tmp_path / "c.zarr").exists()


def test_resolution_is_that_of_the_result(capsys, scenes, bundle, tmp_path):
    out = tmp_path / "r.zarr"
    options = ["--source-collection", SOURCE, "--model", bundle, "--resolution", 60]
    code, _, err = call(capsys, "harmonize", scenes, *options, "--out", out, "--batch-size", 1)
    assert code == 0, err
    assert set(np.diff(xh.open_series(out)["x"])) == {60.0}


@pytest.mark.slow
def test_with_a_margin_tiles_at_the_border_are_whole(capsys, scenes, bundle, tmp_path):
    box = ["--bbox", "3.0222,50.8115,3.0240,50.8128", "--skip-check", "--flags"]
    options = [*PAIR[:2], "--model", bundle, *box]
    shares = []
    for name, pad in (("bare", []), ("padded", ["--pad"])):
        code, _, err = call(
            capsys, "harmonize", scenes, *options, *pad, "--out", tmp_path / f"{name}.zarr"
        )
        assert code == 0, err
        flag = harmonised(tmp_path / f"{name}.zarr")["flag"].astype(np.uint8)
        shares.append(float(((flag & int(ResultFlag.PARTIAL_CONTEXT)) > 0).mean()))
    assert shares[0] > 0
    assert shares[1] == 0


@pytest.mark.parametrize("method", first_quick(["ols", "multiband", "deming", "pixelwise", "lut"]))
def test_a_fit_is_printed_kept_and_applied(capsys, scenes, tmp_path, method):
    fit = tmp_path / "fit.zarr"
    options = ["--method", method, "--tolerance", "3D", "--out", fit]
    code, out, err = call(capsys, "fit", scenes, *PAIR, *options)
    assert code == 0, err
    assert "Pairs of dates within 3D: " in out
    assert all(band in out for band in ("blue", "swir22"))
    code, _, err = call(
        capsys, "harmonize", scenes, *PAIR, "--model", fit, "--out", tmp_path / "s.zarr"
    )
    assert code == 0, err
    assert np.isfinite(harmonised(tmp_path / "s.zarr")["reflectance"]).any()


@pytest.mark.slow
def test_tables_are_fitted_first_or_on_the_way(capsys, scenes, histogram, tmp_path):
    model = ["--model", histogram, "--source-collection", SOURCE]
    tables = tmp_path / "tables.zarr"
    options = ["--method", "tables", "--tile", 300, "--out", tables]
    assert call(capsys, "fit", scenes, *model, *options)[0] == 0
    for name, how in (("a", ["--tables", tables]), ("b", ["--tile", 300])):
        assert call(capsys, "harmonize", scenes, *model, *how, "--out", tmp_path / name)[0] == 0
    first, second = (xh.open_series(tmp_path / name) for name in ("a", "b"))
    np.testing.assert_array_equal(first["reflectance"], second["reflectance"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--method", "tables"], "give --model"),
        (["--method", "ols"], "give --target-collection"),
        (["--method", "ols", "--target-collection", TARGET, "--tile", "3"], "belong to --method"),
    ],
)
def test_options_that_do_not_go_together(capsys, options, complaint):
    code, _, err = call(capsys, "fit", "c.json", "--out", "f.zarr", *options)
    assert code == console.USAGE
    assert complaint in " ".join(err.replace("│", " ").split())


def test_a_fit_replaces_fits_only(capsys, scenes, histogram, tmp_path):
    options = ["--method", "histogram", "--out", histogram]
    code, _, err = call(capsys, "fit", scenes, *PAIR, *options)
    assert code == console.FAILED
    assert "--overwrite" in err
    (tmp_path / "mine").mkdir()
    options = ["--method", "histogram", "--overwrite", "--out", tmp_path / "mine"]
    code, _, err = call(capsys, "fit", scenes, *PAIR, *options)
    assert code == console.FAILED
    assert "holds no fit of xharmonize and stays" in err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tile", 300], "makes no look-up tables"),
        (["--device", "cuda"], "sees no CUDA device"),
        (["--batch-size", 0], "no number of tiles"),
    ],
)
def test_what_a_generator_cannot_do_is_one_line(
    capsys, scenes, bundle, tmp_path, options, complaint
):
    import torch

    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    options = [*PAIR[:2], "--model", bundle, "--skip-check", *options]
    code, _, err = call(capsys, "harmonize", scenes, *options, "--out", tmp_path / "o.zarr")
    assert code == console.FAILED
    assert complaint in err
    assert "Traceback" not in err


def test_a_table_takes_no_network_options(capsys, scenes, tmp_path):
    for option in (["--pad"], ["--batch-size", 4]):
        code, _, err = call(
            capsys, "harmonize", scenes, *PAIR[:2], *option, "--skip-check", "--out", tmp_path / "o"
        )
        assert code == console.FAILED
        assert "'hls-v2'" in err


def test_models_are_listed_and_shown(capsys, bundle, histogram, monkeypatch):
    monkeypatch.setenv("XHARMONIZE_MODELS", str(bundle.parent))
    code, out, _ = call(capsys, "models")
    assert code == 0
    assert "small" in out
    for name in ("small", bundle):
        code, out, _ = call(capsys, "models", "show", name)
        assert code == 0
        assert xh.load_model(bundle).ref.digest in out
        assert "tiles of 8 pixels" in out
    assert "histogram" in call(capsys, "models", "show", histogram)[1]
    assert "doi:" in call(capsys, "models", "show", "hls-v2")[1]
    monkeypatch.setenv("XHARMONIZE_MODELS", str(bundle.parent / "none"))
    assert f"names no folder {bundle.parent / 'none'}" in call(capsys, "models")[2]
    code, _, err = call(capsys, "models", "show", "nothing")
    assert code == console.FAILED
    assert "no model and no file 'nothing'" in err
