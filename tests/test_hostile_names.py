"""Names, titles and attributes that others wrote are shown as they are, wherever they are shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.commands import call
from helpers.items import sentinel2

import xharmonize as xh
from xharmonize.testing import example_cube

ORDERS = "\x1b[31m\x9b2J\u202e"
FORMULA = r"$\frac{1}{$ & <script>alert(1)</script>"


def test_info_gives_no_orders_to_the_terminal(tmp_path, capsys):
    item = sentinel2(tmp_path)
    item["id"] = f"s2{ORDERS}[bold red]"
    item["properties"]["grid:code"] = f"x{ORDERS}"
    path = tmp_path / "items.json"
    path.write_text(json.dumps(item))
    code, out, err = call(capsys, "info", path)
    assert code == 0, err
    assert r"s2\x1b[31m\x9b2J\u202e[boldred]" in "".join(out.split())
    assert not {"\x1b", "\x9b", "\u202e"} & set(out + err)


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": f"x{ORDERS}"},
        {"properties": {"datetime": f"x{ORDERS}"}},
        {"properties": 3},
        {"assets": {"red": 3}},
        {"collection": [3]},
        {"id": None},
    ],
    ids=str,
)
def test_a_malformed_item_is_one_line_on_the_command_line(tmp_path, capsys, change):
    path = tmp_path / "items.json"
    path.write_text(json.dumps(sentinel2(tmp_path) | change))
    code, _, err = call(capsys, "info", path)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "\x1b" not in err


def hostile_cube():
    cube = example_cube(bands=("red", "nir08"))
    names = np.full(cube.sizes["time"], FORMULA + ORDERS)
    cube = cube.assign_coords(sensor=("time", names), platform=("time", names))
    cube.attrs |= {"long_name": FORMULA + ORDERS, "units": "$1$", "history": FORMULA + ORDERS}
    return cube


def test_figures_set_no_formulas(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.text import Text

    cube = hostile_cube()
    figures = {
        "timeline": xh.plot.timeline(cube, title=FORMULA),
        "maps": xh.plot.maps(cube.isel(time=[0]), titles=[FORMULA + ORDERS]),
        "series": xh.plot.series(cube, band="red", title=FORMULA),
        "scatter": xh.plot.scatter(cube, cube, title=FORMULA),
        "errors": xh.plot.errors(cube, cube, title=FORMULA),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")  # a broken formula would raise here
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert any("frac" in text for text in texts), name
        assert not any(set("\x1b\x9b\u202e") & set(text) for text in texts), name


def test_a_report_escapes_what_a_cube_says(tmp_path):
    pytest.importorskip("matplotlib")
    cube = hostile_cube()
    cube = cube.assign_coords(sensor=("time", ["sentinel-2-l2a"] * cube.sizes["time"]))
    path = xh.write_report(cube, tmp_path / "r.html", title=FORMULA + ORDERS + "\ud800")
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not set("\x1b\x9b\u202e") & set(page)


def test_names_lead_to_no_files_elsewhere(tmp_path):
    cube = example_cube(bands=("red", "nir08"))
    cube = cube.assign_coords(item_id=("time", ["../../a", "..", "/b\x1b"]))
    whole = cube.to_dataset(name="reflectance")
    whole["../../../up"] = cube.isel(band=0, drop=True)
    xh.to_cogs(whole, tmp_path / "in" / "cogs", collection="../../c")
    written = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*.tif")}
    assert written == {("in", "cogs")}
    whole["a/b"] = whole["a_b"] = cube.isel(band=0, drop=True)
    with pytest.raises(xh.errors.StoreError, match="two layers would be written as 'a_b'"):
        xh.to_cogs(whole, tmp_path / "in" / "twice")


@pytest.mark.parametrize("prefix", ["s2:", "my:", ""])
def test_a_cube_states_the_offset_applied_under_any_prefix(prefix):
    cube = example_cube(bands=("red",))
    raw = (cube * 10_000).round().astype("uint16").drop_vars(
        [name for name in cube.coords if name not in ("time", "band", "y", "x", "spatial_ref")]
    )  # fmt: skip
    raw = raw.assign_coords({f"{prefix}boa_offset_applied": True})
    options = {"sensor": "sentinel-2-l2a", "platform": "sentinel-2a"}
    settled = xh.describe(raw, **options, processing_baseline="05.09")
    assert settled["offset"].values.max() == settled["offset"].values.min() == 0.0
