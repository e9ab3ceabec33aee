"""Tables that a network makes of histograms, and the convolution that follows them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.models import Domain, Histograms, LutCard, ModelRef, Output, write_bundle
from xharmonize.models.architectures import seeded
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

BANDS = ("red", "nir08")
TILE = 120.0
LOW, HIGH = (0.0, 0.0), (0.4, 0.8)


def make_card(**options) -> LutCard:
    hyperparameters = {"depth": 2, "base": "ramp", "refine": False}
    fields = {
        "name": "small-tables",
        "title": "Small tables",
        "description": "For tests.",
        "architecture": "unet-lut",
        "hyperparameters": hyperparameters,
        "source_sensor": "sentinel-2-l2a",
        "source_bandpass": "msi",
        "target_bandpass": "oli",
        "levels": ("SR",),
        "histograms": Histograms(bands=BANDS, bins=64, knots=64, low=LOW, high=HIGH, tile=TILE),
        "output": Output(bands=BANDS, mean=LOW, scale=HIGH),
    }
    return LutCard(**fields | options)


@pytest.fixture(scope="module")
def source() -> xr.DataArray:
    return example_cube(bands=BANDS, shape=(36, 48), seed=3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> ModelRef:
    card = make_card()
    return write_bundle(tmp_path_factory.mktemp("models") / card.name, card, seeded(card))


@pytest.fixture(scope="module")
def refining(tmp_path_factory) -> ModelRef:
    card = make_card(name="refining", hyperparameters={"depth": 2, "base": "ramp"})
    return write_bundle(tmp_path_factory.mktemp("models") / card.name, card, seeded(card))


def test_tables_are_those_of_the_network(source, plain):
    from xharmonize.models.runtime import predict

    model = xh.load_model(plain.location)
    tables = source.harmonize.fit_tables(model)
    tile = source.isel(time=[1], y=slice(12, 24), x=slice(24, 36)).values
    shares = np.empty((1, 2, 64), np.float32)
    for band in range(2):
        values = tile[0, band][np.isfinite(tile[0, band])].astype(float)
        counts = np.histogram(values.clip(LOW[band], HIGH[band]), 64, (LOW[band], HIGH[band]))[0]
        shares[0, band] = counts / counts.sum()
    (found,) = predict(plain, model.card, [(shares,)], xh.models.Runtime())
    expected = found[0] * np.array(HIGH)[:, None]
    actual = tables["tables"].isel(time=1, tile_y=1, tile_x=2)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert tables.attrs["predictor_digest"] == plain.digest
    assert tables.attrs["tile"] == TILE
    knots = np.linspace(0, 0.4, 64)
    values = source.isel(time=1, y=15, x=27).sel(band="red")
    mapped = xh.to_landsat(source, tables).isel(time=1, y=15, x=27).sel(band="red")
    assert float(mapped) == pytest.approx(np.interp(float(values), knots, expected[0]), abs=1e-6)


@pytest.mark.parametrize("name", ["plain", "refining"])
def test_chunks_do_not_matter(name, source, request):
    location = request.getfixturevalue(name).location
    chunkings = [{"time": 1, "band": 1, "y": 13, "x": 30}, {"time": 2, "y": 20, "x": 19}]
    assert_chunk_invariant(
        lambda cube: xh.to_landsat(cube, location, flags=True),
        source,
        chunkings=chunkings,
        atol=1e-6,
    )


def test_given_tables_are_a_pure_map_of_any_part(source, refining, plain):
    model = xh.load_model(refining.location)
    tables = xh.harmonizers.fit_tables(source, model, interpolate=True)
    whole = xh.to_landsat(source, model, tables=tables)
    part = xh.to_landsat(source.isel(x=slice(4, 30), time=[1]), model, tables=tables)
    np.testing.assert_allclose(
        part.isel(x=slice(2, -2)), whole.isel(x=slice(6, 28), time=[1]), atol=1e-6
    )
    with pytest.raises(xh.errors.ModelError, match="3x3 convolution"):
        xh.to_landsat(source, tables)
    with pytest.raises(xh.errors.ModelError, match="made by another model"):
        xh.to_landsat(source, plain.location, tables=tables)
    with pytest.raises(xh.errors.ModelError, match="no Dataset of fit_tables"):
        xh.to_landsat(source, model, tables=source.to_dataset(name="tables"))


def test_the_convolution_equals_torch_where_nothing_is_missing(source, refining):
    import torch

    from xharmonize.models import read_weights
    from xharmonize.models.architectures import build

    whole = source.fillna(0.2)
    model = xh.load_model(refining.location)
    tables = xh.harmonizers.fit_tables(whole, model)
    mapped = xh.to_landsat(whole, tables.assign_attrs(is_refined=0))
    network = build(model.card, read_weights(refining))
    scale = np.array(HIGH, "float32")[:, None, None]
    with torch.no_grad():
        expected = network.refine(torch.from_numpy(mapped.values / scale)).numpy() * scale
    actual = xh.to_landsat(whole, model)
    inner = (..., slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(actual.values[inner], expected[inner], atol=1e-6)
    assert np.abs(actual.values[inner] - mapped.values[inner]).max() > 1e-3


def test_missing_pixels_do_not_spread(source, refining):
    result = xh.to_landsat(source, refining.location, flags=True)
    np.testing.assert_array_equal(np.isnan(result["reflectance"]), np.isnan(source))
    edge = (result["flag"] & ResultFlag.PARTIAL_CONTEXT) > 0
    assert edge[:, 0].all()
    assert edge[..., -1].all()
    assert not edge[:, 1:-1, 1:-1].any()


def test_pixels_and_tiles_beyond_the_training_are_flagged(source, plain):
    counts, _ = np.histogram(source.sel(band="red"), 50, (0, 1))
    domain = Domain(
        bands=("red",),
        low=(0.005,),
        high=(0.09,),
        edges=(0.0, 1.0),
        histograms=(tuple(counts / counts.sum()),),
        max_distance=0.01,
    )
    model = replace(xh.load_model(plain.location), card=make_card(domain=domain))
    cube = source.copy(data=source.values.copy())
    cube[:, 0, :12, :12] += 0.06
    flag = xh.to_landsat(cube, model, flags=True)["flag"]
    is_out = (flag & ResultFlag.OUT_OF_DOMAIN) > 0
    there = np.isfinite(cube).any("band")
    assert (is_out[:, :12, :12] == there[:, :12, :12]).all()
    red = cube.sel(band="red")
    expected = (red < np.float32(0.005)) | (red > np.float32(0.09))
    np.testing.assert_array_equal(is_out[:, 12:], expected[:, 12:])
    tables = xh.harmonizers.fit_tables(cube, model)
    assert (tables["tile_flag"][:, 0, 0] == ResultFlag.OUT_OF_DOMAIN).all()
    np.testing.assert_array_equal(xh.to_landsat(cube, tables, flags=True)["flag"], flag)
    lazy = xh.to_landsat(cube.chunk(time=1, y=13, x=20), model, flags=True)["flag"]
    np.testing.assert_array_equal(lazy, flag)


def test_an_empty_tile_stays_missing(source, plain):
    cube = source.where(~((source.x < source.x[12]) & (source.y > source.y[12])))
    tables = xh.harmonizers.fit_tables(cube, plain.location)
    assert np.isnan(tables["tables"][:, 0, 0]).all()
    assert float(tables["tile_coverage"][0, 0, 0]) == 0
    result = xh.to_landsat(cube, plain.location)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(cube))


def test_what_the_card_does_not_allow_is_refused(source, plain):
    with pytest.raises(xh.errors.BandError, match="needs band nir08"):
        xh.to_landsat(source.sel(band=["red"]), plain.location)
    toa = source.assign_coords(level=("time", np.full(3, "TOA")))
    with pytest.raises(xh.errors.RadiometryError, match="was made for SR"):
        xh.to_landsat(toa, plain.location)
    other = source.assign_coords(sensor=("time", np.full(3, "hls-s30")))
    with pytest.raises(xh.errors.RadiometryError, match="sentinel-2-l2a"):
        xh.to_landsat(other, plain.location)
    with pytest.raises(xh.errors.ModelError, match="not to msi"):
        xh.to_sentinel2(source, plain.location)


@pytest.mark.slow
def test_the_graph_is_lazy_and_loads_no_torch(source, plain, no_compute):
    with no_compute():
        result = xh.to_landsat(source.chunk(time=1, x=20), plain.location, flags=True)
    assert_lazy(result)
    code = (
        "import sys, xharmonize as xh\n"
        "from xharmonize.testing import example_cube\n"
        f"cube = example_cube(bands={BANDS}, shape=(36, 48)).chunk(time=1)\n"
        f"xh.to_landsat(cube, {plain.location!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
