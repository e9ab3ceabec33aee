"""The report: it says what it should, and needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.errors import ContractError, RadiometryError, StoreError, TimeAxisError
from xharmonize.metrics.pairing import compare, shared_pixels
from xharmonize.report.facts import HLS, IDENTITY, score_rows
from xharmonize.report.write import Html, table, tag
from xharmonize.testing import example_cube

pytest.importorskip("matplotlib")

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects elements, and holds that each is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def read(path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def landsat():
    return example_cube("landsat-c2-l2", platform="landsat-8", resolution=10.0, seed=1)


@pytest.fixture(scope="module")
def source(landsat):
    return example_cube().assign_coords(time=landsat["time"].values + np.timedelta64(1, "D"))


@pytest.fixture(scope="module")
def series(landsat, source):
    return xh.densify(landsat, xh.to_landsat(source, "hls-v2"))


@pytest.fixture(scope="module")
def comparison(landsat, source, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "r.html"
    pred = xh.to_landsat(source, "hls-v2").copy(data=landsat.data + np.float32(0.01))
    path.write_text("mine")
    with pytest.raises(xh.errors.StoreError, match="exists; mode='w' replaces it"):
        xh.write_report(pred, path)
    assert path.read_text() == "mine"
    xh.write_report(pred, path, reference=landsat, source=source, title="A & B <i>", mode="w")
    return read(path)


@pytest.mark.slow
def test_a_comparison_holds_scores_beside_identity_and_hls(comparison):
    text = " ".join(comparison.text)
    assert IDENTITY in text
    assert HLS in text
    assert "ergas" in text
    assert "0.01000" in comparison.text  # RMSE, MAE and bias of the prediction
    assert sum(name == "img" for name, _ in comparison.seen) == 7


def test_a_page_needs_nothing_from_elsewhere(comparison):
    for name, attributes in comparison.seen:
        assert name not in ("script", "link", "iframe", "object")
        for key in ("src", "href"):
            value = attributes.get(key, "#")
            assert value.startswith(("data:image/png;base64,", "#")), value
    policy = [a["content"] for _, a in comparison.seen if "http-equiv" in a]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_a_page_is_accessible(comparison):
    assert ("html", {"lang": "en"}) in comparison.seen
    images = [attributes for name, attributes in comparison.seen if name == "img"]
    assert all(len(image["alt"]) > 20 for image in images)
    heads = [a for name, a in comparison.seen if name == "th"]
    assert all(head["scope"] in ("row", "col") for head in heads)
    tables = sum(name == "table" for name, _ in comparison.seen)
    assert tables == sum(name == "caption" for name, _ in comparison.seen)
    levels = [int(name[1]) for name, _ in comparison.seen if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    targets = {a["id"] for _, a in comparison.seen if "id" in a}
    assert {a["href"][1:] for name, a in comparison.seen if name == "a"} == targets


def test_foreign_text_is_escaped(series, tmp_path):
    evil = "<script>alert('x')</script>&\"\x3c/td>"
    named = series.assign_coords(item_id=("time", np.full(6, evil)))
    named["reflectance"].attrs["history"] = f"open: {evil}"
    named["reflectance"] = named["reflectance"] * 30  # so that the check names the items
    named["reflectance"].attrs = {"history": f"open: {evil}", "units": evil}
    reader = read(xh.write_report(named, tmp_path / "r.html", title=evil, notes=[evil]))
    assert "script" not in {name for name, _ in reader.seen}
    text = "".join(reader.text)
    assert text.count(evil) >= 4
    assert "looks like digital numbers" in text


def test_a_series_says_what_it_is_made_of(series, tmp_path):
    reader = read(series.harmonize.write_report(tmp_path / "r.html"))
    text = " ".join(reader.text)
    for word in ("sentinel-2a", "landsat-8", "hls-v2", "harmonised", "densify", "EPSG:32631"):
        assert word in text
    assert "Step between sensors" in text
    assert xh.__version__ in text
    assert sum(name == "img" for name, _ in reader.seen) == 4


def test_an_index_is_reported_too(series, tmp_path):
    ndvi = xh.index(series, "ndvi")
    text = " ".join(read(xh.write_report(ndvi, tmp_path / "r.html")).text)
    assert "NDVI" in text or "normalized difference" in text


def test_flags_and_mixed_levels_are_warned_of(series, tmp_path):
    flag = xr.zeros_like(series["origin"]) + np.uint8(1)
    level = np.where(np.arange(6) < 2, "NBAR", "SR")
    marked = series.assign(flag=flag).assign_coords(level=("time", level))
    text = " ".join(read(xh.write_report(marked, tmp_path / "r.html")).text)
    assert "100.0 % of the valid values are flagged out_of_domain" in text
    assert "different levels are mixed: NBAR, SR" in text


def test_all_predictions_are_scored_on_the_same_pixels(landsat):
    holes = landsat.where(landsat["x"] > float(landsat["x"][4]))
    later = landsat.isel(time=slice(1, None))
    with pytest.warns(xh.errors.RadiometryWarning, match="an image with itself"):
        pairs = compare({"a": landsat + 0.01, "b": holes, "c": later}, landsat, tolerance="1D")
    overall, by_band = score_rows(pairs)
    assert len({row["n"] for row in overall}) == 1
    expected = int(holes.isel(time=slice(1, None)).notnull().sum())
    assert overall[0]["n"] == expected
    assert len(by_band) == 3 * landsat.sizes["band"]
    assert overall[0]["bias"] == pytest.approx(0.01, abs=1e-6)


def test_what_cannot_be_written_is_refused(series, landsat, tmp_path):
    with pytest.raises(ContractError, match="give reference= too"):
        xh.write_report(series, tmp_path / "r.html", source=landsat)
    with pytest.raises(StoreError, match="cannot be written"):
        xh.write_report(series, tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        xh.write_report(series, tmp_path / "no" / "r.html")
    far = landsat.assign_coords(time=landsat["time"] + np.timedelta64(90, "D"))
    with pytest.raises(TimeAxisError, match="no two dates"):
        xh.write_report(landsat, tmp_path / "r.html", reference=far)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda cube: cube.drop_vars("sensor"),
        lambda cube: cube.isel(time=0),
        lambda cube: cube.where(cube["time"] != cube["time"][0]),
        lambda cube: cube.where(cube > 9),
        lambda cube: cube.sel(band=["red"]).sortby("y"),
    ],
    ids=["no sensor", "no time", "an empty date", "no pixel", "one band"],
)
@pytest.mark.filterwarnings("error")
def test_poor_cubes_are_reported_as_they_are(landsat, tmp_path, change):
    assert "What was used" in read(xh.write_report(change(landsat), tmp_path / "r.html")).text


def test_digital_numbers_are_refused(tmp_path):
    with pytest.raises(RadiometryError, match="decode"):
        xh.write_report(example_cube(is_decoded=False), tmp_path / "r.html")


def test_elements_escape_text_and_attributes():
    made = tag("p", "a < b & c", Html("<b>d</b>"), title='"q"', class_="x")
    assert made == '<p title="&quot;q&quot;" class="x">a &lt; b &amp; c<b>d</b></p>'
    assert table([], caption="none") == ""
    cells = table([{"name": "<x>", "value": float("nan")}], caption="c")
    assert "&lt;x&gt;" in cells
    assert '<td class="number">–</td>' in cells
    two = table([{"name": k, "rmse": 0.1 * k} for k in (1, 2)], caption="c", best={"rmse": 0.1})
    assert '<td class="number"><strong>0.1000</strong></td>' in two
    assert '<td class="number">0.2000</td>' in two


def test_grids_of_one_lattice_are_compared_where_both_are():
    whole = example_cube(bands=("red", "nir08"), shape=(12, 15))
    one, other = whole.isel(y=slice(0, 10), x=slice(3, 15)), whole.isel(y=slice(2, 12))
    first, second = shared_pixels(one, other)
    xr.testing.assert_identical(first, whole.isel(y=slice(2, 10), x=slice(3, 15)))
    xr.testing.assert_identical(second, first)
    elsewhere = whole.assign_coords(x=whole["x"] + 5)
    for cube in (elsewhere, whole.assign_coords(x=whole["x"] + 5000)):
        assert shared_pixels(one, cube)[1].sizes == cube.sizes
