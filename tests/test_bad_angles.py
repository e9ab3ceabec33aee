"""Bad angles, one test each: an error with item and asset, or a rule. Listed in the reference."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.angles import smooth, write_bands, write_granule

import xharmonize as xh
from xharmonize.harmonizers import angles_from_items
from xharmonize.io.angles.markup import MAX_BYTES
from xharmonize.io.angles.products import read_granule
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
DATE = ("2018-07-01T10:50",)
ORIGIN = (501360.0, 5629680.0)
NAMES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")


def cube_of(**options) -> xr.DataArray:
    cube = example_cube(dates=DATE, **options)
    return cube.assign_coords(tile=("time", ["31UES"]))


def refused(source, *words, like=None) -> None:
    """Reading fails with these words, the item and the asset; so does what is made of it."""
    like = cube_of() if like is None else like
    angles = xh.read_angles(source, like=like)
    with pytest.raises(xh.errors.AssetReadError) as caught:
        angles.compute()
    for word in ("item 'sentinel-2a-0'", *words):
        assert word in str(caught.value)
    with pytest.raises(xh.errors.AssetReadError):
        xh.nbar(like.chunk(), angles).compute()


def item(**assets) -> dict:
    return {
        "id": "sentinel-2a-0",
        "properties": {"datetime": "2018-07-01T10:50:00Z"},
        "assets": {key: {"href": href} for key, href in assets.items()},
    }


def per_pixel(cube, **values) -> xr.Dataset:
    given = {"sun_zenith": 40.0, "sun_azimuth": 150.0, "view_zenith": 7.0, "view_azimuth": 100.0}
    shape = tuple(cube.sizes[d] for d in ("time", "y", "x"))
    coords = {d: cube[d].values for d in ("time", "y", "x")}
    fields = {n: (("time", "y", "x"), np.full(shape, v)) for n, v in (given | values).items()}
    return xr.Dataset(fields, coords=coords)


def test_landsat_pointing_for_its_view():
    stated = {"datetime": "2018-07-01T10:40:00Z", "view:sun_elevation": 54, "view:sun_azimuth": 150}
    for name, extra in (
        ("LC08_L2SP_199025_20180701_20200831_02_T1", {"view:off_nadir": 0}),
        ("LC08_L2SP_199025_20180701_20200831_02_T1", {"view:off_nadir": 7.2}),
        ("scene", {"view:off_nadir": 3, "platform": "LANDSAT_9"}),
        ("scene", {"eo:off_nadir": 3, "constellation": "landsat"}),
        ("S2A_31UES_20180701_0_L2A", {"view:off_nadir": 0}),
    ):
        angles = angles_from_items([{"id": name, "properties": stated | extra}])
        assert np.isnan(angles["view_zenith"]).all(), (name, extra)
        cube = cube_of()
        with pytest.raises(xh.errors.RadiometryError, match=r"off_nadir.*points, .*read_angles"):
            xh.nbar(cube, angles.assign_coords(time=cube.time, item_id=cube.item_id))
    seen = stated | {"view:off_nadir": 8.0, "view:azimuth": 100.0}
    assert float(angles_from_items([{"id": "S2A_x", "properties": seen}])["view_zenith"][0]) == 8


def test_an_angle_of_an_item_that_is_no_number():
    properties = {"datetime": "2018-07-01T10:40:00Z", "view:sun_azimuth": "south"}
    with pytest.raises(
        xh.errors.CatalogError, match="item 'a': properties > view:sun_azimuth is 'south'"
    ):
        angles_from_items([{"id": "a", "properties": properties}])


def test_item_without_angles():
    with pytest.raises(
        xh.errors.RadiometryError, match=r"'sentinel-2a-0' has no angles: .*\['red'\]"
    ):
        xh.read_angles([item(red="B04.tif")], like=cube_of())
    with pytest.raises(xh.errors.RadiometryError, match=r"lacks the angle bands \['VZA', 'VAA'\]"):
        xh.read_angles([item(SZA="a.tif", SAA="b.tif")], like=cube_of())


def test_date_without_an_item():
    other = item(granule_metadata="MTD_TL.xml") | {"id": "other"}
    with pytest.raises(
        xh.errors.TimeAxisError, match=r"no item for 1 .*'sentinel-2a-0'.*\['other'\]"
    ):
        xh.read_angles([other], like=cube_of())
    with pytest.raises(xh.errors.TimeAxisError, match="1 files for 3 dates"):
        xh.read_angles("MTD_TL.xml", like=example_cube())
    with pytest.raises(
        xh.errors.TimeAxisError, match=r"no file for 1 items, the first 'sentinel-2a-0'"
    ):
        xh.read_angles({"other": "MTD_TL.xml"}, like=cube_of())


def test_file_that_is_not_there(tmp_path):
    path = str(tmp_path / "MTD_TL.xml")
    refused([item(granule_metadata=path)], "'granule_metadata'", path, "No such file")
    refused("http://127.0.0.1:9/MTD_TL.xml", "'granule_metadata'", "refused")
    refused([item(**dict.fromkeys(("SZA", "SAA", "VZA", "VAA"), path))], "'SZA'", path)


def test_server_that_drips_or_breaks_off(monkeypatch):
    from xharmonize.io.angles import markup

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            if "cut" in self.path:
                self.wfile.write(b"<a>")
                return
            for _ in range(100):
                time.sleep(0.02)
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

        def log_message(self, *_):
            pass

    monkeypatch.setattr(markup, "LONGEST", 0.2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        refused(f"{base}/MTD_TL.xml", "takes longer than 0.2 s")
        refused(f"{base}/cut/MTD_TL.xml")
    finally:
        server.shutdown()
        server.server_close()


def test_metadata_of_another_tile_or_day(tmp_path):
    refused(write_granule(tmp_path / "a.xml", tile="32UAB"), "of tile 32UAB, the item of 31UES")
    late = write_granule(tmp_path / "b.xml", time="2018-07-06T10:50:00Z")
    refused(late, "sensed at 2018-07-06", "2018-07-01T10:50")


def test_angles_of_elsewhere(tmp_path):
    refused(write_granule(tmp_path / "a.xml", corner=(699960.0, 5630040.0)), "elsewhere")
    field = [np.full((8, 9), n) for n in (4000, 15000, 500, 10000)]
    far = write_bands(tmp_path, field, origin=(ORIGIN[0] + 9000, ORIGIN[1]))
    refused([far], "'SZA'", "elsewhere")


def test_angle_bands_on_several_grids(tmp_path):
    field = [np.full((80, 90), n) for n in (4000, 15000, 500, 10000)]
    paths = write_bands(tmp_path, field, origin=ORIGIN)
    (tmp_path / "x").mkdir()
    odd = write_bands(tmp_path / "x", field, origin=(ORIGIN[0] + 30, ORIGIN[1]))
    refused([paths | {"VZA": odd["VZA"]}], "'VZA'", "another grid than the sun zenith")


def test_truncated_or_foreign_xml(tmp_path):
    path = Path(write_granule(tmp_path / "a.xml"))
    whole = path.read_bytes()
    for part in (whole[:-400], whole[:90], b"", b"\x00\x01 no markup"):
        path.write_bytes(part)
        refused(str(path), "no whole XML document")
    path.write_text("<n1:Level-2A_User_Product xmlns:n1='x'/>")
    refused(str(path), "Level-2A_User_Product", "not MTD_TL.xml")
    for odd, words in (
        (whole.replace(b"EPSG:32631", b""), "HORIZONTAL_CS_CODE"),
        (whole.replace(b'bandId="3"', b'bandId="33"'), "bandId '33'"),
        (whole.replace(b'bandId="3"', b'bandId="4"'), "no view grid of B04"),
        (whole.replace(b"40.000000", b"forty", 1), "no number"),
        (whole.replace(b"40.000000", b"NaN", 1), "the sun grid has gaps"),
        (whole.replace(b"<VALUES>40.000000 ", b"<VALUES>", 1), "rows of [22, 23] values"),
        (whole.replace(b">5000<", b">0<"), "a step of 0"),
    ):
        path.write_bytes(odd)
        refused(str(path), words)
    (tmp_path / "b.xml.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03 no deflate")
    refused(str(tmp_path / "b.xml.gz"), "gzip is damaged")


def test_random_damage_to_xml(tmp_path):
    """Whatever bytes are changed, it is read or refused with words."""
    whole = Path(write_granule(tmp_path / "a.xml", views={(1, 1): smooth(8, 100)})).read_bytes()
    random, n_refused = np.random.default_rng(0), 0
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(0, 256)
        try:
            read_granule(bytes(content), ("B02",))
        except ValueError:  # and nothing else
            n_refused += 1
    assert n_refused > 20
    for odd in (
        b"<?xml version='1.0' encoding='nobody'?><a/>",
        b"<?xml version='1.0' encoding='big5'?><a/>",
    ):
        with pytest.raises(ValueError, match=r"encoding|XML"):
            read_granule(odd)
    bogus = tmp_path / "b.xml"
    bogus.write_bytes(whole.replace(b"EPSG:32631", b"EPSG:99999999"))
    refused(str(bogus), "names no CRS", like=cube_of(bands=("blue",)))


def test_xml_bomb(tmp_path):
    import gzip

    bomb = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    refused(write_granule(tmp_path / "a.xml", head=bomb), "declares a document type")
    file = f'<!DOCTYPE a [<!ENTITY a SYSTEM "file://{tmp_path}/a.xml">]>'
    refused(write_granule(tmp_path / "b.xml", head=file), "declares a document type")
    (tmp_path / "c.xml").write_text("<a>" * 100_000)
    refused(str(tmp_path / "c.xml"), "nested more than 64 deep")
    with gzip.open(tmp_path / "d.xml.gz", "wb", compresslevel=1) as packed:
        packed.write(b" " * (MAX_BYTES + 1))
    refused(str(tmp_path / "d.xml.gz"), "larger than 32 MiB")


def test_angles_in_radians(tmp_path):
    cube = cube_of()
    sun = tuple(np.radians(value) for value in smooth())
    refused(write_granule(tmp_path / "a.xml", sun=sun), "radians")
    short = per_pixel(cube, sun_zenith=np.radians(40.0))
    with pytest.raises(xh.errors.RadiometryError, match="these are radians"):
        xh.nbar(cube, short)
    with pytest.raises(xh.errors.RadiometryError, match="these are radians"):
        xh.nbar(cube.chunk(), short.chunk()).compute()
    named = per_pixel(cube)
    named["view_azimuth"].attrs["units"] = "radian"
    with pytest.raises(
        xh.errors.RadiometryError, match=r"view_azimuth is in 'radian'.*np\.degrees"
    ):
        xh.nbar(cube, named)
    per_item = per_pixel(cube).isel(y=0, x=0, drop=True).map(np.radians)
    with (
        pytest.warns(xh.errors.RadiometryWarning, match="per item"),
        pytest.raises(xh.errors.RadiometryError, match="these are radians"),
    ):
        xh.nbar(cube, per_item)


def test_encoded_angles(tmp_path):
    cube = cube_of()
    for name, value in (("sun_zenith", 4000.0), ("view_zenith", -7.0), ("view_azimuth", 40000.0)):
        with pytest.raises(
            xh.errors.RadiometryError, match="no degrees: are they encoded, or fill"
        ):
            xh.nbar(cube, per_pixel(cube, **{name: value}))
    field = [np.full((80, 90), n) for n in (40000, 15000, 500, 10000)]
    paths = write_bands(tmp_path, field, origin=ORIGIN, dtype="float32")
    assert np.isnan(xh.read_angles([paths], like=cube)["sun_zenith"]).all()  # fill
    field[0] = field[0] - 1
    paths = write_bands(tmp_path, field, origin=ORIGIN, dtype="float32")
    refused([paths], "'SZA'", "no degrees")


def test_angles_per_band_that_do_not_fit():
    cube = cube_of()
    whole = per_pixel(cube)
    spread = whole[["view_zenith", "view_azimuth"]].expand_dims(band=["blue", "red"])
    with pytest.raises(xh.errors.BandError, match=r"not \['green', 'nir08', 'swir16', 'swir22'\]"):
        xh.nbar(cube, whole.assign(spread))
    both = cube.sel(band=["red", "blue"])
    with pytest.raises(
        xh.errors.RadiometryError, match="one of view_zenith and view_azimuth is per band"
    ):
        xh.nbar(both, whole.assign(view_azimuth=spread["view_azimuth"]))
    with pytest.raises(xh.errors.RadiometryError, match="sun_zenith has dimensions"):
        xh.nbar(both, whole.assign(sun_zenith=whole["sun_zenith"].expand_dims(band=["red"])))
    swapped = xh.nbar(both, whole.assign(spread))  # by name, in whatever order
    xr.testing.assert_allclose(swapped, xh.nbar(both, whole))


def test_items_that_are_not_told_apart():
    cube = example_cube()
    same = cube.assign_coords(item_id=("time", ["unknown"] * 3))
    angles = xr.concat(
        [per_pixel(cube.isel(time=[i]), view_zenith=5.0 * i) for i in range(3)], "time"
    )
    named = angles.assign_coords(item_id=("time", ["unknown"] * 3))
    xr.testing.assert_equal(xh.nbar(same, named), xh.nbar(same, angles))
    turned = xh.nbar(same, named.isel(time=[2, 0, 1]))
    xr.testing.assert_equal(turned, xh.nbar(same, angles))
    twice = named.isel(time=[0, 0, 1, 2])
    with pytest.raises(xh.errors.TimeAxisError, match="several entries for one time"):
        xh.nbar(same, twice)


def test_cube_that_does_not_say_its_items():
    with pytest.raises(xh.errors.ContractError, match="needs time, y, x and item_id"):
        xh.read_angles("MTD_TL.xml", like=cube_of().drop_vars("item_id"))
    with pytest.raises(xh.errors.ContractError, match="needs time, y, x and item_id"):
        xh.read_angles("MTD_TL.xml", like=cube_of().isel(time=0))


def test_the_reference_lists_every_test():
    section = PAGE.read_text(encoding="utf-8").partition("## Angles")[2].partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
