"""``xharmonize score``, ``plot`` and ``report``."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.commands import call

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.testing import example_cube

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of a reference, a prediction a day later, both merged, and the NDVI of these."""
    folder = tmp_path_factory.mktemp("stores")
    landsat = example_cube("landsat-c2-l2", platform="landsat-8", resolution=10.0)
    raw = example_cube().assign_coords(time=landsat["time"].values + np.timedelta64(1, "D"))
    pred = xh.to_landsat(raw, "hls-v2")
    merged = xh.densify(landsat, pred)
    cubes = {"ref": landsat, "source": raw, "pred": pred, "dense": merged}
    for name, cube in (cubes | {"ndvi": xh.index(merged, "ndvi")}).items():
        xh.to_zarr(cube, folder / f"{name}.zarr")
    return folder


BOTH = ["--sensor", "sentinel-2-l2a", "--reference-sensor", "landsat-c2-l2"]


def test_score_prints_and_writes_what_the_function_gives(capsys, stores, tmp_path):
    run = ["score", stores / "pred.zarr", stores / "ref.zarr", "--metrics", "n,rmse,sam"]
    code, out, err = call(capsys, *run, "--out", tmp_path / "s.csv")
    assert code == 0, err
    assert "sam [rad]" in out
    pairs = xh.match_pairs(
        xh.open_series(stores / "pred.zarr"), xh.open_series(stores / "ref.zarr")
    )
    expected = xh.score(pairs["source"], pairs["target"], ["n", "rmse", "sam"]).compute()
    table = pd.read_csv(tmp_path / "s.csv").set_index(["metric", "band"])
    for band in expected["band"].values:
        rmse = float(expected["rmse"].sel(band=band))
        assert table.loc[("rmse", band), "value"] == pytest.approx(rmse)
        assert f"{rmse:.4g}" in out
    assert table.loc[("sam", "all"), "value"] == pytest.approx(float(expected["sam"]))
    assert table.loc[("sam", "all"), "units"] == "rad"


