"""Items of bundles against the JSON schema of the MLM extension, version 1.4.0.

No installed package holds the schema. The source distribution of pystac's extension does: its tests
replay how it was fetched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

import pytest
import yaml
from helpers.bundles import fusion_card, generator_card, lut_card

from xharmonize.models.item import Described, File, make_item

pytestmark = pytest.mark.slow

SOURCE = "pystac-ext-mlm==1.4.1"
RECORDED = "tests/cassettes/test_mlm/test_apply.yaml"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """The recorded schemas by their addresses: the extension's, and those that it refers to."""
    folder = tmp_path_factory.mktemp("source")
    options = ("--no-deps", "--no-binary=:all:", "--retries=1", f"--dest={folder}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", *options, SOURCE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{SOURCE} could not be downloaded: {done.stderr.strip()[-200:]}")
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        stream = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/{RECORDED}")
        replayed = yaml.safe_load(stream)["interactions"]
    return {
        one["request"]["uri"]: json.loads(one["response"]["body"]["string"]) for one in replayed
    }


@pytest.fixture(scope="module")
def faults(schemas):
    """Function from an item to what the schema finds wrong."""
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    found = [(name, referencing.Resource.from_contents(schema)) for name, schema in schemas.items()]
    registry = referencing.Registry().with_resources(found)
    kind = jsonschema.validators.validator_for(schemas[MLM])
    return lambda item: [e.message for e in kind(schemas[MLM], registry=registry).iter_errors(item)]


@pytest.mark.parametrize("make", [generator_card, fusion_card, lut_card])
def test_the_item_fits_the_schema_of_the_extension(make, faults):
    files = {"weights.safetensors": File(size=100, sha256="ab" * 32)}
    files["README.md"] = files["weights.safetensors"]
    told = Described(card=make(), files=files, n_parameters=12, framework_version="2.13.0+cpu")
    item = make_item(told)
    assert MLM in item["stac_extensions"]
    assert faults(item) == []
    shapeless = item["properties"]["mlm:output"][0]["result"].copy()
    del shapeless["shape"]
    item["properties"]["mlm:output"][0]["result"] = shapeless
    assert faults(item) != []
