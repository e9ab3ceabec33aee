"""Samples of several cubes: what they hold, where they lie, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.fusion_cubes import filling_cubes, sharpening_cubes

import xharmonize as xh
from xharmonize import testing
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import ContractError, FitError, OptionError, TimeAxisError
from xharmonize.training.collect import collect_sources, degraded
from xharmonize.training.places import phase_of

pytest.importorskip("torch")

from xharmonize.training import Data, build_store
from xharmonize.training.constants import domains_of, fit_lines, measure
from xharmonize.training.cutting import is_cut_from


@pytest.fixture(scope="module")
def filling():
    return filling_cubes()


@pytest.fixture(scope="module")
def fill_pairs(filling):
    roles = ("reference", "sentinel1", "sentinel1_reference")
    return collect_sources(filling["clear"], **{role: filling[role] for role in roles})


@pytest.fixture(scope="module")
def sharpening():
    return sharpening_cubes()


@pytest.fixture(scope="module")
def store(fill_pairs, tmp_path_factory):
    return build_store(fill_pairs, tmp_path_factory.mktemp("s") / "s", Data(patch=16, stride=8))


def test_samples_hold_each_source_at_its_own_pixels(store, filling):
    names = [one.name for one in store.inputs]
    assert names == ["reference-10m", "sentinel1-20m", "sentinel1_reference-20m"]
    assert [one.date for one in store.inputs] == ["nearest", "nearest", "reference"]
    assert store.inputs[1].sensor == "sentinel-1-rtc"
    assert store.source_bands[:4] == ("reference.green", "reference.red", "reference.nir",
                                      "sentinel1.vv")  # fmt: skip
    kept = np.flatnonzero(store.kept)
    inside = np.isfinite(store.read(kept).target).all((1, 2, 3))
    number = kept[inside][7]
    part = store.read([number])
    pair = store.pair[number]
    box = geobox_of(filling["clear"])
    row = int(store.row[number]) + round(box.affine.f / 10)
    column = int(store.column[number]) - round(box.affine.c / 10)
    rows, columns = slice(row, row + 16), slice(column, column + 16)
    target = filling["clear"].values[pair, :, rows, columns]
    np.testing.assert_array_equal(part.target[0], target)
    np.testing.assert_array_equal(
        part.inputs[0][0], filling["reference"].values[pair, :, rows, columns]
    )
    half = slice(row // 2, row // 2 + 8), slice(column // 2, column // 2 + 8)
    decibels = 10 * np.log10(filling["sentinel1"].values[pair, :, half[0], half[1]])
    np.testing.assert_allclose(part.inputs[1][0], decibels, rtol=1e-5)


def test_nothing_is_computed_when_they_are_collected(filling):
    lazy = {name: cube.chunk(time=1, y=20) for name, cube in filling.items()}
    with testing.no_compute():
        pairs = collect_sources(
            lazy["clear"], reference=lazy["reference"], sentinel1=lazy["sentinel1"]
        )
        collect_sources(lazy["clear"], degrade=3, fine=lazy["reference"])
    testing.assert_lazy(pairs["sources/sentinel1"].to_dataset()["reflectance"])
    assert "source" not in pairs.children


def test_a_store_is_known_by_its_sources(store, fill_pairs, filling):
    assert is_cut_from(store, fill_pairs, Data(patch=16, stride=8))
    fewer = collect_sources(filling["clear"], reference=filling["reference"])
    assert not is_cut_from(store, fewer, Data(patch=16, stride=8))


@pytest.mark.slow
def test_a_view_has_the_same_samples_with_fewer_inputs(store):
    view = store.only(["sentinel1"])
    samples = np.flatnonzero(store.kept)[:3]
    assert view.source_bands == ("sentinel1.vv", "sentinel1.vh")
    np.testing.assert_array_equal(view.read(samples).inputs[0], store.read(samples).inputs[1])
    np.testing.assert_array_equal(view.read(samples).exact, store.read(samples).exact[:, 3:5])
    np.testing.assert_array_equal(view.read(samples).target, store.read(samples).target)
    assert store.only([]) is store
    with pytest.raises(FitError, match=r"no source 'before'; they have reference, sentinel1"):
        store.only(["before"])


def test_a_pixel_that_one_source_lacks_does_not_count(filling, tmp_path):
    holed = filling["sentinel1"].copy()
    holed[1, :, 10:12, 10:12] = np.nan
    pairs = collect_sources(filling["clear"], reference=filling["reference"], sentinel1=holed)
    store = build_store(pairs, tmp_path / "s", Data(patch=16, stride=16, min_valid=0.5))
    part = store.read(np.flatnonzero(store.kept))
    box = geobox_of(filling["clear"])
    lost = np.zeros((5, 60, 60), bool)
    for number, target in zip(np.flatnonzero(store.kept), part.target):
        row = int(store.row[number]) + round(box.affine.f / 10)
        column = int(store.column[number]) - round(box.affine.c / 10)
        y, x = (slice(max(0, -at), max(0, min(16, 60 - at))) for at in (row, column))
        there = lost[store.pair[number], row + y.start : row + y.stop]
        there[:, column + x.start : column + x.stop] |= np.isnan(target[:, y, x]).any(axis=0)
    expected = np.zeros_like(lost)
    expected[1, 20:24, 20:24] = True
    np.testing.assert_array_equal(lost, expected)
    assert all(np.isfinite(image).all() for image in part.inputs)


def test_constants_and_domains_are_those_of_each_source(store, filling):
    samples = np.flatnonzero(store.kept)
    constants = measure(store, samples, (1.0, 99.0))
    found = dict(zip(constants.bands, constants.mean))
    decibels = 10 * np.log10(filling["sentinel1"].values[:, 0])
    assert found["sentinel1.vv"] == pytest.approx(decibels.mean(), abs=0.3)
    assert found["red"] == pytest.approx(float(filling["clear"].sel(band="red").mean()), abs=0.02)
    domains = domains_of(store, samples)
    assert list(domains) == ["reference", "sentinel1", "sentinel1_reference"]
    assert domains["sentinel1"].bands == ("vv", "vh")
    assert domains["sentinel1"].edges[0] < domains["sentinel1"].low[0] < -5
    line, _ = fit_lines(store, samples)
    assert line.matrix.shape == (3, 7)
    assert (np.diag(line.matrix[:, :3]) > 0.3).all()


def test_all_is_magnified_about_one_point(sharpening):
    """Degraded cubes lie beside each other as they did, counted in their pixels."""
    landsat, fine, pan = (sharpening[name] for name in ("cube", "fine", "pan"))
    about = phase_of(geobox_of(landsat))
    coarse = degraded(landsat, 3, about=about)
    assert phase_of(geobox_of(coarse)) == (15.0, 15.0)
    assert geobox_of(coarse).resolution.x == 90.0
    blocks = coarse.dropna("y", how="all").dropna("x", how="all")
    y, x = (int(np.abs(landsat[n].values - float(blocks[n][0])).argmin()) for n in ("y", "x"))
    mean = landsat[:, :, y - 1 : y + 2, x - 1 : x + 2].mean(("y", "x"))
    np.testing.assert_allclose(blocks[:, :, 0, 0], mean, rtol=1e-5)
    other = degraded(fine, 3, about=about)
    # Sentinel-2 begins 15 m before Landsat's phase: 1.5 of its pixels, and now of 30 m.
    assert phase_of(geobox_of(other)) == (0.0, 0.0)
    assert phase_of(geobox_of(degraded(pan, 3, about=about))) == (15.0, 15.0)


def test_a_store_of_degraded_pixels(sharpening, tmp_path):
    pairs = collect_sources(
        sharpening["cube"], degrade=3, fine=sharpening["fine"], pan=sharpening["pan"]
    )
    store = build_store(pairs, tmp_path / "s", Data(patch=12, stride=3, min_valid=0.5))
    assert store.degraded == 3
    sizes = {one.name: one.gsd for one in store.inputs}
    assert sizes == {"90m": 90.0, "fine-30m": 30.0, "pan-45m": 45.0}
    part = store.read(np.flatnonzero(store.kept))
    assert [image.shape[2] for image in part.inputs] == [4, 12, 8]
    means = part.target.reshape(*part.target.shape[:2], 4, 3, 4, 3).mean((3, 5))
    there = np.isfinite(means)
    np.testing.assert_allclose(part.inputs[0][there], means[there], atol=1e-5)


def test_what_cannot_be_collected(filling, sharpening):
    clear, reference = filling["clear"], filling["reference"]
    with pytest.raises(TimeAxisError, match="source 'reference' has 4 dates"):
        collect_sources(clear, reference=reference[:4])
    with pytest.raises(OptionError, match="degrade=0"):
        collect_sources(clear, reference=reference, degrade=0)
    with pytest.raises(OptionError, match=r"degrade=3 .*cube="):
        collect_sources(clear, cube=clear, degrade=3)
    with pytest.raises(ContractError, match="no cube for a network to look at"):
        collect_sources(clear)
    pairs = collect_sources(clear, reference=reference)
    with pytest.raises(FitError, match=r"further sources \(reference\), which a closed form"):
        xh.train("ols", pairs)
    with pytest.raises(FitError, match="no source 'sentinel1'"):
        xh.train(
            "pix2pix",
            pairs,
            config=xh.training.Config(
                method=xh.training.Pix2pix(), data=Data(sources=("sentinel1",))
            ),
        )
    assert isinstance(pairs, xr.DataTree)
