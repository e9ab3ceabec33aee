"""Bad input, one test each: an error that says what to do, or a rule. Listed in the reference."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
S2 = "sentinel-2-l2a"
HALVES = {"time": 1, "band": -1, "y": 12, "x": -1}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    """Sentinel-2 scenes of both kinds of baselines."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(120, 120),
        start="2022-06-03",
        end="2022-06-18",
        sensors=(S2,),
        cloudiness=0.1,
        baseline="mixed",
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def items(catalog) -> list[dict[str, Any]]:
    """Its items, as a search returns them."""
    found = []
    for path in sorted(catalog.parent.glob(f"{S2}/*/*.json")):
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = str((path.parent / asset["href"]).resolve())
        found.append(item)
    return found


def coarse() -> xr.DataArray:
    """A Landsat cube half a pixel off."""
    return example_cube(
        "landsat-c2-l2", platform="landsat-8", resolution=30.0, origin=(501375.0, 5629665.0)
    )


def test_missing_band(catalog, cube):
    with pytest.raises(xh.errors.BandError, match="has no band 'pan'; it has"):
        xh.open_stac(catalog, bands=["red", "pan"])
    with pytest.raises(xh.errors.BandError, match="needs band rededge1"):
        cube.harmonize.index("ndre")


def test_unknown_sensor(cube):
    with pytest.raises(xh.errors.UnknownSensorError, match="did you mean 'sentinel-2-l2a'"):
        xh.describe(cube, sensor="sentinel-2-l2")


def test_no_crs(cube, items):
    bare = cube.drop_vars("spatial_ref")
    with pytest.raises(xh.errors.GridError, match="has no CRS"):
        bare.harmonize.regrid(resolution=30)
    for holder in (items[0]["properties"], *items[0]["assets"].values()):
        for key in ("proj:epsg", "proj:code"):
            holder.pop(key, None)
    with pytest.raises(xh.errors.GridError, match=r"says no CRS.*crs="):
        xh.open_stac(items[:1])


def test_two_crss(cube, items):
    with pytest.raises(xh.errors.GridError, match=r"EPSG:32631.*EPSG:32632.*regrid\(like="):
        cube.harmonize.densify(example_cube(crs=32632))
    other = json.loads(json.dumps(items[1]).replace("32631", "32632"))
    other["bbox"] = other["geometry"] = None  # it would contradict the other zone
    with pytest.raises(xh.errors.GridError, match=r"EPSG:32631.*EPSG:32632.*crs= or like="):
        xh.open_stac([items[0], other])


def test_different_grids(cube):
    for combine in (
        lambda: cube.harmonize.densify(coarse()),
        lambda: xh.match_pairs(cube, coarse()),
    ):
        with pytest.raises(xh.errors.GridError, match=r"needs cubes on one grid.*edges at 15, 15"):
            combine()


def test_raw_numbers_where_reflectance_is_expected():
    encoded = example_cube(is_decoded=False)
    with pytest.raises(xh.errors.RadiometryError, match=r"digital numbers \(uint16\).*decode\(\)"):
        encoded.harmonize.index("ndvi")
    mislabelled = encoded.assign_coords(is_decoded=xr.ones_like(encoded["is_decoded"]))
    with pytest.raises(xh.errors.RadiometryError, match="says that they are decoded"):
        mislabelled.harmonize.to_landsat()
    table = xh.check_radiometry(mislabelled.astype("float32"))
    assert set(table["verdict"]) == {"looks like digital numbers"}


def test_offset_applied_twice(cube):
    with pytest.raises(xh.errors.RadiometryError, match="applied twice"):
        cube.harmonize.decode()
    with pytest.raises(xh.errors.RadiometryError, match="applied twice"):
        xh.describe(cube, sensor=S2, is_decoded=True, offset=-0.1)
    assert set(xh.check_radiometry(cube - 0.1)["verdict"]) == {"offset applied twice"}


