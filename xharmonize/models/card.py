"""What a trained model says of itself: the content of its STAC item, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from xharmonize.errors import ModelError
from xharmonize.models.lattice import Lattice

Kind: TypeAlias = Literal["generator", "lut"]
"""``generator``: image to image, on a lattice; ``lut``: histograms to look-up tables."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a generator: bands of one pixel size.

    Attributes
    ----------
    name : str
        Name of the input, in the order in which the network takes them.
    bands : tuple of str
        STAC common names, in the order of channels.
    gsd : float
        Side of a pixel [m].
    mean, scale : tuple of float
        Per band [1]: the network sees ``(reflectance - mean) / scale``.
    phase : (float, float)
        Where edges of its pixels lie in x and y, modulo `gsd` [m]: (0, 0) for Sentinel-2, (15, 15)
        for most Landsat scenes.
    """

    name: str
    bands: tuple[str, ...]
    gsd: float
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    phase: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Refuse an input whose parts do not fit together."""
        _require_bands(f"input {self.name!r}", self.bands, mean=self.mean, scale=self.scale)
        if not 0 < self.gsd < float("inf"):
            raise ModelError(f"input {self.name!r} has gsd {self.gsd}; give a pixel size [m]")
        if len(self.phase) != 2 or any(not 0 <= edge < self.gsd for edge in self.phase):
            raise ModelError(f"input {self.name!r} has phase {self.phase}; give two in [0, gsd)")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the network gives: ``reflectance = value * scale + mean`` per band.

    Attributes
    ----------
    bands : tuple of str
        STAC common names, in the order of channels.
    mean, scale : tuple of float
        Per band [1].
    """

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse an output whose parts do not fit together."""
        _require_bands("output", self.bands, mean=self.mean, scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """The histograms that tables are made from and the knots of the tables.

    Attributes
    ----------
    bands : tuple of str
        STAC common names.
    bins : int
        Evenly spaced bins over ``[low, high]`` of each band; values beyond count in the end bins.
    knots : int
        Nodes of a table, evenly spaced over ``[low, high]``, ends included.
    low, high : tuple of float
        Per band, reflectance [1].
    tile : float
        Side of the tile a histogram is counted over [m]; tile edges lie at its multiples.
    """

    bands: tuple[str, ...]
    bins: int
    knots: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    tile: float

    def __post_init__(self) -> None:
        """Refuse histograms whose parts do not fit together."""
        _require_bands("histograms", self.bands, low=self.low, high=self.high)
        if any(not low < high for low, high in zip(self.low, self.high)):
            raise ModelError(f"histogram limits {self.low} and {self.high} must ascend, per band")
        if self.bins < 2 or self.knots < 2 or not 0 < self.tile < float("inf"):
            raise ModelError(
                f"bins={self.bins} and knots={self.knots} must be 2 or more, tile={self.tile} "
                "a length [m]"
            )


@dataclass(frozen=True, kw_only=True)
class Domain:
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
        Per band, shares that sum to one over evenly spaced bins.
    max_distance : float
        Greatest distance of a training tile to them: the earth mover's distance of the two
        distributions [1] (reflectance), the worst band. A tile farther off is out of the domain.
    """

    bands: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    edges: tuple[float, float]
    histograms: tuple[tuple[float, ...], ...]
    max_distance: float

    def __post_init__(self) -> None:
        """Refuse a domain whose parts do not fit together."""
        _require_bands("domain", self.bands, low=self.low, high=self.high)
        if len(self.histograms) != len(self.bands) or len({*map(len, self.histograms)}) != 1:
            raise ModelError("the domain needs one histogram per band, of one length")
        if not self.edges[0] < self.edges[1] or not self.max_distance >= 0:
            raise ModelError(
                f"domain edges {self.edges} must ascend and max_distance "
                f"{self.max_distance} be 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class Card:
    """All a bundle says of its model besides the weights.

    Attributes
    ----------
    name : str
        Slug; the id of the STAC item.
    kind : {"generator", "lut"}
        What it does; see `Kind`.
    architecture : str
        Name in `xharmonize.models.registry`.
    hyperparameters : mapping
        Arguments of the architecture: numbers, strings, truths and lists of them.
    source_sensor, source_bandpass, levels
        Product, bandpass and processing levels it may be applied to; an empty string, or no level,
        for any.
    target_bandpass : str
        Bandpass of the result.
    inputs, lattice : of generators
    histograms : of ``lut``
    output : Output
    domain : Domain, optional
        None: nothing is known, and no pixel can be flagged.
    min_valid_fraction : float
        Least valid share of an output pixel's own footprint [1].
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

    name: str
    title: str
    description: str
    kind: Kind
    architecture: str
    source_bandpass: str
    target_bandpass: str
    output: Output
    source_sensor: str = ""
    levels: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    lattice: Lattice | None = None
    histograms: Histograms | None = None
    domain: Domain | None = None
    min_valid_fraction: float = 0.5
    scores: Mapping[str, float] = field(default_factory=dict)
    licence: str = "Apache-2.0"
    provenance: Mapping[str, str] = field(default_factory=dict)
    created: str = "1970-01-01T00:00:00Z"
    bbox: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a card that lacks what its kind needs."""
        if self.kind == "generator":
            if not self.inputs or self.lattice is None or self.histograms is not None:
                raise ModelError("a generator needs inputs and a lattice, and no histograms")
            names = [source.name for source in self.inputs]
            if len(set(names)) < len(names):
                raise ModelError(f"inputs need names of their own; they have {names}")
            for source in self.inputs:
                self.lattice.cells(source.gsd)
        elif self.kind == "lut":
            if self.histograms is None or self.inputs or self.lattice is not None:
                raise ModelError("a lut model needs histograms, and neither inputs nor a lattice")
        else:
            raise ModelError(f"kind={self.kind!r} is unknown; choose 'generator' or 'lut'")
        if not 0 <= self.min_valid_fraction <= 1:
            raise ModelError(
                f"min_valid_fraction={self.min_valid_fraction} is no share; give 0 to 1"
            )
        levels: object = self.levels
        if isinstance(levels, str):
            raise ModelError(f"levels={levels!r} is one text; give a tuple of levels")

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the model needs."""
        if self.histograms is not None:
            return self.histograms.bands
        return tuple(dict.fromkeys(name for source in self.inputs for name in source.bands))


def _require_bands(what: str, bands: Sequence[str], **numbers: tuple[float, ...]) -> None:
    """Raise `ModelError` unless bands are named once and every tuple has one finite number each."""
    if isinstance(bands, str) or not bands or len(set(bands)) < len(bands):
        raise ModelError(f"{what} needs bands, each named once; it has {bands!r}")
    for name, values in numbers.items():
        if len(values) != len(bands) or not all(-1e6 < value < 1e6 for value in values):
            raise ModelError(
                f"{what} needs {len(bands)} finite numbers for {name}; it has {values}"
            )
        if name == "scale" and not all(value > 0 for value in values):
            raise ModelError(f"{what} has a scale that is not positive: {values}")
