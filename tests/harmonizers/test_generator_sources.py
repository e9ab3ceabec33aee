"""A generator of several cubes: each on its own grid, none may be missed, the lattice's result."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.marks import first_quick

pytest.importorskip("torch")

from helpers.generators import Plain, generator
from helpers.sources import COARSE, FINE, LATTICE, coarse_cube, fine_cube, two_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize import testing
from xharmonize.cube.companions import ResultFlag
from xharmonize.errors import (
    BandError,
    ContractError,
    GridError,
    ModelError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.models import Domain

FOLDER = tempfile.TemporaryDirectory()
FEW = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CASES = {
    "nested": two_card(),
    "half a fine pixel off": two_card(phase=15.0),
    "blend": two_card(replace(LATTICE, merge="blend"), phase=15.0),
}
MODELS = {name: generator(Path(FOLDER.name), card, flags=True) for name, card in CASES.items()}
PHASES = {name: card.inputs[0].phase[0] for name, card in CASES.items()}


def cubes(name="nested", missing=0.0, **where):
    coarse = coarse_cube(phase=PHASES[name], missing=missing, **where)
    return coarse, fine_cube(west=-4, north=-2, shape=(70, 75), missing=missing)


def reflectance(model, coarse, **others):
    return model(coarse, **others)["reflectance"]


@pytest.mark.parametrize("name", CASES)
def test_it_gives_what_plain_numpy_does(name):
    """Values, grid and contract; a pixel that either cube lacks is missing."""
    coarse, fine = cubes(name)
    coarse[0, :, 3, 4], fine[1, :, 20:22, 30] = np.nan, np.nan
    found = reflectance(MODELS[name], coarse, fine=fine)
    assert found["band"].values.tolist() == list(COARSE)
    assert set(found["bandpass"].values) == {"msi"}
    assert set(found["sensor"].values) == {"landsat-c2-l2"}
    assert (np.diff(found["x"].values) == 10.0).all()
    rows = np.round((-found["y"].values - 5) / 10).astype(int)
    columns = np.round((found["x"].values - 5) / 10).astype(int)
    plain = Plain(MODELS[name])
    expected = plain(
        coarse, range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1), fine=fine
    )
    there = np.isfinite(found.values)
    np.testing.assert_allclose(found.values[there], expected[there], rtol=0, atol=2e-5)
    hole = ~there.all(axis=1)
    y, x = (np.abs(found[n].values - float(coarse[n][at])) for n, at in (("y", 3), ("x", 4)))
    assert hole[0][np.ix_(y < 10, x < 10)].all()
    y, x = (np.abs(found[n].values - float(fine[n][at])) for n, at in (("y", 20), ("x", 30)))
    assert hole[1][np.ix_(y < 5, x < 5)].all()
    assert 0 < hole.sum() < 200


@pytest.mark.parametrize("name", first_quick(["nested", "blend"]))
@given(data=st.data(), missing=st.sampled_from([0.0, 0.2, 1.0]), batch=st.integers(1, 40))
@FEW
def test_neither_cubes_chunks_matter(name, data, missing, batch):
    coarse, fine = cubes(name, missing)
    chunks = data.draw(testing.chunkings(fine) | st.none())
    beside = fine if chunks is None else fine.chunk(chunks)
    model = replace(MODELS[name], runtime=xh.models.Runtime(batch_size=batch))
    expected = MODELS[name](coarse, fine=fine)
    own = data.draw(testing.chunkings(coarse) | (st.none() if chunks else st.nothing()))
    with testing.no_compute():
        lazy = model(coarse if own is None else coarse.chunk(own), fine=beside)
    testing.assert_lazy(lazy)
    found = lazy.compute(scheduler="synchronous")
    np.testing.assert_array_equal(found["flag"], expected["flag"])
    np.testing.assert_allclose(
        found["reflectance"], expected["reflectance"], rtol=0, atol=1e-5, equal_nan=True
    )


@given(
    west=st.integers(0, 30),
    north=st.integers(0, 30),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@FEW
def test_wholly_supplied_tiles_do_not_depend_on_the_area(west, north, shape):
    fine = fine_cube((200, 200))
    part = fine.isel(y=slice(3 * north, 3 * (north + shape[0])), x=slice(3 * west, None))
    found = MODELS["nested"](coarse_cube(shape, west=west, north=north), fine=part)
    whole = MODELS["nested"](coarse_cube((66, 66)), fine=fine)
    found, whole = xr.align(found, whole, join="inner")
    is_full = (found["flag"].values & ResultFlag.PARTIAL_CONTEXT) == 0
    one, other = (each["reflectance"].transpose("band", ...).values for each in (found, whole))
    np.testing.assert_allclose(
        np.where(is_full, one, 0), np.where(is_full, other, 0), rtol=0, atol=1e-5
    )


@pytest.mark.slow
def test_schedulers(client):
    coarse, fine = cubes("half a fine pixel off", 0.1)
    model = partial(MODELS["half a fine pixel off"], fine=fine.chunk(time=1, y=30, x=40))
    testing.assert_invariant(
        model,
        coarse,
        chunkings=[{"time": 1, "y": 7, "x": 22}],
        schedulers=["synchronous", "threads", client],
        tolerance=1e-5,
    )


def test_the_result_covers_the_cube_and_lacks_what_the_other_does_not_reach():
    coarse, fine = cubes()
    found = reflectance(MODELS["nested"], coarse, fine=fine.isel(x=slice(0, 34)))
    assert (found.sizes["y"], found.sizes["x"]) == (60, 66)
    there = np.isfinite(found.values)
    assert there[..., :30].all()
    assert not there[..., 30:].any()
    nowhere = fine_cube(west=900)
    assert not np.isfinite(reflectance(MODELS["nested"], coarse, fine=nowhere)).any()


def test_south_up_cubes_and_other_orders():
    coarse, fine = cubes(missing=0.1)
    expected = MODELS["nested"](coarse, fine=fine)
    turned = fine.isel(y=slice(None, None, -1), band=[2, 0, 1]).transpose("band", "x", "y", "time")
    found = MODELS["nested"](coarse, fine=turned)
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())
    found = MODELS["nested"](coarse.isel(y=slice(None, None, -1)), fine=fine)
    np.testing.assert_array_equal(found["reflectance"][:, :, ::-1], expected["reflectance"])


def test_only_dates_that_are_due_are_taken_of_the_other():
    """A date in the target's bandpass passes; its partner is not looked at."""
    coarse, fine = cubes()
    expected = reflectance(MODELS["nested"], coarse, fine=fine)
    there = coarse.assign_coords(bandpass=("time", np.array(["oli", "msi"])))
    broken = fine.copy(data=np.where(np.arange(2)[:, None, None, None] == 1, np.nan, fine.values))
    found = reflectance(MODELS["nested"], there, fine=broken)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1].values[:, 1::3, 1::3], coarse[1].values)


