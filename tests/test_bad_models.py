"""Bad models and bad use of models, one test each. Listed in the reference."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr
from helpers.generators import BANDS, CORNER, generator, sentinel, small_card

import xharmonize as xh
from xharmonize.models.architectures import seeded
from xharmonize.models.bundle import write_bundle
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"

pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A bundle of a small generator."""
    card = small_card("small-conv")
    write_bundle(tmp_path / "small", card, seeded(card), readme="# Small\n")
    return tmp_path / "small"


def edit(folder: Path, change) -> None:
    """Change the item of a bundle, and seal it again as one would who means harm."""
    item = json.loads((folder / "item.json").read_text())
    change(item)
    item["properties"].pop("xharmonize:checksum")
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    item["properties"]["xharmonize:checksum"] = (
        "1220" + hashlib.sha256(text.encode()).hexdigest()  # a multihash
    )
    (folder / "item.json").write_text(json.dumps(item))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(xh.errors.ModelError, match=message):
        xh.load_model(folder)


def test_wrong_hash(folder):
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    refused(folder, r"weights\.safetensors has the sha256 .* damaged or exchanged")


def test_missing_file(folder):
    (folder / "weights.safetensors").unlink()
    refused(folder, r"lacks weights\.safetensors; get it again")


def test_extra_file(folder):
    (folder / "setup.py").write_text("print('never run')")
    refused(folder, r"holds 'setup\.py', which item\.json does not name")


def test_changed_card(folder):
    item = (folder / "item.json").read_text()
    (folder / "item.json").write_text(item.replace("Apache-2.0", "CC-BY-4.0"))
    refused(folder, r"item\.json does not match its own checksum")


def test_path_out_of_the_folder(folder):
    edit(folder, lambda item: item["assets"]["weights"].update(href="../weights.safetensors"))
    refused(folder, "only names of files in the bundle's own folder")


def test_symbolic_link(folder):
    weights = folder / "weights.safetensors"
    weights.symlink_to(weights.rename(folder.parent / "elsewhere"))
    refused(folder, "link")


def test_oversized_header(folder):
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"\xff" * 8 + content[8:])
    refused(folder, "header")


def test_malformed_header(folder):
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:8] + b"[" + content[9:])
    refused(folder, "JSON")


def test_wrong_band_count(folder):
    edit(folder, lambda item: item["properties"]["mlm:input"][0]["bands"].append("coastal"))
    refused(folder, "needs 5 numbers for mean")


def test_weights_for_other_bands(tmp_path):
    card = small_card("small-conv")
    first, second = card.inputs
    fewer = replace(first, bands=first.bands[:3], mean=first.mean[:3], scale=first.scale[:3])
    ref = write_bundle(tmp_path / "m", replace(card, inputs=(fewer, second)), seeded(card))
    model = xh.load_model(ref.location)
    with pytest.raises(
        xh.errors.ModelError, match="weights of 'small' are not those of 'small-conv'"
    ):
        xh.to_landsat(sentinel(), model).compute()


def test_unknown_architecture(folder):
    edit(folder, lambda item: item["properties"].update({"mlm:architecture": "smal-conv"}))
    model = xh.load_model(folder)
    with pytest.raises(xh.errors.UnknownModelError, match="did you mean 'small-conv'"):
        xh.to_landsat(sentinel(), model).compute()


def test_newer_format(folder):
    edit(folder, lambda item: item["properties"].update({"xharmonize:format_version": "99.0"}))
    refused(folder, "written by a newer version of xharmonize")


def test_model_for_another_sensor(tmp_path):
    model = generator(tmp_path, small_card("small-conv", source_sensor="hls-s30"))
    with pytest.raises(
        xh.errors.RadiometryError, match=r"made for hls-s30, item .* is sentinel-2-l2a"
    ):
        xh.to_landsat(sentinel(), model)


def test_model_for_another_level(tmp_path):
    model = generator(tmp_path, small_card("small-conv", levels=("NBAR",)))
    with pytest.raises(xh.errors.RadiometryError, match="was made for NBAR reflectance"):
        xh.to_landsat(sentinel(), model)


