"""``xharmonize fill``, called as a user calls it, on real scenes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.commands import call

import xharmonize as xh
from xharmonize.cli import console

SUMMER = ["--source-collection", "sentinel-2-l2a", "--datetime", "2018-06-20/2018-08-10"]
SOME = ["--bands", "red,nir", "--resolution", "20"]


@pytest.mark.slow
def test_a_summer_is_filled_by_sentinel1_and_its_fit_fills_again(capsys, data, tmp_path):
    catalog, fit = data / "flanders-2018" / "catalog.json", tmp_path / "fit.nc"
    radar = ["--sentinel1-collection", "sentinel-1-grd"]
    out, again = tmp_path / "filled.zarr", tmp_path / "again.zarr"
    code, said, err = call(
        capsys, "fill", catalog, *SUMMER, *SOME, *radar, "--model", "sar-regression",
        "--save-fit", fit, "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert "Kept in" in said
    filled = xh.open_series(out).compute()
    assert float(filled["reflectance"].notnull().mean()) > 0.99
    assert set(np.unique(filled["origin"])) == {1, 4}
    assert float(filled["gap"].max()) > 0
    assert np.isfinite(filled["sentinel1_offset"]).all()
    code, _, err = call(
        capsys, "fill", catalog, *SUMMER, *SOME, *radar, "--model", fit, "--out", again
    )
    assert code == 0, err
    np.testing.assert_array_equal(xh.open_series(again)["reflectance"], filled["reflectance"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["c.json"], "nothing to write"),
        (["c.json", "--out", "a", "--model", "sar-regression"], "needs --sentinel1-collection"),
        (["c.json", "--out", "a", "--target-collection", "b"], "No such option"),
        (["c.json", "--out", "a", "--model", "f.nc", "--save-fit", "g.nc"], "names another"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments, complaint):
    code, _, err = call(capsys, "fill", *arguments)
    assert code == console.USAGE
    assert complaint in " ".join(err.replace("│", " ").split())


def test_an_error_names_the_option(capsys, data, tmp_path):
    catalog = data / "flanders-2018" / "catalog.json"
    code, _, err = call(
        capsys, "fill", catalog, *SUMMER, *SOME, "--max-gap", "soon", "--out", tmp_path / "a.zarr"
    )
    assert code == console.FAILED
    assert "--max-gap" in err
