"""Trained models and look-up tables on real observations, smaller than a tile and in degrees."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rioxarray
import xarray as xr
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.cli.app import main
from xharmonize.cube.companions import ResultFlag

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning"),
]
SOURCE, TARGET = "sentinel-2-l2a", "landsat-8-c1-sr"
BOADELLA = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08",
    "nir09", "swir16", "swir22",
)  # fmt: skip


@pytest.fixture(scope="module")
def catalog(data: Path) -> Path:
    return data / "flanders-2018" / "catalog.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A generator for Landsat's grid: with weights of zero it gives the area-weighted mean."""
    from make_small_bundle import LATTICE
    from simulated_pairs import INPUTS, OLI

    from xharmonize.models import GeneratorCard, Input, Output, write_bundle
    from xharmonize.models.architectures import seeded

    card = GeneratorCard(
        name="small",
        title="Small",
        description="",
        architecture="small-conv",
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=tuple(
            Input(name=name, bands=b, gsd=gsd, mean=(0.2,) * len(b), scale=(0.1,) * len(b))
            for name, (gsd, b) in INPUTS.items()
        ),
        output=Output(bands=OLI, mean=(0.2,) * 6, scale=(0.1,) * 6),
        lattice=LATTICE,
    )
    weights = {name: np.zeros_like(value) for name, value in seeded(card).items()}
    path = tmp_path_factory.mktemp("models") / "small"
    write_bundle(path, card, weights)
    return path


@pytest.fixture(scope="module")
def boadella(data: Path) -> xr.DataArray:
    """Three summer dates, in degrees."""
    files = sorted((data / "boadella" / "sentinel_2").glob("*_2021-*.tif"))
    times = [np.datetime64(file.stem[-10:], "ns") for file in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = xr.concat(
            [rioxarray.open_rasterio(f) for f in files], pd.Index(times, name="time")
        )
    cube = xh.describe(
        numbers.assign_coords(band=list(BOADELLA)),
        sensor=SOURCE, platform="sentinel-2a", scale=1e-4, offset=0.0, nodata=0,
    )  # fmt: skip
    return xh.decode(cube)


def test_a_site_smaller_than_a_tile_is_mapped_and_flagged(catalog, bundle, tmp_path, no_compute):
    when = {"datetime": "2018-06-25/2018-07-25"}
    model = xh.load_model(bundle)
    source = xh.open_stac(
        catalog, collection=SOURCE, bands=model.bands, resolution=10, platform="infer", **when
    )
    landsat = xh.open_stac(catalog, collection=TARGET, bands=model.card.output.bands, **when)
    with no_compute():
        like = source.harmonize.to_landsat(model, like=landsat, flags=True)
    stored = xh.open_series(like.harmonize.to_zarr(tmp_path / "s.zarr")).compute()
    np.testing.assert_array_equal(stored["x"], landsat["x"])
    np.testing.assert_array_equal(stored["y"], landsat["y"])
    is_partial = (stored["flag"].astype(np.uint8) & int(ResultFlag.PARTIAL_CONTEXT)) > 0
    assert is_partial.all()
    mean = source.sel(band="red").mean(["y", "x"]).compute()
    ours = stored["reflectance"].sel(band="red").mean(["y", "x"])
    is_clear = (source.sel(band="red").notnull().mean(["y", "x"]) > 0.95).compute().values
    assert is_clear.sum() >= 3
    np.testing.assert_allclose(ours[is_clear], mean[is_clear], rtol=0.03)


@pytest.mark.slow
def test_the_command_line_gives_what_the_functions_give(catalog, bundle, tmp_path):
    options = ["--datetime", "2018-06-25/2018-07-05", "--platform", "infer", "--flags"]
    pair = ["--source-collection", SOURCE, "--target-collection", TARGET]
    command = ["harmonize", catalog, *pair, *options, "--model", bundle, "--out", tmp_path / "c"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in command])
    assert not ended.value.code
    stored = xh.open_series(tmp_path / "c").compute()
    model = xh.load_model(bundle)
    when = {"datetime": "2018-06-25/2018-07-05"}
    source = xh.open_stac(catalog, collection=SOURCE, bands=model.bands, platform="infer", **when)
    landsat = xh.open_stac(catalog, collection=TARGET, bands=model.card.output.bands, **when)
    like = source.harmonize.to_landsat(model, like=landsat).compute()
    actual = stored["reflectance"].isel(time=(stored["sensor"] == SOURCE).values)
    np.testing.assert_allclose(actual.sel(band=like["band"]), like, atol=1e-4)