def test_a_cube_that_gives_dates_and_extent_alone(tmp_path):
    """As for filled clouds: no pixel of the cube itself is read."""
    card = two_card(source_bandpass="msi", source_sensor="sentinel-2-l2a")
    fine, *_ = card.inputs[1:]
    radar = replace(card.inputs[0], source="sentinel1", sensor="landsat-c2-l2")
    reference = replace(fine, source="reference", date="reference")
    model = generator(tmp_path, replace(card, inputs=(radar, reference)))
    assert model.sources == ("cube", "sentinel1", "reference")
    coarse, other = cubes()
    cube = fine_cube((48, 54)).chunk(time=1)
    cloudy = cube.where(False)
    found = model(cloudy, sentinel1=coarse, reference=other)
    assert found.notnull().all()
    assert found.shape == (2, 2, 48, 54)
    np.testing.assert_array_equal(found["time"], cube["time"])
    clear = model(cube, sentinel1=coarse, reference=other)
    np.testing.assert_array_equal(found, clear)


def test_how_much_has_to_be_valid_is_said_per_input(tmp_path):
    card = CASES["half a fine pixel off"]
    strict = replace(card, inputs=(replace(card.inputs[0], min_valid=1.0), *card.inputs[1:]))
    coarse, fine = cubes("half a fine pixel off")
    coarse[:, :, 5, 5] = np.nan  # three 10 m pixels a side: two wholly, two by half
    holes = [
        np.isnan(model(coarse, fine=fine).values[0, 0]).sum()
        for model in (generator(tmp_path, card), generator(tmp_path, strict))
    ]
    assert np.diff(holes) > 0
    fine[:, :, 20, 20] = np.nan
    more = np.isnan(generator(tmp_path, strict)(coarse, fine=fine).values[0, 0]).sum()
    assert more == holes[1] + 1


def test_each_source_has_a_domain_of_its_own(tmp_path):
    def domain(band, high):
        return Domain(
            bands=(band,),
            low=(0.0,),
            high=(high,),
            edges=(0.0, 1.0),
            histograms=((0.25,) * 4,),
            max_distance=1.0,
        )

    card = two_card(domain=domain("red", 1.0), source_domains={"fine": domain("red", 0.4)})
    model = generator(tmp_path, card, flags=True)
    coarse, fine = cubes()
    fine = fine.clip(max=0.3)
    fine[0, 0, 30, 30] = 0.45
    coarse[:, 0, 5, 5] = 0.49  # beyond what is usual of the fine cube, not of this one
    flag = model(coarse, fine=fine)["flag"]
    strange = (flag & ResultFlag.OUT_OF_DOMAIN).values > 0
    assert strange[0].sum() == 1
    assert not strange[1].any()
    at = flag.isel(time=0, y=strange[0].any(1).argmax(), x=strange[0].any(0).argmax())
    assert (float(at.x), float(at.y)) == (float(fine.x[30]), float(fine.y[30]))


