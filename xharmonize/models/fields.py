"""The parts of a card from the fields of a STAC Item, checked one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from xharmonize.errors import ModelError
from xharmonize.models.card import Card, Domain, Histograms, Input, Output
from xharmonize.models.checks import (
    check_integer,
    check_list,
    check_mapping,
    check_number,
    check_numbers,
    check_object,
    check_text,
    check_texts,
    show,
)
from xharmonize.models.lattice import Lattice

OWN = "xharmonize:"
_BAND = r"[A-Za-z0-9][A-Za-z0-9_.+\-]{0,63}"
_SLUG = r"[A-Za-z][A-Za-z0-9_.\-]{1,98}[A-Za-z0-9]"
_WORD = r"[A-Za-z0-9_.+\-]{0,64}"
_WORDS = r"[A-Za-z0-9_.+\-|]*"
_KEY = r"[0-9a-zA-Z_.\-]+"
_LICENCE = r"[A-Za-z0-9][A-Za-z0-9.+\-() ]{0,99}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z"
_MAX_SIDE = 2**14


def read_card(item: Mapping[str, Any], fields: Mapping[str, Any]) -> Card:
    """Build the card from checked values."""
    own = {key.removeprefix(OWN): value for key, value in fields.items() if key.startswith(OWN)}
    scores = check_mapping(own["scores"], "scores", most=1000, pattern=r"[^\n]+")
    notes = check_mapping(own["provenance"], "provenance", most=200, pattern=r"[^\n]+")
    parts = {name: build(own[name]) for name, build in _PARTS.items() if name in own}
    card = Card(
        name=check_text(fields["mlm:name"], "mlm:name", pattern=_SLUG),
        title=check_text(fields["title"], "title", pattern=r"[^\n\t]+"),
        description=check_text(fields.get("description", ""), "description", most=20_000),
        kind=_kind(own["kind"]),
        architecture=check_text(fields["mlm:architecture"], "mlm:architecture", pattern=_SLUG),
        hyperparameters=_hyperparameters(fields.get("mlm:hyperparameters", {})),
        source_sensor=check_text(own["source_sensor"], "source_sensor", pattern=_WORDS),
        source_bandpass=check_text(own["source_bandpass"], "source_bandpass", pattern=_WORD),
        target_bandpass=check_text(own["target_bandpass"], "target_bandpass", pattern=_WORD),
        levels=check_texts(own["levels"], "levels", most=20, pattern=_WORD),
        output=_read_output(fields["mlm:output"]),
        inputs=_read_inputs(fields["mlm:input"]) if own["kind"] == "generator" else (),
        min_valid_fraction=check_number(own["min_valid_fraction"], "min_valid_fraction", 0, 1),
        scores={key: check_number(n, f"scores: {key}", -1e12, 1e12) for key, n in scores.items()},
        provenance={
            key: check_text(t, f"provenance: {key}", most=5000) for key, t in notes.items()
        },
        licence=check_text(fields["license"], "license", pattern=_LICENCE),
        created=_time(fields["datetime"]),
        bbox=_bbox(item["bbox"]) if "bbox" in item else None,
        **parts,
    )
    for source in card.inputs:
        if card.lattice and card.lattice.tile * card.lattice.cells(source.gsd) > _MAX_SIDE:
            raise ModelError(
                f"input {source.name!r} has tiles of more than {_MAX_SIDE} pixels a side"
            )
    return card


def _kind(value: object) -> Any:
    kind = check_text(value, "kind", most=40)
    if kind not in ("generator", "lut"):
        raise ModelError(f"kind is {show(kind)}; known are 'generator' and 'lut'")
    return kind


def _time(value: object) -> str:
    text = check_text(value, "datetime", pattern=_TIME)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ModelError(f"datetime is {text!r}, which is no date") from None
    return text


def _bbox(value: object) -> tuple[float, float, float, float]:
    west, south, east, north = check_numbers(value, "bbox", length=4, low=-180, high=180)
    is_across = west > east and (east - west) % 360 <= 180  # the antimeridian
    if not (-90 <= south <= north <= 90 and (west <= east or is_across)):
        raise ModelError(f"bbox is {show(value)}; give west, south, east, north in degrees")
    return west, south, east, north


def _bands(value: object, where: str) -> tuple[str, ...]:
    return check_texts(value, where, most=64, pattern=_BAND)


def _pair(value: object, where: str) -> tuple[float, float]:
    first, second = check_numbers(value, where, length=2)
    return first, second


def _read_inputs(value: object) -> tuple[Input, ...]:
    return tuple(
        _read_input(entry, f"mlm:input[{number}]")
        for number, entry in enumerate(check_list(value, "mlm:input", least=1, most=16))
    )


def _read_input(value: object, where: str) -> Input:
    keys = ("name", "bands", "input", "value_scaling", f"{OWN}gsd", f"{OWN}phase")
    fields = check_object(value, where, keys)
    bands = _bands(fields["bands"], f"{where}.bands")
    scaling = check_list(fields["value_scaling"], f"{where}.value_scaling", most=64)
    if len(scaling) != len(bands):
        raise ModelError(f"{where} has {len(bands)} bands, but scaling for {len(scaling)}")
    means, scales = [], []
    for number, entry in enumerate(scaling):
        place = f"{where}.value_scaling[{number}]"
        pair = check_object(entry, place, ("type", "mean", "stddev"))
        means.append(check_number(pair["mean"], f"{place}.mean"))
        scales.append(check_number(pair["stddev"], f"{place}.stddev", 1e-9))
    return Input(
        name=check_text(fields["name"], f"{where}.name", pattern=_BAND),
        bands=bands,
        gsd=check_number(fields[f"{OWN}gsd"], f"{where}.{OWN}gsd", 0.01, 1e5),
        phase=_pair(fields[f"{OWN}phase"], f"{where}.{OWN}phase"),
        mean=tuple(means),
        scale=tuple(scales),
    )


def _read_output(value: object) -> Output:
    keys = ("name", "tasks", "bands", "result", f"{OWN}mean", f"{OWN}scale")
    (entry,) = check_list(value, "mlm:output", least=1, most=1)
    fields = check_object(entry, "mlm:output[0]", keys)
    bands = _bands(fields["bands"], "mlm:output[0].bands")
    mean, scale = (
        check_numbers(fields[f"{OWN}{name}"], f"mlm:output[0].{OWN}{name}", length=len(bands))
        for name in ("mean", "scale")
    )
    return Output(bands=bands, mean=mean, scale=scale)


def _read_lattice(value: object) -> Lattice:
    keys = ("resolution", "tile", "buffer", "phase", "merge", "crs")
    fields = check_object(value, "lattice", keys)
    resolution = check_number(fields["resolution"], "lattice: resolution", 0.01, 1e5)
    return Lattice(
        resolution=resolution,
        tile=check_integer(fields["tile"], "lattice: tile", 1, _MAX_SIDE),
        buffer=check_integer(fields["buffer"], "lattice: buffer", 0, _MAX_SIDE),
        phase=_pair(fields["phase"], "lattice: phase"),
        merge=check_text(fields["merge"], "lattice: merge", most=40),  # type: ignore[arg-type]
        crs=check_text(fields["crs"], "lattice: crs", most=10_000),
    )


def _read_histograms(value: object) -> Histograms:
    fields = check_object(value, "histograms", ("bands", "bins", "knots", "low", "high", "tile"))
    bands = _bands(fields["bands"], "histograms: bands")
    low, high = (
        check_numbers(fields[name], f"histograms: {name}", length=len(bands))
        for name in ("low", "high")
    )
    return Histograms(
        bands=bands,
        bins=check_integer(fields["bins"], "histograms: bins", 2, 2**16),
        knots=check_integer(fields["knots"], "histograms: knots", 2, 2**16),
        low=low,
        high=high,
        tile=check_number(fields["tile"], "histograms: tile", 0.01, 1e7),
    )


def _read_domain(value: object) -> Domain:
    keys = ("bands", "low", "high", "edges", "histograms", "max_distance")
    fields = check_object(value, "domain", keys)
    bands = _bands(fields["bands"], "domain: bands")
    low, high = (
        check_numbers(fields[name], f"domain: {name}", length=len(bands))
        for name in ("low", "high")
    )
    shares = tuple(
        check_numbers(row, f"domain: histograms[{number}]", low=0, high=1)
        for number, row in enumerate(
            check_list(fields["histograms"], "domain: histograms", most=64)
        )
    )
    if any(abs(sum(row) - 1) > 1e-3 for row in shares):
        raise ModelError("domain: histograms hold shares that do not sum to one")
    return Domain(
        bands=bands,
        low=low,
        high=high,
        edges=_pair(fields["edges"], "domain: edges"),
        histograms=shares,
        max_distance=check_number(fields["max_distance"], "domain: max_distance", 0, 1e6),
    )


def _hyperparameters(value: object) -> dict[str, Any]:
    found = check_mapping(value, "mlm:hyperparameters", most=200, pattern=_KEY)
    return {
        key: _hyperparameter(part, f"mlm:hyperparameters: {key}") for key, part in found.items()
    }


def _hyperparameter(value: object, where: str, depth: int = 0) -> Any:
    """A number, truth, text, or a list of them, two levels deep at most."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return check_integer(value, where, -(2**31), 2**31)
    if isinstance(value, float):
        return check_number(value, where, -1e12, 1e12)
    if isinstance(value, list) and depth < 2:
        parts = check_list(value, where, most=4096)
        return [_hyperparameter(part, f"{where}[{i}]", depth + 1) for i, part in enumerate(parts)]
    return check_text(value, where, most=1000)


_PARTS: dict[str, Callable[[object], Any]] = {
    "lattice": _read_lattice,
    "histograms": _read_histograms,
    "domain": _read_domain,
}
PARTS = frozenset(_PARTS)
"""Properties that not every card has."""
