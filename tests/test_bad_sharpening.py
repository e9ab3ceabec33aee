"""Bad input of sharpening, one test each. Listed in the reference."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers.sharpening import BANDS, coarse_cube, fine_cube

import xharmonize as xh
from xharmonize import fusion
from xharmonize.fusion.frame import Sharpener
from xharmonize.fusion.methods.bilinear import Bilinear
from xharmonize.fusion.methods.starfm import Starfm, StarfmSI
from xharmonize.kernels.starfm import Search
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"


@dataclass(frozen=True, kw_only=True)
class Detail(Sharpener):
    """The reference plus what the coarse cube differs from it by, band by band."""

    needs_like_bands: ClassVar[bool] = True
    name: str = "detail"

    def sharpened(self, coarse, *, fine):
        seen = fusion.degrade(fine, coarse, min_valid=0.5).values
        change = xh.regrid(coarse.copy(data=coarse.values - seen), like=self.like, min_valid=0)
        return fine.values + change.values


@dataclass(frozen=True, kw_only=True)
class PanOnly(Sharpener):
    """The panchromatic band in place of all bands."""

    name: str = "pan only"

    def sharpened(self, coarse, *, fine):
        return np.repeat(fine.values, coarse.sizes["band"], axis=1)


def test_no_clear_reference():
    cloudy = fine_cube()
    cloudy[:, :, :30] = np.nan
    with pytest.raises(xh.errors.TimeAxisError, match="clear enough to be a reference; lower min_"):
        xh.sharpen(coarse_cube(), cloudy, Detail())
    assert xh.sharpen(coarse_cube(), cloudy, Detail(), min_valid=0.2)["reflectance"].notnull().any()


def test_references_too_far_away():
    with pytest.raises(xh.errors.TimeAxisError, match=r"is 1\.0 days away; raise tolerance="):
        xh.sharpen(coarse_cube(), fine_cube(), Detail(), tolerance="6h")


def test_some_dates_without_reference():
    result = xh.sharpen(coarse_cube(), fine_cube().isel(time=[0]), Detail(), tolerance="5D")
    assert np.isnan(result["reflectance"][1]).all()
    assert ((result["flag"][1] & 8) != 0).all()
    assert not (result["flag"][0] & 8).any()
    assert np.isnat(result["reference_time"].values).tolist() == [False, True]


def test_neither_fine_nor_pan():
    with pytest.raises(
        xh.errors.BandError, match=r"two pixel sizes.* of 30 m has blue 30 m.*fine="
    ):
        xh.sharpen(coarse_cube())


def test_no_pan_of_an_image():
    coarse = coarse_cube()
    pan = xh.regrid(coarse, resolution=15).isel(band=0, drop=True)
    run = PanOnly()
    assert xh.sharpen(coarse, pan=pan, model=run)["reflectance"].shape == (2, 3, 32, 40)
    with pytest.raises(xh.errors.TimeAxisError, match="2018-07-12T10:40:00 has no panchromatic"):
        xh.sharpen(coarse, pan=pan.isel(time=[0]), model=run)


def test_a_pan_of_integers_or_of_several_bands():
    coarse = coarse_cube()
    several = xh.regrid(coarse, resolution=15)
    with pytest.raises(xh.errors.BandError, match=r"pan= has 3 bands; select one of \['blue'"):
        xh.sharpen(coarse, pan=several, model=PanOnly())
    whole = several.isel(band=[0]).fillna(0).astype("uint16")
    with pytest.raises(xh.errors.RadiometryError, match=r"pan= holds uint16.*pan\.where"):
        xh.sharpen(coarse, pan=whole, model=PanOnly())


def test_a_pan_that_the_method_makes_no_use_of():
    coarse = coarse_cube()
    pan = xh.regrid(coarse, resolution=15).isel(band=0, drop=True)
    with pytest.raises(xh.errors.ModelError, match="'bilinear' makes no use of a panchromatic"):
        xh.sharpen(coarse, fine_cube(), pan=pan)
    for name in ("starfm-si", "starfm"):  # of each band they look at the same band alone
        with pytest.raises(xh.errors.ModelError, match=f"'{name}' makes no use of a panchromatic"):
            xh.sharpen(coarse, fine_cube(), name, pan=pan)


def test_a_grid_that_is_not_finer():
    with pytest.raises(xh.errors.GridError, match=r"of 30 m.* is not finer than the cube's .*10 m"):
        xh.sharpen(fine_cube(), coarse_cube())


def test_grids_that_do_not_nest():
    coarse = coarse_cube(phase=-4.0)
    result = xh.sharpen(coarse, fine_cube(), bandpass=None, correct=True)
    left = fusion.degrade(result, coarse) - coarse
    assert float(abs(left).max()) < 1e-5


def test_another_crs():
    other = fine_cube(crs="EPSG:32632")
    with pytest.raises(xh.errors.GridError, match=r"EPSG:32631.*EPSG:32632; open both with .*crs="):
        xh.sharpen(coarse_cube(), other)


def test_a_fine_cube_elsewhere():
    away = fine_cube(origin=(601360.0, 5629680.0))
    with pytest.raises(xh.errors.GridError, match=r"does not meet the cube"):
        xh.sharpen(coarse_cube(), away)


def test_missing_pixels_in_one_source():
    coarse, fine = coarse_cube(), fine_cube()
    coarse[0, 1, 2, 3] = np.nan  # one band of one coarse pixel
    fine[0, :, 30, 40] = np.nan
    found = xh.sharpen(coarse, fine, Detail(), bandpass=None)["reflectance"]
    expected = np.zeros(found.shape, bool)
    expected[0, 1, 6:9, 9:12] = True
    expected[0, :, 30, 40] = True
    np.testing.assert_array_equal(np.isnan(found), expected)


def test_no_bands_in_common():
    fine = fine_cube().assign_coords(band=["green", "nir", "swir16"])
    with pytest.raises(xh.errors.BandError, match=r"bands that all cubes have.*atprk"):
        xh.sharpen(coarse_cube(), fine, Detail())


def test_a_model_that_changes_no_pixels():
    with pytest.raises(xh.errors.ModelError, match=r"'hls-v2' changes no pixels.*bandpass="):
        xh.sharpen(coarse_cube(), fine_cube(), "hls-v2")
    with pytest.raises(xh.errors.UnknownModelError, match="did you mean 'bilinear'"):
        xh.sharpen(coarse_cube(), fine_cube(), "bi-linear")


def test_bandpasses_without_published_lines():
    coarse = coarse_cube().assign_coords(bandpass=("time", ["viirs"] * 2))
    with pytest.raises(xh.errors.ModelError, match=r"no published lines from viirs to msi; fit"):
        xh.sharpen(coarse, fine_cube())
    kept = xh.sharpen(coarse, fine_cube(), bandpass=None)
    assert kept["bandpass"].values.tolist() == ["viirs"] * 2


def test_bands_that_were_interpolated():
    bands = ("blue", "red", "swir16")
    cube = example_cube(bands=bands, missing=0)
    with pytest.raises(xh.errors.ModelError, match="interpolated to the cube's grid"):
        xh.sharpen(cube).compute()


def test_references_of_other_dates():
    found = fusion.find_references(coarse_cube().isel(time=[0]), fine_cube())
    with pytest.raises(xh.errors.TimeAxisError, match="other dates than the cube's"):
        xh.sharpen(coarse_cube(), fine_cube(), Detail(), references=found)


def test_references_for_a_model_that_names_its_dates():
    coarse, fine = coarse_cube(), fine_cube()
    found = fusion.find_references(coarse, fine)
    for given, told in (("before", "'before'"), (found, "'Dataset'")):
        with pytest.raises(xh.errors.OptionError, match=f"references={told} says .*before and"):
            xh.sharpen(coarse, fine, Starfm(pairs=2), references=given)


def test_a_result_and_a_coarse_cube_of_two_bandpasses():
    result = xh.sharpen(coarse_cube(), fine_cube())
    with pytest.raises(xh.errors.RadiometryError, match="bandpass msi, the coarse one in oli"):
        fusion.correct(result, coarse_cube())
    assert fusion.correct(result, xh.to_sentinel2(coarse_cube()))["reflectance"].notnull().all()


def test_digital_numbers_in_the_fine_cube():
    raw = example_cube(bands=BANDS, is_decoded=False, shape=(48, 60))
    with pytest.raises(xh.errors.RadiometryError, match=r"digital numbers.*decode"):
        xh.sharpen(coarse_cube(), raw, Bilinear())


def test_no_date_to_sharpen():
    with pytest.raises(xh.errors.TimeAxisError, match="has no date"):
        xh.sharpen(coarse_cube().isel(time=slice(0)), fine_cube())


def test_pixels_that_kriging_cannot_take():
    coarse = xh.regrid(coarse_cube(), resolution=25)
    with pytest.raises(xh.errors.GridError, match="regrid the fine cube"):
        xh.sharpen(coarse, fine_cube(), "atprk", bandpass=None)


def test_too_few_pixels_for_a_regression():
    coarse = coarse_cube()
    coarse[1, :, 1:] = np.nan
    coarse[1, :, :, 15:] = np.nan
    result = xh.sharpen(coarse, fine_cube(), "atprk", bandpass=None)["reflectance"]
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


def test_options_of_starfm():
    for given in ({"window": 30}, {"n_classes": 0}, {"fine_uncertainty": -0.1}):
        (name,) = given
        with pytest.raises(xh.errors.OptionError, match=f"{name}="):
            StarfmSI(search=Search(**given))
    with pytest.raises(xh.errors.OptionError, match="pairs=3 is no number of pairs"):
        Starfm(pairs=3)


def test_no_pair_for_starfm():
    fine = fine_cube(dates=("2018-06-01T10:50", "2018-08-11T10:50"))
    with pytest.raises(xh.errors.TimeAxisError):
        xh.sharpen(coarse_cube(), fine, "starfm", tolerance="90D")


def test_the_reference_lists_these_tests():
    section = PAGE.read_text(encoding="utf-8").partition("## Sharpening")[2].partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    own = [n for n in globals() if n.startswith("test_") and "the_reference" not in n]
    assert listed == own
