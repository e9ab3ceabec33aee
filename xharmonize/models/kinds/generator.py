"""The kind ``generator``: image to image, on a lattice of tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from xharmonize.errors import ModelError
from xharmonize.models.card import (
    OWN,
    Band,
    Bands,
    Call,
    Card,
    Domain,
    Matching,
    Metres,
    Number,
    Numbers,
    Part,
    Scales,
    Shapes,
    Sized,
    Within,
    Words,
    array,
    require_bands,
)
from xharmonize.models.lattice import MAX_SIDE, Lattice

CUBE = "cube"
"""The source that defines the dates of the result."""

DateRule: TypeAlias = Literal["same", "nearest", "before", "after", "reference"]
"""Which date of a further source goes with a date of the cube: that of the cube itself, the nearest
clear one, the nearest clear one before or after it, or the one that goes with the reference."""

Role: TypeAlias = Annotated[str, Matching(r"[a-z][a-z0-9_]{0,40}")]

PIXELS = {"cpu": 16 * 128**2, "cuda": 64 * 128**2}
"""Output pixels run at once by default; 16 tiles of 128 x 128 fill a CPU's matrix products."""


@dataclass(frozen=True, kw_only=True)
class Input(Part):
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
    source : str
        The cube that it is read from: ``"cube"``, the one that is harmonised, or a role such as
        ``"fine"``, ``"before"``, ``"sentinel1"``, by which the cube is given to the model.
    date : {"same", "nearest", "before", "after", "reference"}
        Which date of that source goes with a date of the cube. Cubes are given with these dates
        already chosen; it says how they are to be chosen.
    sensor : str
        Products that the source may be of, separated by ``|``; empty: any. What the cube itself may
        be of is the card's `source_sensor`.
    min_valid : float, optional
        Minimum valid fraction of an output pixel's own footprint in this input [1]; by default the
        card's.
    """

    name: Band
    bands: Bands
    gsd: Metres
    mean: Numbers
    scale: Scales
    phase: tuple[Number, Number] = (0.0, 0.0)
    source: Role = CUBE
    date: DateRule = "same"
    sensor: Words = ""
    min_valid: Annotated[float, Within(0, 1)] | None = None

    def check(self) -> None:
        """Refuse an input whose parts do not fit together."""
        require_bands(f"input {self.name!r}", self.bands, mean=self.mean, scale=self.scale)
        if any(not 0 <= edge < self.gsd for edge in self.phase):
            raise ModelError(
                f"input {self.name!r} has phase {self.phase}", cure="give two in [0, gsd)"
            )
        if self.source == CUBE and (self.date != "same" or self.sensor):
            raise ModelError(
                f"input {self.name!r} is of the cube itself, whose dates are those of the result",
                cure="name another source=, or leave date= and sensor= out; what the cube may be "
                "of is the card's source_sensor",
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Its bands, told apart from those of other sources: ``"red"``, ``"fine.red"``."""
        if self.source == CUBE:
            return self.bands
        return tuple(f"{self.source}.{band}" for band in self.bands)


