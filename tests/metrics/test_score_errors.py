"""What cannot be scored is said before anything is computed."""

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.metrics import Ergas, Metric, Sam, Ssim, Uiqi
from xharmonize.testing import example_cube


@pytest.fixture
def ref():
    return example_cube()


def test_cubes_that_cannot_be_compared(ref):
    with pytest.raises(xh.errors.GridError, match="score needs cubes on one grid"):
        ref.harmonize.score(ref.isel(x=slice(1, None)))
    with pytest.raises(xh.errors.BandError, match=r"the same bands: .*take those both have"):
        ref.harmonize.score(ref.sel(band=["red", "nir08"]))
    with pytest.raises(xh.errors.BandError, match="only one of the two cubes has bands"):
        ref.harmonize.score(ref.harmonize.index("ndvi"))
    later = ref.assign_coords(time=ref["time"] + np.timedelta64(1, "D"))
    with pytest.raises(xh.errors.TimeAxisError, match=r"no time in common .*match_pairs"):
        ref.harmonize.score(later)
    twice = ref.isel(time=[0, 0, 1])
    with pytest.raises(xh.errors.TimeAxisError, match="duplicates"):
        ref.harmonize.score(twice)
    assert (twice.harmonize.score(twice, "rmse")["rmse"] == 0).all()


def test_numbers_in_other_units(ref):
    encoded = example_cube(is_decoded=False)
    with pytest.raises(xh.errors.RadiometryError, match=r"digital numbers \(uint16\)"):
        ref.harmonize.score(encoded)
    floats = encoded.astype("float32")
    with pytest.raises(xh.errors.RadiometryError, match="not applied"):
        floats.harmonize.score(ref)
    with pytest.raises(xh.errors.RadiometryError, match="units of 'K'"):
        ref.assign_attrs(units="K").harmonize.score(ref)
    with pytest.raises(xh.errors.ContractError, match="one index; it has"):
        xr.Dataset({"a": ref, "b": ref}).harmonize.score(ref)
    with pytest.raises(xh.errors.MetricError, match="nothing along time"):
        ref.isel(time=[]).harmonize.score(ref)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rmsee", "'rmse'"), ("SSIM", "'ssim'"), ("ndvi_rsme", "'ndvi_rmse'"), ("r2_pearsen", "r2_p")],
)
def test_the_nearest_name_is_suggested(ref, name, hint):
    with pytest.raises(xh.errors.UnknownMetricError, match=hint):
        ref.harmonize.score(ref, [name])


def test_metrics_that_make_no_sense_here(ref):
    with pytest.raises(xh.errors.UnknownMetricError, match="list_metrics"):
        ref.harmonize.score(ref, "zzz")
    with pytest.raises(xh.errors.MetricError, match="neither the name of a metric nor an entry"):
        ref.harmonize.score(ref, ["rmse", Ssim])
    with pytest.raises(xh.errors.MetricError, match="asked for twice"):
        ref.harmonize.score(ref, ["ssim", Ssim(weights="uniform")])
    with pytest.raises(xh.errors.MetricError, match="is empty"):
        ref.harmonize.score(ref, [])
    with pytest.raises(xh.errors.MetricError, match="at least two bands"):
        ref.sel(band=["red"]).harmonize.score(ref.sel(band=["red"]), "sam")
    visible = ref.sel(band=["red", "blue"])
    with pytest.raises(xh.errors.BandError, match="needs band nir"):
        visible.harmonize.score(visible, "ndvi_rmse")
    with pytest.raises(xh.errors.MetricError, match="slides windows over y and x"):
        ref.harmonize.score(ref, "ssim", dim="time")
    with pytest.raises(xh.errors.MetricError, match="pass it as baseline="):
        ref.harmonize.score(ref, "skill")
    with pytest.raises(xh.errors.MetricError, match="is for the metric 'skill'"):
        ref.harmonize.score(ref, "rmse", baseline=ref)
    with pytest.raises(xh.errors.MetricError, match="has no formula"):
        ref.harmonize.score(ref, Metric(name="mine"))
    with pytest.raises(xh.errors.MetricError, match="there is no dimension z"):
        ref.harmonize.score(ref, dim="z")


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_the_range_of_the_data_has_to_be_known(ref, metric):
    with pytest.raises(xh.errors.MetricError, match=f"{metric} depends on the range"):
        ref.harmonize.score(ref, metric, data_range=None)
    with pytest.raises(xh.errors.MetricError, match="is not positive"):
        ref.harmonize.score(ref, metric, data_range=0)
    ref.harmonize.score(ref, "rmse", data_range=None)


def test_options_of_metrics():
    with pytest.raises(xh.errors.MetricError, match="no unit of angle"):
        Sam(unit="gon")
    with pytest.raises(xh.errors.MetricError, match="ratio=0 is no ratio"):
        Ergas(ratio=0)
    with pytest.raises(xh.errors.MetricError, match="weights='box' is unknown"):
        Ssim(weights="box")
    with pytest.raises(xh.errors.MetricError, match="no number of pixels"):
        Uiqi(size=-1)
    with pytest.raises(xh.errors.MetricError, match="is no fraction; give a number from 0 to 1"):
        Uiqi(min_valid=2)


def test_groups_that_are_none(ref):
    cover = xr.DataArray(np.ones(ref.shape[2:]), dims=("y", "x"), name="cover")
    with pytest.raises(xh.errors.MetricError, match="no coordinate of the cube"):
        ref.harmonize.score(ref, by="sensors")
    with pytest.raises(xh.errors.MetricError, match=r"names of coordinates and DataArrays .*not 3"):
        ref.harmonize.score(ref, by=3)
    with pytest.raises(xh.errors.MetricError, match="lies along time, which the score keeps"):
        ref.harmonize.score(ref, by="sensor", dim=("y", "x"))
    with pytest.raises(xh.errors.GridError, match="another grid"):
        ref.harmonize.score(ref, by=cover.isel(x=slice(5)))
    moved = cover.assign_coords(y=ref["y"], x=ref["x"] + 10)
    with pytest.raises(xh.errors.GridError, match="by= needs cubes on one grid"):
        ref.harmonize.score(ref, by=moved)
    with pytest.raises(xh.errors.MetricError, match="is lazy and does not list its classes"):
        ref.harmonize.score(ref, by=cover.chunk())
    with pytest.raises(xh.errors.MetricError, match="all its values are missing"):
        ref.harmonize.score(ref, by=cover * np.nan)
    with pytest.raises(xh.errors.MetricError, match="two groups of the name"):
        ref.harmonize.score(ref, by=[cover, cover])
    listed = cover.chunk().assign_attrs(flag_values=[1, 2])
    found = ref.harmonize.score(ref, "n", by=listed)
    assert found["cover"].values.tolist() == [1, 2]
    assert (found["n"].sel(cover=2) == 0).all()
