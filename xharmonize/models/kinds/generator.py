"""The kind ``generator``: image to image, on a lattice of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from xharmonize.errors import ModelError
from xharmonize.models.card import (
    OWN,
    Band,
    Bands,
    Call,
    Card,
    Metres,
    Number,
    Numbers,
    Part,
    Scales,
    Shapes,
    Sized,
    array,
    require_bands,
)
from xharmonize.models.lattice import MAX_SIDE, Lattice

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
    """

    name: Band
    bands: Bands
    gsd: Metres
    mean: Numbers
    scale: Scales
    phase: tuple[Number, Number] = (0.0, 0.0)

    def check(self) -> None:
        """Refuse an input whose parts do not fit together."""
        require_bands(f"input {self.name!r}", self.bands, mean=self.mean, scale=self.scale)
        if any(not 0 <= edge < self.gsd for edge in self.phase):
            raise ModelError(
                f"input {self.name!r} has phase {self.phase}", cure="give two in [0, gsd)"
            )


@dataclass(frozen=True, kw_only=True)
class GeneratorCard(Card):
    """The card of a generator; see `Card` for the fields that all kinds have.

    Attributes
    ----------
    inputs : tuple of Input
        In the order in which the network takes them.
    lattice : Lattice
        Where tiles lie.
    """

    kind: ClassVar[str] = "generator"
    harmonizer: ClassVar[str] = "xharmonize.harmonizers.generator:GeneratorHarmonizer"
    in_inputs: ClassVar[frozenset[str]] = frozenset({"inputs"})
    inputs: Annotated[tuple[Input, ...], Sized(16, least=1)]
    lattice: Lattice

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

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the model needs."""
        return tuple(dict.fromkeys(name for source in self.inputs for name in source.bands))

    @property
    def finest(self) -> Input:
        """The input with the finest pixels, which the cube must have."""
        return min(self.inputs, key=lambda source: source.gsd)

    @property
    def pixel(self) -> float:
        """Side of the cube's pixels [m]."""
        return self.finest.gsd

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
        facts = {f"reads at {source.gsd:g} m": " ".join(source.bands) for source in self.inputs}
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
        sides = {tuple(side / ratio for side in shape[2:]) for shape, ratio in zip(shapes, ratios)}
        if len(sides) != 1 or any(side.denominator != 1 for side in min(sides)):
            raise ModelError(
                f"inputs of {self.name!r} do not cover one window",
                cure=f"the batch has shapes {list(shapes)}",
            )
        height, width = map(int, min(sides))
        return (shapes[0][0], len(self.output.bands), height, width)

    forward: ClassVar[Call] = Call(method="forward", answer=_answer)