@dataclass(frozen=True, kw_only=True)
class GeneratorCard(Card):
    """The card of a generator; see `Card` for the fields that all kinds have.

    Attributes
    ----------
    inputs : tuple of Input
        In the order in which the network takes them.
    lattice : Lattice
        Where tiles lie.
    source_domains : mapping of str to Domain
        Domain of the training data of each source but the cube, whose own is `domain`.
    """

    kind: ClassVar[str] = "generator"
    harmonizer: ClassVar[str] = "xharmonize.harmonizers.generator:GeneratorHarmonizer"
    in_inputs: ClassVar[frozenset[str]] = frozenset({"inputs"})
    optional: ClassVar[frozenset[str]] = Card.optional | {"source_domains"}
    inputs: Annotated[tuple[Input, ...], Sized(16, least=1)]
    lattice: Lattice
    source_domains: Annotated[Mapping[Role, Domain], Sized(15)] = field(
        default_factory=dict, repr=False
    )

    def check(self) -> None:
        """Refuse inputs that do not fit the lattice, or have one name."""
        super().check()
        names = [source.name for source in self.inputs]
        if len(set(names)) < len(names):
            raise ModelError(f"inputs have the names {names}", cure="give each a different one")
        for source in self.inputs:
            if self.lattice.tile * self.lattice.cells(source.gsd) > MAX_SIDE:
                raise ModelError(
                    f"input {source.name!r} has tiles of more than {MAX_SIDE} pixels a side",
                    cure="give a smaller tile",
                )
        for role in self.sources:
            rules = {(one.date, one.sensor) for one in self.inputs_of(role)}
            if len(rules) > 1:
                raise ModelError(
                    f"inputs of source {role!r} have other dates or sensors: {sorted(rules)}",
                    cure="name a source for each",
                )
        strange = sorted(set(self.source_domains) - set(self.sources[1:]))
        if strange:
            raise ModelError(
                f"there is a domain of {strange[0]!r}, which no input is read from",
                cure="leave it out of source_domains",
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The cubes that the model is applied to: ``"cube"``, and others by role."""
        return tuple(dict.fromkeys((CUBE, *(one.source for one in self.inputs))))

    @property
    def read_sources(self) -> tuple[str, ...]:
        """Those that inputs are read from: without ``"cube"`` where that gives the dates alone."""
        return tuple(role for role in self.sources if self.inputs_of(role))

    def inputs_of(self, role: str) -> tuple[Input, ...]:
        """The inputs that are read from one source."""
        return tuple(one for one in self.inputs if one.source == role)

    def bands_of(self, role: str) -> tuple[str, ...]:
        """Bands that a source needs."""
        return tuple(dict.fromkeys(name for one in self.inputs_of(role) for name in one.bands))

    def domain_of(self, role: str) -> Domain | None:
        """Domain of the training data of a source, where it is known."""
        return self.domain if role == CUBE else self.source_domains.get(role)

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands that the cube needs."""
        return self.bands_of(CUBE)

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Bands of all sources."""
        return tuple(dict.fromkeys(name for one in self.inputs for name in one.bands))

    def finest_of(self, role: str) -> Input:
        """The input with the finest pixels of a source, which its cube must have."""
        return min(self.inputs_of(role) or self.inputs, key=lambda one: one.gsd)

    @property
    def pixel(self) -> float:
        """Side of the cube's pixels [m]."""
        return self.finest_of(CUBE).gsd

    @property
    def network(self) -> dict[str, Any]:
        """Fields that a network is built from; domains tell only how far it may be trusted."""
        return {name: v for name, v in super().network.items() if name != "source_domains"}

    def slim(self) -> Self:
        """Without descriptive fields; the plan has the domains where they are wanted."""
        return replace(super().slim(), source_domains={})

    def magnified(self, factor: int) -> Self:
        """Return the card for pixels smaller by a factor, as after training on degraded ones.

        Everything keeps its place beside everything else: sizes of pixels, and distances from where
        the lattice begins, are divided by `factor`.
        """
        if factor == 1:
            return self
        lattice, share = self.lattice, Fraction(1, factor)
        inputs = []
        for one in self.inputs:
            edges = zip(one.phase, lattice.phase)
            x, y = (scaled_phase(edge, about, one.gsd, share) for edge, about in edges)
            inputs.append(replace(one, gsd=one.gsd / factor, phase=(x, y)))
        lattice = replace(lattice, resolution=lattice.resolution / factor)
        return replace(self, lattice=lattice, inputs=tuple(inputs))

    @property
    def reach(self) -> float:
        """Maximum distance that `around` extends a box on each side [m]."""
        return self.lattice.reach

    def around(self, bounds: Sequence[float]) -> tuple[float, float, float, float]:
        """Return the box that the network reads for a result in `bounds` [m]."""
        return self.lattice.around(bounds, [(one.gsd, one.phase) for one in self.inputs])

    @property
    def result(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape and dimensions of one tile."""
        side = self.lattice.tile
        return (len(self.output.bands), side, side), ("band", "height", "width")

    def write_inputs(self) -> list[dict[str, Any]]:
        """Return the inputs in the terms of the extension."""
        sides = [int(self.lattice.tile * self.lattice.cells(one.gsd)) for one in self.inputs]
        return [
            {
                "name": source.name,
                "bands": list(source.bands),
                "input": array((len(source.bands), side, side), ("band", "height", "width")),
                "value_scaling": [
                    {"type": "z-score", "mean": mean, "stddev": scale}
                    for mean, scale in zip(source.mean, source.scale)
                ],
                f"{OWN}gsd": source.gsd,
                f"{OWN}phase": list(source.phase),
                **_further(source),
            }
            for source, side in zip(self.inputs, sides)
        ]

    @classmethod
    def read_inputs(cls, entries: Any) -> dict[str, Any]:
        """Return the inputs, unchecked."""
        inputs = [
            {
                "name": entry["name"],
                "bands": entry["bands"],
                "gsd": entry[f"{OWN}gsd"],
                "phase": entry[f"{OWN}phase"],
                "mean": [scaling["mean"] for scaling in entry["value_scaling"]],
                "scale": [scaling["stddev"] for scaling in entry["value_scaling"]],
                **{name: entry[f"{OWN}{name}"] for name in FURTHER if f"{OWN}{name}" in entry},
            }
            for entry in entries
        ]
        return {"inputs": inputs}

    def n_at_once(self, device: str) -> int:
        """Tiles of `PIXELS` pixels together."""
        return max(1, PIXELS[device] // self.lattice.tile**2)

    def facts(self) -> dict[str, str]:
        """Pixel size and bands of each input, and the grid."""
        grid = self.lattice
        facts = {_read_as(source): " ".join(source.bands) for source in self.inputs}
        facts["grid"] = (
            f"{grid.resolution:g} m, edges at {grid.phase[0]:g}, {grid.phase[1]:g}; tiles of "
            f"{grid.tile} pixels, {grid.buffer} of them margin on each side ({grid.merge})"
        )
        return facts

    def _answer(self, shapes: Shapes) -> tuple[int, ...]:
        """One image of the window that all inputs cover."""
        channels = [len(source.bands) for source in self.inputs]
        if [shape[1] for shape in shapes] != channels:
            raise ModelError(
                f"{self.name!r} takes {channels} channels, the batch has shapes {list(shapes)}",
                cure="check the order of the inputs",
            )
        ratios = [self.lattice.cells(source.gsd) for source in self.inputs]
        sides = {
            tuple(divmod(side * ratio.denominator, ratio.numerator) for side in shape[2:])
            for shape, ratio in zip(shapes, ratios)
        }
        if len(sides) != 1 or any(rest for _, rest in min(sides)):
            raise ModelError(
                f"inputs of {self.name!r} do not cover one window",
                cure=f"the batch has shapes {list(shapes)}",
            )
        height, width = (whole for whole, _ in min(sides))
        return (shapes[0][0], len(self.output.bands), height, width)

    forward: ClassVar[Call] = Call(method="forward", answer=_answer)


def scaled_phase(edge: float, about: float, side: float, factor: Fraction | int) -> float:
    """Where edges of pixels lie once all is larger by a factor, about a point that stays [m].

    Parameters
    ----------
    edge, side : float
        Where an edge of a pixel lies, and its side, before.
    about : float
        The point.
    """
    new = side * float(factor)
    found = round((about + (edge - about) * float(factor)) % new, 6)
    return 0.0 if found >= new - 1e-6 else found


FURTHER = {"source": CUBE, "date": "same", "sensor": "", "min_valid": None}
"""Fields of an input that stand in the item where they are not these."""


def _further(source: Input) -> dict[str, Any]:
    values = {name: getattr(source, name) for name in FURTHER}
    return {f"{OWN}{name}": v for name, v in values.items() if v != FURTHER[name]}


def _read_as(source: Input) -> str:
    """What people are told of an input: ``"reads at 10 m of fine (nearest date)"``."""
    own = f"reads at {source.gsd:g} m"
    return own if source.source == CUBE else f"{own} of {source.source} ({source.date} date)"
