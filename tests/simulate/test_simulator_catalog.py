"""What the simulator writes: COGs and STAC items that others read."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from xharmonize.errors import EmptyQueryError, StoreError
from xharmonize.simulate import (
    Metadata,
    Simulation,
    make_item,
    read_simulation,
    write_catalog,
)

SENSORS = ("sentinel-2-l2a", "landsat-c2-l2", "gaofen-1-ard", "sentinel-1-rtc")
TINY = Simulation(start="2022-06-07", end="2022-06-09", size=(400.0, 300.0), sensors=SENSORS)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    steps: list[tuple[int, int]] = []
    path = write_catalog(
        TINY, tmp_path_factory.mktemp("catalog"), progress=lambda *step: steps.append(step)
    )
    assert steps[-1][0] == steps[-1][1] == len(steps)
    return path


def test_pystac_reads_and_rasterio_opens_every_asset(catalog):
    import pystac
    import rasterio

    items = list(pystac.Catalog.from_file(catalog).get_items(recursive=True))
    assert len(items) == len(TINY.passes())
    assert {item.collection_id for item in items} == set(SENSORS)
    for item in items:
        for key, asset in item.make_asset_hrefs_absolute().assets.items():
            with rasterio.open(asset.href) as file:
                stated = make_item(TINY, next(p for p in TINY.passes() if item.id == _id(p)))
                fields = stated["assets"][key]
                assert file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
                assert list(file.shape) == fields["proj:shape"]
                assert list(file.transform)[:6] == fields["proj:transform"]
                assert file.crs.to_epsg() == 32631
                if key not in ("scl", "qa_pixel"):
                    assert (file.read(1) != file.nodata).all()


def _id(acquisition):
    from xharmonize.simulate.catalog import item_id

    return item_id(TINY, acquisition)


def test_the_simulation_is_written_down(catalog):
    assert read_simulation(catalog) == TINY
    assert read_simulation(catalog.parent) == TINY
    with pytest.raises(StoreError, match="does not exist"):
        read_simulation(catalog.parent / "sentinel-2-l2a")


def test_a_catalogue_is_not_overwritten_unasked(catalog, tmp_path):
    with pytest.raises(StoreError, match="exists; mode='w' replaces it"):
        write_catalog(TINY, catalog.parent)
    with pytest.raises(EmptyQueryError, match="longer period"):
        write_catalog(replace(TINY, sensors=("landsat-c2-l2",), end="2022-06-07"), tmp_path)


def test_files_do_not_depend_on_area_or_period(catalog, tmp_path):
    import rasterio

    larger = replace(TINY, start="2022-06-05", size=(900.0, 700.0), sensors=("sentinel-2-l2a",))
    other = write_catalog(larger, tmp_path)
    item = next(p for p in TINY.passes() if p.orbit.sensor == "sentinel-2-l2a")
    for key in ("blue", "swir16", "scl"):
        name = f"sentinel-2-l2a/{_id(item)}/{key}.tif"
        with (
            rasterio.open(catalog.parent / name) as small,
            rasterio.open(other.parent / name) as big,
        ):
            window = rasterio.windows.from_bounds(*small.bounds, transform=big.transform)
            np.testing.assert_array_equal(small.read(1), big.read(1, window=window))


DIALECTS = [
    Metadata(
        stac_version=version, projection=field, projection_at=level, boa_offset_applied=applied
    )
    for version, field, level, applied in product(
        ("1.0.0", "1.1.0"), ("proj:epsg", "proj:code"), ("item", "asset"), (None, True, False)
    )
]


@pytest.mark.parametrize("meta", DIALECTS, ids=lambda m: "-".join(map(str, vars(m).values())))
def test_dialects_say_the_same_in_other_words(meta):
    simulation = replace(TINY, metadata=meta)
    acquisition = next(p for p in TINY.passes() if p.orbit.sensor == "sentinel-2-l2a")
    item = make_item(simulation, acquisition)
    red = item["assets"]["red"]
    holder = item["properties"] if meta.projection_at == "item" else red
    assert holder[meta.projection] in (32631, "EPSG:32631")
    assert item["properties"].get("earthsearch:boa_offset_applied") == meta.boa_offset_applied
    offset = (
        red["raster:offset"] if meta.stac_version == "1.1.0" else red["raster:bands"][0]["offset"]
    )
    assert offset == (0.0 if meta.boa_offset_applied else -0.1)


def test_items_can_stay_silent():
    meta = Metadata(raster="absent", platform="absent")
    acquisition = next(p for p in TINY.passes() if p.orbit.sensor == "sentinel-2-l2a")
    item = make_item(replace(TINY, metadata=meta), acquisition)
    assert "platform" not in item["properties"]
    assert "scale" not in item["assets"]["red"]["raster:bands"][0]
