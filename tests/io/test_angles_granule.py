"""Angles per pixel from Sentinel-2's granule metadata."""

from __future__ import annotations

import gzip
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import dask
import numpy as np
import pytest
import xarray as xr
from helpers.angles import CORNER, TILE, N, plain_views, smooth, write_granule
from scipy.interpolate import RegularGridInterpolator

import xharmonize as xh
from xharmonize.testing import assert_lazy, example_cube

ANGLES = ["sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth"]
DATES = ("2018-07-01T10:50", "2018-07-06T10:50")
TIMES = [f"{date}:00.000Z" for date in DATES]


def cube_of(dates=DATES, *, chunks=None, origin=(501360.0, 5629680.0), **options):
    cube = example_cube(dates=dates, origin=origin, chunks=chunks, **options)
    return cube.assign_coords(tile=("time", [TILE] * len(dates)))


def expected(like, values, *, corner=CORNER, step=5000.0):
    """Scipy's bilinear values (y, x) of nodes (23, 23)."""
    y, x = corner[1] - step * np.arange(N), corner[0] + step * np.arange(N)
    field = RegularGridInterpolator((y[::-1], x), np.asarray(values)[::-1])
    return field(np.stack(np.meshgrid(like.y, like.x, indexing="ij"), axis=-1))


def wide_cube(**options):
    """The whole tile at 600 m."""
    return cube_of(origin=CORNER, shape=(183, 183), resolution=600.0, missing=0.0, **options)


def read_one(tmp_path, *, like=None, **options):
    like = wide_cube(dates=DATES[:1]) if like is None else like
    path = write_granule(tmp_path / "MTD_TL.xml", **options)
    return like, xh.read_angles(path, like=like).compute().isel(time=0)


def test_sun_and_view_are_those_of_scipy(tmp_path):
    like, found = read_one(
        tmp_path, views=dict.fromkeys([(b, 1) for b in range(13)], smooth(9, 100))
    )
    for name, values in zip(ANGLES, [*smooth(), *smooth(9, 100)]):
        np.testing.assert_allclose(found[name], expected(like, values), atol=2e-4)
        assert found[name].attrs["units"] == "degree"
        assert found[name].dtype == np.float32
    assert found["sun_zenith"].attrs["standard_name"] == "solar_zenith_angle"
    assert found["view_azimuth"].attrs["standard_name"] == "sensor_azimuth_angle"
    assert found.rio.crs == like.rio.crs


def test_each_band_has_its_own_view(tmp_path):
    like = wide_cube(dates=DATES[:1], bands=("blue", "nir08", "swir22"))
    path = write_granule(tmp_path / "MTD_TL.xml")
    found = xh.read_angles(path, like=like, per_band=True).compute()
    assert found["view_zenith"].dims == ("time", "band", "y", "x")
    assert found["sun_zenith"].dims == ("time", "y", "x")
    for name, number in (("blue", 1), ("nir08", 8), ("swir22", 12)):
        zenith, azimuth = plain_views()[number, 1]
        one = found.sel(band=name).isel(time=0)
        np.testing.assert_allclose(one["view_zenith"], expected(like, zenith), atol=1e-3)
        np.testing.assert_allclose(one["view_azimuth"], expected(like, azimuth), atol=1e-2)


def test_bands_without_views_of_their_own_are_refused_per_band(tmp_path):
    like = cube_of(bands=("blue", "b99"), sensor="sentinel-2-l2a")
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    with pytest.raises(xh.errors.BandError, match=r"b99.*leave out per_band"):
        xh.read_angles(paths, like=like, per_band=True)
    assert np.isfinite(xh.read_angles(paths, like=like)["view_zenith"].values).all()


def test_azimuths_across_north_are_averaged_as_directions(tmp_path):
    """The mean of 350 and 10 degrees is 0, not 180; between nodes too."""
    sun = np.full((N, N), 30.0), np.where(np.arange(N)[None, :] % 2, 10.0, 350.0) * np.ones((N, 1))
    two = {
        (b, d): (np.full((N, N), 5.0), np.full((N, N), a))
        for b in range(13)
        for d, a in ((1, 350.0), (2, 10.0))
    }
    _, found = read_one(tmp_path, sun=sun, views=two)
    off = (found["sun_azimuth"] + 180) % 360 - 180
    assert float(abs(off).max()) <= 10.001
    assert float(abs((found["view_azimuth"] + 180) % 360 - 180).max()) < 1e-4
    assert float(found["view_azimuth"].max()) < 360


