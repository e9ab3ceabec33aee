"""What a trained model says of itself: the content of its STAC item, as plain values.

A card is a tagged union: its class is its kind, and all that depends on the kind is a member of
that class (`xharmonize.models.kinds`). What all kinds share is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from xharmonize.errors import ModelError
from xharmonize.models.checks import PLAIN, Matching, Part, Sized, Within

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
    """What the network gives: ``reflectance = value * scale + mean`` per band.

    Attributes
    ----------
    bands : tuple of str
        STAC common names, in the order of channels.
    mean, scale : tuple of float
        Per band [1].
    """

    bands: Bands
    mean: Numbers
    scale: Scales

    def check(self) -> None:
        """Refuse an output whose parts do not fit together."""
        require_bands("output", self.bands, mean=self.mean, scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class Domain(Part):
    """Reflectance the model was trained on.

    Attributes
    ----------
    bands : tuple of str
        STAC common names.
    low, high : tuple of float
        Range seen in training, per band [1]; beyond it a pixel is out of the domain.
    edges : (float, float)
        Limits of the histograms [1]; values beyond count in the end bins.
    histograms : tuple of tuple of float
        Per band, fractions that sum to one over evenly spaced bins.
    max_distance : float
        Greatest distance of a training tile to them: the earth mover's distance of the two
        distributions [1] (reflectance), the worst band. A tile farther off is out of the domain.
    """

    bands: Bands
    low: Numbers
    high: Numbers
    edges: tuple[Number, Number]
    histograms: Annotated[
        tuple[Annotated[tuple[Fraction, ...], Sized(2**16, least=1)], ...],
        Sized(64),
    ]
    max_distance: Annotated[float, Within(0, 1e6)]

    def check(self) -> None:
        """Refuse a domain whose parts do not fit together."""
        require_bands("domain", self.bands, low=self.low, high=self.high)
        if len(self.histograms) != len(self.bands) or len({*map(len, self.histograms)}) != 1:
            raise ModelError("the domain needs one histogram per band, of one length")
        if any(abs(sum(row) - 1) > 1e-3 for row in self.histograms):
            raise ModelError("the domain's histograms do not sum to one; divide by their sums")
        if not self.edges[0] < self.edges[1]:
            raise ModelError(f"domain edges {self.edges} do not ascend; give the lower one first")


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
class Card(Part):
    """All a bundle says of its model besides the weights; the class is the kind.

    Subclasses add fields, which stand in the item as ``xharmonize:<name>``, and override what
    depends on the kind: `bands`, `forward`, `result`, and where they differ from what is here
    `write_inputs` and `read_inputs`, `n_at_once`, `facts`, `harmonizer`.

    Attributes
    ----------
    name : str
        Slug; the id of the STAC item.
    architecture : str
        Name in `xharmonize.models.registry`.
    hyperparameters : mapping
        Arguments of the architecture: numbers, strings, truths and lists of them.
    source_sensor, source_bandpass, levels
        Product, bandpass and processing levels it may be applied to; an empty string, or no level,
        for any.
    target_bandpass : str
        Bandpass of the result.
    output : Output
    domain : Domain, optional
        None: nothing is known, and no pixel can be flagged.
    min_valid_fraction : float
        Minimum valid fraction of an output pixel's own footprint [1].
    scores : mapping of str to float
        On data the model has not seen, as named by `provenance`.
    licence : str
        SPDX identifier of the weights' licence.
    provenance : mapping of str to str
        Trained on what, by which script, tested on what.
    created : str
        RFC 3339.
    bbox : (west, south, east, north), optional
        Where the training data lie [degree].
    """

    kind: ClassVar[str] = ""
    """Tag of the union: ``xharmonize:kind`` of the item."""

    harmonizer: ClassVar[str] = ""
    """Where the harmoniser of such bundles stands, ``module:name``; it takes `ref` and `card`."""

    in_inputs: ClassVar[frozenset[str]] = frozenset()
    """Fields that stand in ``mlm:input`` (`write_inputs`, `read_inputs`) and nowhere else."""

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
    domain: Domain | None = None
    min_valid_fraction: Fraction = 0.5
    scores: Annotated[Mapping[Key, Score], Sized(1000)] = field(default_factory=dict)
    licence: Licence = "Apache-2.0"
    provenance: Annotated[Mapping[Key, Annotated[str, Matching(PLAIN, 5000)]], Sized(200)] = field(
        default_factory=dict
    )
    created: Time = "1970-01-01T00:00:00Z"
    bbox: tuple[Degrees, Degrees, Degrees, Degrees] | None = None

    def check(self) -> None:
        """Refuse a date or a box that is none."""
        try:
            datetime.fromisoformat(self.created)
        except ValueError:
            raise ModelError(f"created={self.created!r} is no date; give RFC 3339") from None
        west, south, east, north = self.bbox or (0, 0, 0, 0)
        is_across = west > east and (east - west) % 360 <= 180  # the antimeridian
        if not (-90 <= south <= north <= 90 and (west <= east or is_across)):
            raise ModelError(f"bbox is {self.bbox}; give west, south, east, north in degrees")

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
                f"{what} is for cards of kind {cls.kind!r}, {card.name!r} is of kind "
                f"{card.kind!r}; choose another model"
            )
        return card

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the model needs."""
        raise NotImplementedError

    @property
    def result(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape of one answer of the network without the batch, and what its dimensions are."""
        raise NotImplementedError

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

    def slim(self) -> Self:
        """Return the card without what is only told to people: it goes along with every task."""
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
        raise ModelError(f"{what} names a band twice; it has {bands!r}")
    for name, values in numbers.items():
        if len(values) != len(bands):
            raise ModelError(f"{what} needs {len(bands)} numbers for {name}; it has {values}")


def array(shape: tuple[int, ...], order: tuple[str, ...]) -> dict[str, Any]:
    """Return an array of any batch in the terms of the extension."""
    return {"shape": [-1, *shape], "dim_order": ["batch", *order], "data_type": "float32"}
