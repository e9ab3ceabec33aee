"""The item of a bundle: a STAC Item others can read, and a card that comes back."""

import json
from dataclasses import MISSING, fields, replace

import pytest
from helpers.bundles import domain, fusion_card, generator_card, lut_card

import xharmonize as xh
from xharmonize.models.item import (
    Described,
    File,
    check_item,
    make_item,
    read_item,
    write_item,
)

FILES = {
    "weights.safetensors": File(size=100, sha256="ab" * 32),
    "README.md": File(size=5, sha256="cd" * 32),
}


def described(card):
    return Described(card=card, files=FILES, n_parameters=12, framework_version="2.13.0+cpu")


CARDS = {
    "generator": generator_card(),
    "fusion": fusion_card(),
    "lut": lut_card(),
    "bare": replace(generator_card(), domain=None, bbox=None, scores={}, hyperparameters={}),
}


@pytest.mark.parametrize("kind", CARDS)
def test_cards_come_back_equal(kind):
    assert read_item(write_item(described(CARDS[kind]))) == described(CARDS[kind])


def test_no_field_of_a_card_is_forgotten():
    card, other = generator_card(), fusion_card()
    for part in (card, other.inputs[1], card.output, card.lattice, card.domain):
        for field in fields(part):
            if field.default is not MISSING and (part is not card or field.name != "histograms"):
                assert getattr(part, field.name) != field.default, "give it a value of its own"


@pytest.mark.parametrize("kind", CARDS)
def test_the_item_fits_the_schema_of_stac(kind):
    pytest.importorskip("jsonschema")
    validator = pytest.importorskip("pystac.validation.local_validator").LocalValidator()
    item = json.loads(write_item(described(CARDS[kind])))
    assert [error.message for error in validator.item_validator("1.1.0").iter_errors(item)] == []


@pytest.mark.parametrize("kind", CARDS)
def test_pystac_reads_the_item(kind):
    pystac = pytest.importorskip("pystac")
    from pystac.extensions.file import FileExtension
    from pystac.extensions.mlm import AssetGeneralMLMExtension, MLMExtension

    card = CARDS[kind]
    item = pystac.Item.from_dict(json.loads(write_item(described(card))))
    model = MLMExtension.ext(item)
    assert (model.mlm_name, model.architecture) == (card.name, card.architecture)
    assert model.input[0].bands == list(card.bands[: len(model.input[0].bands)])
    assert model.output[0].result.shape[1] == len(card.output.bands)
    if kind not in ("lut", "fusion"):
        assert model.input[0].input.shape == [-1, 2, 384, 384]
        assert model.input[1].input.shape == [-1, 1, 192, 192]
        scaling = model.input[0].to_dict()["value_scaling"]
        assert [entry["stddev"] for entry in scaling] == list(card.inputs[0].scale)
    weights = item.assets["weights"]
    assert FileExtension.ext(weights).size == 100
    assert AssetGeneralMLMExtension.ext(weights).artifact_type == "safetensors"


def changed(path, value, card=None):
    """The item of a card with one value changed; a path is keys and numbers joined by '/'."""
    item = make_item(described(card or generator_card()))
    place = item
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in parents:
        place = place[key]
    place[last] = value
    return item


WRONG = {
    "properties/xharmonize:format_version": ("2.0", "newer version of xharmonize .format 2.0"),
    "properties/xharmonize:wavelengths": ([1], "not known: 'xharmonize:wavelengths'"),
    "properties/xharmonize:kind": ("diffusion", "known are .*'generator', 'lut'"),
    "properties/mlm:input/0/value_scaling": ([], r"needs 2 numbers for mean; it has \(\)"),
    "properties/mlm:input/0/bands": (["blue"], "needs 1 numbers for mean"),
    "properties/mlm:input/0/input/shape": ([-1, 2, 9, 9], r"\[2\] is 9.*must be 384"),
    "properties/mlm:input/1/input/shape": ([-1, True, 192, 192], r"\[1\] is True.*must be 1"),
    "properties/mlm:input/0/pre_processing_function": ("x", "not known: 'pre_processing"),
    "properties/mlm:output/0/xharmonize:mean": ([0.0], "output needs 2 numbers for mean"),
    "properties/mlm:output": ([], "mlm:output is not that of a model of kind 'generator'"),
    "properties/mlm:entrypoint": ("os:system", "not known: 'mlm:entrypoint'"),
    "properties/mlm:total_parameters": (True, "is True; it should be a valid integer"),
    "properties/mlm:name": ("../x", "name is '../x'; it should match"),
    "properties/title": ("a\x1b[2J", r"title is .a\\x1b\[2J.; it should match"),
    "properties/datetime": ("2024-02-30T00:00:00Z", "no date"),
    "properties/xharmonize:lattice": ({"tile": 1}, "lacks lattice.resolution"),
    "properties/xharmonize:lattice/tile": (
        10**9,
        "lattice.tile is 1000000000; .* less than or equal to 16384",
    ),
    "properties/xharmonize:lattice/resolution": (1e-30, "greater than or equal to 0.01"),
    "properties/xharmonize:scores": ({"rmse": float("nan")}, "not finite"),
    "properties/xharmonize:domain/max_distance": (
        -1,
        "domain.max_distance is -1; .* greater than or equal to 0",
    ),
    "properties/mlm:hyperparameters": (
        {"f": {"a": 1}},
        "hyperparameters.f is {'a': 1}; .* or be a valid string",
    ),
    "assets/weights/href": ("../weights.safetensors", "bundle's own folder"),
    "assets/readme/href": ("/etc/passwd", "bundle's own folder"),
    "assets/weights/file:checksum": ("1220zz", "sha256 is 'zz'; it should match"),
    "assets/weights/mlm:entrypoint": ("os:system", "not known: 'mlm:entrypoint'"),
    "assets/code": ({"href": "code.py"}, "not known: 'code'"),
    "stac_version": ("9.0.0", "must be '1.1.0'"),
    "bbox": ([1, 2, 3], "lacks bbox.3"),
}