def test_a_view_through_nadir_has_no_kink(tmp_path):
    """West of nadir the sensor stands in the east; between nodes zenith falls to 0."""
    place = np.arange(N) - 10.5
    zenith = np.abs(place)[None, :] * 0.36 * np.ones((N, 1))
    azimuth = np.where(place < 0, 90.0, 270.0)[None, :] * np.ones((N, 1))
    views = dict.fromkeys([(b, 1) for b in range(13)], (zenith, azimuth))
    like, found = read_one(tmp_path, views=views)
    x = (like.x.values - CORNER[0]) / 5000 - 10.5
    np.testing.assert_allclose(found["view_zenith"][50], np.abs(x) * 0.36, atol=2e-3)


def detectors(*edges):
    """Views of detectors beside one another, sharing a node; ahead and back in turn."""
    row, column = np.mgrid[:N, :N]
    views = {}
    for number, (first, last) in enumerate(pairwise(edges)):
        zenith, azimuth = 10 - 0.36 * column, 100 + 8.0 * (number % 2) + 0.0 * row
        outside = (column < first) | (column > last)
        for band in range(13):
            views[band, number + 1] = tuple(np.where(outside, np.nan, v) for v in (zenith, azimuth))
    return views


def test_detectors_are_merged_where_they_overlap(tmp_path):
    _, found = read_one(tmp_path, views=detectors(0, 11, 22))
    for column, azimuth in ((5, 100.0), (11, 104.0), (17, 108.0)):
        at = found.sel(x=CORNER[0] + 5000 * column, method="nearest").isel(y=90)
        assert float(at["view_azimuth"]) == pytest.approx(azimuth, abs=0.6)
    exact = cube_of(
        dates=DATES[:1], origin=(CORNER[0] + 55000 - 5, CORNER[1] - 55000 + 5), shape=(2, 2)
    )
    _, at = read_one(tmp_path, like=exact, views=detectors(0, 11, 22))
    assert float(at["view_azimuth"][0, 0]) == pytest.approx(104.0, abs=1e-3)
    assert float(at["view_zenith"][0, 0]) == pytest.approx(10 - 0.36 * 11, abs=0.02)


def test_gaps_at_the_rim_of_the_swath_are_continued_and_no_further(tmp_path):
    """A pixel between the last node of a detector and the next has data, so it has angles."""
    like, found = read_one(tmp_path, views=detectors(0, 11))
    column = (like.x.values - CORNER[0]) / 5000
    row = found["view_zenith"][90].values
    near, far = column < 13, column > 14.01
    np.testing.assert_allclose(row[near], (10 - 0.36 * column)[near], atol=0.01)
    assert np.isnan(row[far]).all()
    assert np.isfinite(found["sun_zenith"]).all()


def test_gzip_and_addresses_are_read_once_per_granule(tmp_path):
    like = cube_of(chunks={"time": 1, "band": 2, "y": 7, "x": 9})
    plain = [write_granule(tmp_path / f"MTD_TL_{i}.xml", time=t) for i, t in enumerate(TIMES)]
    for path in plain:
        with open(path, "rb") as file, gzip.open(path + ".gz", "wb") as packed:
            packed.write(file.read())
    asked = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked[self.path] += 1
            super().do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{base}/MTD_TL_{i}.xml.gz" for i in range(2)]
        remote = xh.read_angles(urls, like=like)
        assert not asked
        nadir = xh.nbar(like, remote).compute()
    finally:
        server.shutdown()
        server.server_close()
    assert asked == {f"/MTD_TL_{i}.xml.gz": 1 for i in range(2)}
    xr.testing.assert_identical(nadir, xh.nbar(like, xh.read_angles(plain, like=like)).compute())


