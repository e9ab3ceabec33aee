"""What every kind of model answers alike: whether it fits a date, which options it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch")

from helpers.cards import lut_card, source
from helpers.generators import generator, sentinel, small_card

import xharmonize as xh
from xharmonize import testing
from xharmonize.cube import contract
from xharmonize.errors import RadiometryError
from xharmonize.harmonizers.protocol import Base, Harmonizer, Scope
from xharmonize.harmonizers.registry import as_harmonizer
from xharmonize.models.architectures import seeded
from xharmonize.models.bundle import write_bundle

pytestmark = pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")

BANDS = ("blue", "green", "red", "swir16", "swir22")


def cube(**coords: str) -> xr.DataArray:
    """Two dates of Sentinel-2; the first says something odd."""
    whole = sentinel((48, 48)).sel(band=list(BANDS))
    odd = {
        name: ("time", np.array([value, str(whole[name].values[1])]))
        for name, value in coords.items()
    }
    return whole.assign_coords(odd)


def landsat() -> xr.DataArray:
    own = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=BANDS,
        dates=[str(time)[:19] for time in cube()["time"].values],
        shape=(48, 48),
        origin=(500160.0, 5600160.0),
    )
    return own.copy(data=(0.7 * own.values + 0.3 * cube().values).astype("float32"))


def _generator(folder: Path) -> object:
    inputs = (source("10m", BANDS[:3], 10.0), source("20m", BANDS[3:], 20.0))
    facts = {"source_sensor": "sentinel-2-l2a", "levels": ("SR",)}
    return generator(folder, replace(small_card("small-conv"), inputs=inputs, **facts))


def _network(folder: Path) -> object:
    card = lut_card(64, depth=2, refine=False)
    edges = {"low": (0.0,) * 5, "high": (0.6,) * 5, "tile": 240.0}
    card = replace(
        card,
        target_bandpass="oli",
        source_sensor="sentinel-2-l2a",
        levels=("SR",),
        histograms=replace(card.histograms, bands=BANDS, **edges),
        output=replace(card.output, bands=BANDS, mean=(0.0,) * 5, scale=(1.0,) * 5),
    )
    write_bundle(folder / "network", card, seeded(card))
    return xh.load_model(folder / "network")


def _pairs() -> xr.Dataset:
    return xh.match_pairs(cube(), landsat())


# Every kind of model, from Sentinel-2's surface reflectance to Landsat's.
MODELS: dict[str, Callable[[Path], object]] = {
    "published lines": lambda folder: xh.load_model("hls-v2"),
    "lines": lambda folder: xh.fit_linear(_pairs()),
    "several bands": lambda folder: xh.fit_linear(_pairs(), method="multiband"),
    "lines per pixel": lambda folder: xh.fit_pixelwise(cube(), landsat()),
    "histogram": lambda folder: xh.harmonizers.fit_histogram(landsat(), source=cube()),
    "global table": lambda folder: xh.fit_lut(_pairs(), knots=16),
    "tables per tile": lambda folder: xh.harmonizers.fit_tables(
        cube(), xh.harmonizers.fit_histogram(landsat(), source=cube()), tile=240
    ),
    "tables of a network": _network,
    "generator": _generator,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder) for name, make in MODELS.items()}


# What the first date says, and what the answer is: the words of an error, or whether it is changed.
ODD_DATES: dict[str, tuple[dict[str, str], str | bool]] = {
    "as fitted": ({}, True),
    "of the target": ({"bandpass": "oli"}, False),
    "of a third bandpass": ({"bandpass": "wfv"}, "is in wfv"),
    "of no known bandpass": ({"bandpass": "unknown"}, "bandpass is unknown"),
    "of another level": ({"level": "TOA"}, "is TOA"),
    "of no known level": ({"level": "unknown"}, "level is unknown.*describe"),
    "of another level, but the target's": ({"level": "TOA", "bandpass": "oli"}, False),
    "of another sensor": ({"sensor": "hls-s30"}, "is hls-s30"),
    "of no known sensor": ({"sensor": "unknown"}, "sensor is unknown.*describe"),
}


@pytest.mark.parametrize("odd", ODD_DATES)
@pytest.mark.parametrize("name", MODELS)
def test_whether_a_model_fits_a_date_has_one_answer(name, odd, models):
    if name == "published lines" and "sensor" in odd:
        pytest.skip("published lines are for platforms, whatever product they come in")
    coords, expected = ODD_DATES[odd]
    whole = cube(**coords)
    if isinstance(expected, str):
        with pytest.raises(RadiometryError, match=expected):
            xh.to_landsat(whole.chunk(), models[name])
        return
    harmonizer = as_harmonizer(models[name])
    assert harmonizer.check(whole).is_due == (expected, True)


@pytest.mark.parametrize("name", ["lines", "global table", "tables of a network", "generator"])
def test_a_model_for_several_sensors_and_levels_takes_each(name, models):
    both = {"source_sensor": "sentinel-2-l2a|hls-s30", "source_level": "NBAR|SR"}
    model = models[name]
    if isinstance(model, xr.Dataset):
        model = model.assign_attrs(both)
    else:
        facts = {"source_sensor": both["source_sensor"], "levels": ("NBAR", "SR")}
        model = replace(model, card=replace(model.card, **facts))
    for coords in ({"sensor": "hls-s30"}, {"level": "NBAR"}, {"level": "NBAR|SR"}):
        assert as_harmonizer(model).check(cube(**coords)).is_due == (True, True)
    with pytest.raises(RadiometryError, match=r"is NBAR\|TOA"):
        as_harmonizer(model).check(cube(level="NBAR|TOA"))


@pytest.mark.parametrize("like", [None, landsat()], ids=["", "on a grid"])
def test_the_contract_of_each_date_is_read_once(like, monkeypatch):
    read = []
    step = contract.Step
    monkeypatch.setattr(contract, "Step", lambda **fields: read.append(1) or step(**fields))
    xh.to_landsat(cube(), "hls-v2", like=like)
    assert len(read) == cube().sizes["time"]


@pytest.mark.parametrize("name", MODELS)
def test_flags_are_a_companion_of_every_model(name, models):
    """Zeros, and words that say so, where a model knows nothing of single values."""
    plain = xh.to_landsat(cube(), models[name])
    found = xh.to_landsat(cube().chunk(time=1, y=24), models[name], flags=True)
    assert list(found.data_vars) == ["reflectance", "flag"]
    testing.assert_lazy(found)
    flag = found["flag"]
    assert flag.dims == ("time", "y", "x")
    assert flag.dtype == np.uint8
    np.testing.assert_allclose(found["reflectance"], plain, atol=1e-6)
    tells = as_harmonizer(models[name]).tells
    assert not (flag & ~np.uint8(tells)).any()
    known = [str(bit.name).lower() for bit in tells]
    assert ", ".join(known or ["tells nothing of single values"]) in flag.attrs["comment"]
    past = xr.full_like(cube().isel(band=0, drop=True), 64, dtype="uint8")
    both = xh.to_landsat(
        xr.Dataset({"reflectance": cube(), "flag": past}), models[name], flags=True
    )
    np.testing.assert_array_equal(both["flag"] & 64, 64)
    np.testing.assert_array_equal(both["flag"] & ~np.uint8(64), flag)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_needs_and_gives(name, models):
    model = as_harmonizer(models[name])
    assert isinstance(model, Harmonizer)
    result = xh.to_landsat(cube(), models[name])
    assert set(result["band"].values) <= set(model.target_bands)
    assert model.sources == ("cube",)
    with pytest.raises(xh.errors.ModelError, match=r"takes no strange; leave strange= out"):
        model.configured(strange=1)
    with pytest.raises(xh.errors.ModelError, match=r"model\(cube\)"):
        model(cube(), fine=landsat())
    few = cube().sel(band=["blue", "green"])
    if model.needs_all_bands:
        with pytest.raises(xh.errors.BandError, match="needs band red"):
            model.check(few)
    else:
        assert list(model(few)["band"].values) == ["blue", "green"]


@dataclass(frozen=True, kw_only=True)
class Sharpened(Base):
    """A fusion as simple as can be: a coarse series, and the mean of fine dates."""

    sources = ("coarse", "fine")
    name: str = "sharpened"
    source_bandpass: str = "msi"
    target_bandpass: str = "oli"
    bands: tuple[str, ...] = BANDS
    min_valid: float = 0.5
    changes_grid: bool = False
    citation: str = ""

    @property
    def scope(self) -> Scope:
        return Scope(name=self.name, target_bandpass="oli", source_bandpass="msi")

    def changed(self, cube, checked, *, fine):
        bandpass = ("time", ["oli"] * len(checked.steps))
        return (cube + fine.mean("time")).assign_coords(bandpass=bandpass)


def test_a_model_of_several_sources_is_given_them_by_name():
    model = Sharpened()
    found = model(cube(), fine=landsat())
    expected = cube() + landsat().mean("time")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(xh.errors.ModelError, match=r"model\(coarse, fine=...\)"):
        xh.to_landsat(cube(), model)


KINDS = r"Bandpass|Linear|Pixelwise|Histogram|GlobalLut|TileLut|Lut|Generator|Function"
GUESSES = {
    "the class": rf"isinstance\([^)]*\b({KINDS})Harmonizer\b",
    "the class of tables": r"isinstance\([^)]*\bLookUp\b",
    "its fields": r"__dataclass_fields__",
    "what it has": r"(getattr|hasattr)\([^)]*\"(card|ref|bundle|lattice)\"",
}


@pytest.mark.parametrize("what", GUESSES)
def test_nobody_guesses_what_a_model_is(what):
    package = Path(xh.__file__).parent
    found = [
        f"{path.relative_to(package)}: {match.group()}"
        for path in package.rglob("*.py")
        for match in re.finditer(GUESSES[what], path.read_text(encoding="utf-8"))
    ]
    assert found == []
