"""Model cards: validated descriptions of trained models.

A card is a tagged union: its class is its kind, and all that depends on the kind is a member of
that class (`xharmonize.models.kinds`). What all kinds share is here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeAlias, get_type_hints

import numpy as np

from xharmonize.errors import ModelError, show

MAX_DEPTH = 16
_MAX_INTEGER = 2**63
PLAIN = r"[^\x00-\x08\x0b-\x1f\x7f]*"
"""Pattern of text without control characters but tabs and line ends."""


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises
    ------
    ModelError
        If `data` is not a JSON object, or has duplicate keys, NaN, infinities, integers beyond 64
        bits, invalid Unicode, or values nested deeper than `MAX_DEPTH`.
    """

    def refuse(constant: str) -> NoReturn:
        raise ModelError(f"{what} holds {constant}, which is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ModelError(f"{what} names a key twice in one object")
        return found

    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError:
        raise ModelError(f"{what} is nested deeper than {MAX_DEPTH} levels") from None
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{what} is no JSON ({error})", cure="write the bundle again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{what} is no JSON object", cure="write the bundle again")
    require_plain(value, what)
    return value


def require_plain(value: object, what: str) -> None:
    """Raise `ModelError` unless a value is plain JSON: bounded depth, finite numbers, Unicode."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ModelError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(found, dict):
            if not all(isinstance(key, str) for key in found):
                raise ModelError(f"{what} holds a key that is no text")
            waiting += [(part, depth + 1) for pair in found.items() for part in pair]
        elif isinstance(found, list):
            waiting += [(part, depth + 1) for part in found]
        elif isinstance(found, str):
            _require_unicode(found, what)
        elif isinstance(found, (int, float)):
            if not math.isfinite(found) or abs(found) >= _MAX_INTEGER:
                raise ModelError(f"{what} holds a number that is not finite or too large")
        elif found is not None:
            raise ModelError(f"{what} holds a {type(found).__name__}, which is no JSON")


def _require_unicode(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ModelError(f"{what} holds text that is no Unicode") from None


@dataclass(frozen=True)
class Within:
    """Inclusive bounds of a number, for `Annotated`. Refuses booleans, NaN and numbers as text."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: type, _: Any) -> Any:
        from pydantic_core import core_schema

        if source is int:
            return core_schema.int_schema(ge=int(self.low), le=int(self.high), strict=True)
        return core_schema.float_schema(ge=self.low, le=self.high, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Matching:
    """Pattern and maximum length of a string, for `Annotated`."""

    pattern: str
    most: int = 300

    def __get_pydantic_core_schema__(self, source: type, _: Any) -> Any:
        from pydantic_core import core_schema

        # \Z, not $, which would accept a trailing newline.
        pattern = re.compile(rf"\A(?:{self.pattern})\Z")
        return core_schema.str_schema(pattern=pattern, max_length=self.most, strict=True)


@dataclass(frozen=True)
class Sized:
    """Bounds of the length of a tuple or mapping, for `Annotated`."""

    most: int
    least: int = 0

    def __get_pydantic_core_schema__(self, source: type, handler: Any) -> Any:
        from pydantic_core import core_schema

        values = handler(source)
        if values["type"] == "tuple":
            values["fail_fast"] = True  # a million wrong values are one error
        return core_schema.no_info_before_validator_function(self._require, values)

    def _require(self, value: Any) -> Any:
        """Refuse a wrong number before the values are looked at."""
        if isinstance(value, (tuple, dict)) and not self.least <= len(value) <= self.most:
            raise ValueError(f"{len(value)} values; give {self.least:,} to {self.most:,}")
        return value


class Part:
    """A frozen dataclass whose values are within the bounds that its fields declare.

    pydantic validates the values, both on creation and on reading (`read_part`). It is imported
    only then: using its dataclasses would make importing the package a fifth slower.
    """

    def __post_init__(self) -> None:
        """Refuse values out of bounds; convert NumPy scalars to Python's, and lists to tuples."""
        part: Any = type(self)  # Any: mypy holds that classes of dataclasses may be unhashable
        kept = _validated(_bare(vars(self)), _fields(part), part.__name__)
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Refuse values that contradict each other."""


def read_part(values: Any, kind: Any, what: str) -> Any:
    """Return plain values as the type that they are to be, checked.

    Raises
    ------
    ModelError
        If one is missing, of a wrong type or out of bounds; fields that are not known are left out.
    """
    return _validated(_bare(values), _adapter(kind), what)


def _validated(values: Any, adapter: Any, what: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    if first["type"] == "missing":
        raise ModelError(f"{what} lacks {_dotted(first['loc'])}", cure="write the bundle again")
    if first["type"] == "unexpected_keyword_argument":
        raise ModelError(
            f"{what}: {_dotted(first['loc'])} is not known", cure="write the bundle again"
        )
    # Of a union there is one error for each type that the value could have had.
    branches = [one for one in others if one["loc"][:-1] == first["loc"][:-1]]
    branches = [one for one in branches if one["input"] is first["input"]]
    where = ": ".join(filter(None, (what, _dotted(first["loc"][: -1 if branches else None]))))
    if "error" in first.get("ctx", {}):  # of a check of ours, which says what was wrong
        raise ModelError(f"{where}: {first['ctx']['error']}")
    wishes = [one["msg"].partition(" should ")[2] or one["msg"] for one in (first, *branches)]
    raise ModelError(f"{where} is {show(first['input'])}", cure=f"it should {' or '.join(wishes)}")


def _dotted(place: Sequence[str | int]) -> str:
    return ".".join(map(str, place))


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


@cache
def _fields(part: Any) -> Any:
    """Check of the fields of a dataclass alone, without making one."""
    from typing_extensions import TypedDict

    hints = get_type_hints(part, include_extras=True)
    names = [field.name for field in dataclasses.fields(part)]
    return _adapter(TypedDict(part.__name__, {name: hints[name] for name in names}))  # type: ignore[operator]


def _bare(value: Any) -> Any:
    """Numbers of numpy as Python's, lists as tuples."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_bare, value))
    if isinstance(value, dict):
        return {key: _bare(part) for key, part in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def plain(value: Any) -> Any:
    """A part as JSON has it: dataclasses as objects, tuples as lists."""
    if isinstance(value, Part):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, (tuple, list)) else value


Shapes: TypeAlias = Sequence[tuple[int, ...]]

OWN = "xharmonize:"
"""Prefix of what the extensions of STAC have no word for."""

# What a text of a card may be.
Band: TypeAlias = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.+\-]{0,63}")]
Slug: TypeAlias = Annotated[str, Matching(r"[A-Za-z][A-Za-z0-9_.\-]{1,98}[A-Za-z0-9]")]
Word: TypeAlias = Annotated[str, Matching(r"[A-Za-z0-9_.+\-]{0,64}")]
Words: TypeAlias = Annotated[str, Matching(r"[A-Za-z0-9_.+\-|]{0,300}")]
Line: TypeAlias = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,300}")]
Text: TypeAlias = Annotated[str, Matching(PLAIN, 20_000)]
Licence: TypeAlias = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9.+\-() ]{0,99}")]
Time: TypeAlias = Annotated[str, Matching(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", 40)]
Key: TypeAlias = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,100}")]

# Numbers: all have bounds, by which NaN is refused too.
Number: TypeAlias = Annotated[float, Within(-1e6, 1e6)]
Scale: TypeAlias = Annotated[float, Within(1e-9, 1e6)]
Metres: TypeAlias = Annotated[float, Within(0.01, 1e5)]
Fraction: TypeAlias = Annotated[float, Within(0, 1)]
Degrees: TypeAlias = Annotated[float, Within(-180, 180)]
Score: TypeAlias = Annotated[float, Within(-1e12, 1e12)]
Bands: TypeAlias = Annotated[tuple[Band, ...], Sized(64, least=1)]
Numbers: TypeAlias = Annotated[tuple[Number, ...], Sized(64)]
Scales: TypeAlias = Annotated[tuple[Scale, ...], Sized(64)]

_Value: TypeAlias = (
    bool | Annotated[int, Within(-(2**31), 2**31)] | Score | Annotated[str, Matching(PLAIN, 1000)]
)
_Row: TypeAlias = Annotated[tuple[_Value, ...], Sized(4096)]
Hyperparameter: TypeAlias = _Value | Annotated[tuple[_Value | _Row, ...], Sized(4096)]
"""A number, truth, text, or a list of them, two levels deep at most."""


@dataclass(frozen=True, kw_only=True)
class Output(Part):
    """Output of the network: ``reflectance = value * scale + mean`` per band.

    Attributes
    ----------
    bands : tuple of str
        STAC common names, in the order of channels.
    mean, scale : tuple of float
        Mean and scale per band [1].
    """

    bands: Bands
    mean: Numbers
    scale: Scales

    def check(self) -> None:
        """Refuse an output whose parts do not fit together."""
        require_bands("output", self.bands, mean=self.mean, scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class Domain(Part):
    """Range and distribution of the training reflectance.

    Attributes
    ----------
    bands : tuple of str
        STAC common names.
    low, high : tuple of float
        Range seen in training, per band [1]; pixels beyond it are outside the domain.
    edges : (float, float)
        Limits of the histograms [1]; values beyond count in the end bins.
    histograms : tuple of tuple of float
        Per band, fractions that sum to one over evenly spaced bins.
    max_distance : float
        Largest distance of a training tile to the histograms: earth mover's distance of the two
        distributions [1] (reflectance) in the worst band. Tiles beyond it are outside the domain.
    """

    bands: Bands
    low: Numbers
    high: Numbers
    edges: tuple[Number, Number]
    histograms: Annotated[
        tuple[Annotated[tuple[Fraction, ...], Sized(2**16, least=1)], ...],
        Sized(64),
    ] = field(repr=False)
    max_distance: Annotated[float, Within(0, 1e6)]

    def check(self) -> None:
        """Refuse a domain whose parts do not fit together."""
        require_bands("domain", self.bands, low=self.low, high=self.high)
        if len(self.histograms) != len(self.bands) or len({*map(len, self.histograms)}) != 1:
            raise ModelError("the domain needs one histogram per band, of one length")
        if any(abs(sum(row) - 1) > 1e-3 for row in self.histograms):
            raise ModelError(
                "the domain's histograms do not sum to one", cure="divide by their sums"
            )
        if not self.edges[0] < self.edges[1]:
            raise ModelError(
                f"domain edges {self.edges} do not ascend", cure="give the lower one first"
            )


@dataclass(frozen=True, kw_only=True)
class Call:
    """One thing that the networks of a kind do.

    Attributes
    ----------
    method : str
        Name of the method of the `torch.nn.Module`.
    answer : callable
        Takes a card and the shapes of a batch, one per input, and returns the shape of the
        answer; raises `ModelError` where the batch does not fit the card.
    """

    method: str
    answer: Callable[[Any, Shapes], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Card(Part, ABC):
    """Description of a model; the subclass defines its kind.

    Subclasses add fields, which are stored in the item as ``xharmonize:<name>``, and override
    whatever depends on the kind: `bands`, `forward`, `result` and, if they differ from the
    defaults, `write_inputs` and `read_inputs`, `n_at_once`, `facts`, `harmonizer`.

    Attributes
    ----------
    name : str
        Slug; the id of the STAC item.
    architecture : str
        Name in `xharmonize.models.architectures`.
    hyperparameters : mapping
        Arguments of the architecture: numbers, strings, booleans and lists of them.
    source_sensor, source_bandpass, levels
        Product, bandpass and processing levels the model may be applied to; an empty string, or no
        level, for any.
    target_bandpass : str
        Bandpass of the result.
    output : Output
    domain : Domain, optional
        Domain of the training data. None: unknown, so that no pixel can be flagged.
    min_valid : float
        Minimum valid fraction of an output pixel's own footprint [1].
    scores : mapping of str to float
        Scores on unseen data, which `provenance` names.
    licence : str
        SPDX identifier of the weights' licence.
    provenance : mapping of str to str
        Training data, training script and test data.
    created : str
        RFC 3339 datetime.
    bbox : (west, south, east, north), optional
        Bounding box of the training data [degree].
    """

    kind: ClassVar[str] = ""
    """Tag of the union: ``xharmonize:kind`` of the item."""

    harmonizer: ClassVar[str] = ""
    """Where the harmoniser of such bundles stands, ``module:name``; it takes `ref` and `card`."""

    in_inputs: ClassVar[frozenset[str]] = frozenset()
    """Fields that stand in ``mlm:input`` (`write_inputs`, `read_inputs`) and nowhere else."""

    optional: ClassVar[frozenset[str]] = frozenset({"description", "hyperparameters"})
    """Fields that are left out of the item where there is nothing to say."""

    forward: ClassVar[Call]
    """What the network does where nothing else is asked for."""

    name: Slug
    title: Line
    description: Text = ""
    architecture: Slug
    source_bandpass: Word
    target_bandpass: Word
    output: Output
    source_sensor: Words = ""
    levels: Annotated[tuple[Word, ...], Sized(20)] = ()
    hyperparameters: Annotated[
        Mapping[Annotated[str, Matching(r"[0-9a-zA-Z_.\-]{1,100}")], Hyperparameter],
        Sized(200),
    ] = field(default_factory=dict)
    domain: Domain | None = field(default=None, repr=False)
    min_valid: Fraction = 0.5
    scores: Annotated[Mapping[Key, Score], Sized(1000)] = field(default_factory=dict, repr=False)
    licence: Licence = "Apache-2.0"
    provenance: Annotated[Mapping[Key, Annotated[str, Matching(PLAIN, 5000)]], Sized(200)] = field(
        default_factory=dict, repr=False
    )
    created: Time = "1970-01-01T00:00:00Z"
    bbox: tuple[Degrees, Degrees, Degrees, Degrees] | None = None

    def check(self) -> None:
        """Refuse an invalid date or bounding box."""
        try:
            datetime.fromisoformat(self.created)
        except ValueError:
            raise ModelError(
                "is no date", cure="give RFC 3339", argument="created", value=self.created
            ) from None
        west, south, east, north = self.bbox or (0, 0, 0, 0)
        is_across = west > east and (east - west) % 360 <= 180  # the antimeridian
        if not (-90 <= south <= north <= 90 and (west <= east or is_across)):
            raise ModelError(
                f"bbox is {self.bbox}", cure="give west, south, east, north in degrees"
            )

    @classmethod
    def of(cls, card: Card, what: str) -> Self:
        """Return a card of this kind as such.

        Raises
        ------
        ModelError
            If it is of another kind; `what` says who asked.
        """
        if not isinstance(card, cls):
            raise ModelError(
                f"{what} is for cards of kind {cls.kind!r}, {card.name!r} is of kind {card.kind!r}",
                cure="choose another model",
            )
        return card

    @property
    @abstractmethod
    def bands(self) -> tuple[str, ...]:
        """Source bands the model needs."""

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Bands that it reads, of whichever cube."""
        return self.bands

    @property
    @abstractmethod
    def result(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape of one answer of the network without the batch, and what its dimensions are."""

    def write_inputs(self) -> list[dict[str, Any]]:
        """Return the inputs in the terms of the Machine Learning Model extension."""
        values = array((len(self.bands),), ("band",))
        return [{"name": "cube", "bands": list(self.bands), "input": values}]

    @classmethod
    def read_inputs(cls, entries: Any) -> dict[str, Any]:  # noqa: ARG003
        """Return the fields that stand in the item's inputs alone, not checked.

        `entries` is any JSON: `KeyError`, `TypeError` and `IndexError` are turned into
        `ModelError` by the caller, which also compares what was read with what would be written.
        """
        return {}

    def n_at_once(self, device: str) -> int:  # noqa: ARG002
        """Return how many samples are run at once on ``"cpu"`` or ``"cuda"``."""
        return 1

    def facts(self) -> dict[str, str]:
        """Return what people are told of the kind's own fields, by label."""
        return {"reads": " ".join(self.bands)}

    def summary(self) -> dict[str, str]:
        """Return what it takes, what it gives, what it was trained on and how well it does."""
        ergas = {name.partition(":")[0]: v for name, v in self.scores.items() if "ergas" in name}
        levels = " or ".join(self.levels)
        return {
            "name": self.name,
            "kind": f"{self.kind}, {self.architecture}",
            "direction": f"{self.source_bandpass or 'any'} to {self.target_bandpass}",
            "for": f"{self.source_sensor or 'any sensor'}, {levels or 'any level'}",
            **self.facts(),
            "gives": " ".join(self.output.bands),
            "trained on": self.provenance.get("trained on", ""),
            "ERGAS on unseen data": ", ".join(f"{name} {v:.3g}" for name, v in ergas.items()),
            "licence": self.licence,
        }

    def slim(self) -> Self:
        """Return the card without descriptive fields, since it is sent along with every task."""
        return replace(
            self, title=self.name, description="", scores={}, provenance={}, domain=None, bbox=None
        )

    @property
    def network(self) -> dict[str, Any]:
        """Fields that a network is built from: those of the kind, and three that all have."""
        told = {one.name for one in fields(Card)} - {"architecture", "hyperparameters", "output"}
        return {name: value for name, value in vars(self).items() if name not in told}


def require_bands(what: str, bands: Sequence[str], **numbers: tuple[float, ...]) -> None:
    """Raise `ModelError` unless bands are named once and every tuple has one number each."""
    if len(set(bands)) < len(bands):
        raise ModelError(f"{what} names a band twice", cure=f"it has {bands!r}")
    for name, values in numbers.items():
        if len(values) != len(bands):
            raise ModelError(
                f"{what} needs {len(bands)} numbers for {name}", cure=f"it has {values}"
            )


def array(shape: tuple[int, ...], order: tuple[str, ...]) -> dict[str, Any]:
    """Return an array of any batch in the terms of the extension."""
    names = ["bands" if name == "band" else name for name in order]  # the extension's own word
    return {"shape": [-1, *shape], "dim_order": ["batch", *names], "data_type": "float32"}
