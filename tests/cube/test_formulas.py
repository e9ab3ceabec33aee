"""Indices by formula: as numpy computes them, with the units, flags and errors of all indices."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.errors import BandError
from xharmonize.kernels import formulas
from xharmonize.testing import assert_chunk_invariant, example_cube

BANDS = ("blue", "red", "nir", "swir16")
SR = "nir / red"
DEEP = "sqrt(abs(nir - red)) * 2.5 ** red - log(nir + 1) / (red + 0.1) + exp(-nir) * tanh(red)"


def test_a_formula_gives_what_it_says():
    cube = example_cube(bands=BANDS)
    nir, red = (cube.sel(band=b).values.astype(float) for b in ("nir", "red"))
    found = xh.index(cube, "2 * (nir - red) / (nir + 2.4 * red + 1)")
    np.testing.assert_allclose(found, 2 * (nir - red) / (nir + 2.4 * red + 1), rtol=1e-6)
    assert (found.name, found.attrs["units"]) == ("index", "1")
    assert found.attrs["long_name"] == "2 * (nir - red) / (nir + 2.4 * red + 1)"
    assert found.attrs["history"].endswith("index: index = 2 * (nir - red) / (nir + 2.4 * red + 1)")
    assert found.attrs["bands"] == "nir red"
    assert xh.index(cube, SR, label="simple_ratio").name == "simple_ratio"


def test_the_formula_of_a_known_index_is_that_index():
    cube = example_cube(bands=BANDS)
    found = xh.index(cube, "((nir-red)/(nir+red))")
    xr.testing.assert_identical(found, xh.index(cube, "ndvi"))


def test_a_formula_is_lazy_and_chunk_invariant():
    assert_chunk_invariant(
        lambda cube: cube.harmonize.index(DEEP),
        example_cube(bands=BANDS),
        chunkings=[{"time": 1, "y": 5, "x": 7}, {"band": 1}],
    )


def test_what_is_not_finite_is_missing_and_flagged():
    cube = example_cube(bands=BANDS, missing=0)
    cube[0, 1, 0, 0] = 0.0
    cube[0, 1, 0, 1] = np.nan
    found = xh.index(cube.to_dataset(), SR, label="sr")
    assert found["sr"][0, 0, :2].isnull().all()
    assert found["flag"][0, 0, 0] == ResultFlag.UNDEFINED_INDEX
    assert found["flag"][0, 0, 1] == 0
    assert np.isfinite(found["sr"]).sum() == found["sr"].size - 2


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_errors_are_propagated_as_by_differences(seed):
    random = np.random.default_rng(seed)
    formula = formulas.read_formula(DEEP)
    bands = [random.uniform(0.05, 0.6, 50) for _ in formula.names]
    bands[0] = bands[0] + 0.7  # away from the corner of abs
    errors = [random.uniform(0.001, 0.01, 50) for _ in formula.names]
    step, variance = 1e-4, 0.0
    for i, error in enumerate(errors):
        up, down = ([b + sign * step * (k == i) for k, b in enumerate(bands)] for sign in (1, -1))
        values = [formulas._evaluated(b, formula, differentiate=False)[0] for b in (up, down)]
        variance = variance + ((values[0] - values[1]) / (2 * step) * error) ** 2
    found = formulas.formula_uncertainty(bands, errors, formula)
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=1e-4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("__import__('os').system('true')", "functions are"),
        ("(nir).real + 1", "no part of a formula"),
        ("nir if red else 1", "no part of a formula"),
        ("nir[0] + red", "no part of a formula"),
        ("nir @ red", "no part of a formula"),
        ("(lambda: nir)() + 1", "functions are"),
        ("nir + 'a'", "no number"),
        ("nir + 1j", "no number"),
        ("True * nir", "no number"),
        ("nir +", "cannot be read"),
        ("1 + 2", "names no band"),
        ("sqrt(nir, red)", "of one value"),
        ("nir + " * 200 + "red", "more than 500"),
        ("(" * 240 + "nir" + ")" * 240, "cannot be read"),
        ("nir + \0", "cannot be read"),
    ],
)
def test_what_is_no_formula_is_refused(text, told):
    with pytest.raises(BandError, match=told):
        xh.index(example_cube(bands=BANDS), text)


def test_a_huge_power_takes_no_time():
    found = xh.index(example_cube(bands=BANDS), "nir * 9 ** 9 ** 9 ** 9")
    assert found.isnull().all()


def test_bands_that_the_cube_lacks_are_told():
    with pytest.raises(BandError, match="rededge1"):
        xh.index(example_cube(bands=BANDS), "nir / rededge1")
    others = r"one of the \d+ of spyndex" if find_spec("spyndex") else "install others"
    with pytest.raises(BandError, match=f"write a formula such as .* or {others}"):
        xh.index(example_cube(bands=BANDS), "no_such_index")


def test_every_index_of_spyndex_is_as_spyndex_computes_it():
    spyndex = pytest.importorskip("spyndex")
    names = {
        "coastal": "A", "blue": "B", "green": "G", "red": "R", "rededge1": "RE1",
        "rededge2": "RE2", "rededge3": "RE3", "nir": "N", "swir16": "S1", "swir22": "S2",
    }  # fmt: skip
    random = np.random.default_rng(0)
    bands = [*names, "nir08"]
    cube = example_cube(bands=bands, dates=("2022-06-01T10:00",), shape=(4, 5), missing=0)
    cube = cube.copy(data=random.uniform(0.05, 0.6, cube.shape).astype("float32"))
    values = {short: cube.sel(band=name).values.astype(float) for name, short in names.items()}
    # Near infrared is one band here: B8A where the cube has it.
    values["N2"] = values["N"] = cube.sel(band="nir08").values.astype(float)
    values |= {n: c.default for n, c in spyndex.constants.items() if c.default is not None}
    compared = 0
    for name, index in spyndex.indices.items():
        if name.lower() in xh.series.list_indices() or not set(index.bands) <= set(values):
            continue
        found = xh.index(cube, name)
        with np.errstate(all="ignore"):
            expected = index.compute({band: values[band] for band in index.bands})
        expected = np.broadcast_to(np.asarray(expected, float), found.shape)
        np.testing.assert_allclose(
            found, np.where(np.isfinite(expected), expected, np.nan), rtol=2e-4, atol=1e-5,
            err_msg=name,
        )  # fmt: skip
        assert found.attrs["long_name"] == index.long_name
        compared += 1
    assert compared > 150
    with pytest.raises(BandError, match="no sensor here has"):
        xh.index(cube, "kNDVI")


def test_the_reference_lists_bad_formulas():
    page = Path(__file__).parents[2] / "docs" / "reference" / "bad-input.md"
    section = page.read_text(encoding="utf-8").partition("## Formulas")[2].partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    assert listed
    assert set(listed) <= set(globals())
