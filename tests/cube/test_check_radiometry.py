"""check_radiometry: what a cube claims, compared with its pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.check import COLUMNS
from xharmonize.testing import example_cube

SHAPE = (60, 60)


def claim(cube: xr.DataArray, **values) -> xr.DataArray:
    """Change what a cube says of itself, not its pixels."""
    tables = {name: cube[name].copy(data=np.full(cube[name].shape, value))
              for name, value in values.items()}  # fmt: skip
    return cube.assign_coords(tables)


def numbers(*, shift: int = 0, offset: float = 0.0, **options) -> xr.DataArray:
    """Sentinel-2 digital numbers, `shift` added to the pixels and `offset` claimed."""
    cube = example_cube(is_decoded=False, shape=SHAPE, **options)
    shifted = xr.where(cube == 0, 0, cube.astype("int32") + shift).astype("uint16")
    return claim(cube.copy(data=shifted.transpose(*cube.dims).data), offset=offset)


def verdicts(cube) -> set[str]:
    return set(xh.check_radiometry(cube).verdict)


@pytest.mark.parametrize("decoded", [False, True], ids=["encoded", "decoded"])
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 16, "x": 16}], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("shift", "offset", "expected"),
    [
        (0, 0.0, "ok"),
        (1000, -0.1, "ok"),
        (1000, 0.0, "offset missed"),
        (0, -0.1, "offset applied twice"),
    ],
)
def test_the_offset(decoded, chunks, shift, offset, expected):
    cube = numbers(shift=shift, offset=offset)
    cube = cube if chunks is None else cube.chunk(chunks)
    if decoded:
        cube = xh.decode(cube)
    assert verdicts(cube) == {expected}


@pytest.mark.parametrize("offset", [0.0, np.nan])
def test_an_offset_taken_off_by_hand_shows_whatever_the_contract_says(offset):
    cube = claim(xh.decode(numbers()), offset=offset)
    assert verdicts(cube) == {"ok"}
    assert verdicts(cube - 0.1) == {"offset applied twice"}
    assert verdicts(cube + 0.1) == {"offset missed"}


def test_only_the_step_that_is_wrong_is_named():
    cube = numbers(shift=1000, offset=-0.1).load()
    cube[1] = cube[1] - 1000
    table = xh.check_radiometry(cube)
    assert list(table.columns) == list(COLUMNS)
    assert isinstance(table, pd.DataFrame)
    assert list(table.verdict) == ["ok", "offset applied twice", "ok"]
    assert table.item_id[1] == cube.item_id.values[1]
    assert "radiometry=" in table.message[1]
    assert table.time[1] == cube.time.values[1]


def test_numbers_that_are_said_to_be_reflectance():
    wrong = claim(numbers().astype("float32"), is_decoded=True)
    assert verdicts(wrong) == {"looks like digital numbers"}


def test_reflectance_that_is_said_to_be_numbers():
    wrong = claim(example_cube(shape=SHAPE), is_decoded=False)
    assert verdicts(wrong) == {"looks like reflectance"}


@pytest.mark.parametrize("decoded", [False, True], ids=["encoded", "decoded"])
@pytest.mark.parametrize(
    ("sensor", "claimed", "expected"),
    [
        ("landsat-c2-l2", "landsat-c1-sr", "another collection"),
        ("landsat-c1-sr", "landsat-c2-l2", "another collection"),
        ("landsat-c2-l2", "landsat-c2-l2", "ok"),
        ("landsat-c1-sr", "landsat-c1-sr", "ok"),
    ],
)
def test_landsat_collections(decoded, sensor, claimed, expected):
    cube = example_cube(sensor, platform="landsat-8", is_decoded=False, shape=SHAPE)
    radiometry = xh.sensors.get_sensor(claimed).radiometry
    numbers = cube.where(cube != cube.nodata, radiometry.nodata)
    cube = claim(
        numbers.astype(radiometry.dtype),
        sensor=claimed,
        scale=radiometry.scale,
        offset=radiometry.offset,
        nodata=float(radiometry.nodata),
    )
    assert verdicts(xh.decode(cube) if decoded else cube) == {expected}


@pytest.mark.parametrize("decoded", [False, True], ids=["encoded", "decoded"])
def test_saturation_is_a_share(decoded):
    cube = numbers().load()
    cube[0, 1, :6] = 65535
    table = xh.check_radiometry(xh.decode(cube) if decoded else cube)
    assert list(table.verdict) == ["saturated", "ok", "ok"]
    assert table.band[0] == "green"
    assert 0.08 < table.saturated[0] < 0.12


def test_all_masked_and_almost_all_masked():
    cube = example_cube(shape=SHAPE).load()
    cube[0] = np.nan
    cube[1, :, 2:] = np.nan
    cube[1, :, :, :40] = np.nan
    table = xh.check_radiometry(cube)
    assert list(table.verdict) == ["all masked", "ok", "ok"]
    assert "too few" in table.message[1]


def test_clouds_are_left_out_where_they_are_known():
    cube = numbers().load()
    cube[:] = np.where(cube != 0, cube + 1000, 0)  # haze that looks like the offset
    qa = xr.full_like(cube.isel(band=0, drop=True), int(xh.sensors.Flag.CLOUD)).astype("uint16")
    assert verdicts(cube) == {"offset missed"}
    assert verdicts(cube.to_dataset(name="reflectance").assign(qa=qa)) == {"all masked"}


def test_few_blocks_are_read():
    read = []

    def spy(block, block_info=None):
        read.append(block_info[0]["chunk-location"])
        return block

    cube = example_cube(shape=(96, 96)).chunk({"time": 1, "band": -1, "y": 12, "x": 12})
    spied = cube.copy(data=cube.data.map_blocks(spy, dtype=cube.dtype, meta=cube.data._meta))
    assert verdicts(spied) == {"ok"}
    assert len(set(read)) == 4 * cube.sizes["time"]


def test_radar_and_unknown_sensors_are_left_alone():
    cube = claim(example_cube(shape=SHAPE), sensor="unknown")
    assert verdicts(cube) == {"ok"}
    both = claim(example_cube(shape=SHAPE), sensor="landsat-c2-l2|sentinel-2-l2a")
    assert verdicts(both) == {"ok"}
    radar = example_cube("sentinel-1-rtc", platform="sentinel-1a", bands=["vv", "vh"], shape=SHAPE)
    assert verdicts(radar) == {"ok"}


def test_no_contract_and_no_samples():
    with pytest.raises(xh.errors.ContractError, match=r"xh\.describe"):
        xh.check_radiometry(example_cube().drop_vars("scale"))
    with pytest.raises(xh.errors.ContractError, match="samples=0"):
        xh.check_radiometry(example_cube(), samples=0)


@pytest.mark.slow
def test_flanders_keeps_its_contract(data):
    catalog = data / "flanders-2018" / "catalog.json"
    for collection in ("sentinel-2-l2a", "landsat-8-c1-sr"):
        cube = xh.open_stac(catalog, collection=collection, datetime="2018-05/2018-08", qa=True)
        table = xh.check_radiometry(cube)
        assert (table.verdict.isin(["ok", "all masked"])).mean() > 0.95
    wrong = xh.open_stac(
        catalog,
        collection="sentinel-2-l2a",
        datetime="2018-05/2018-08",
        radiometry={"offset": -0.1},
    )
    table = xh.check_radiometry(wrong)
    table = table[table.verdict != "all masked"]
    assert (table.verdict == "offset applied twice").mean() > 0.8


def test_collections_are_told_apart_by_real_pixels(data):
    rioxarray = pytest.importorskip("rioxarray")
    path = sorted((data / "landsat_c2" / "L8").glob("*.tif"))[0]
    pixels = rioxarray.open_rasterio(path).isel(band=slice(0, 6))
    dated = pixels.assign_coords(time=np.datetime64("2023-02-13T05:10", "ns"))
    bands = ["blue", "green", "red", "nir08", "swir16", "swir22"]
    options = {"platform": "landsat-8", "bands": bands, "is_decoded": False}
    cube = xh.describe(dated, sensor="landsat-c2-l2", **options)
    assert verdicts(cube) == {"ok"}
    red = xh.decode(cube).sel(band="red").isel(time=0)
    valid = pixels[2].values > 0
    np.testing.assert_allclose(
        red.values[valid], pixels[2].values[valid] * 2.75e-5 - 0.2, atol=1e-6
    )
    assert 0.05 < float(red.median()) < 0.3
    wrong = xh.describe(dated, sensor="landsat-c1-sr", **options)
    assert verdicts(wrong) == {"another collection"}
