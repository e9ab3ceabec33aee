"""Apply a trained image-to-image network lazily, on the lattice it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.companions import (
    COMPANIONS,
    ResultFlag,
    blank_missing,
    carry_companions,
    companions_of,
)
from xharmonize.cube.contract import (
    REFLECTANCE,
    REQUESTED_BOUNDS,
    select_bands,
)
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.cube.regrid import regrid_to
from xharmonize.harmonizers import base
from xharmonize.harmonizers.beside import beside_cube
from xharmonize.harmonizers.protocol import Checked, OfBundle
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.kinds.generator import CUBE
from xharmonize.models.lattice import Lattice
from xharmonize.models.refs import Runtime
from xharmonize.tiles.graph import Beside, run_plan
from xharmonize.tiles.place import make_plan, north_up, require_on_lattice


@dataclass(frozen=True, kw_only=True)
class GeneratorHarmonizer(OfBundle):
    """Apply the image-to-image network of a bundle over its lattice of tiles.

    The result is on the pixel grid of the lattice (for most models that of HLS), covers the cube,
    and does not depend on how the cube is chunked. Each tile is computed once, from the input
    pixels under it and its buffer. Pixels outside the cube are mirrored at its edge; missing ones
    take the nearest valid pixel of their row, or of the nearest row that has one. The result is NaN
    where the valid fraction of a pixel's own inputs is below `min_valid` in any band.

    Attributes
    ----------
    flags : bool
        Whether to return the companion ``flag`` (time, y, x), bits of `ResultFlag`:
        ``partial_context`` on all pixels of a tile that the cube does not fully contain;
        ``near_missing`` if an input pixel is missing within the lattice's buffer;
        ``out_of_domain`` if one of the pixel's inputs is outside the range of the training data, or
        the tile's histogram is farther from those of training than that of any training tile;
        ``skipped`` on tiles that were not run because a band is missing throughout or no output
        pixel would be valid.
    """

    card: GeneratorCard
    tells: ClassVar[ResultFlag] = (
        ResultFlag.OUT_OF_DOMAIN
        | ResultFlag.PARTIAL_CONTEXT
        | ResultFlag.SKIPPED
        | ResultFlag.NEAR_MISSING
    )

    def __post_init__(self) -> None:
        """Refuse a card of another kind."""
        GeneratorCard.of(self.card, "a generator")

    @property
    def changes_grid(self) -> bool:
        """True: the result is on the lattice's grid instead of the cube's."""
        return True

    @property
    def citation(self) -> str:
        """Title and digest of the bundle."""
        return f"{self.card.title}, sha256 {self.ref.digest[:12]}"

    @property
    def lattice(self) -> Lattice:
        """Lattice of tiles."""
        return self.card.lattice

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]
        """``"cube"``, and the roles of the other cubes it is given."""
        return self.card.sources

    def with_tile(self, tile: int) -> GeneratorHarmonizer:
        """Return the model with a larger tile and the same buffer, which costs less per pixel.

        Parameters
        ----------
        tile : int
            Side of a tile [output pixel], buffers included. A U-Net of depth d takes multiples of
            ``2**d``. Results differ from those of the model's own tile; the history states it.

        Raises
        ------
        ModelError
            If the tile has no core, or is not a whole number of pixels of an input.
        """
        return replace(self, card=replace(self.card, lattice=replace(self.lattice, tile=tile)))

    def changed(self, cube: xr.Dataset, checked: Checked, **others: Any) -> xr.Dataset:
        """Run the network on the dates that are not in the target bandpass."""
        keep = partial(_put_beside, min_valid=self.min_valid)
        cube = cube[[REFLECTANCE]]  # no network propagates uncertainty
        due = np.flatnonzero(checked.is_due)
        beside = {
            role: beside_cube(others[role], cube, self.card, role).isel(time=due)
            for role in self.sources[1:]
        }
        generate = partial(self._generate, beside=beside)
        return base.change_steps(cube, checked.is_due, generate, keep=keep)

    def _generate(self, cube: xr.Dataset, beside: Mapping[str, xr.DataArray]) -> xr.Dataset:
        """Run the network on all time steps of a reflectance cube."""
        array, is_turned = north_up(cube[REFLECTANCE])
        box = geobox_of(array)
        require_on_lattice(box, self.card)
        arrays = {CUBE: select_bands(array, self.card.bands), **beside}
        chunks = array.chunks
        plan, target = make_plan(
            box,
            array.attrs.get(REQUESTED_BOUNDS),
            self.card,
            self.ref,
            self.runtime or Runtime(),
            flags=self.flags,
            chunk=None if chunks is None else (max(chunks[2]), max(chunks[3])),
            beside={role: geobox_of(one) for role, one in beside.items()},
        )
        first, *more = plan.views
        data, bits = run_plan(
            arrays[first.role].data,
            plan,
            beside=[
                Beside(
                    array=arrays[view.role].data,
                    rows=view.rows,
                    columns=view.columns,
                    is_aligned=True,
                )
                for view in more
            ],
        )
        result = self._wrap(array, data, target).to_dataset(name=REFLECTANCE)
        if bits is not None:
            result = result.assign(flag=(("time", "y", "x"), bits))
        return result.isel(y=slice(None, None, -1)) if is_turned else result

    def _wrap(self, array: xr.DataArray, data: Any, target: GeoBox) -> xr.DataArray:
        """Wrap the pixels of the result with its coordinates and contract."""
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
            f"{lattice.phase[0]:g}, {lattice.phase[1]:g}{self._told_of(array)}"
        )
        made = base.Target(
            bandpass=self.target_bandpass, bands=bands, sources=tuple(sources), history=line
        )
        return write_grid(base.rebuild(blank, data, made), target)

    def _told_of(self, array: xr.DataArray) -> str:
        """What the history says of bands and sources."""
        others = self.sources[1:]
        beside = f"; beside it {', '.join(others)}" if others else ""
        return f"{base.drop_note(array, self.bands) if self.bands else ''}{beside}"

    def carried(
        self, cube: xr.Dataset, result: xr.Dataset, checked: Checked
    ) -> Mapping[str, xr.DataArray]:
        """Companions on the result's grid, except ``uncertainty``, which no network propagates."""
        names = [name for name in companions_of(cube) if COMPANIONS[name].over_bands is not None]
        layers = cube[names]
        if names:
            layers = _put_beside(layers, result[REFLECTANCE], min_valid=0.0)
        carried = carry_companions(
            layers,
            result["band"].values,
            sources=self.renamed(checked),
            is_changed=base.is_bandpass_changed(cube, result),
        )
        return blank_missing(carried, result[REFLECTANCE])


def _put_beside(rest: Any, changed: Any, *, min_valid: float) -> Any:
    """Put other time steps, or companions, on the grid and in the chunks of the result."""
    sizes = changed.reset_coords(drop=True).chunksizes
    within = (sizes["y"], sizes["x"]) if sizes else None
    result = regrid_to(rest, geobox_of(changed), min_valid=min_valid, within=within)
    return result.assign_coords({n: changed[n] for n in ("y", "x")})
