"""The command line, called as a user calls it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
import zarr
from helpers.commands import call

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.server import read_catalog, serve
from xharmonize.plot.overview import place_of
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

SOURCE, TARGET = "sentinel-2-l2a", "landsat-c2-l2"
PAIR = ["--source-collection", SOURCE, "--target-collection", TARGET]
SHORT = ["--start", "2022-06-08", "--end", "2022-06-12"]
COMMANDS = ["demo", "fill", "fit", "harmonize", "info", "models", "sharpen", "simulate", "train"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(300, 300),
        start="2022-06-08",
        end="2022-06-14",
        cloudiness=0.1,
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


def test_the_installed_command_prints_its_version():
    command = Path(sys.executable).with_name("xharmonize")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == xh.__version__


@pytest.mark.slow
def test_python_dash_m_is_the_command_too():
    command = [sys.executable, "-m", "xharmonize", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == xh.__version__


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_states_the_exit_codes(capsys):
    assert "Exit codes: 0 done" in call(capsys, "--help")[1].replace("\n ", " ")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["harmonize", "c.json"], "nothing to write"),
        (["harmonize", "c.json", "--out", "a", "--upsert", "--overwrite"], "give one"),
        (["harmonize", "c.json", "--out", "a", "--bbox", "1,2"], "not four numbers"),
        (["harmonize", "c.json", "--out", "a", "--to", "mars"], "mars"),
        (["harmonise"], "No such command"),
        (["harmonize", "c.json", "--out", "a", "--point", "3,50"], "give --figures"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments, complaint):
    code, _, err = call(capsys, *arguments)
    assert code == console.USAGE
    assert complaint in " ".join(err.replace("│", " ").split())


def test_an_error_of_ours_is_one_line_and_exit_code_1(capsys, tmp_path):
    code, out, err = call(capsys, "info", tmp_path / "nothing.json")
    assert code == console.FAILED
    assert out == ""
    assert err.startswith("error: ")
    assert "nothing.json" in err
    assert len(err.strip().splitlines()) == 1


def test_an_unreachable_api_is_named(capsys):
    code, _, err = call(capsys, "info", "http://127.0.0.1:9/")
    assert code == console.FAILED
    assert "127.0.0.1:9" in err


def test_models_are_listed_with_their_source(capsys):
    code, out, _ = call(capsys, "models")
    assert code == 0
    for name in xh.harmonizers.list_models().index:
        assert name in out
    assert "doi:10." in out


def test_harmonize_writes_a_store_cogs_and_figures(capsys, scenes, tmp_path):
    options = [*PAIR, "--datetime", "2022-06", "--index", "ndvi"]
    outputs = ["--out", tmp_path / "n.zarr", "--cogs", tmp_path / "c", "--figures", tmp_path / "f"]
    code, out, err = call(capsys, "harmonize", scenes, *options, *outputs)
    assert code == 0, err
    assert "Pixels against metadata" in out
    stored = xr.open_zarr(tmp_path / "n.zarr", decode_coords="all")
    assert stored.rio.crs.to_epsg() == 32631
    assert set(np.unique(stored["origin"])) <= {0, 1, 2}
    expected = xh.densify(
        xh.open_stac(scenes, collection=TARGET, bands=["red", "nir08"]),
        xh.open_stac(scenes, collection=SOURCE, bands=["red", "nir08"]).harmonize.to_landsat(
            like=xh.open_stac(scenes, collection=TARGET, bands=["red", "nir08"])
        ),
    ).harmonize.index("ndvi")
    actual = xh.open_series(tmp_path / "n.zarr")
    np.testing.assert_allclose(actual["ndvi"], expected["ndvi"], atol=1e-6)
    items = list(
        pystac.Catalog.from_file(tmp_path / "c" / "catalog.json").get_items(recursive=True)
    )
    assert len(items) == stored.sizes["time"]
    with rasterio.open(items[0].make_asset_hrefs_absolute().assets["ndvi"].href) as file:
        assert file.crs.to_epsg() == 32631
    assert {p.name for p in (tmp_path / "f").iterdir()} == {
        "maps.png",
        "series.png",
        "timeline.png",
    }
    assert call(capsys, "info", tmp_path / "n.zarr")[1].count("sentinel-2") >= 1


def test_outputs_are_replaced_or_added_to_only_when_asked(capsys, scenes, tmp_path):
    store = tmp_path / "ndvi.zarr"
    run = ["harmonize", scenes, *PAIR, "--index", "ndvi", "--out", store, "--skip-check"]
    assert call(capsys, *run)[0] == 0
    code, _, err = call(capsys, *run)
    assert (code, "--upsert" in err) == (console.FAILED, True)
    before = xh.open_series(store).load()
    assert call(capsys, *run, "--upsert")[0] == 0
    xr.testing.assert_equal(xh.open_series(store).load(), before)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    code, _, err = call(
        capsys, "harmonize", scenes, *PAIR, "--cogs", tmp_path / "mine", "--overwrite"
    )
    assert (code, "no catalogue written by xharmonize" in err) == (console.FAILED, True)
    assert (tmp_path / "mine" / "notes.txt").exists()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "maps.png").write_text("mine")
    code, _, err = call(
        capsys, "harmonize", scenes, *PAIR, "--cogs", tmp_path / "c", "--figures",
        tmp_path / "figures",
    )  # fmt: skip
    assert (code, "--overwrite" in err) == (console.FAILED, True)
    assert (tmp_path / "figures" / "maps.png").read_text() == "mine"
    assert not (tmp_path / "c").exists()


def test_pixels_that_contradict_metadata_are_refused(capsys, scenes, tmp_path):
    wrong = tmp_path / "wrong"
    shutil.copytree(scenes.parent / SOURCE, wrong)
    for path in wrong.glob("*/*.json"):
        text = path.read_text().replace("05.10", "02.14").replace("N0510", "N0214")
        path.write_text(re.sub(r'("offset": )-0\.1\b', r"\g<1>0.0", text))
    run = ["harmonize", wrong / "collection.json", "--index", "ndvi", "--out", tmp_path / "o.zarr"]
    code, out, err = call(capsys, *run)
    assert code == console.CONTRADICTION, err
    assert "offset missed" in out
    assert not (tmp_path / "o.zarr").exists()
    assert call(capsys, *run, "--force")[0] == 0


@pytest.mark.parametrize(
    ("dates", "index", "said"),
    [("2018-01/2018-02", "ndmi", "cannot tell"), ("2018-09-08", "ndvi", "offset missed")],
)
def test_bright_bands_and_one_hazy_date_stop_no_command(capsys, data, tmp_path, dates, index, said):
    source = data / "flanders-2018" / "catalog.json"
    run = ["--source-collection", SOURCE, "--platform", "sentinel-2", "--datetime", dates]
    code, out, err = call(
        capsys, "harmonize", source, *run, "--index", index, "--out", tmp_path / "o.zarr"
    )
    assert code == 0, err
    assert said in out
    assert "no date contradicts" in err


def test_an_api_is_a_source_too(capsys, scenes, tmp_path):
    items, collections = read_catalog(scenes)
    with serve(items, collections) as url:
        code, _, err = call(capsys, "info", url, "--collection", SOURCE)
        assert (code, "links the local path" in err) == (1, True)
        (allowed,) = re.findall(r"pass (--schemes \S+)", err)
        assert allowed == "--schemes https,http,s3,gs,az,file"
        code, out, _ = call(capsys, "info", url, "--collection", SOURCE, *allowed.split())
        assert (code, SOURCE in out, TARGET in out) == (0, True, False)
        west, south, east, north = items[0]["bbox"]
        inside = f"{west + 0.001},{south + 0.001},{east - 0.001},{north - 0.001}"
        run = ["harmonize", url, *PAIR, "--bbox", inside, "--out", tmp_path / "r.zarr"]
        assert call(capsys, *run, "--bands", "red,nir08", *allowed.split())[0] == 0
    assert list(xh.open_series(tmp_path / "r.zarr")["band"].values) == ["red", "nir08"]


@pytest.mark.slow
def test_the_demo_runs_and_sums_up(capsys, tmp_path):
    run = ["demo", "--out", tmp_path / "demo", "--size", "420", *SHORT]
    code, out, err = call(capsys, *run)
    assert code == 0, err
    assert "Dense NDVI series" in out
    assert len(list((tmp_path / "demo" / "figures").glob("*.png"))) == 3
    assert xh.open_series(tmp_path / "demo" / "ndvi.zarr").sizes["time"] > 2
    (tmp_path / "demo" / "mine.txt").write_text("keep me")
    assert call(capsys, *run)[0] == console.FAILED


def test_simulate_writes_a_catalogue_info_can_read(capsys, tmp_path):
    run = ["simulate", tmp_path / "s", "--size", "120", *SHORT, "--sensor", "landsat-c2-l2"]
    assert call(capsys, *run)[0] == 0
    code, out, _ = call(capsys, "info", tmp_path / "s" / "catalog.json")
    assert (code, "landsat-c2-l2" in out) == (0, True)
    assert call(capsys, "simulate", tmp_path / "t", "--sensor", "eye")[0] == console.FAILED


@pytest.mark.parametrize("command", ["simulate", "demo"])
def test_a_date_that_is_none_is_one_line(capsys, tmp_path, command):
    place = [tmp_path / "s"] if command == "simulate" else ["--out", tmp_path / "s"]
    code, _, err = call(capsys, command, *place, "--start", "2022-13-01")
    assert (code, len(err.strip().splitlines())) == (console.FAILED, 1)
    assert "2022-13-01" in err
    assert not (tmp_path / "s").exists()


def test_simulate_never_removes_what_it_did_not_write(capsys, tmp_path):
    scene = tmp_path / SOURCE / "scene.tif"
    scene.parent.mkdir()
    scene.write_text("keep me")
    code, _, err = call(capsys, "simulate", tmp_path, "--size", "120", *SHORT, "--overwrite")
    assert (code, "no simulation wrote" in err) == (console.FAILED, True)
    assert scene.read_text() == "keep me"
    code, _, err = call(capsys, "demo", "--out", tmp_path)
    assert (code, "other files" in err) == (console.FAILED, True)
    assert scene.exists()


def test_cogs_replace_cogs_but_never_the_scenes_that_are_read(capsys, scenes, tmp_path):
    run = ["harmonize", scenes, *PAIR, "--index", "ndvi", "--skip-check", "--cogs"]
    code, _, err = call(capsys, *run, scenes.parent, "--overwrite")
    assert (code, "no catalogue written by xharmonize" in err) == (console.FAILED, True)
    assert call(capsys, *run, tmp_path / "c")[0] == 0
    before = {path.name for path in (tmp_path / "c").rglob("*")}
    shutil.copytree(tmp_path / "c" / "c", tmp_path / "c" / "stale")
    assert call(capsys, *run, tmp_path / "c", "--overwrite")[0] == 0
    assert {path.name for path in (tmp_path / "c").rglob("*")} == before
    assert pystac.Catalog.from_file(tmp_path / "c" / "catalog.json").id == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_info_reads_cogs_of_reflectance(capsys, scenes, tmp_path):
    run = ["harmonize", scenes, "--source-collection", SOURCE, "--bands", "red, nir08"]
    assert call(capsys, *run, "--cogs", tmp_path / "c", "--skip-check")[0] == 0
    code, out, _ = call(capsys, "info", tmp_path / "c" / "catalog.json", "--items", "0")
    assert (code, "1 DN + 0 [1], nodata nan " in out) == (0, True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--source-collection", SOURCE, "--point", "50,3", "--figures", "f"],
            "give LON,LAT there",
        ),
        (["--source-collection", SOURCE, "--mask", "none", "--dilate", "30"], "drop one"),
        (["--source-collection", SOURCE, "--mask", ","], "names no flag"),
        (["--bands", "red,rededge1"], "name one with --source-collection"),
        (["--source-collection", SOURCE, "--model", "hls-v3"], "no model and no file 'hls-v3'"),
        (["--source-collection", "sentinel-2"], f"ids: it has {TARGET}, {SOURCE}"),
        (["--source-collection", SOURCE, "--index", "ndvy"], "unknown; did you mean 'ndvi'?"),
        (["--source-collection", SOURCE, "--tile", "300"], "'hls-v2' makes no look-up tables"),
        (["--source-collection", SOURCE, "--tables", "no.zarr"], "there are no tables at no.zarr"),
    ],
)
def test_harmonize_refuses_before_it_writes(capsys, scenes, tmp_path, options, complaint):
    out = tmp_path / "o.zarr"
    code, _, err = call(capsys, "harmonize", scenes, *options, "--out", out, "--skip-check")
    assert (code, complaint in err) == (console.FAILED, True), err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert not out.exists()


def test_an_output_below_a_file_is_refused_at_once(capsys, scenes, tmp_path):
    (tmp_path / "file").write_text("keep me")
    run = ["harmonize", scenes, "--source-collection", SOURCE, "--out", tmp_path / "o.zarr"]
    code, out, err = call(capsys, *run, "--figures", tmp_path / "file" / "figures")
    assert (code, out, "cannot be written" in err) == (console.FAILED, "", True)


def test_an_interrupt_is_exit_code_130_and_says_so(tmp_path):
    command = [str(Path(sys.executable).with_name("xharmonize")), "simulate", str(tmp_path / "s")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "Simulating" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == console.INTERRUPTED
    # Python adds lines of its own where the signal meets a callback of C code.
    assert rest.strip().splitlines()[-1].startswith("interrupted: ")


def test_info_says_what_an_interrupted_write_left(capsys, scenes, tmp_path):
    store = tmp_path / "n.zarr"
    run = ["harmonize", scenes, *PAIR, "--index", "ndvi", "--out", store, "--skip-check"]
    assert call(capsys, *run)[0] == 0
    code, out, err = call(capsys, "info", store)
    assert (code, err.strip()) == (0, "Summing up …")
    assert {"ndvi", "origin"} <= set(out.split())
    complete = zarr.open_group(store, mode="r+")["complete"]
    complete[:2] = 0
    assert "2 dates of an interrupted write are hidden" in call(capsys, "info", store)[2]


def test_info_lists_what_a_store_holds(capsys, scenes, tmp_path):
    cube = xh.open_stac(scenes, collection=TARGET, bands=["red"], mask=None)
    cube.harmonize.to_zarr(tmp_path / "plain.zarr")
    code, out, _ = call(capsys, "info", tmp_path / "plain.zarr")
    assert code == 0
    assert "surface reflectance" in out


def test_a_point_outside_is_answered_in_degrees_and_a_point_taken_from_there_is_inside():
    cube = example_cube()
    with pytest.raises(xh.errors.GridError, match=r"point 3,5 lies outside") as caught:
        place_of(cube, (3.0, 5.0))
    west, east, south, north = map(float, re.findall(r"-?\d+\.\d+", str(caught.value)))
    x, y = place_of(cube, ((west + east) / 2, (south + north) / 2))
    assert x == pytest.approx(float(cube["x"].mean()), abs=10)
    assert y == pytest.approx(float(cube["y"].mean()), abs=10)


OptionError, RadiometryError = xh.errors.OptionError, xh.errors.RadiometryError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OptionError("is no time", argument="tolerance", value="x"), "--tolerance x is no time"),
        (OptionError("is odd", argument="bands", value=["a", "b"]), "--bands a,b is odd"),
        (OptionError("is odd", argument="dtype", value="f2"), "dtype='f2' is odd"),
        (OptionError("no pairs", cure="raise tolerance="), "no pairs; raise --tolerance"),
        (OptionError("no", cure="pass platform= one of a, b"), "no; pass --platform one of a, b"),
        (OptionError("bbox=(3.0, 50.0) is no box"), "bbox=(3.0, 50.0) is no box"),
        (OptionError("no", cure="pass schemes=('s3', 'file')"), "no; pass --schemes s3,file"),
        (OptionError("no", cure="tile=3 or method='lut'"), "no; --tile 3 or --method lut"),
        (OptionError("no", cure="give collection="), "no; give --source-collection"),
        (OptionError("there", cure="pass mode='w'"), "there; pass --overwrite"),
        (
            RadiometryError("no", cure="settle it with xh.describe(cube, platform=...)"),
            "no; correct the items with --modifier module:function",
        ),
        (
            OptionError("no", cure="xh.index(cube, platform=...) does"),
            "no; in Python: xh.index(cube, platform=...) does",
        ),
    ],
)
def test_messages_name_options_of_the_running_command(monkeypatch, capsys, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("xharmonize.cli.fit.run", fail)
    code, _, err = call(capsys, "fit", "c.json", *PAIR, "--method", "ols", "--out", "f.zarr")
    assert (code, err) == (console.FAILED, f"error: {said}\n")
    console.complain("error", OptionError("no", cure="raise tolerance="), "red")
    assert capsys.readouterr().err == "error: no; raise tolerance=\n"  # no command runs


def test_all_warnings_of_the_package_are_lines(monkeypatch, capsys):
    def warned(*_, **__):
        for kind in (xh.errors.GridWarning, xh.errors.RadiometryWarning, DeprecationWarning):
            warnings.warn(f"{kind.__name__}\nof two lines: pass platform=", kind, stacklevel=1)
        raise xh.errors.FitError("done")

    monkeypatch.setattr("xharmonize.cli.fit.run", warned)
    _, _, err = call(capsys, "fit", "c.json", *PAIR, "--method", "ols", "--out", "f.zarr")
    assert err.splitlines() == [
        "warning: GridWarning of two lines: pass --platform",
        "warning: RadiometryWarning of two lines: pass --platform",
        "error: done",
    ]


def test_a_store_of_a_result_can_be_looked_at(capsys, tmp_path):
    cube = example_cube(dates=[f"2018-{month:02}-05T10:50" for month in range(1, 13)])
    xh.to_zarr(cube.harmonize.index("ndvi").harmonize.phenology(), tmp_path / "s.zarr")
    code, out, err = call(capsys, "info", tmp_path / "s.zarr")
    assert code == 0, err
    assert "end minus start" in out
    run = ["plot", "maps", tmp_path / "s.zarr", "--out", tmp_path / "s.png"]
    assert call(capsys, *run)[0] == 0
    code, _, err = call(capsys, "report", tmp_path / "s.zarr", "--out", tmp_path / "s.html")
    assert (code, len(err.strip().splitlines()) <= 3) == (console.FAILED, True)
