"""check_radiometry: which bands and how many dates show that an offset was missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cli.inputs import Contradiction, check
from xharmonize.cube.check import list_findings
from xharmonize.report.facts import radiometry_rows
from xharmonize.testing import example_cube

SHAPE = (60, 60)
BRIGHT = ["nir08", "swir16"]


def dated(n: int, bands: list[str], *, level: float = 0.0, **options) -> xr.DataArray:
    """Reflectance of `n` dates without a claimed offset, its darkest pixels at `level`."""
    days = pd.date_range("2021-06-01T10:50", periods=n, freq="5D").astype(str)
    cube = example_cube(bands=bands, shape=SHAPE, dates=list(days), **options)
    lift = level - cube.isel(band=0).quantile(0.01, ["y", "x"]).drop_vars("quantile")
    return cube.copy(data=(cube + lift).astype("float32").transpose(*cube.dims).data)


@pytest.mark.parametrize("bands", [BRIGHT, ["nir"], ["swir22"], ["rededge071"]])
def test_bands_that_are_bright_by_nature_cannot_tell(bands):
    table = xh.check_radiometry(dated(4, bands, level=0.11))
    assert set(table["verdict"]) == {"cannot tell"}
    assert not table["is_contradiction"].any()
    assert table["message"].str.contains("coastal, blue, green, red").all()
    (line,) = list_findings(table)
    assert line.startswith("4 dates: cannot tell")


@pytest.mark.parametrize("band", ["coastal", "blue", "green", "red"])
def test_a_missed_offset_shows_in_every_visible_band(band):
    table = xh.check_radiometry(dated(4, [band, *BRIGHT], level=0.11))
    assert set(table["verdict"]) == {"offset missed"}
    assert table["is_contradiction"].all()
    assert set(table["band"]) == {band}


@pytest.mark.parametrize("bands", [BRIGHT, ["swir16"]])
def test_what_no_surface_can_be_is_found_in_any_band(bands):
    table = xh.check_radiometry(dated(2, bands, level=-0.07))
    assert set(table["verdict"]) == {"offset applied twice"}
    assert table["is_contradiction"].all()


@pytest.mark.parametrize("n", [1, 3, 9])
def test_one_hazy_date_contradicts_nothing(n):
    cube = dated(n, ["blue", "red", "nir08"], level=0.02)
    hazy = dated(n, ["blue", "red", "nir08"], level=0.125)
    table = xh.check_radiometry(xr.concat([hazy[:1], cube[1:]], "time"))
    assert list(table["verdict"]) == ["offset missed", *["ok"] * (n - 1)]
    assert not table["is_contradiction"].any()
    assert "haze" in table["message"][0]
    assert len(list_findings(table)) == 1


@pytest.mark.parametrize(("n_missed", "n", "expected"), [(2, 2, 2), (2, 8, 2), (2, 9, 0)])
def test_dates_of_a_baseline_that_look_alike_are_no_haze(n_missed, n, expected):
    cube = dated(n, ["blue", "red"], level=0.02)
    missed = dated(n, ["blue", "red"], level=0.11)
    table = xh.check_radiometry(xr.concat([missed[:n_missed], cube[n_missed:]], "time"))
    assert table["is_contradiction"].sum() == expected


def test_brighter_dates_of_the_baseline_speak_for_an_offset_too():
    cube = xr.concat([dated(1, ["blue"], level=0.11), dated(3, ["blue"], level=0.15)[1:]], "time")
    table = xh.check_radiometry(cube)
    assert list(table["verdict"]) == ["offset missed", "ok", "ok"]
    assert list(table["is_contradiction"]) == [True, False, False]


def test_dates_of_which_pixels_cannot_tell_do_not_count_as_clear():
    cube = dated(8, ["blue", "nir08"], level=0.11)
    cube[2:] = float("nan")
    table = xh.check_radiometry(cube)
    assert table["is_contradiction"].sum() == 2


@pytest.mark.parametrize(("level", "verdict"), [(0.1, "ok"), (0.75, "cannot tell")])
def test_landsat_without_visible_bands(level, verdict):
    cube = dated(2, ["nir08"], level=level, sensor="landsat-c1-sr", platform="landsat-8")
    assert set(xh.check_radiometry(cube)["verdict"]) == {verdict}


@pytest.mark.slow
def test_on_real_dates(data):
    catalog = data / "flanders-2018" / "catalog.json"
    options = {"collection": "sentinel-2-l2a"}
    table = xh.check_radiometry(xh.open_stac(catalog, bands=BRIGHT, **options))
    told = table[~table["message"].str.contains("too few")]
    assert set(told["verdict"]) == {"cannot tell", "all masked"}
    assert len(table) - len(told) < 10
    cube = xh.open_stac(catalog, bands=["blue", "green", "red"], **options)
    table = xh.check_radiometry(cube)
    hazy = table[table["verdict"] == "offset missed"]
    assert [str(time)[:10] for time in hazy["time"]] == ["2018-09-08"]
    assert not table["is_contradiction"].any()
    found = xh.check_radiometry(cube + 0.1)  # as if it were still in the pixels
    assert found["is_contradiction"].sum() == 41


@pytest.fixture(params=["clean", "hazy", "missed", "twice", "numbers", "bright bands", "masked"])
def doubtful(request):
    kind, missed = request.param, dated(8, ["blue", "red"], level=0.11)
    if kind == "hazy":
        return xr.concat([missed[:1], dated(8, ["blue", "red"], level=0.02)[1:]], "time")
    if kind == "missed":
        return missed
    if kind == "masked":
        return missed.where(missed["time"] > missed["time"][-2])
    if kind == "numbers":
        return missed * np.float32(1e4)
    if kind == "bright bands":
        return dated(3, BRIGHT, level=0.11)
    return dated(3, ["blue", "red"], level=-0.07 if kind == "twice" else 0.02)


def judged(cube, capsys) -> tuple[str, str]:
    """What the command line and the report conclude; the first refuses where dates contradict."""
    capsys.readouterr()
    refusal = ""
    try:
        check(cube, refuse=True)
    except Contradiction as error:
        refusal = str(error)
    said = refusal or capsys.readouterr().err
    notes = radiometry_rows(cube)[1]
    return said.lower(), notes[0].lower() if notes else ""


def test_the_command_line_and_the_report_conclude_the_same(doubtful, capsys):
    said, noted = judged(doubtful, capsys)
    n = int(xh.check_radiometry(doubtful)["is_contradiction"].sum())
    assert noted in said
    assert bool(noted) == bool(list_findings(xh.check_radiometry(doubtful)))
    assert ("contradict the metadata" in noted) == ("nothing was written" in said) == (n > 0)


def test_they_conclude_the_same_on_real_dates(data, capsys):
    cube = xh.open_stac(
        data / "flanders-2018" / "catalog.json",
        collection="sentinel-2-l2a",
        datetime="2018-07/2018-09",
        bands=["blue", "red"],
    ).load()
    for shift, wrong in ((0, False), (0.1, True)):
        said, noted = judged(cube + np.float32(shift), capsys)
        assert noted in said
        assert ("contradict the metadata" in noted) == ("nothing was written" in said) == wrong
