"""Bundles on disk and elsewhere: written as a whole, read with suspicion."""

import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import dask.base
import numpy as np
import pytest
from helpers.bundles import generator_card, lut_card, weights

import xharmonize as xh
from xharmonize.models import (
    Bundle,
    Lattice,
    ModelRef,
    copy_bundle,
    list_bundles,
    open_bundle,
    places,
    read_weights,
    write_bundle,
)
from xharmonize.models.safetensors import MAX_HEADER
from xharmonize.testing import example_cube

safetensors = pytest.importorskip("safetensors.numpy")
README = "# A small network\n"


@pytest.fixture
def folder(tmp_path):
    """Folder of a bundle with all its files."""
    write_bundle(tmp_path / "tiny", generator_card(), weights(), readme=README)
    return tmp_path / "tiny"


def assert_weights_equal(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, strict=True)


@pytest.mark.parametrize("card", [generator_card(), lut_card()], ids=lambda card: card.kind)
def test_a_bundle_comes_back_as_it_was(tmp_path, card):
    ref = write_bundle(tmp_path / "deep" / "tiny", card, weights(), readme=README)
    bundle = open_bundle(tmp_path / "deep" / "tiny")
    assert (bundle.ref, bundle.card) == (ref, card)
    item = (tmp_path / "deep" / "tiny" / "item.json").read_bytes()
    assert ref.digest == hashlib.sha256(item).hexdigest()
    actual = read_weights(ref)
    assert_weights_equal(actual, weights())
    assert all(array.flags.writeable and array.flags.aligned for array in actual.values())
    assert os.listdir(tmp_path / "deep") == ["tiny"]
    stored = json.loads(item)["properties"]["mlm:total_parameters"]
    assert stored == sum(array.size for array in weights().values())


