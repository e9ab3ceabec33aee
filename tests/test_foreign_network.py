"""Bundles and others: somebody else's network is mapped, and others' software reads our cards."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import no_compute

EXAMPLE = Path(__file__).parents[1] / "examples" / "foreign_network.py"


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """What the example writes, with weights that their own code made and kept."""
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    pytest.importorskip("pystac")
    folder = tmp_path_factory.mktemp("foreign")
    place = Simulation(
        center=(501_600, 5_628_960), size=(1280, 1280), start="2022-06-08", end="2022-06-10",
        sensors=("sentinel-2-l2a",), cloudiness=0.0,
    )  # fmt: skip
    catalog = write_catalog(place, folder / "scenes")
    script = runpy.run_path(str(EXAMPLE))
    torch.manual_seed(0)
    network = script["TheirUNet"](features=4).train()
    for _ in range(3):  # statistics of batches, so that these weights matter
        network(torch.randn(2, 4, 32, 32))
    save_file(network.state_dict(), folder / "theirs.safetensors")
    script["main"](
        str(catalog), str(folder / "theirs.safetensors"), str(folder / "out.zarr"), features=4
    )
    return folder, catalog, network.eval()


@pytest.mark.slow
def test_their_network_gives_here_what_it_gives_there(mapped):
    import torch

    folder, catalog, network = mapped
    found = xh.open_series(folder / "out.zarr")
    bands = found["band"].values.tolist()
    cube = xh.open_stac(str(catalog), collection="sentinel-2-l2a", bands=bands).isel(time=0)
    assert set(found["bandpass"].values) == {"oli"}
    # A window that begins with a pair of pixels, as the pooling of whole tiles does.
    x, y = (float(cube[dim][0 if dim == "x" else -1]) - 5 for dim in ("x", "y"))
    left, low = (int((-edge // 10) % 2) for edge in (x, y))
    part = cube.isel(x=slice(left, left + 96), y=slice(-96 - low, -low or None))
    with torch.no_grad():
        values = torch.from_numpy(np.ascontiguousarray((part.values - 0.1) / 0.1))[None]
        expected = part.copy(data=network(values)[0].numpy() * 0.1 + 0.1)
    inner = expected.isel(x=slice(16, -16), y=slice(16, -16))
    actual = found.isel(time=0).sel(x=inner["x"], y=inner["y"])
    np.testing.assert_allclose(actual, inner, atol=2e-5)
    assert float(inner.std()) > 1e-3


def test_the_graph_of_their_network_is_lazy(mapped):
    folder, catalog, _ = mapped
    model = xh.load_model(folder / "out.bundle")
    cube = xh.open_stac(str(catalog), collection="sentinel-2-l2a", bands=model.bands)
    with no_compute():
        result = cube.harmonize.to_landsat(model)
    assert isinstance(result, xr.DataArray)


def test_others_read_the_card_and_the_weights(mapped):
    from safetensors.numpy import load_file

    folder, _, network = mapped
    item = json.loads((folder / "out.bundle" / "item.json").read_text())
    weights = folder / "out.bundle" / item["assets"]["weights"]["href"]
    theirs = {name: array.numpy() for name, array in network.state_dict().items()}
    ours = load_file(weights)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def test_the_card_fits_the_models_of_the_extension(mapped):
    schema = pytest.importorskip("stac_model.schema")
    folder, *_ = mapped
    item = json.loads((folder / "out.bundle" / "item.json").read_text())
    read = schema.MLModelProperties(**item["properties"])
    assert (read.name, read.architecture) == ("their-unet-oli", "their-unet")
    assert read.total_parameters == item["properties"]["mlm:total_parameters"]
    # What the schema asks for since its version 1.5: bands are a dimension of that name.
    assert "bands" in read.input[0].input.dim_order
    assert "bands" in read.output[0].result.dim_order


def test_mlstac_reads_the_item(mapped, tmp_path, monkeypatch):
    mlstac = pytest.importorskip("mlstac")
    folder, *_ = mapped
    bundle = folder / "out.bundle"
    loaded = mlstac.load(str(bundle / "item.json"))
    assert loaded.item.properties["mlm:architecture"] == "their-unet"
    monkeypatch.chdir(bundle)  # it looks for relative assets there
    copied = mlstac.download("item.json", tmp_path / "copy")
    assert copied.item.id == loaded.item.id
    name = "weights.safetensors"
    assert (tmp_path / "copy" / name).read_bytes() == (bundle / name).read_bytes()
