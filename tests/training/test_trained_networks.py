"""GAN and table methods through `train`: interrupted and resumed, bundled, applied, chunked."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.marks import first_quick
from helpers.training import make_cubes, make_pairs

import xharmonize as xh
from xharmonize.training import Config, Data, GlobalLutConv, HlsGan, Mgan, Run, TileLutConv

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = pytest.mark.filterwarnings(
    "ignore::xharmonize.errors.RadiometryWarning"  # of tiles that the small cube cuts off
)

DATA = Data(patch=16, min_valid=0.5)
RUN = Run(save=2, log=1, tensorboard=False)
SHORT = {"steps": 4, "evaluate": 2, "batch": 4, "patience": 0}
SMALL = {"width": 4, "discriminator_width": 4, "warm_up": 1, "ramp": 2}
METHODS = {
    "mgan": Mgan(**SHORT, **SMALL),
    "mgan, printed": Mgan.printed(**SHORT | SMALL | {"warm_up": 0}),
    "hls-gan": HlsGan(**SHORT, **SMALL),
    "tile-lut-conv": TileLutConv(**SHORT),
    "global-lut-conv, printed": GlobalLutConv.printed(**SHORT),
}


@pytest.fixture(scope="module")
def cubes():
    return make_cubes(4, 26)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(4, 26)


def train(method, pairs, out):
    return xh.training.train(
        method, pairs, config=Config(method=method, data=DATA, run=RUN), out=out, progress=False
    )


@pytest.mark.parametrize("name", first_quick(METHODS))
def test_what_was_trained_maps_cubes_lazily_and_in_any_chunks(
    name, pairs, cubes, tmp_path, no_compute
):
    training = train(METHODS[name], pairs, tmp_path / "model")
    assert METHODS[name].name in training.scores.index.get_level_values(0)
    assert training.history["step"].max() == 4
    source, target = cubes
    model = xh.load_model(tmp_path / "model")
    whole = xh.to_landsat(source, model, like=target)
    with no_compute():
        lazy = xh.to_landsat(source.chunk(time=1, y=37, x=50), model, like=target)
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=0, atol=2e-6)
    assert list(whole.band.values) == list(target.band.values)
    near = np.nanmean(abs(whole.values - target.values))
    assert near < (0.5 if "printed" in name else 0.01)


@pytest.mark.parametrize("name", first_quick(["mgan", "tile-lut-conv"]))
def test_an_interrupted_training_ends_as_one_that_was_not(name, pairs, tmp_path, monkeypatch):
    """Two optimisers, the discriminator's spectral norms, batch statistics and all."""
    from xharmonize.models.bundle import read_weights
    from xharmonize.training.log import Log

    class Interrupted(Exception):
        pass

    def stop(self, at, text):
        if at == 3:
            raise Interrupted

    whole = train(METHODS[name], pairs, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Log, "advance", stop)
        with pytest.raises(Interrupted):
            train(METHODS[name], pairs, tmp_path / "again")
    again = train(METHODS[name], pairs, tmp_path / "again")
    one, other = (read_weights(training.model.ref) for training in (whole, again))
    for key, values in one.items():
        np.testing.assert_array_equal(other[key], values, err_msg=key)
