"""What is compared with what."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.metrics.pairing import paired
from xharmonize.testing import example_cube


def test_a_merged_series_that_is_compared_with_its_own_reference_is_told_so():
    landsat = example_cube("landsat-c2-l2", platform="landsat-8", resolution=10.0)
    landsat = landsat.assign_coords(time=landsat["time"] + np.timedelta64(1, "D"))
    merged = landsat.harmonize.densify(example_cube().harmonize.to_landsat("hls-v2"))
    with pytest.warns(xh.errors.RadiometryWarning, match="compare an image with itself"):
        one, other = paired(merged, landsat)
    assert float(np.abs(one - other).max()) == 0
    cured = merged.isel(time=(merged["sensor"] == "sentinel-2-l2a").values)
    with warnings.catch_warnings():
        warnings.simplefilter("error", xh.errors.RadiometryWarning)
        one, other = paired(cured, landsat)
    assert float(np.abs(one - other).max()) > 0