def test_the_same_model_has_the_same_digest(tmp_path):
    one, two, other = (
        write_bundle(tmp_path / name, generator_card(), weights(seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one.digest == two.digest != other.digest
    assert dask.base.tokenize(one) == dask.base.tokenize(two) != dask.base.tokenize(other)
    assert len(pickle.dumps(one)) < 500


def test_other_users_may_read_what_the_folder_lets_them(folder):
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) & 0o666


def test_opening_loads_no_torch(folder):
    code = (
        "import sys; from xharmonize.models import open_bundle, read_weights; "
        f"read_weights(open_bundle({str(folder)!r}).ref); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_bundle_is_replaced_as_a_whole_and_nothing_else_is(folder):
    with pytest.raises(xh.errors.ModelError, match="exists; mode='w' replaces it"):
        write_bundle(folder, lut_card(), {"a": np.ones(3, np.float32)})
    ref = write_bundle(folder, lut_card(), {"a": np.ones(3, np.float32)}, mode="w")
    assert open_bundle(folder).ref == ref
    assert sorted(os.listdir(folder)) == ["item.json", "weights.safetensors"]
    assert os.listdir(folder.parent) == ["tiny"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(xh.errors.ModelError, match="no bundle; choose another path"):
        write_bundle(folder, generator_card(), weights())
    assert (folder / "notes.txt").read_text() == "mine"
    assert os.listdir(folder.parent) == ["tiny"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_bundle_is_left_alone(tmp_path, folder, kind):
    path = tmp_path / "other"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(folder)
    else:
        path.mkdir()
        (path / "mine").write_text("mine")
    with pytest.raises(xh.errors.ModelError, match="choose another path"):
        write_bundle(path, generator_card(), weights())
    with pytest.raises(xh.errors.ModelError, match="choose another path"):
        copy_bundle(open_bundle(folder).ref, path)
    assert sorted(os.listdir(tmp_path)) == ["other", "tiny"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"a": np.array([1.0, np.nan], np.float32)}, "not finite"),
        ({"a": np.array(["x"])}, "accepted are"),
        ({"a": np.zeros(2, np.int32)}, "accepted are"),
        ({"a/../b": np.zeros(2, np.float32)}, "no name of a weight"),
        ({"__metadata__": np.zeros(2, np.float32)}, "no name of a weight"),
    ],
)
def test_weights_that_cannot_be_stored_are_refused(tmp_path, bad, message):
    with pytest.raises(xh.errors.ModelError, match=message):
        write_bundle(tmp_path / "x", generator_card(), bad)
    assert os.listdir(tmp_path) == []


def test_bundles_are_written_to_no_url_whose_writers_nothing_keeps_apart():
    with pytest.raises(xh.errors.StoreError, match=r"whether memory:// has .*a folder"):
        write_bundle("memory://x", generator_card(), weights())


KILL = """
import os, sys
from pathlib import Path
from helpers.bundles import generator_card, weights
from xharmonize.errors import ModelError
from xharmonize.models import open_bundle, write_bundle

parent = Path(sys.argv[1])
digests = {write_bundle(parent / name, generator_card(), weights(seed)).digest: name
           for seed, name in enumerate(("tiny", "new"))}
for number in range(1, 100):
    child = os.fork()
    if child == 0:
        left = [number]
        def strike(event, arguments):
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") or (
                event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
            ):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), 9)
        sys.addaudithook(strike)
        write_bundle(parent / "tiny", generator_card(), weights(1), mode="w")
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    if (parent / "tiny").exists():
        print("new" if digests[open_bundle(parent / "tiny").ref.digest] == "new" else "old")
    else:
        aside, = parent.glob(".tiny.*.old")
        print("aside", digests[open_bundle(aside).ref.digest])
    for path in parent.iterdir():
        if path.name.startswith("."):
            [file.unlink() for file in path.iterdir()]
            path.rmdir()
    write_bundle(parent / "tiny", generator_card(), weights(0), mode="w")
    if not killed:
        break
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_a_whole_bundle(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    states = done.stdout.split("\n")[:-1]
    first = states.index("aside tiny")
    assert set(states[:first]) == {"old"}
    assert states.count("aside tiny") == 1
    assert set(states[first + 1 :]) == {"new"}


@pytest.mark.parametrize("url", ["s3://bucket/model", "gs://bucket/model"])
def test_a_url_whose_package_is_not_installed_says_so(url):
    if find_spec({"s3": "s3fs", "gs": "gcsfs"}[url[:2]]) is not None:
        pytest.skip("it is installed")
    with pytest.raises(xh.errors.MissingDependencyError, match=url[:2]):
        open_bundle(url)


def refused(folder, message):
    with pytest.raises(xh.errors.ModelError, match=message):
        open_bundle(folder)
    with pytest.raises(xh.errors.ModelError, match=message):
        xh.load_model(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md"])
def test_a_changed_file_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, f"{name} has the sha256")
    (folder / name).write_bytes(data[:-1])
    refused(folder, f"{name} has {len(data) - 1} bytes")
    (folder / name).unlink()
    refused(folder, f"lacks {name}")


@pytest.mark.parametrize("name", ["run.py", ".hidden", "model.pkl", "item.json~"])
def test_a_file_the_item_does_not_name_is_refused(folder, name):
    (folder / name).write_text("import os")
    refused(folder, f"holds '{name}', which item.json does not name")


def test_folders_and_pipes_in_a_bundle_are_refused(folder):
    (folder / "__pycache__").mkdir()
    refused(folder, "'__pycache__', which is no file")
    (folder / "__pycache__").rmdir()
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")
    refused(folder, "'README.md', which is no file")


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md", "item.json"])
def test_symbolic_links_are_refused(tmp_path, folder, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, "symbolic link")


def sign(item):
    """Sign an item as a writer would who means harm."""
    item["properties"].pop("xharmonize:checksum", None)
    text = json.dumps(item, sort_keys=True, separators=(",", ":")).encode()
    item["properties"]["xharmonize:checksum"] = "1220" + hashlib.sha256(text).hexdigest()
    return item


def rewrite(folder, change):
    item = json.loads((folder / "item.json").read_text())
    change(item)
    (folder / "item.json").write_text(json.dumps(sign(item)))


@pytest.mark.parametrize("href", ["../secret", "/etc/passwd", "s3://bucket/x", "sub/x", ".."])
def test_paths_out_of_the_folder_are_refused(tmp_path, folder, href):
    (tmp_path / "secret").write_text("secret")
    rewrite(folder, lambda item: item["assets"]["readme"].update(href=href))
    refused(folder, "only names of files in the bundle's own folder")


def test_a_newer_bundle_is_refused(folder):
    rewrite(folder, lambda item: item["properties"].update({"xharmonize:format_version": "2.0"}))
    refused(folder, "written by a newer version of xharmonize .format 2.0")


def test_a_wrong_number_of_bands_is_refused(folder):
    rewrite(folder, lambda item: item["properties"]["mlm:input"][0]["bands"].append("green"))
    refused(folder, "needs 3 numbers for mean")


def test_a_wrong_number_of_parameters_is_refused(folder):
    rewrite(folder, lambda item: item["properties"].update({"mlm:total_parameters": 3}))
    refused(folder, "holds 44 values; item.json says 3")


def test_large_files_are_not_read(folder):
    with (folder / "item.json").open("ab") as stream:
        stream.truncate(5 * 2**20)
    refused(folder, "item.json has more than 4194304 bytes")


def test_a_large_card_for_people_is_not_written(tmp_path):
    with pytest.raises(xh.errors.ModelError, match=r"README\.md has more than"):
        write_bundle(tmp_path / "x", generator_card(), weights(), readme="a" * 2**21)
    assert os.listdir(tmp_path) == []


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), ends=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(ends)}


HEADERS = {
    "empty file": (b"", "has no header"),
    "no header": (packed(b""), "has no header"),
    "cut off": ((1000).to_bytes(8, "little") + b"{}", "is cut off"),
    "oversized": ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", "at most 16777216"),
    "absurd": (b"\xff" * 8 + b"{}", "at most 16777216"),
    "no JSON": (packed(b"[1, 2"), "no JSON"),
    "a list": (packed(b"[1, 2]"), "no JSON object"),
    "nested": (packed(b'{"a":' * 10**5 + b"1" + b"}" * 10**5), "nested deeper"),
    "key twice": (packed(b'{"a": 1, "a": 2}'), "key twice"),
    "no fields": (packed({"a": {}}), "lacks a.dtype"),
    "more fields": (packed({"a": {**entry(), "b": 1}}, b"1234"), "a.b is not known"),
    "a pickle": (packed({"a": entry("PICKLE")}, b"1234"), "dtype is 'PICKLE'; it should be 'F16'"),
    "bfloat16": (packed({"a": entry("BF16", (2,))}, b"1234"), "should be 'F16', 'F32', 'F64' or"),
    "negative": (packed({"a": entry(shape=(-1,))}, b"1234"), "is -1; it should be greater"),
    "fraction": (packed({"a": entry(shape=(1.0,))}, b"1234"), "1.0; it should be a valid integer"),
    "truth": (packed({"a": entry(shape=(True,))}, b"1234"), "should be a valid integer"),
    "petabytes": (packed({"a": entry(shape=(2**40, 2**20))}, b"1234"), "4 bytes of data"),
    "empty but vast": (packed({"a": entry(shape=(0, 2**40, 2**40), ends=(0, 0))}), "too large"),
    "many dimensions": (packed({"a": entry(shape=(1,) * 99)}, b"1234"), "99 values; give 0 to 8"),
    "backwards": (packed({"a": entry(ends=(4, 0))}, b"1234"), "-4 bytes of data"),
    "beyond": (packed({"a": entry(ends=(4, 1000))}, b"1234"), "but 996 bytes of data"),
    "overlap": (packed({"a": entry(), "b": entry()}, b"1234"), "overlaps another"),
    "gap": (packed({"a": entry(ends=(4, 8))}, b"12345678"), "leaves a gap"),
    "trailing": (packed({"a": entry()}, b"123456"), "tensors end at"),
    "notes": (
        packed({"__metadata__": {"a": 1}, "a": entry()}, b"1234"),
        "is 1; it should be a valid string",
    ),
    "name": (packed({"../a": entry()}, b"1234"), "it should match pattern"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_malformed_weights_are_refused_before_the_library_sees_them(folder, kind):
    data, message = HEADERS[kind]
    (folder / "weights.safetensors").write_bytes(data)
    checksum = "1220" + hashlib.sha256(data).hexdigest()
    change = {"file:size": len(data), "file:checksum": checksum}
    rewrite(folder, lambda item: item["assets"]["weights"].update(change))
    refused(folder, message)


def test_the_library_reads_the_same_tensors(folder):
    expected = safetensors.load_file(folder / "weights.safetensors")
    assert_weights_equal(read_weights(open_bundle(folder).ref), expected)


def test_tensors_that_start_at_odd_bytes_are_aligned(folder):
    header = {"a": entry("F16", (1,), (0, 2)), "b": entry("F32", (1,), (2, 6))}
    data = packed(header, np.float16(2).tobytes() + np.float32(3).tobytes())
    (folder / "weights.safetensors").write_bytes(data)
    checksum = "1220" + hashlib.sha256(data).hexdigest()
    change = {"file:size": len(data), "file:checksum": checksum}

    def describe(item):
        item["assets"]["weights"].update(change)
        item["properties"]["mlm:total_parameters"] = 2

    rewrite(folder, describe)
    actual = read_weights(open_bundle(folder).ref)
    assert {name: float(array[0]) for name, array in actual.items()} == {"a": 2, "b": 3}
    assert all(array.flags.aligned for array in actual.values())


def test_the_old_bundle_comes_back_where_the_new_one_cannot_be_put(folder, monkeypatch):
    ref, rename = open_bundle(folder).ref, Path.rename

    def fail(path, target):
        if path.name.endswith(".part"):
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(xh.errors.ModelError, match=r"cannot be written.*Permission denied"):
        write_bundle(folder, lut_card(), weights(), mode="w")
    assert open_bundle(folder).ref == ref
    assert os.listdir(folder.parent) == ["tiny"]


def test_there_is_no_bundle(tmp_path):
    with pytest.raises(xh.errors.ModelError, match="there is no bundle at"):
        open_bundle(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(xh.errors.ModelError, match="there is no bundle at"):
        open_bundle(tmp_path / "file")
    with pytest.raises(xh.errors.ModelError, match="there is no bundle at memory://absent"):
        open_bundle("memory://absent")
    with pytest.raises(xh.errors.ModelError, match="cannot be reached: Protocol not known"):
        open_bundle("gopher://x/y")


def to_memory(folder, request):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/bundles/tiny/{file.name}", file.read_bytes())
    request.addfinalizer(memory.store.clear)
    return "memory://bundles/tiny"


def to_zip(folder, request):
    path = folder.parent / "tiny.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"models/tiny/{file.name}")
    return f"zip://models/tiny::{path}"


def to_root_of_zip(folder, request):
    path = folder.parent / "tiny.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return f"zip://::{path}"


@pytest.mark.parametrize("put", [to_memory, to_zip, to_root_of_zip])
def test_urls_are_read_like_folders(folder, tmp_path, put, request):
    url = put(folder, request)
    bundle = open_bundle(url)
    assert bundle.ref == ModelRef(
        digest=open_bundle(folder).ref.digest, location=url, name="tiny-conv"
    )
    assert_weights_equal(read_weights(bundle.ref), weights())
    copied = copy_bundle(bundle.ref, tmp_path / "copy")
    assert open_bundle(tmp_path / "copy").ref == copied
    (folder / "stray.py").write_text("")
    with pytest.raises(xh.errors.ModelError, match=r"holds 'stray\.py'"):
        open_bundle(put(folder, request))


def test_a_url_of_a_local_file_is_a_path(folder):
    assert open_bundle(folder.as_uri()).ref.location == str(folder)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises(xh.errors.ModelError, match="symbolic link"):
        open_bundle(folder.as_uri())


def test_relative_paths_become_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert open_bundle("tiny").ref.location == str(folder)
    assert write_bundle("again", generator_card(), weights()).location == str(
        folder.parent / "again"
    )


def test_a_worker_that_sees_no_bundle_says_what_to_do(folder):
    ref = open_bundle(folder).ref
    folder.rename(folder.with_name("moved"))
    with pytest.raises(xh.errors.ModelError) as caught:
        read_weights(ref)
    for words in (str(folder), os.uname().nodename, "xh.cluster.share(model, client)"):
        assert words in str(caught.value)
    places.register(ref.digest, folder.with_name("moved"))
    try:
        assert_weights_equal(read_weights(ref), weights())
    finally:
        places.forget(ref.digest)
    with pytest.raises(xh.errors.ModelError, match="no digest"):
        places.register("x", folder)


def test_a_bundle_exchanged_after_loading_is_refused(folder):
    ref = open_bundle(folder).ref
    write_bundle(folder, generator_card(), weights(seed=1), mode="w")
    with pytest.raises(
        xh.errors.ModelError, match="is not the one that model 'tiny-conv' was loaded"
    ):
        read_weights(ref)
    with pytest.raises(xh.errors.ModelError, match="load the model again"):
        copy_bundle(ref, folder.with_name("copy"))


def test_weights_exchanged_after_loading_are_refused(folder):
    ref = open_bundle(folder).ref
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(xh.errors.ModelError, match="damaged or exchanged"):
        read_weights(ref)


def test_a_copy_is_the_same_model(folder, tmp_path):
    ref = open_bundle(folder).ref
    copied = copy_bundle(ref, tmp_path / "copy")
    assert copied == ModelRef(digest=ref.digest, location=str(tmp_path / "copy"), name=ref.name)
    assert (tmp_path / "copy" / "README.md").read_text() == README
    assert copy_bundle(copied, tmp_path / "copy") == copied  # onto itself: nothing happens


def test_a_copy_may_say_other_things_of_the_same_weights(folder):
    ref = open_bundle(folder).ref
    card = replace(generator_card(), lattice=Lattice(resolution=30, tile=256, buffer=32))
    with pytest.raises(xh.errors.ModelError, match="exists; mode='w' replaces it"):
        copy_bundle(ref, folder, card=card)
    changed = copy_bundle(ref, folder, card=card, mode="w")  # onto itself
    assert changed.digest != ref.digest
    assert open_bundle(folder) == Bundle(ref=changed, card=card)
    assert (folder / "README.md").read_text() == README
    assert_weights_equal(read_weights(changed), weights())


def test_bundles_are_found_by_name(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    write_bundle(first / "any", generator_card(), weights())
    write_bundle(second / "any", generator_card(), weights(seed=1))
    write_bundle(second / "lut", lut_card(), weights())
    (second / "broken").mkdir()
    (second / "broken" / "item.json").write_text("{")
    (second / "no bundle").mkdir()
    write_bundle(first / ".any.123.old", generator_card(), weights(seed=2))
    monkeypatch.setenv("XHARMONIZE_MODELS", os.pathsep.join(map(str, (first, "", second, "/no"))))
    listed = {bundle.name: bundle for bundle in list_bundles()}
    assert set(listed) == {"tiny-conv", "tiny-lut", "broken"}
    assert listed["tiny-conv"].location == str(first / "any")
    assert "no JSON" in listed["broken"].problem
    table = xh.harmonizers.list_models()
    assert {"hls-v2", *listed} <= set(table.index)
    assert table.loc["tiny-lut"].tolist() == [
        "msi to oli",
        "",
        "Tables from histograms",
        "lut",
        str(second / "lut"),
    ]
    with pytest.raises(xh.errors.ModelError, match="no JSON"):
        xh.load_model("broken")
    with pytest.raises(
        xh.errors.UnknownModelError, match=r"XHARMONIZE_MODELS has tiny-conv, broken"
    ):
        xh.load_model("tiny")


@pytest.mark.parametrize("card", [generator_card(), lut_card()], ids=lambda card: card.kind)
def test_a_bundle_is_a_model(tmp_path, monkeypatch, card):
    ref = write_bundle(tmp_path / "models" / "any", card, weights())
    model = xh.load_model(tmp_path / "models" / "any")
    assert (model.ref, model.card, model.name) == (ref, card, card.name)
    assert (model.source_bandpass, model.target_bandpass) == ("msi", "oli")
    assert model.save(tmp_path / "saved").digest == ref.digest
    xh.harmonizers.save_model(model, tmp_path / "copy")
    assert xh.load_model(str(tmp_path / "copy")).ref.digest == ref.digest
    with pytest.raises(xh.errors.StoreError, match="write to a folder and copy it"):
        xh.harmonizers.save_model(model, "memory://copy")
    monkeypatch.setenv("XHARMONIZE_MODELS", str(tmp_path / "models"))
    assert xh.load_model(card.name) == model
    with pytest.raises(xh.errors.ModelError, match="from msi to oli, not to msi"):
        xh.to_sentinel2(example_cube(), card.name)