def test_mixed_baselines(catalog):
    cube = xh.open_stac(catalog, bands=["red"], mask=None, decode=False)
    offsets = dict(zip(cube["processing_baseline"].values.tolist(), cube["offset"].values[:, 0]))
    assert set(offsets.values()) == {0.0, -0.1}
    for baseline, offset in offsets.items():
        assert offset == (-0.1 if float(baseline) >= 4 else 0.0)
    dark = np.nanquantile(cube.harmonize.decode().values, 0.01)
    assert 0 < dark < 0.1


def test_collection_2_read_as_collection_1():
    numbers = example_cube("landsat-c2-l2", platform="landsat-8", is_decoded=False)
    wrong = xh.describe(
        numbers.reset_coords(drop=True),
        sensor="landsat-c1-sr",
        platform="landsat-8",
        crs="EPSG:32631",
    )
    assert set(xh.check_radiometry(wrong)["verdict"]) == {"another collection"}


def test_all_cloudy(cube):
    cloudy = cube.where(False)
    series = coarse().harmonize.densify(cloudy.harmonize.to_landsat(like=coarse()))
    assert series["reflectance"].isel(time=(series["sensor"] != S2).values).notnull().any()
    harmonised = series.isel(time=(series["sensor"] == S2).values)
    assert harmonised["reflectance"].isnull().all()
    assert (harmonised["origin"] == 0).all()
    assert set(xh.check_radiometry(cloudy)["verdict"]) == {"all masked"}


def test_empty_query(catalog):
    with pytest.raises(xh.errors.EmptyQueryError, match=r"fits.*datetime='1999.*widen"):
        xh.open_stac(catalog, datetime="1999")


def test_one_date(cube):
    one = cube.isel(time=[0])
    assert one.harmonize.to_landsat().sizes["time"] == 1
    xr.testing.assert_allclose(
        one.harmonize.to_landsat().compute(), cube.harmonize.to_landsat().isel(time=[0]).compute()
    )
    with pytest.raises(xh.errors.ContractError, match=r"no dimension 'time'"):
        cube.isel(time=0).harmonize.to_landsat()


def test_no_date(cube):
    with pytest.raises(xh.errors.TimeAxisError, match="no date"):
        cube.isel(time=slice(0)).harmonize.to_landsat()


def test_duplicate_dates(cube, items, tmp_path):
    twice = xr.concat([cube, cube], "time")
    assert twice.harmonize.densify().sizes["time"] == 6
    with pytest.raises(xh.errors.StoreError, match=r"occurs twice.*merge the two or drop one"):
        twice.harmonize.to_zarr(tmp_path / "twice.zarr")
    again = copy.deepcopy(items[0]) | {"id": items[0]["id"] + "_again"}
    assert xh.open_stac([items[0], again], bands=["red"]).sizes["time"] == 1


def test_dates_out_of_order(cube, items, tmp_path):
    shuffled = cube.isel(time=[2, 0, 1])
    for series in (
        xh.open_stac(items[::-1], bands=["red"]),
        shuffled.harmonize.densify(),
        xh.open_series(shuffled.harmonize.to_zarr(tmp_path / "s.zarr")),
    ):
        assert series.indexes["time"].is_monotonic_increasing
    like_l8 = shuffled.harmonize.to_landsat()
    np.testing.assert_array_equal(like_l8["time"], shuffled["time"])


def test_a_chunk_of_nan_only():
    cube = example_cube()
    cube[:, :, :12] = np.nan
    for step in (
        lambda c: c.harmonize.to_landsat(like=coarse()),
        lambda c: c.harmonize.index("ndvi"),
        lambda c: c.harmonize.to_landsat(xh.harmonizers.fit_histogram(coarse())),
    ):
        xr.testing.assert_allclose(step(cube.chunk(HALVES)).compute(), step(cube).compute())