def test_score_compares_two_sensors_of_one_store_in_groups(capsys, stores, tmp_path):
    run = ["score", stores / "dense.zarr", *BOTH, "--by", "platform", "--metrics", "rmse,cc"]
    code, out, err = call(capsys, *run, "--pooled", "--out", tmp_path / "s.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "s.json").read_text())
    assert [row["metric"] for row in rows] == ["rmse", "cc"]
    assert {row["platform"] for row in rows} == {"sentinel-2a"}
    code, _, err = call(capsys, *run, "--out", tmp_path / "s.json")
    assert (code, "--overwrite" in err) == (console.FAILED, True)
    assert call(capsys, *run, "--pooled", "--out", tmp_path / "s.json", "--overwrite")[0] == 0
    picture = ["plot", "series", stores / "ndvi.zarr", "--out", tmp_path / "s.png"]
    (tmp_path / "s.png").write_text("mine")
    code, _, err = call(capsys, *picture)
    assert (code, "--overwrite" in err) == (console.FAILED, True)
    assert (tmp_path / "s.png").read_text() == "mine"
    assert "sentinel-2a" in out


def test_score_takes_every_metric(capsys, stores, tmp_path):
    xh.to_zarr(xh.open_series(stores / "pred.zarr") + np.float32(0.1), tmp_path / "worse.zarr")
    names = [
        name for name in xh.metrics.list_metrics() if name != "uiqi"
    ]  # its window is 32 pixels
    run = ["score", stores / "pred.zarr", stores / "ref.zarr", "--metrics", ",".join(names)]
    out = tmp_path / "s.csv"
    code, _, err = call(capsys, *run, "--baseline", tmp_path / "worse.zarr", "--out", out)
    assert code == 0, err
    table = pd.read_csv(out)
    assert set(table["metric"]) == set(names)
    assert (table.loc[table["metric"] == "skill", "value"] > 0.5).all()


def test_score_of_an_index(capsys, stores):
    code, out, err = call(capsys, "score", stores / "ndvi.zarr", *BOTH, "--data-range", "2")
    assert (code, "psnr [dB]" in out) == (0, True), err


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [
        ([], "nothing to compare with", console.USAGE),
        (["--out", "s.txt", *BOTH], "neither .csv nor .json", console.USAGE),
        ([*BOTH, "--metrics", "rsme"], "did you mean", console.FAILED),
        ([*BOTH[:2], "--reference-sensor", "modis"], "no date is of 'modis'", console.FAILED),
        ([*BOTH[:2], "--reference-sensor", "landsat-c2"], "did you mean 'landsat", console.FAILED),
        ([*BOTH, "--tolerance", "6h"], "no two dates lie within", console.FAILED),
    ],
)
def test_score_says_what_is_wrong(capsys, stores, arguments, complaint, code):
    found, _, err = call(capsys, "score", stores / "dense.zarr", *arguments)
    assert found == code
    assert complaint in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("kind", "names", "options"),
    [
        ("maps", ["source", "pred", "ref"], ["--stretch", "three-stage", "--time", "2018-07-07"]),
        ("maps", ["ndvi"], ["--stretch", "-1,1"]),
        ("scatter", ["pred", "ref"], ["--bands", "red,nir08"]),
        ("errors", ["dense"], [*BOTH, "--time", "2018-07-06"]),
        ("series", ["ndvi"], ["--smooth", "--title", "NDVI"]),
        ("timeline", ["pred", "ref"], []),
        ("frequency", ["dense"], []),
    ],
)
def test_plot_writes_a_picture(capsys, stores, tmp_path, kind, names, options):
    paths = [stores / f"{name}.zarr" for name in names]
    code, _, err = call(capsys, "plot", kind, *paths, *options, "--out", tmp_path / "p.png")
    assert code == 0, err
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_plot_of_a_fit_and_of_losses(capsys, stores, tmp_path):
    ref, raw = (xh.open_series(stores / f"{name}.zarr") for name in ("ref", "source"))
    fit = xh.harmonizers.fit_tables(raw, xh.harmonizers.fit_histogram(ref, bins=32), tile=60)
    xh.harmonizers.save_model(fit.compute(), tmp_path / "fit.nc")
    pd.DataFrame({"epoch": [1, 2], "generator": [2.0, 1.0]}).to_csv(tmp_path / "l.csv", index=False)
    moved = xr.Dataset(
        {"shift_x": ("time", [1.0, 2.0]), "shift_y": ("time", [0.5, -1.0])},
        {"time": [0, 1], "group": ("time", ["sentinel-2a/3", "sentinel-2b/8"])},
        {"model": "auto"},
    )
    xh.harmonizers.save_model(moved, tmp_path / "auto.nc")
    drawn = (("tables", "fit.nc"), ("training", "l.csv"), ("shifts", "auto.nc"))
    for kind, name in drawn:
        out = tmp_path / f"{kind}.svg"
        code, _, err = call(capsys, "plot", kind, tmp_path / name, "--out", out)
        assert (code, out.exists()) == (0, True), err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["series", "a.zarr", "b.zarr", "--out", "p.png"], "series takes 1 of STORES"),
        (["maps", "a.zarr", "--out", "p.doc"], "neither .png"),
        (["scatter", "a.zarr", "--out", "p.png"], "nothing to compare with"),
        (["maps", "a.zarr", "--point", "3,50", "--out", "p.png"], "no use for --point"),
    ],
)
def test_plot_says_what_is_wrong(capsys, arguments, complaint):
    code, _, err = call(capsys, "plot", *arguments)
    assert code == console.USAGE
    assert complaint in " ".join(err.replace("│", " ").split())


@pytest.mark.slow
def test_report_writes_one_page(capsys, stores, tmp_path):
    out = tmp_path / "r.html"
    run = ["report", stores / "pred.zarr", "--out", out, "--reference", stores / "ref.zarr"]
    code, _, err = call(capsys, *run, "--source", stores / "source.zarr")
    assert code == 0, err
    text = out.read_text(encoding="utf-8")
    assert "HLS v2" in text
    assert "Report on pred.zarr" in text
    code, _, err = call(capsys, *run)
    assert (code, "--overwrite" in err) == (console.FAILED, True)
    code, _, _ = call(capsys, "report", stores / "ref.zarr", "--out", out, "--source", out)
    assert code == console.USAGE