def test_date_of_no_known_level(tmp_path):
    model = generator(tmp_path, small_card("small-conv", levels=("NBAR",)))
    dates = sentinel(dates=1).assign_coords(level=("time", ["unknown"]))
    with pytest.raises(
        xh.errors.RadiometryError, match=r"item .* level is unknown; .*xh\.describe"
    ):
        xh.to_landsat(dates, model)


def test_model_for_another_target(tmp_path):
    model = generator(tmp_path, small_card("small-conv", target_bandpass="wfv"))
    with pytest.raises(xh.errors.ModelError, match="from msi to wfv, not to oli"):
        xh.to_landsat(sentinel(), model)


def test_cube_without_the_contract(folder):
    bare = sentinel().drop_vars(["bandpass", "sensor"])
    with pytest.raises(xh.errors.ContractError, match=r"xh\.describe"):
        xh.to_landsat(bare, xh.load_model(folder))


def test_bands_missing(folder):
    with pytest.raises(xh.errors.BandError, match="needs band swir22"):
        xh.to_landsat(sentinel().sel(band=["blue", "green", "red", "nir", "swir16"]), folder)


def test_grid_of_another_step(folder):
    cube = example_cube(bands=BANDS, resolution=20.0, origin=CORNER)
    with pytest.raises(xh.errors.GridError, match=r"needs pixels of 10 m .*regrid\("):
        xh.to_landsat(cube, folder)
    degrees = example_cube(bands=BANDS, crs=4326, resolution=1e-4, origin=(2.8, 42.36))
    with pytest.raises(
        xh.errors.GridError, match=r"regrid\(crs='EPSG:32631', resolution=10\)"
    ) as refused:
        xh.to_landsat(degrees, folder)
    cure, _, steps = str(refused.value).partition(", bands of each pixel size put there by ")
    names = {"cube": degrees, "xr": xr}
    exec(steps.removeprefix("themselves: "), names)
    cured = eval(cure.partition("; give ")[2], names)
    assert xh.to_landsat(cured, folder).notnull().compute().any()


def test_grid_of_another_phase(folder):
    cube = sentinel()
    shifted = xh.describe(
        cube.reset_coords(drop=True).assign_coords(x=cube["x"] + 5.0),
        sensor="sentinel-2-l2a",
        platform="sentinel-2a",
        crs="EPSG:32631",
        is_decoded=True,
    )
    with pytest.raises(xh.errors.GridError, match=r"edges at 0, 0; the cube has .* edges at 5, 0"):
        xh.to_landsat(shifted, folder)


def test_interpolated_bands(folder):
    cube = sentinel()
    smooth = cube.rolling(x=2, min_periods=1).mean()
    with pytest.raises(xh.errors.ModelError, match=r"was interpolated to the cube's grid.*nearest"):
        xh.to_landsat(cube.copy(data=smooth.data), folder).compute()


def test_an_option_the_model_does_not_take(cube):
    with pytest.raises(xh.errors.ModelError, match="takes no tables"):
        xh.to_landsat(cube, "hls-v2", tables=xr.Dataset())


def test_tables_of_a_generator(folder, cube):
    with pytest.raises(xh.errors.ModelError, match="makes no look-up tables"):
        xh.harmonizers.fit_tables(cube, xh.load_model(folder))


@pytest.mark.slow
def test_worker_without_torch(folder):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import xharmonize as xh\n"
        "from xharmonize.testing import example_cube\n"
        f"cube = example_cube(bands={BANDS!r}, resolution=10.0, origin={CORNER!r})\n"
        f"lazy = xh.to_landsat(cube.chunk({{'time': 1}}), {str(folder)!r})\n"
        "try:\n"
        "    lazy.compute()\n"
        "except xh.errors.MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'xharmonize[" in done.stdout


def test_cluster_without_workers(folder):
    distributed = pytest.importorskip("distributed")
    model = xh.load_model(folder)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(xh.errors.ClusterError, match="has 0 workers after"),
    ):
        xh.cluster.share(model, client, timeout=0.2)


def test_the_reference_lists_every_test_of_this_page():
    section = PAGE.read_text(encoding="utf-8").partition("## Models")[2].partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