@pytest.mark.parametrize("path", WRONG)
def test_what_does_not_fit_is_refused(path):
    value, message = WRONG[path]
    with pytest.raises(xh.errors.ModelError, match=message):
        check_item(changed(path, value))


@pytest.mark.parametrize("href", ["..", ".", "a/b", "a\\b", "http://x/y", "", None, "a\n", "~"])
def test_only_plain_names_are_read(href):
    with pytest.raises(xh.errors.ModelError, match="own folder"):
        check_item(changed("assets/weights/href", href))


def test_an_item_that_was_edited_is_refused():
    data = write_item(described(generator_card()))
    with pytest.raises(xh.errors.ModelError, match="does not match its own checksum"):
        read_item(data.replace(b'"tile": 128', b'"tile": 192'))
    loose = json.dumps(json.loads(data)).encode()
    assert read_item(loose) == read_item(data)  # how it is laid out does not matter


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", "no JSON"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "not finite"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "no JSON"),
        (b'{"a": 1, "a": 2}', "key twice"),
        (b'{"a": "\\ud800"}', "no Unicode"),
        (b'{"a": ' + b"[" * 50 + b"]" * 50 + b"}", "nested deeper"),
        (b'{"a": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "nested deeper"),
        (b'{"type": "Feature"}', "no STAC Item"),
        (b'{"properties": {}}', "no bundle of this package"),
    ],
)
def test_what_is_no_item_is_refused(text, message):
    with pytest.raises(xh.errors.ModelError, match=message):
        read_item(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x/y"},
        {"scores": {"rmse": float("inf")}},
        {"hyperparameters": {"norm": object()}},
        {"created": "yesterday"},
        {"domain": {**vars(domain()), "histograms": ((0.5, 0.1),)}},
    ],
)
def test_what_cannot_be_read_back_is_not_written(wrong):
    with pytest.raises(xh.errors.ModelError):
        write_item(described(replace(generator_card(), **wrong)))


def newer(version="1.7", **more):
    """The item of a newer version: fields at the top, in an input, and in a part."""
    item = make_item(described(generator_card()))
    item["properties"]["xharmonize:format_version"] = version
    item["properties"] |= {"mlm:batch_size_suggestion": 4, "xharmonize:season": {"from": 3}}
    item["properties"]["mlm:input"][1]["xharmonize:noise"] = [0.1]
    item["properties"]["xharmonize:lattice"]["skew"] = None
    item["properties"] |= more
    return item


def test_what_a_newer_minor_version_says_besides_is_kept():
    item = newer()
    found = check_item(item)
    assert found.card == generator_card()
    assert make_item(found) == item
    assert read_item(write_item(found)) == found


def test_it_stays_where_the_card_is_given_other_parts():
    found = check_item(newer())
    one = replace(found, card=replace(found.card, inputs=found.card.inputs[:1]))
    properties = make_item(one)["properties"]
    assert properties["xharmonize:season"] == {"from": 3}
    assert "xharmonize:noise" not in properties["mlm:input"][0]
    assert read_item(write_item(one)) == replace(one, more=check_item(make_item(one)).more)


@pytest.mark.parametrize(
    ("version", "more", "message"),
    [
        ("2.0", {}, r"newer version of xharmonize \(format 2.0; this one reads 1.0"),
        ("10.0", {}, "newer version"),
        ("1.0", {}, "fields that are not known: 'mlm:batch_size_suggestion, xharmonize:season'"),
        ("1.7", {"xharmonize:kind": "diffusion"}, "kind 'diffusion' is unknown"),
        ("1.7", {"mlm:entrypoint": "os:system"}, "not known: 'mlm:batch.*, mlm:entrypoint"),
        ("1.7", {"mlm:tasks": ["segmentation"]}, "must be 'regression'"),
        ("1", {}, "has format '1'; this package reads 1.0"),
        (1, {}, "has format 1; this package reads 1.0"),
    ],
)
def test_what_a_newer_version_must_not_say(version, more, message):
    with pytest.raises(xh.errors.ModelError, match=message):
        check_item(newer(version, **more))
