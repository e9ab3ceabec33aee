"""Both engines read the same integers onto one grid, lazily, and name what they cannot read."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
from helpers.items import sentinel2
from helpers.marks import first_quick
from odc.geo.geobox import GeoBox

import xharmonize as xh
from xharmonize.io.stac.engines import FAILED, choose_engine, read_stack
from xharmonize.io.stac.readers import AssetRef, ItemAssets, Reading

ENGINES = ["stackstac", "odc"]
CRS = "EPSG:32631"


def write_tif(path: Path, values: np.ndarray, *, step=10.0, left=600000.0, top=5600040.0, nodata=0):
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=CRS,
        transform=from_origin(left, top, step, step),
        nodata=nodata,
        tiled=True,
        blockxsize=16,
        blockysize=16,
        compress="deflate",
    ) as file:
        file.write(values, 1)


def corrupt(path: Path) -> None:
    """Overwrite the compressed pixels and leave the header: only reading them can fail."""
    import rasterio

    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))


@pytest.fixture
def scene(tmp_path: Path) -> tuple[ItemAssets, GeoBox, dict[str, np.ndarray]]:
    """One item: 32 × 32 pixels at 10 m (red) and 16 × 16 at 20 m (swir16)."""
    random = np.random.default_rng(1)
    pixels = {
        "red": random.integers(1, 9000, (32, 32)).astype("uint16"),
        "swir16": random.integers(1, 9000, (16, 16)).astype("uint16"),
    }
    pixels["red"][:3, :5] = 0
    write_tif(tmp_path / "red.tif", pixels["red"])
    write_tif(tmp_path / "swir16.tif", pixels["swir16"], step=20.0)
    box = (600000.0, 5599720.0, 600320.0, 5600040.0)
    assets = {
        name: AssetRef(href=str(tmp_path / f"{name}.tif"), item_id="scene-1", asset=name, nodata=0)
        for name in pixels
    }
    time = np.datetime64("2020-05-01T10:50:00", "ns")
    source = ItemAssets(item_id="scene-1", time=time, bounds=box, assets=assets)
    return source, GeoBox.from_bbox(box, crs=CRS, resolution=10), pixels


def reading(geobox: GeoBox, n: int = 1, **changes) -> Reading:
    options = {
        "names": ("red", "swir16"),
        "geobox": geobox,
        "chunks": ((1,) * n, (2,), (20, geobox.shape.y - 20), (geobox.shape.x,)),
        "dtype": np.dtype("uint16"),
        "fill": 0,
    }
    return Reading(**{**options, **changes})


@pytest.mark.parametrize("engine", ENGINES)
def test_pixels_are_those_of_the_files(engine, scene, no_compute):
    source, geobox, pixels = scene
    with no_compute():
        stack = read_stack([source], reading(geobox), engine=engine)
    assert stack.dtype == "uint16"
    assert stack.chunks == ((1,), (2,), (20, 12), (32,))
    actual = stack.compute()
    np.testing.assert_array_equal(actual[0, 0], pixels["red"])
    np.testing.assert_array_equal(actual[0, 1], pixels["swir16"].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_absent_band_and_outside_are_nodata(engine, scene):
    source, geobox, _ = scene
    wide = geobox.pad(4)
    part = ItemAssets(
        item_id="scene-2",
        time=source.time,
        bounds=source.bounds,
        assets={"red": source.assets["red"]},
    )
    actual = read_stack([source, part], reading(wide, 2), engine=engine).compute()
    assert (actual[1, 1] == 0).all()
    assert (actual[0, :, :4] == 0).all()
    assert (actual[0, :, :, -4:] == 0).all()
    np.testing.assert_array_equal(actual[0, 0], actual[1, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_nodata_of_the_asset_becomes_the_common_one(engine, scene, tmp_path):
    source, geobox, pixels = scene
    write_tif(tmp_path / "red.tif", pixels["red"], nodata=None)
    plan = reading(geobox, names=("red",), dtype=np.dtype("int32"), fill=-9999)
    plan = Reading(**{**vars(plan), "chunks": ((1,), (1,), (32,), (32,))})
    actual = read_stack([source], plan, engine=engine).compute()[0, 0]
    np.testing.assert_array_equal(
        actual, np.where(pixels["red"] == 0, -9999, pixels["red"].astype("int32"))
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damage", ["missing", "no tiff", "tile"])
def test_unreadable_asset_is_named(engine, damage, scene, tmp_path):
    source, geobox, _ = scene
    path = tmp_path / "swir16.tif"
    if damage == "missing":
        path.unlink()
    elif damage == "no tiff":
        path.write_bytes(b"not a tiff")
    else:
        corrupt(path)
    stack = read_stack([source], reading(geobox), engine=engine)
    with pytest.raises(
        xh.errors.AssetReadError, match=r"asset 'swir16' of item 'scene-1'.*on_error"
    ) as e:
        stack.compute(scheduler="synchronous")
    assert isinstance(e.value, OSError)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_failed_pixels_are_marked_where_the_read_failed(engine, scene, tmp_path):
    source, geobox, pixels = scene
    corrupt(tmp_path / "red.tif")  # its first tile: rows 0 to 15, in the first chunk of 20 rows
    assets = {
        name: AssetRef(href=ref.href, item_id="scene-1", asset=name, nodata=0, failed=FAILED)
        for name, ref in source.assets.items()
    }
    source = ItemAssets(item_id="scene-1", time=source.time, bounds=source.bounds, assets=assets)
    plan = reading(geobox, dtype=np.dtype("int32"))
    actual = read_stack([source], plan, engine=engine).compute()
    assert (actual[0, 0, :20] == FAILED).all()
    np.testing.assert_array_equal(actual[0, 0, 20:], pixels["red"][20:])
    assert (actual[0, 1] != FAILED).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_grows_by_a_few_kilobytes_per_item(engine, scene):
    source, geobox, _ = scene
    sources = [
        ItemAssets(
            item_id=f"scene-{i}", time=source.time + i, bounds=source.bounds, assets=source.assets
        )
        for i in range(400)
    ]
    stack = read_stack(sources, reading(geobox, 400), engine=engine)
    assert len(pickle.dumps(dask.base.collections_to_expr([stack]))) / 400 < 5_000


def test_stackstac_needs_an_epsg_code(scene):
    source, geobox, _ = scene
    own = "+proj=laea +lat_0=50 +lon_0=4 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
    geobox = GeoBox.from_bbox((0, 0, 320, 320), crs=own, resolution=10)
    with pytest.raises(xh.errors.GridError, match='engine="odc"'):
        read_stack([source], reading(geobox), engine="stackstac")


@pytest.mark.parametrize("engine", ENGINES)
def test_reflectance_is_not_read_as_integers(engine, scene, tmp_path):
    source, geobox, pixels = scene
    plan = reading(geobox, names=("red",), chunks=((1,), (1,), (32,), (32,)))
    numbers = pixels["red"].astype("float32")
    for name, values in (("whole", numbers), ("cut", numbers / 1e4), ("empty", numbers * 0)):
        write_tif(tmp_path / f"{name}.tif", values)
        ref = AssetRef(href=str(tmp_path / f"{name}.tif"), item_id="a", asset="red", nodata=0)
        lazy = read_stack([replace(source, assets={"red": ref})], plan, engine=engine)
        if name == "cut":
            with pytest.raises(
                xh.errors.AssetReadError, match=r"'red' of item 'a' holds fractions.*uint16"
            ):
                lazy.compute()
        else:
            np.testing.assert_array_equal(lazy.compute()[0, 0], values.astype("uint16"))


BROKEN = {
    "hidden": "raise ModuleNotFoundError(\"No module named 'stackstac'\", name='stackstac')",
    "fails when imported": "import a_module_that_went_away",
    "fails when called": "def stack(*args, **options): raise AttributeError('went away')",
    "lost an argument": "def stack(items, epsg, bounds): pass",
}
OPEN = """
import sys
import json
import numpy as np
import xharmonize as xh
cube = xh.open_stac(json.load(open(sys.argv[1])), bands=["red"], decode=False)
np.save(sys.argv[2], cube.compute().values)
print(cube.attrs["history"])
"""


@pytest.mark.parametrize("how", first_quick(BROKEN))
def test_without_stackstac_odc_gives_the_same_pixels(tmp_path, how):
    item = sentinel2(tmp_path)
    (tmp_path / "item.json").write_text(json.dumps(item))
    expected = xh.open_stac(item, bands=["red"], decode=False)
    assert "by stackstac" in expected.attrs["history"]
    (tmp_path / "stackstac").mkdir()
    (tmp_path / "stackstac" / "__init__.py").write_text(BROKEN[how])
    (tmp_path / "open.py").write_text(OPEN)  # its folder comes first on the path
    command = [sys.executable, "open.py", "item.json", "pixels.npy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "by odc" in done.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "pixels.npy"), expected)


def test_a_crs_that_stackstac_does_not_know_is_left_to_odc(scene):
    assert choose_engine(scene[1]) == "stackstac"
    own = "+proj=laea +lat_0=50 +lon_0=4 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
    assert choose_engine(GeoBox.from_bbox((0, 0, 320, 320), crs=own, resolution=10)) == "odc"


def test_stackstac_is_known_in_one_file_and_by_its_public_name():
    package = Path(xh.__file__).parent
    pattern = r"(?:import stackstac|from stackstac|require\(\"stackstac|(?<!by_)stackstac\.)[\w.]*"
    found = {
        (path.name, use)
        for path in package.rglob("*.py")
        for use in re.findall(pattern, path.read_text())
    }
    assert found == {
        ("by_stackstac.py", 'require("stackstac'),
        ("by_stackstac.py", "stackstac.stack"),
    }
