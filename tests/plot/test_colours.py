"""One convention of colours: an index has the same colour in figures and in QGIS."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.testing import example_cube

colors = pytest.importorskip("matplotlib.colors")
pytest.importorskip("pystac")


def test_an_index_has_the_colours_of_its_style(tmp_path):
    ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi").isel(time=[0])
    xh.to_cogs(ndvi, tmp_path / "cogs")
    style = ElementTree.parse(next((tmp_path / "cogs").rglob("*_ndvi.qml"))).getroot()
    items = {float(i.get("value")): i.get("color") for i in style.iter("item") if i.get("value")}
    image = ndvi.harmonize.plot.maps(time=str(ndvi.time.values[0])[:10]).axes[0].images[0]
    assert image.get_clim() == (min(items), max(items)) == (-0.2, 1.0)
    for value, colour in items.items():
        drawn = image.cmap(image.norm(value))
        np.testing.assert_allclose(drawn[:3], colors.to_rgb(colour), atol=0.01)


def test_a_stretch_counts_more_and_a_band_is_grey():
    cube = example_cube(bands=("red", "nir08"))
    day = str(cube.time.values[0])[:10]
    ndvi = cube.harmonize.index("ndvi")
    assert ndvi.harmonize.plot.maps(time=day, stretch=(0.2, 0.5)).axes[0].images[0].get_clim() == (
        0.2,
        0.5,
    )
    assert cube.harmonize.plot.maps(time=day, bands="red").axes[0].images[0].cmap.name == "gray"
    own = cube.harmonize.index("nir / (red + 0.1)", label="sr")
    assert own.harmonize.plot.maps(time=day).axes[0].images[0].cmap.name == "index"
