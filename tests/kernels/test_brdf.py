"""RossThick, LiSparse-R, c-factor and sun position against published vectors."""

import numpy as np
import pytest

from xharmonize.kernels import brdf

# iso, vol, geo (Roy 2016) and the c-factors they give at sun 45, view 7, azimuth 0 and 180
C_FACTORS = {
    "blue": ((0.0774, 0.0372, 0.0079), 0.958718, 1.037159),
    "green": ((0.1306, 0.0580, 0.0178), 0.952705, 1.043215),
    "red": ((0.1690, 0.0574, 0.0227), 0.958390, 1.037668),
    "nir08": ((0.3093, 0.1535, 0.0330), 0.956931, 1.038909),
    "swir16": ((0.3430, 0.1154, 0.0453), 0.959063, 1.037007),
    "swir22": ((0.2658, 0.0639, 0.0387), 0.960795, 1.035434),
}
LANDSAT_AND_SENTINEL2 = np.array([[98.2, 10 + 11 / 60], [98.62, 10.5]])


@pytest.mark.parametrize(
    ("view", "azimuth", "volume", "geometry"),
    [
        (0, 0, -0.0458620, -1.1068192),
        (7, 0, -0.0023928, -0.9465895),
        (7, 180, -0.0815292, -1.2424963),
    ],
)
def test_kernels_match_vectors(view, azimuth, volume, geometry):
    assert brdf.ross_thick(45.0, float(view), float(azimuth)) == pytest.approx(volume, abs=1e-6)
    assert brdf.li_sparse_r(45.0, float(view), float(azimuth)) == pytest.approx(geometry, abs=1e-6)


@pytest.mark.parametrize("band", C_FACTORS)
@pytest.mark.parametrize("azimuth", [0.0, 180.0])
def test_c_factor_matches_vectors(band, azimuth):
    weights, backward, forward = C_FACTORS[band]
    sun, view, sun_azimuth = (np.full((1, 1, 1), v) for v in (45.0, 7.0, 150.0))
    factor = brdf.normalize_view(
        np.ones((1, 1, 1, 1), "float32"),
        sun,
        sun_azimuth,
        view[:, None],
        sun_azimuth[:, None] + azimuth,
        sun,
        np.array([weights]),
    )
    assert factor.item() == pytest.approx(backward if azimuth == 0 else forward, abs=1e-6)


def test_missing_angle_or_value_gives_nan():
    values = np.array([0.1, np.nan, 0.3], "float32").reshape(1, 1, 1, 3)
    angle = np.array([[[30.0, 30.0, np.nan]]])
    result = brdf.normalize_view(
        values, angle, angle, angle[:, None], angle[:, None], angle, np.array([[0.1, 0.05, 0.01]])
    )
    assert np.isnan(result.ravel()).tolist() == [False, True, True]


def test_sun_stands_overhead_at_the_equator_on_the_equinox():
    day = np.datetime64("2018-03-20T12:07:30").astype("datetime64[s]").astype(float) / 86400
    assert brdf.sun_zenith_at(day, 0.0, 0.0) < 0.2


def test_solstice_noon_zenith_is_latitude_minus_obliquity():
    day = np.datetime64("2018-06-21T12:01:45").astype("datetime64[s]").astype(float) / 86400
    assert brdf.sun_zenith_at(day, 50.8, 0.0) == pytest.approx(50.8 - 23.435, abs=0.02)


def test_overpass_is_later_in_the_south_and_at_the_node_hour_on_the_equator():
    assert brdf.overpass_hour(0.0, 98.62, 10.5) == 10.5
    assert brdf.overpass_hour(50.0, 98.62, 10.5) > 10.5 > brdf.overpass_hour(-50.0, 98.62, 10.5)
    assert np.isnan(brdf.overpass_hour(82.0, 98.62, 10.5))


def test_modelled_sun_zenith_depends_on_the_date_only():
    place = np.array([[50.8]]), np.array([[3.0]])
    day = np.datetime64("2018-07-01").astype("datetime64[D]").astype(float)
    morning, evening, next_day = brdf.mean_overpass_sun_zenith(
        np.array([day + 0.3, day + 0.9, day + 1.3]), *place, LANDSAT_AND_SENTINEL2
    ).ravel()
    assert morning == evening != next_day


def test_interpolation_is_exact_for_a_plane():
    row, column = np.mgrid[0:4, 0:5]
    nodes = (2.0 * row + 3.0 * column)[None]
    y, x = np.array([0.0, 1.25, 3.0]), np.array([0.5, 4.0])
    expected = 2 * y[:, None] + 3 * x
    np.testing.assert_allclose(brdf.interpolate_nodes(nodes, y, x)[0], expected)
