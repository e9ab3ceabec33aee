"""Names, saved fits and functions as models."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import read_contract
from xharmonize.harmonizers import Harmonizer
from xharmonize.harmonizers.protocol import Scope
from xharmonize.testing import example_cube


def _target():
    return example_cube("landsat-c2-l2", platform="landsat-8", seed=2)


def _fits():
    source, target = example_cube(), _target()
    pairs = xh.match_pairs(source, target, tolerance="1D")
    return {
        "ols": xh.fit_linear(pairs),
        "multiband": xh.fit_linear(pairs, method="multiband"),
        "pixelwise": xh.fit_pixelwise(pairs),
        "histogram": xh.harmonizers.fit_histogram(target, source=source, bins=50),
    }


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
@pytest.mark.parametrize("kind", ["ols", "multiband", "pixelwise", "histogram"])
def test_fits_are_saved_and_opened_equal(tmp_path, suffix, kind, recwarn):
    if suffix == ".nc":
        pytest.importorskip("h5py")
    fit = _fits()[kind]
    path = tmp_path / f"fit{suffix}"
    xh.harmonizers.save_model(fit, path)
    with pytest.raises(xh.errors.ModelError, match="exists; mode='w' replaces it"):
        xh.harmonizers.save_model(fit, path)
    xh.harmonizers.save_model(fit, path, mode="w")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert not [w for w in recwarn if "zarr" in str(w.category).lower()]
    opened = xh.load_model(path)
    xr.testing.assert_identical(opened.compute(), fit)
    cube = example_cube()
    xr.testing.assert_identical(xh.to_landsat(cube, str(path)).compute(), xh.to_landsat(cube, fit))


def test_a_fit_replaces_a_fit_and_nothing_else(tmp_path):
    fit = _fits()["pixelwise"]
    for name in ("photos", "notes.nc"):
        if name == "photos":
            (tmp_path / name).mkdir()
            (tmp_path / name / "one.jpg").write_text("x")
        else:
            (tmp_path / name).write_text("x")
        with pytest.raises(xh.errors.ModelError, match="exists"):
            xh.harmonizers.save_model(fit, tmp_path / name)
        with pytest.raises(xh.errors.ModelError, match="holds no fit of xharmonize and stays"):
            xh.harmonizers.save_model(fit, tmp_path / name, mode="w")
    with pytest.raises(xh.errors.StoreError, match="mode is 'a'; it is one of 'w-'"):
        xh.harmonizers.save_model(fit, tmp_path / "fit.zarr", mode="a")
    xh.harmonizers.save_model(fit, tmp_path / "fit.zarr")
    again = xh.load_model(tmp_path / "fit.zarr")  # read lazily from where it is written
    xh.harmonizers.save_model(again, tmp_path / "fit.zarr", mode="w")
    xr.testing.assert_identical(xh.load_model(tmp_path / "fit.zarr").compute(), fit)
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_a_fit_that_cannot_be_written_leaves_the_one_there(tmp_path):
    fit = _fits()["ols"]
    xh.harmonizers.save_model(fit, tmp_path / "fit.zarr")
    with pytest.raises(Exception, match="object"):
        xh.harmonizers.save_model(
            fit.assign(bad=("band", [object()] * fit.sizes["band"])),
            tmp_path / "fit.zarr",
            mode="w",
        )
    xr.testing.assert_identical(xh.load_model(tmp_path / "fit.zarr"), fit)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]


def test_built_in_models_are_listed():
    table = xh.harmonizers.list_models()
    assert {"hls-v2", "roy-2016", "chastain-2019"} <= set(table.index)
    assert table.loc["hls-v2", "direction"] == "msi to oli"
    assert table.loc["chastain-2019", "level"] == "TOA"
    assert len(str(table).splitlines()) < 8


@pytest.mark.parametrize("name", ["hls-v2", "roy-2016", "chastain-2019"])
def test_built_in_models_are_harmonizers(name):
    model = xh.load_model(name)
    assert isinstance(model, Harmonizer)
    assert "doi:10." in model.citation
    assert 0 < model.min_valid <= 1
    assert list(inspect.signature(model.__call__).parameters) == ["cube", "checked", "others"]


def test_ipython_shows_a_model_in_a_few_lines():
    model = xh.load_model("hls-v2")
    lines: list[str] = []
    # IPython looks for it beside the class's own __repr__, before it looks at parents.
    vars(type(model))["_repr_pretty_"](model, SimpleNamespace(text=lines.append), cycle=False)
    assert lines == [str(model)]
    assert len(lines[0].splitlines()) < 8


def test_a_harmonizer_is_a_model():
    cube = example_cube()
    model = xh.load_model("hls-v2")
    xr.testing.assert_identical(xh.to_landsat(cube, model), xh.to_landsat(cube, "hls-v2"))
    xr.testing.assert_identical(model(cube), xh.to_landsat(cube, "hls-v2"))


def test_any_callable_is_a_model_and_is_signed():
    def brighten(cube):
        return cube * np.float32(1.1)

    cube = example_cube(chunks={"time": 1})
    for given in (cube, cube.to_dataset(name="reflectance")):
        result = given.harmonize.to_landsat(brighten)
        assert type(result) is type(given)
        assert set(result["bandpass"].values) == {"oli"}
    result = xh.to_landsat(cube, brighten)
    assert "brighten: oli" in result.attrs["history"]
    assert result.attrs["units"] == "1"


def test_what_is_no_model_is_refused(tmp_path):
    cube = example_cube()
    with pytest.raises(xh.errors.UnknownModelError, match="built in are hls-v2"):
        xh.to_landsat(cube, "hls-v3")
    with pytest.raises(xh.errors.ModelError, match="is no fit"):
        xh.to_landsat(cube, cube.to_dataset(name="reflectance"))
    with pytest.raises(xh.errors.ModelError, match="is no model"):
        xh.to_landsat(cube, 3)
    with pytest.raises(xh.errors.ModelError, match="returned int"):
        xh.to_landsat(cube, lambda _: 3)
    cube.to_dataset(name="reflectance").drop_vars("spatial_ref").to_zarr(tmp_path / "cube.zarr")
    with pytest.raises(xh.errors.ModelError, match="holds no bundle, and no fit"):
        xh.load_model(tmp_path / "cube.zarr")
    with pytest.raises(xh.errors.ModelError, match="holds no bundle, and no fit"):
        xh.load_model(tmp_path)
    with pytest.raises(xh.errors.ModelError, match="save_model writes fits"):
        xh.harmonizers.save_model(cube.to_dataset(name="reflectance"), tmp_path / "fit.zarr")


def test_a_model_that_leads_elsewhere_is_refused():
    with pytest.raises(xh.errors.ModelError, match=r"roy-2016.*not to msi"):
        xh.to_sentinel2(_target(), "roy-2016")
    with pytest.raises(xh.errors.UnknownSensorError):
        xh.to_sensor(example_cube(), "landsat-99", "hls-v2")


def test_a_date_of_the_sensor_to_change_and_another_is_refused():
    scope = Scope(
        name="x", source_bandpass="oli", target_bandpass="oli", sensors=frozenset({"hls-s30"})
    )
    cube = example_cube("hls-s30", bands=("red", "nir08"))
    names = ["hls-l30", "hls-s30", "hls-l30|hls-s30"]
    cube = cube.assign_coords(sensor=("time", names), bandpass=("time", ["oli"] * 3))
    steps = read_contract(cube)
    assert [scope.covers(step) for step in steps[:2]] == [False, True]
    with pytest.raises(xh.errors.RadiometryError):
        scope.covers(steps[2])
