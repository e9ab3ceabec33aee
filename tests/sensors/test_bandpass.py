"""Coefficient tables: what they may be applied to, and what public code gets wrong."""

import pickle

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.sensors.bandpass import C_FACTOR, CHASTAIN_2019, HLS_V2, get_table, list_tables


@pytest.mark.parametrize("name", list_tables())
def test_every_table_says_where_it_comes_from(name):
    table = get_table(name)
    assert table.citation
    assert table.doi.startswith("10.")
    assert " to " in table.direction
    assert table.levels
    assert hash(table) == hash(pickle.loads(pickle.dumps(table)))


@pytest.mark.parametrize(
    ("platform", "band", "slope", "offset"),
    [
        ("sentinel-2a", "blue", 0.9778, -0.0040),
        ("sentinel-2a", "nir08", 0.9983, -0.0001),
        ("sentinel-2a", "swir22", 1.0030, -0.0012),
        ("sentinel-2b", "green", 1.0075, -0.0008),
        ("sentinel-2b", "swir22", 0.9867, 0.0004),  # public code has the sign of this one wrong
        ("sentinel-2c", "coastal", 1.0030, 0.0),
        ("sentinel-2c", "red", 0.9718, 0.0011),
    ],
)
def test_hls_v2_numbers(platform, band, slope, offset):
    line = HLS_V2.line(band, platform=platform)
    assert (line.slope, line.offset) == (slope, offset)


def test_sentinel_2b_has_lines_of_its_own():  # public code gives it those of 2A, or invented ones
    a, b = HLS_V2.lines("sentinel-2a"), HLS_V2.lines("sentinel-2b")
    assert {name for name in a if (a[name].slope, a[name].offset) != (b[name].slope, b[name].offset)
            } == {"green", "red", "nir08", "swir16", "swir22"}  # fmt: skip


def test_a_b8a_line_is_refused_for_b08():
    with pytest.raises(xh.errors.BandError, match=r"no line for band 'nir'; it has.*nir08 .B8A."):
        HLS_V2.line("nir", platform="sentinel-2a")
    with pytest.raises(xh.errors.BandError, match="made for B8A, not for B08"):
        HLS_V2.line("nir08", platform="sentinel-2a", source_band="B08")
    with pytest.raises(xh.errors.BandError, match=r"no line for band 'nir08'; it has.*nir .B08."):
        CHASTAIN_2019.inverse().line("nir08", platform="sentinel-2a")


def test_chastain_is_published_from_oli_to_msi():
    """MSI = 1.0946 OLI - 0.0107 in blue; used the other way round it doubles the difference."""
    published = CHASTAIN_2019.line("blue", platform="sentinel-2a")
    turned = CHASTAIN_2019.inverse().line("blue", platform="sentinel-2a")
    oli = 0.05
    msi = published.slope * oli + published.offset
    assert msi == pytest.approx(1.0946 * 0.05 - 0.0107)
    assert turned.slope * msi + turned.offset == pytest.approx(oli)
    assert (CHASTAIN_2019.inverse().source_bandpass, turned.source_band) == ("msi", "B02")


@pytest.mark.parametrize("name", list_tables())
def test_an_inverse_undoes_its_table(name):
    table = get_table(name)
    back = table.inverse()
    assert (back.source_bandpass, back.target_bandpass) == (
        table.target_bandpass,
        table.source_bandpass,
    )
    for platform in table.platforms:
        for line in table.lines(platform).values():
            turned = back.line(line.target, platform=platform)
            assert turned.slope * (line.slope * 0.3 + line.offset) + turned.offset == (
                pytest.approx(0.3)
            )
    again = back.inverse()
    assert (again.name, again.platform_side) == (table.name, table.platform_side)


def test_an_unknown_platform_is_an_error_that_says_what_settles_it():
    with pytest.raises(
        xh.errors.RadiometryError, match="platform is unknown; pass platform= one of"
    ):
        HLS_V2.lines("unknown")
    with pytest.raises(xh.errors.RadiometryError, match="no lines for platform 'landsat-8'"):
        HLS_V2.lines("landsat-8")
    with pytest.raises(xh.errors.RadiometryError, match="no lines for platform 'sentinel-2c'"):
        CHASTAIN_2019.lines("sentinel-2c")


def test_the_mean_of_2a_and_2b_warns_and_carries_half_their_difference():
    with pytest.warns(xh.errors.RadiometryWarning, match="mean of the Sentinel-2A and 2B lines"):
        line = HLS_V2.line("swir22", platform="sentinel-2")
    assert line.slope == pytest.approx((1.0030 + 0.9867) / 2)
    assert line.offset == pytest.approx((-0.0012 + 0.0004) / 2)
    value = 0.3
    first, second = 1.0030 * value - 0.0012, 0.9867 * value + 0.0004
    spread = abs(line.slope_spread * value + line.offset_spread)
    assert spread == pytest.approx(abs(first - second) / 2)


def test_an_unknown_table_is_answered_with_the_known_ones():
    with pytest.raises(xh.errors.UnknownModelError, match="hls-v2, chastain-2019, roy-2016"):
        get_table("zhang-2018")


def test_hls_gives_both_near_infrareds_the_same_brdf():
    assert C_FACTOR["nir"] == C_FACTOR["nir08"]
    assert (C_FACTOR["blue"].iso, C_FACTOR["swir22"].geo) == (0.0774, 0.0387)


@pytest.fixture
def spectra(data):
    """Matched spectra as reflectance [1] by band: (OLI, MSI)."""
    numbers = np.load(data / "matched_spectra_l8_s2a.npz")
    oli = dict(zip(numbers["landsat8_bands"], numbers["landsat8"].T / 1e4))
    return oli, dict(zip(numbers["sentinel2a_bands"], numbers["sentinel2a"].T / 1e4))


def test_hls_v2_on_matched_spectra(spectra):
    """Identity is as good in blue: the line corrects more than the bandpass does."""
    oli, msi = spectra
    line = HLS_V2.line("blue", platform="sentinel-2a")
    adjusted = line.slope * msi["B02"] + line.offset
    rmse = [np.sqrt(np.mean((x - oli["b2"]) ** 2)) for x in (adjusted, msi["B02"])]
    assert rmse == pytest.approx([0.0051, 0.0042], abs=5e-5)


def test_b08_instead_of_b8a_costs_more_than_any_line_gains(spectra):
    oli, msi = spectra
    reference = (oli["b5"] - oli["b4"]) / (oli["b5"] + oli["b4"])
    bias = {
        band: np.mean((msi[band] - msi["B04"]) / (msi[band] + msi["B04"]) - reference)
        for band in ("B08", "B8A")
    }
    assert abs(bias["B08"]) > 5 * abs(bias["B8A"])