def test_saturated_numbers():
    cube = example_cube(is_decoded=False, missing=0.0)
    cube[1, 3, 5, 6] = 65535
    qa = xr.zeros_like(cube.isel(band=0, drop=True), dtype="uint16")
    qa.attrs = {"flag_masks": [1 << i for i in range(16)]}
    encoded = cube.to_dataset(name="reflectance").assign(qa=qa)
    result = xh.mask(encoded, "saturated").harmonize.decode()["reflectance"]
    assert float(result.max()) < 1.0
    assert int(result.isnull().sum()) == cube.sizes["band"]


def test_y_ascending(cube):
    flipped = cube.sortby("y")
    for step in (
        lambda c: c.harmonize.to_landsat(),
        lambda c: c.harmonize.to_landsat(like=coarse()),
        lambda c: c.harmonize.index("ndvi"),
    ):
        actual = step(flipped).sortby("y", ascending=False)
        np.testing.assert_allclose(actual.values, step(cube).values, atol=1e-6)


def test_zero_size_box(catalog, cube):
    with pytest.raises(xh.errors.GridError, match="has no extent"):
        xh.open_stac(catalog, bbox=[3.02, 50.81, 3.02, 50.81])
    with pytest.raises(xh.errors.GridError, match="has no pixel along 'x'"):
        cube.isel(x=slice(0, 0)).harmonize.to_landsat(resolution=30)


def test_corrupt_cog(items, tmp_path):
    bad = shutil.copy(items[0]["assets"]["red"]["href"], tmp_path / "red.tif")
    Path(bad).write_bytes(b"not a tiff")
    items[0]["assets"]["red"]["href"] = str(bad)
    cube = xh.open_stac(items[:2], bands=["red"])
    with pytest.raises(xh.errors.AssetReadError, match=rf"asset 'red' of item '{items[0]['id']}'"):
        cube.compute()
    skipped = xh.open_stac(items[:2], bands=["red"], on_error="skip", qa=True).compute()
    is_skipped = (skipped["qa"] & int(xh.sensors.Flag.SKIPPED)) > 0
    assert is_skipped.any(("y", "x")).values.tolist() == [True, False]
    assert skipped["reflectance"].where(is_skipped).isnull().all()


def test_unreachable_api():
    with pytest.raises(xh.errors.CatalogConnectionError, match="cannot be reached"):
        xh.open_stac("http://127.0.0.1:9/")


def test_degrees(catalog):
    cube = example_cube(crs=4326, resolution=1e-4, origin=(2.8, 42.36))
    like_l8 = cube.harmonize.to_landsat()
    assert like_l8.sizes == cube.sizes
    assert cube.harmonize.regrid(crs=32631, resolution=30).sizes["x"] > 1
    with pytest.raises(xh.errors.GridError, match=r"resolution=30 would be degrees.*crs="):
        cube.harmonize.to_landsat(resolution=30)
    with pytest.raises(
        xh.errors.GridError, match=r"resolution=0.0001 would be metre in EPSG:32631"
    ):
        xh.open_stac(catalog, resolution=1e-4)


def test_top_of_atmosphere_table_for_surface_reflectance():
    cube = example_cube("landsat-c2-l2", platform="landsat-8")
    with pytest.raises(xh.errors.RadiometryError, match=r"made for TOA reflectance, .* is SR"):
        cube.harmonize.to_sentinel2("chastain-2019")


def test_b8a_line_for_b08():
    with pytest.raises(
        xh.errors.BandError, match=r"starts from nir08 \(B8A\), the cube has nir \(B08\)"
    ):
        example_cube(bands=("red", "nir")).harmonize.to_landsat()


def test_lost_contract(cube):
    with pytest.raises(xh.errors.ContractError, match=r"settle them with xh\.describe"):
        cube.resample(time="1D").mean().harmonize.to_landsat()


def test_the_reference_lists_every_test_of_this_page():
    section = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
