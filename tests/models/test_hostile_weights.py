"""Weights that were made to harm: not finite under right hashes, headers of many entries."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from helpers.bundles import generator_card, weights

from xharmonize.errors import ModelError
from xharmonize.models import bundle as bundles
from xharmonize.models import open_bundle, read_weights, write_bundle
from xharmonize.models.item import File, read_item, write_item
from xharmonize.models.safetensors import MAX_TENSORS, read_header

safetensors = pytest.importorskip("safetensors.numpy")


def exchange(folder, arrays) -> None:
    """Put other weights into a bundle, with sizes and hashes that fit."""
    data = safetensors.save(arrays)
    (folder / "weights.safetensors").write_bytes(data)
    described = read_item((folder / "item.json").read_bytes())
    files = {
        **described.files,
        "weights.safetensors": File(size=len(data), sha256=hashlib.sha256(data).hexdigest()),
    }
    changed = type(described)(
        card=described.card,
        files=files,
        n_parameters=sum(array.size for array in arrays.values()),
        framework_version=described.framework_version,
    )
    (folder / "item.json").write_bytes(write_item(changed))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("piece", [8, 2**22])
def test_weights_that_are_not_finite_are_refused(tmp_path, monkeypatch, value, piece):
    monkeypatch.setattr(bundles, "_PIECE", piece)
    arrays = {name: array.copy() for name, array in weights().items()}
    write_bundle(tmp_path / "b", generator_card(), arrays)
    assert open_bundle(tmp_path / "b")
    name = next(name for name, array in arrays.items() if array.dtype.kind == "f")
    arrays[name].reshape(-1)[-1] = value
    exchange(tmp_path / "b", arrays)
    with pytest.raises(ModelError, match=f"tensor {name} holds values that are not finite"):
        open_bundle(tmp_path / "b")


def test_workers_refuse_them_too(tmp_path):
    arrays = {name: array.copy() for name, array in weights().items()}
    ref = write_bundle(tmp_path / "b", generator_card(), arrays)
    assert read_weights(ref).keys() == arrays.keys()
    next(array for array in arrays.values() if array.dtype.kind == "f").reshape(-1)[0] = np.nan
    exchange(tmp_path / "b", arrays)
    digest = hashlib.sha256((tmp_path / "b" / "item.json").read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="not finite"):
        read_weights(type(ref)(digest=digest, location=ref.location, name=ref.name))


@pytest.mark.parametrize(
    "header",
    [
        json.dumps(
            {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
             for n in range(10**5)}
        ),
        json.dumps({f"t{n}": {} for n in range(MAX_TENSORS + 1)}),
        '{"a": [' + "[]," * 5 * 10**6 + "[]]}",
    ],
    ids=["many", "one too many", "nested lists"],
)  # fmt: skip
def test_headers_of_many_entries_are_refused_before_they_are_parsed(header, monkeypatch):
    def parse(*_):
        raise AssertionError("parsed")

    if len(header) > 10**6:
        monkeypatch.setattr("xharmonize.models.safetensors.parse_json", parse)
    with pytest.raises(ModelError, match=r"10,?000"):
        read_header(header.encode(), len(header) + 8 + 4 * 10**5, "the file")