def test_angles_do_not_depend_on_chunks_nor_on_the_area(tmp_path):
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    like = cube_of()
    whole = xh.read_angles(paths, like=like, per_band=True).compute()
    for chunks in ({"time": 1, "y": 5, "x": 7}, {"time": -1, "band": 2, "y": -1, "x": 4}):
        again = xh.read_angles(paths, like=like.chunk(chunks), per_band=True)
        assert again["sun_zenith"].chunksizes["y"] == like.chunk(chunks).chunksizes["y"]
        xr.testing.assert_identical(again.compute(), whole)
    part = {"y": slice(3, 9), "x": slice(11, 20)}
    xr.testing.assert_equal(
        xh.read_angles(paths, like=like.isel(part), per_band=True).compute(), whole.isel(part)
    )
    south_up = like.isel(y=slice(None, None, -1))
    flipped = xh.read_angles(paths, like=south_up)["sun_zenith"]
    np.testing.assert_array_equal(flipped.values[:, ::-1], whole["sun_zenith"].values)


def test_nothing_is_read_while_the_graph_is_built(tmp_path, no_compute):
    like = cube_of(chunks={"time": 1})
    with no_compute():
        angles = xh.read_angles([str(tmp_path / "a.xml"), str(tmp_path / "b.xml")], like=like)
        result = xh.nbar(like, angles)
    assert_lazy(result)
    assert_lazy(angles)


def test_a_thousand_dates_have_a_small_graph():
    dates = tuple(np.datetime_as_string(np.datetime64("2018-01-01") + np.arange(1000)))
    like = cube_of(dates, shape=(4, 4), bands=("red",), chunks={"time": 1})
    angles = xh.read_angles([f"{i}.xml" for i in range(1000)], like=like)
    assert len(dict(angles["sun_zenith"].data.__dask_graph__())) <= 3 * 1000 + 10
    assert len(angles["sun_zenith"].data.dask.layers) < 12


@pytest.mark.slow
def test_threads_and_processes_agree(tmp_path):
    like = cube_of(chunks={"time": 1, "y": 12})
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    angles = xh.read_angles(paths, like=like)
    with dask.config.set(scheduler="processes", num_workers=2):
        apart = angles.compute()
    xr.testing.assert_identical(apart, angles.compute(scheduler="synchronous"))


def test_another_utm_zone_gets_the_same_directions(tmp_path):
    """Pixels of the neighbouring zone are looked up where they lie."""
    from pyproj import Transformer

    path = write_granule(tmp_path / "MTD_TL.xml")
    x, y = Transformer.from_crs(32631, 32632, always_xy=True).transform(550000, 5600000)
    other = cube_of(DATES[:1], crs="EPSG:32632", origin=(x, y), shape=(5, 6), resolution=60.0)
    found = xh.read_angles(path, like=other).isel(time=0)
    gx, gy = np.meshgrid(other.x, other.y)
    own_x, own_y = Transformer.from_crs(32632, 32631, always_xy=True).transform(gx, gy)
    steps = CORNER[1] - 5000 * np.arange(N), CORNER[0] + 5000 * np.arange(N)
    field = RegularGridInterpolator((steps[0][::-1], steps[1]), smooth()[0][::-1])
    np.testing.assert_allclose(found["sun_zenith"], field(np.stack([own_y, own_x], -1)), atol=2e-4)


def item(name, href, *, key="granule_metadata", time="2018-07-01T10:50:00Z", **properties):
    return {
        "type": "Feature",
        "id": name,
        "bbox": [3.0, 50.0, 4.0, 51.0],
        "properties": {"datetime": time, **properties},
        "assets": {key: {"href": href}, "red": {"href": "B04.tif"}},
    }


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("granule_metadata", "metadata.xml"),  # Earth Search, stactools
        ("granule-metadata", "MTD_TL.xml"),  # Planetary Computer
        ("metadata", "metadata.xml"),  # Earth Search v0
        ("mtd", "MTD_TL.xml"),
    ],
)
def test_items_of_any_catalogue(tmp_path, key, file):
    like = cube_of()
    items = []
    for i, (name, date) in enumerate(zip(like.item_id.values, DATES)):
        (tmp_path / str(i)).mkdir()
        href = write_granule(tmp_path / str(i) / file, time=TIMES[i], sun=smooth(40 + i))
        items.insert(0, item(str(name), href, key=key, time=f"{date}:00Z"))
        items[0]["assets"]["product_metadata"] = {"href": str(tmp_path / "product_metadata.xml")}
    found = xh.read_angles(items, like=like)
    np.testing.assert_allclose(found["sun_zenith"].diff("time"), 1.0, atol=1e-3)
    np.testing.assert_array_equal(found["item_id"], like["item_id"])
    by_id = {
        str(name): i["assets"][key]["href"] for name, i in zip(like.item_id.values, items[::-1])
    }
    xr.testing.assert_identical(xh.read_angles(by_id, like=like).compute(), found.compute())


