"""Apply a trained image-to-image network lazily, on the lattice it was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize._replace import Mode
from xharmonize.cube.companions import (
    COMPANIONS,
    blank_missing,
    carry_companions,
    companions_of,
    with_flags,
)
from xharmonize.cube.contract import (
    REFLECTANCE,
    REQUESTED_BOUNDS,
    on_reflectance,
    read_contract,
    require_bands,
    require_contract,
    select_bands,
)
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.cube.grid import regrid_to
from xharmonize.errors import ModelError, RadiometryError
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.tiles.graph import run_plan
from xharmonize.harmonizers.tiles.place import (
    make_plan,
    north_up,
    require_on_lattice,
)
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.lattice import Lattice
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.sensors import Names

FLAG = "flag"


@dataclass(frozen=True, kw_only=True)
class GeneratorHarmonizer:
    """A network of a bundle, mapped over its lattice of tiles.

    The result lies on the lattice's own pixel grid (for most models that of HLS), covers the cube,
    and does not depend on how the cube is chunked. Each tile is computed once, from the input
    pixels under it and its buffer. Pixels beyond the cube are mirrored at its edge; missing ones
    take the nearest valid pixel of their row, or the nearest row that has one. The result is NaN
    where the valid share of the pixel's own inputs, in any band, is less than
    `min_valid_fraction`.

    Attributes
    ----------
    ref : ModelRef
        Handle on the bundle.
    card : GeneratorCard
        What the bundle says of itself.
    flags : bool
        Also return the companion ``flag``, (time, y, x), bits of `ResultFlag`: ``partial_context``
        on all pixels of a tile that the cube does not hold wholly; ``near_missing`` where an input
        pixel is missing within the lattice's buffer; ``out_of_domain`` where an own input lies
        outside the range of the training data, or the tile's histogram farther from theirs than
        that of any training tile; ``skipped`` on tiles that were not run, since a band is missing
        throughout or nothing of what they would give is valid.
    runtime : Runtime, optional
        How workers run the network.
    """

    ref: ModelRef
    card: GeneratorCard
    flags: bool = False
    runtime: Runtime | None = field(default=None)

    def __post_init__(self) -> None:
        """Refuse a card of another kind."""
        GeneratorCard.of(self.card, "a generator")

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to; empty: any."""
        return self.card.source_bandpass

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the result."""
        return self.card.target_bandpass

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the network needs."""
        return self.card.bands

    @property
    def min_valid_fraction(self) -> float:
        """Least valid share of an output pixel's own inputs [1]."""
        return self.card.min_valid_fraction

    @property
    def changes_grid(self) -> bool:
        """It goes from the cube's own pixels to the lattice's."""
        return True

    @property
    def citation(self) -> str:
        """Title and digest of the bundle."""
        return f"{self.card.title}, sha256 {self.ref.digest[:12]}"

    @property
    def lattice(self) -> Lattice:
        """Where tiles lie."""
        return self.card.lattice

    def with_tile(self, tile: int) -> GeneratorHarmonizer:
        """Return the model with a larger tile and the buffer it has: less work for a pixel.

        Parameters
        ----------
        tile : int
            Output pixels a side, buffers included. A U-Net of depth d takes multiples of ``2**d``.
            The result differs from that of the model's own tile, which is part of its history.

        Raises
        ------
        ModelError
            If it has no core, or is no whole number of pixels of an input.
        """
        return replace(self, card=replace(self.card, lattice=replace(self.lattice, tile=tile)))

    def save(self, path: str | os.PathLike[str], *, mode: Mode = "w-") -> ModelRef:
        """Write the bundle to a folder, a new one, or with ``"w"`` in place of a bundle.

        A model that was given another tile is written with it.
        """
        from xharmonize.models.bundle import copy_bundle

        return copy_bundle(self.ref, path, card=self.card, mode=mode)

    def __call__(self, cube: Any, /) -> Any:
        """Return the cube in the target's bandpass, on the lattice's grid; lazy.

        Type out = type in, or a Dataset with `flags`.

        Raises
        ------
        ContractError, RadiometryError, BandError, ModelError
            If the cube does not say what its numbers mean, or is not what the model was made for.
        GridError
            If its pixels are not those of the lattice.
        """
        require_contract(cube)
        flags: list[xr.DataArray] = []
        apply = partial(self._apply, flags=flags)
        if isinstance(cube, xr.DataArray):
            result = apply(cube)
            if not self.flags:
                return result
            return result.to_dataset(name=REFLECTANCE).assign({FLAG: flags[0]})
        whole = on_reflectance(cube, apply, carry=False)
        return whole.assign(self._companions(cube, whole, flags))

    def _apply(self, array: xr.DataArray, *, flags: list[xr.DataArray]) -> xr.DataArray:
        """Change the steps that are in another bandpass; `flags` gets their layer."""
        is_foreign = self._foreign(array)
        array = blocks.decoded(array.transpose("time", "band", "y", "x"))
        keep = partial(_put_beside, min_valid=self.min_valid_fraction)
        change = partial(self._generate, flags=flags)
        result = blocks.change_steps(array, is_foreign, change, keep=keep)
        if self.flags:
            layer = flags.pop() if flags else _no_flags(result)
            flags.append(layer.reindex(time=result["time"], fill_value=0).astype(np.uint8))
        return result

    def _foreign(self, array: xr.DataArray) -> list[bool]:
        """Which steps are to be changed; raises where one is not what the model was made for."""
        card = self.card
        is_foreign = blocks.foreign_steps(
            array,
            source_bandpass=card.source_bandpass,
            target_bandpass=card.target_bandpass,
            source_sensor=card.source_sensor,
            name=card.name,
        )
        for step, foreign in zip(read_contract(array), is_foreign):
            if not foreign:
                continue
            if card.source_sensor and not Names.of(step.sensor) <= Names.of(card.source_sensor):
                raise ModelError(
                    f"model {card.name!r} was trained on {card.source_sensor}, item "
                    f"{step.item_id!r} is {step.sensor}; choose a model for that sensor"
                )
            if not Names.of(step.level).fit(Names.of(card.levels)):
                raise RadiometryError(
                    f"model {card.name!r} was trained on {Names.of(card.levels)} reflectance, item "
                    f"{step.item_id!r} is {step.level}; choose a model for that level"
                )
        if any(is_foreign):
            require_bands(array, card.bands, what=f"model {card.name!r}")
        return is_foreign

    def _generate(self, array: xr.DataArray, *, flags: list[xr.DataArray]) -> xr.DataArray:
        """Run the network over all steps of a cube of reflectance."""
        array, is_turned = north_up(array)
        source = select_bands(array, self.card.bands)
        box = geobox_of(array)
        require_on_lattice(box, self.card)
        chunks = source.chunks
        plan, target = make_plan(
            box,
            array.attrs.get(REQUESTED_BOUNDS),
            self.card,
            self.ref,
            self.runtime or Runtime(),
            flags=self.flags,
            chunk=None if chunks is None else (max(chunks[2]), max(chunks[3])),
        )
        data, bits = run_plan(source.data, plan)
        result = self._wrap(array, data, target)
        if bits is not None:
            layer = xr.DataArray(
                bits,
                dims=("time", "y", "x"),
                coords={"time": result["time"]},
                attrs=COMPANIONS[FLAG].attrs,
            )
            layer = write_grid(layer, target)
            flags.append(layer.isel(y=slice(None, None, -1)) if is_turned else layer)
        return result.isel(y=slice(None, None, -1)) if is_turned else result

    def _wrap(self, array: xr.DataArray, data: Any, target: GeoBox) -> xr.DataArray:
        """Give pixels the coordinates and the contract that now hold."""
        bands = self.card.output.bands
        shape = (*array.shape[:2], *target.shape)
        blank = xr.DataArray(
            da.zeros(shape, np.float32, chunks=shape),
            dims=array.dims,
            coords={n: c for n, c in array.coords.items() if not {"y", "x"} & set(c.dims)},
            name=array.name,
            attrs={n: v for n, v in array.attrs.items() if n != REQUESTED_BOUNDS},
        )
        lattice = self.lattice
        sources = [name if name in array["band"].values else "" for name in bands]
        line = (
            f"{self.name}: {self.source_bandpass or 'any bandpass'} to {self.target_bandpass}, "
            f"network {self.ref.digest[:12]} on tiles of {lattice.tile} pixels of "
            f"{lattice.resolution:g} m, buffer {lattice.buffer}, {lattice.merge}, phase "
            f"{lattice.phase[0]:g}, {lattice.phase[1]:g}{blocks.drop_note(array, self.bands)}"
        )
        made = blocks.Target(
            bandpass=self.target_bandpass, bands=bands, sources=tuple(sources), history=line
        )
        return write_grid(blocks.rebuild(blank, data, made), target)

    def _companions(
        self, cube: xr.Dataset, result: xr.Dataset, flags: Sequence[xr.DataArray]
    ) -> dict[str, xr.DataArray]:
        """Companions on the result's grid, but ``uncertainty``, which no network propagates."""
        names = [name for name in companions_of(cube) if COMPANIONS[name].over_bands is not None]
        layers = cube[names]
        if names:
            layers = _put_beside(layers, result[REFLECTANCE], min_valid=0.0)
        carried = carry_companions(
            layers,
            result["band"].values,
            sources={},
            is_changed=blocks.is_bandpass_changed(cube, result),
        )
        carried = blank_missing(carried, result[REFLECTANCE])
        if flags:
            carried[FLAG] = with_flags(carried.get(FLAG), flags[0])
        return carried


def _put_beside(rest: Any, changed: xr.DataArray, *, min_valid: float) -> Any:
    """Put other steps, or companions, on the grid and in the chunks of what was generated."""
    sizes = changed.chunksizes
    within = (sizes["y"], sizes["x"]) if sizes else None
    result = regrid_to(rest, geobox_of(changed), min_valid=min_valid, within=within)
    return result.assign_coords({n: changed[n] for n in ("y", "x")})


def _no_flags(result: xr.DataArray) -> xr.DataArray:
    """The layer of steps that are in the target's bandpass already."""
    layer = xr.zeros_like(result.isel(band=0, drop=True), dtype=np.uint8)
    kept = {n: c for n, c in layer.coords.items() if n in ("time", "y", "x", "spatial_ref")}
    return xr.DataArray(layer.data, dims=layer.dims, coords=kept, attrs=COMPANIONS[FLAG].attrs)
