"""open_stac(pad=): the margin a generator looks at, and a result that ends where the box does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch")
pytest.importorskip("stackstac")

from helpers.generators import LATTICE, generator, small_card
from pyproj import Transformer

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.geobox import geobox_of
from xharmonize.simulate import Simulation, write_catalog

CENTRE = (501_600.0, 5_628_960.0)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    place = Simulation(
        center=CENTRE, size=(2400, 2400), start="2022-06-08", end="2022-06-12", cloudiness=0.0
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


def bbox(west: float, south: float, east: float, north: float) -> tuple[float, ...]:
    """Degrees of a box given in metres from the centre."""
    back = Transformer.from_crs(32631, 4326, always_xy=True)
    corners = [
        back.transform(CENTRE[0] + x, CENTRE[1] + y) for x, y in ((west, south), (east, north))
    ]
    return (*corners[0], *corners[1])


@pytest.mark.parametrize("phase", [(0.0, 0.0), (15.0, 15.0)])
def test_a_padded_box_gives_what_the_whole_area_gives(catalog, phase, tmp_path):
    card = small_card(lattice=replace(LATTICE, phase=phase), source_sensor="sentinel-2-l2a")
    model = generator(tmp_path, card, flags=True)
    options = {"collection": "sentinel-2-l2a", "resolution": 10, "mask": None}
    bands = list(card.bands)
    whole = xh.open_stac(catalog, bands=bands, **options)
    part = xh.open_stac(catalog, bands=bands, bbox=bbox(-90, -200, 240, 170), pad=model, **options)
    requested = part.attrs["requested_bounds"]
    assert geobox_of(part).boundingbox.left < requested[0] - 100
    found = part.harmonize.to_landsat(model).compute()
    box = geobox_of(found).boundingbox
    assert np.allclose(np.array(tuple(box)) - requested, 0, atol=30)
    assert box.left <= requested[0]
    assert "requested_bounds" not in found["reflectance"].attrs
    flags = found["flag"].values
    assert not (flags & ResultFlag.PARTIAL_CONTEXT).any()
    expected = whole.harmonize.to_landsat(model).sel(x=found.x, y=found.y).compute()
    xr.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    lost = xh.open_stac(catalog, bands=bands, bbox=bbox(-90, -200, 240, 170), **options)
    bare = lost.harmonize.to_landsat(model)
    assert (bare["flag"].values & ResultFlag.PARTIAL_CONTEXT).any()


def test_models_by_path_and_lattices(catalog, tmp_path):
    model = generator(tmp_path)
    options = {"collection": "sentinel-2-l2a", "resolution": 10, "bbox": bbox(-90, -200, 240, 170)}
    grids = [
        geobox_of(xh.open_stac(catalog, pad=pad, **options))
        for pad in (model, model.ref.location, model.lattice)
    ]
    assert grids[0] == grids[1] == grids[2]


def test_what_has_no_margin_is_refused(catalog):
    options = {"collection": "sentinel-2-l2a", "bbox": bbox(-90, -200, 240, 170)}
    with pytest.raises(xh.errors.GridError, match="'hls-v2' looks at no margin"):
        xh.open_stac(catalog, pad=xh.load_model("hls-v2"), **options)
    with pytest.raises(xh.errors.UnknownModelError, match="no bundle 'nothing'"):
        xh.open_stac(catalog, pad="nothing", **options)
    card = small_card()
    with pytest.raises(xh.errors.GridError, match="pass resolution=10"):
        xh.open_stac(catalog, pad=card, resolution=20, **options)
