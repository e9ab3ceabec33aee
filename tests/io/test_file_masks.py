"""Pixels that files call missing by a mask, an alpha band or a file beside them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from helpers.items import ENGINES, sentinel2
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

import xharmonize as xh

OUT = np.s_[:8]


def masked(item: dict, kind: str) -> None:
    """Write the red band anew: its first eight rows are missing by a mask, not by their number."""
    path = item["assets"]["red"]["href"]
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    mask = np.full(values.shape, 255, "uint8")
    mask[OUT] = 0
    if kind in ("internal mask", "mask beside it"):
        profile["nodata"] = None
        inside = kind == "internal mask"
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
            rasterio.open(path, "w", **profile) as file,
        ):
            file.write(values, 1)
            file.write_mask(mask)
    elif kind == "internal mask and nodata":
        values[:, 0] = 0
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **profile) as file,
        ):
            file.write(values, 1)
            file.write_mask(mask)
    else:
        profile |= {"count": 2, "nodata": None, "alpha": "yes"}
        with rasterio.open(path, "w", **profile) as file:
            file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
            file.write(values, 1)
            file.write(mask.astype(values.dtype), 2)


KINDS = ["internal mask", "mask beside it", "internal mask and nodata", "alpha"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_files_count_with_both_engines(tmp_path, engine, kind):
    item = sentinel2(tmp_path)
    expected = xh.open_stac(item, bands=["red"], mask=None, engine=engine).compute()
    expected[..., OUT, :] = np.nan
    if kind == "internal mask and nodata":
        expected[..., 0] = np.nan
    masked(item, kind)
    for chunks in (None, 7):
        found = xh.open_stac(item, bands=["red"], mask=None, engine=engine, chunks=chunks)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", [{"resolution": 20}, {"crs": 32630, "resolution": 10}])
def test_masked_pixels_do_not_leak_when_resampled(tmp_path, engine, options):
    """The numbers under the mask are not looked at: another number there gives the same."""
    cubes = []
    for name, under in (("a", 1), ("b", 60000)):
        item = sentinel2(tmp_path / name, rows=24)
        path = item["assets"]["red"]["href"]
        with rasterio.open(path, "r+") as file:
            values = file.read(1)
            values[OUT] = under
            file.write(values, 1)
        masked(item, "internal mask")
        cubes.append(xh.open_stac(item, bands=["red"], mask=None, engine=engine, **options))
    np.testing.assert_array_equal(*cubes)
    assert 0.2 < float(cubes[0].isnull().mean()) < 0.9


@pytest.mark.parametrize("engine", ENGINES)
def test_a_masked_quality_layer_is_fill(tmp_path, engine):
    item = sentinel2(tmp_path)
    path = item["assets"]["scl"]["href"]
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    mask = np.full(values.shape, 255, "uint8")
    mask[:4] = 0
    profile["nodata"] = None
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)
        file.write_mask(mask)
    cube = xh.open_stac(item, bands=["red"], engine=engine).compute()
    assert cube[..., OUT, :].isnull().all()
    assert cube[..., 8:, :].notnull().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_of_several_bands_is_refused_with_both_engines(tmp_path, engine):
    item = sentinel2(tmp_path)
    path = item["assets"]["red"]["href"]
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    with rasterio.open(path, "w", **{**profile, "count": 3}) as file:
        file.write(np.stack([values] * 3))
    with pytest.raises(xh.errors.AssetReadError, match=r"asset 'red' of item 's2'.*has 3 bands"):
        xh.open_stac(item, bands=["red"], mask=None, engine=engine).compute()


def test_a_file_that_was_replaced_is_looked_at_anew(tmp_path):
    item = sentinel2(tmp_path)
    assert xh.open_stac(item, bands=["red"], mask=None).notnull().all()
    masked(item, "mask beside it")
    assert xh.open_stac(item, bands=["red"], mask=None)[..., OUT, :].isnull().all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["no mask", "mask beside it"])
def test_no_warning_is_about_files_that_the_user_does_not_have(tmp_path, engine, kind, monkeypatch):
    """rasterio wraps arrays as files without a place; its own filter fails where threads read."""
    item = sentinel2(tmp_path)
    if kind != "no mask":
        masked(item, kind)
    cube = xh.open_stac(item, mask=None, engine=engine)  # some bands are coarser
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        # rasterio's filter is undone, as another thread may undo it at that moment.
        monkeypatch.setattr(warnings, "simplefilter", lambda *_, **__: None)
        assert cube.notnull().any()
    assert [w for w in seen if w.category is NotGeoreferencedWarning] == []
