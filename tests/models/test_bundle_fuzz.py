"""Damaged bundles: a `ModelError`, or the model as it was; never anything else."""

import copy
import hashlib
import json
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import fusion_card, generator_card, lut_card, weights
from helpers.fuzz import changes
from helpers.marks import first_quick
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from xharmonize.errors import XHarmonizeError
from xharmonize.models import open_bundle, read_weights, write_bundle
from xharmonize.models.item import (
    Described,
    File,
    check_item,
    make_item,
    read_item,
    write_item,
)
from xharmonize.models.safetensors import PREFIX, header_length, read_header, views

safetensors = pytest.importorskip("safetensors.numpy")
QUICK = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FILES = {"weights.safetensors": File(size=100, sha256="ab" * 32)}
DESCRIBED = [
    Described(card=card, files=FILES, n_parameters=12)
    for card in (generator_card(), lut_card(), fusion_card())
]
ITEMS = [write_item(described) for described in DESCRIBED]
WEIGHTS = safetensors.save(weights())


@st.composite
def damages(draw, data):
    """Bytes flipped, cut off, removed, doubled or inserted, at one to four places."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(damaged)))
        length = draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["flip", "cut", "remove", "double", "insert", "swap"]))
        if kind == "flip" and place < len(damaged):
            damaged[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[place:]
        elif kind == "remove":
            del damaged[place : place + length]
        elif kind == "double":
            damaged[place:place] = damaged[place : place + length]
        elif kind == "swap":
            other = draw(st.integers(0, len(damaged)))
            damaged[place : place + length] = damaged[other : other + length]
        else:
            damaged[place:place] = draw(
                st.sampled_from(
                    [b"0", b"-", b"e9", b"[", b"}", b'"', b",", b"null", b"NaN", b"\\u"]
                )
                | st.binary(max_size=length)
            )
    return bytes(damaged)


@QUICK
@given(st.data())
@pytest.mark.parametrize("number", range(len(DESCRIBED)))
def test_a_damaged_item_is_refused_or_equal(number, data):
    damaged = data.draw(damages(ITEMS[number]))
    with suppress(XHarmonizeError):
        assert read_item(damaged) == DESCRIBED[number]


@QUICK
@given(st.binary(max_size=200))
@example(b"{" * 10**6)
@example(b'{"a":' * 10**5)
@example(b"[" + b"[]," * 10**5 + b"[]]")
@example(b"1" * 10**6)
@example(b'{"a": ' + b"1" * 10**6 + b"}")
@example(b'{"a": 1e' + b"9" * 10**6 + b"}")
def test_any_bytes_are_refused(data):
    with pytest.raises(XHarmonizeError):
        read_item(data)


@QUICK
@given(st.data())
@pytest.mark.parametrize("number", first_quick(range(len(DESCRIBED))))
def test_any_item_is_refused_or_a_card_that_comes_back(number, data):
    item = data.draw(changes(make_item(DESCRIBED[number])))
    before = copy.deepcopy(item)
    try:
        found = check_item(item)
    except XHarmonizeError as error:
        str(error).encode()  # a message can be printed
        return
    assert repr(item) == repr(before)
    assert read_item(write_item(found)) == found
    assert make_item(found) == item


def load(data):
    """Tensors of a safetensors file through our own checks."""
    length = header_length(data[:PREFIX], len(data), "the file")
    tensors = read_header(data[PREFIX : PREFIX + length], len(data), "the file")
    return views(np.frombuffer(data, np.uint8), tensors)


def assert_library_agrees(data):
    """What we accept, the library reads to the same."""
    try:
        actual = load(data)
    except XHarmonizeError as error:
        str(error).encode()
        return
    expected = safetensors.load(data)
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].tobytes() == array.tobytes()
        assert (actual[name].shape, actual[name].dtype) == (array.shape, array.dtype)


@QUICK
@given(damages(WEIGHTS[:400]))
def test_damaged_weights_are_refused_or_read_as_the_library_does(head):
    assert_library_agrees(head + WEIGHTS[400:])


@QUICK
@given(st.data())
def test_any_header_is_refused_or_read_as_the_library_does(data):
    length = int.from_bytes(WEIGHTS[:PREFIX], "little")
    header = json.loads(WEIGHTS[PREFIX : PREFIX + length])
    changed = json.dumps(data.draw(changes(header))).encode()
    assert_library_agrees(len(changed).to_bytes(8, "little") + changed + WEIGHTS[PREFIX + length :])


@pytest.fixture(scope="module")
def bundle_files(tmp_path_factory):
    """The files of a whole bundle, by name."""
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    write_bundle(folder, generator_card(), weights(), readme="# A network\n")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_damaged_bundle_is_refused_or_equal(bundle_files, data):
    name = data.draw(st.sampled_from(sorted(bundle_files)))
    damaged = {**bundle_files, name: data.draw(damages(bundle_files[name]))}
    with tempfile.TemporaryDirectory() as folder:  # a draw may end an example at any point
        for file, content in damaged.items():
            (Path(folder) / file).write_bytes(content)
        try:
            bundle = open_bundle(folder)
            assert bundle.card == generator_card()
            found = read_weights(bundle.ref)
        except XHarmonizeError as error:
            str(error).encode()
            return
        assert {key: array.tolist() for key, array in found.items()} == {
            key: array.tolist() for key, array in weights().items()
        }


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**82]},
        {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]},
        {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]},
    ],
)
def test_what_a_header_says_is_not_allocated(tmp_path, entry):
    header = json.dumps({"a": entry}).encode()
    data = len(header).to_bytes(8, "little") + header
    size = entry["data_offsets"][1] + len(data)
    described = DESCRIBED[0]
    file = File(size=min(size, 2**40), sha256=hashlib.sha256(data).hexdigest())
    item = write_item(
        Described(card=described.card, files={"weights.safetensors": file}, n_parameters=0)
    )
    (tmp_path / "item.json").write_bytes(item)
    (tmp_path / "weights.safetensors").write_bytes(data)
    tracemalloc.start()
    with suppress(XHarmonizeError):
        assert read_weights(open_bundle(tmp_path).ref)["a"].size == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