def test_a_date_of_two_items_takes_each_pixel_from_the_one_that_has_it(tmp_path):
    """The western tile ends at x = 502000 here; the eastern one begins there."""
    like = cube_of(DATES[:1], origin=(501360.0, 5629680.0), shape=(24, 120))
    like = like.assign_coords(item_id=("time", ["east|west"]), tile=("time", ["31UDS|31UES"]))
    west = write_granule(
        tmp_path / "w.xml",
        corner=(502000 - 110000, CORNER[1]),
        tile="31UDS",
        sun=smooth(30, slope=0),
    )
    east = write_granule(tmp_path / "e.xml", corner=(502000, CORNER[1]), sun=smooth(40, slope=0))
    found = xh.read_angles({"west": west, "east": east}, like=like)["sun_zenith"].values
    np.testing.assert_allclose(found[0, 0], np.where(like.x < 502000, 30.0, 40.0), atol=1e-4)
    part = like.isel(x=slice(0, 20))  # wholly west: the eastern granule may lie elsewhere
    assert np.isfinite(xh.read_angles({"west": west, "east": east}, like=part)["sun_zenith"]).all()


@pytest.mark.parametrize("name", ["sensor", "platform"])
def test_a_date_of_several_sensors_has_no_angles_of_its_own(tmp_path, name):
    like = cube_of().assign_coords({name: ("time", ["sentinel-2a", "landsat-8|sentinel-2a"])})
    with pytest.raises(xh.errors.TimeAxisError, match=rf"merged of {name}s landsat-8\|sentinel-2a"):
        xh.read_angles([tmp_path / "0.xml", tmp_path / "1.xml"], like=like)


def test_a_cube_that_has_angles_per_item_gets_those_per_pixel(tmp_path):
    like = cube_of()
    like = like.assign_coords({name: ("time", [1.0, 2.0]) for name in ANGLES})
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    found = xh.read_angles(paths, like=like, per_band=True)
    assert list(found.data_vars) == ANGLES
    assert found["sun_zenith"].dims == ("time", "y", "x")
    assert set(found.coords) == {"time", "band", "y", "x", "item_id", "spatial_ref"}


def test_an_index_has_the_mean_of_all_bands(tmp_path):
    like = xh.index(cube_of(), "ndvi")
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    assert np.isfinite(xh.read_angles(paths, like=like)["view_zenith"]).all()


def test_real_metadata_agree_with_their_own_means(data):
    """Within the tile's mean angles that the metadata state."""
    folder = data / "austria-two-orbits"
    path = folder / "S2A_33TWL_20230815_0_L2A_granule_metadata.xml.gz"
    like = example_cube(
        bands=("green",),
        dates=("2023-08-15T09:58:11",),
        crs="EPSG:32633",
        origin=(499980.0, 5100000.0),
        shape=(183, 183),
        resolution=600.0,
    )
    found = xh.read_angles(path, like=like).mean(("y", "x")).compute().isel(time=0)
    assert float(found["sun_zenith"]) == pytest.approx(34.2354, abs=0.01)
    assert float(found["sun_azimuth"]) == pytest.approx(151.832, abs=0.02)
    assert float(found["view_zenith"]) == pytest.approx(6.662, abs=0.05)
    assert float(found["view_azimuth"]) == pytest.approx(105.59, abs=0.5)


def test_the_cube_may_lie_in_any_order_of_dimensions(tmp_path):
    paths = [write_granule(tmp_path / f"{i}.xml", time=t) for i, t in enumerate(TIMES)]
    like = cube_of()
    permuted = xh.read_angles(paths, like=like.transpose("x", "band", "y", "time"), per_band=True)
    xr.testing.assert_identical(
        permuted.compute(), xh.read_angles(paths, like=like, per_band=True).compute()
    )