def test_a_bundle_keeps_it_all(tmp_path):
    model = MODELS["half a fine pixel off"]
    opened = xh.load_model(model.ref.location)
    assert opened.card == model.card
    assert opened.sources == ("cube", "fine")
    coarse, fine = cubes("half a fine pixel off")
    found = opened(coarse, fine=fine)
    np.testing.assert_array_equal(found, reflectance(model, coarse, fine=fine))
    assert "beside it fine" in found.attrs["history"]
    assert "fine" in str(opened.card.facts())


def refused(error, match, coarse, **others):
    with testing.no_compute(), pytest.raises(error, match=match):
        MODELS["nested"](coarse, **others)


def test_what_does_not_go_with_the_cube_is_refused():
    coarse, fine = (cube.chunk(time=1) for cube in cubes())
    refused(ModelError, r"applied to cube, fine; .*model\(cube, fine=\.\.\.\)", coarse)
    refused(ModelError, "applied to cube, fine", coarse, fine=fine, before=fine)
    refused(ContractError, "source 'fine' .* NoneType", coarse, fine=None)
    refused(TimeAxisError, r"1 dates .* the cube 2 dates", coarse, fine=fine[:1])
    later = fine.assign_coords(time=fine["time"] + np.timedelta64(1, "D"))
    refused(TimeAxisError, "dates of the cube first", coarse, fine=later)
    refused(
        BandError, "source 'fine' .* needs band nir, nir08", coarse, fine=fine.sel(band=["red"])
    )
    refused(GridError, "source 'fine' has .* 30", coarse, fine=fine[..., ::3, ::3])
    halved = xh.regrid(fine.compute(), resolution=20.0)
    refused(GridError, r"needs pixels of 10 m .* source 'fine' has", coarse, fine=halved)
    other = fine.assign_coords(sensor=("time", ["hls-s30"] * 2))
    refused(
        RadiometryError, "trained on sentinel-2-l2a, this cube is of hls-s30", coarse, fine=other
    )
    zone = fine.drop_vars("spatial_ref").rio.write_crs(32632) if hasattr(fine, "rio") else None
    if zone is not None:
        refused(GridError, "32632", coarse, fine=zone)
    with pytest.raises(ModelError, match=r"model\(cube, fine="):
        xh.to_sentinel2(coarse, MODELS["nested"])


def test_a_reference_on_the_wrong_side_is_refused(tmp_path):
    card = two_card()
    inputs = tuple(
        one if one.source == "cube" else replace(one, date="before") for one in card.inputs
    )
    model = generator(tmp_path, replace(card, inputs=inputs))
    coarse, fine = cubes()
    days = np.array([-3, 2], "timedelta64[D]")
    told = fine.assign_coords(reference_time=("time", fine["time"].values + days))
    with pytest.raises(
        TimeAxisError, match="observed before each date; that of 2018-07-06 is 2 days after"
    ):
        model(coarse, fine=told)
    early = fine.assign_coords(reference_time=fine["time"] - np.timedelta64(3, "D"))
    np.testing.assert_array_equal(model(coarse, fine=early), model(coarse, fine=fine))


def test_cards_that_contradict_themselves():
    card = two_card()
    own, fine, twenty = card.inputs
    with pytest.raises(ModelError, match="whose dates are those of the result"):
        replace(own, date="nearest")
    with pytest.raises(ModelError, match="other dates or sensors"):
        replace(card, inputs=(own, fine, replace(twenty, date="before")))
    with pytest.raises(ModelError, match="which no input is read from"):
        replace(
            card,
            source_domains={
                "before": Domain(
                    bands=("red",),
                    low=(0.0,),
                    high=(1.0,),
                    edges=(0.0, 1.0),
                    histograms=((1.0,),),
                    max_distance=1.0,
                )
            },
        )
    assert FINE[0] in card.bands_of("fine")


def test_a_card_of_degraded_pixels_is_magnified():
    """Everything keeps its place beside everything else: the same tiles of the same numbers."""
    small = two_card(replace(LATTICE, phase=(15.0, 15.0)), phase=15.0)
    large = replace(
        small,
        lattice=replace(small.lattice, resolution=30.0),
        inputs=tuple(
            replace(one, gsd=3 * one.gsd, phase=(phase, phase))
            for one, phase in zip(small.inputs, (15.0, 0.0, 30.0))
        ),
    )
    assert large.magnified(3) == small
    shifts = [
        [card.lattice.shift(one.gsd, one.phase) for one in card.inputs] for card in (small, large)
    ]
    whole = np.array(shifts[0], float) - np.array(shifts[1], float)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