@pytest.mark.slow
def test_tables_per_tile_give_each_date_the_distribution_of_the_reference(catalog, tmp_path):
    when = {"datetime": "2018-07-01/2018-07-31"}
    landsat = xh.open_stac(catalog, collection=TARGET, bands=["red", "nir08"], **when)
    source = xh.open_stac(
        catalog, collection=SOURCE, bands=["red", "nir08"], platform="infer", **when
    ).harmonize.regrid(like=landsat)
    model = xh.harmonizers.fit_histogram(landsat)
    fit = xh.harmonizers.fit_tables(source, model, tile=320, interpolate=True).compute()
    xh.harmonizers.save_model(fit, tmp_path / "tables.zarr")
    like = source.harmonize.to_landsat(model, tables=xh.load_model(tmp_path / "tables.zarr"))
    stored = xh.open_series(like.harmonize.to_zarr(tmp_path / "s.zarr")).compute()
    clear = stored.isel(time=stored.notnull().mean(["band", "y", "x"]).values > 0.95)
    assert clear.sizes["time"] >= 3
    before = source.sel(time=clear["time"]).mean(["y", "x"]).compute()
    wanted = landsat.mean(["time", "y", "x"]).compute()
    after = clear.mean(["y", "x"])
    assert (abs(after - wanted) <= abs(before - wanted) + 0.005).all()


def test_degrees_are_refused_and_the_cure_works(boadella, bundle, tmp_path):
    model = xh.load_model(bundle)
    with pytest.raises(xh.errors.GridError, match=r"regrid\(crs='EPSG:32631', resolution=10\)"):
        boadella.harmonize.to_landsat(model)
    ten, twenty = (
        boadella.sel(band=list(part.bands)).harmonize.regrid(crs=32631, resolution=part.gsd)
        for part in model.card.inputs
    )
    cube = xr.concat([ten, twenty.harmonize.regrid(like=ten, method="nearest")], "band")
    like = cube.harmonize.to_landsat(model, flags=True)
    stored = xh.open_series(like.harmonize.to_zarr(tmp_path / "b.zarr")).compute()
    flag = stored["flag"].astype(np.uint8).values
    assert ((flag & int(ResultFlag.PARTIAL_CONTEXT)) == 0).any()
    near = ten.harmonize.regrid(like=stored["reflectance"]).sel(band="red")
    error = abs(stored["reflectance"].sel(band="red") - near)
    assert float(error.median()) < 0.01  # the grid of 10 m lies 5 m off


@pytest.mark.slow
def test_scores_on_real_pairs_are_those_of_the_measurements(catalog, bundle):
    benchmark = import_benchmark("closed_forms_flanders")
    names = ["identity", "table per band (fit_lut)", "tables per tile, matched", "network"]
    _, scores = benchmark.evaluate(catalog, bundle=bundle, names=names)
    mean = scores[["ergas", "ergas_centred", "sam"]].mean("pair").sel(model=names)
    identity, table, tiles, network = mean["ergas"].values
    assert (identity, mean["sam"].values[0]) == pytest.approx((18.1, 4.97), abs=0.05)
    assert table < 14 < identity
    assert tiles > 25  # other dates are no reference
    assert mean["ergas_centred"].values[3] < network
