"""What methods of sharpening share: their base class, and the steps between the two grids.

A method is a harmoniser whose first source is the coarse cube. Its other sources are cubes on the
same time axis and on their own grid, named by their role (`xharmonize.fusion.sharpen.ROLES`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, read_contract, require_reflectance
from xharmonize.cube.geobox import crs_name, describe_grid, geobox_of, is_same_crs
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, GridError
from xharmonize.harmonizers import base
from xharmonize.harmonizers.protocol import Base, Checked
from xharmonize.types import AnyArray

Grid = TypeVar("Grid", xr.DataArray, GeoBox)

MIN_SEEN = 0.5
"""Least part of a coarse pixel that is known of the fine image, where that is degraded [1]."""


@dataclass(frozen=True, kw_only=True)
class Sharpener(Base):
    """Base class of methods that bring a coarse cube to a finer grid, lazily.

    The result follows the bandpass of the coarse cube. It is NaN where the coarse pixel under it
    is missing; what else it needs, a method says.

    Attributes
    ----------
    like : (time, band, y, x) DataArray
        Whose grid and chunks the result has.
    psf : float
        Standard deviation [m] of the Gaussian that blurs the area a coarse pixel sees.
    shifts : Dataset, optional
        ``shift_x``, ``shift_y`` [m] along ``time``: how far east and north of the fine cubes the
        content of each coarse date lies.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "like", "psf", "shifts")
    sources: ClassVar[tuple[str, ...]] = ("cube", "fine")
    needs_like_bands: ClassVar[bool] = False
    """Whether a band is sharpened by the same band of the fine cube only."""
    like: xr.DataArray | None = None
    psf: float = 0.0
    shifts: xr.Dataset | None = None
    source_bandpass: str = ""
    target_bandpass: str = ""
    bands: tuple[str, ...] = ()
    min_valid: float = 0.0
    changes_grid: bool = True
    citation: str = ""

    @abstractmethod
    def sharpened(self, coarse: xr.DataArray, **sources: xr.DataArray) -> Any:
        """Return the coarse cube on the fine grid.

        Parameters
        ----------
        coarse : (time, band, y, x) DataArray
            Reflectance [1], NaN where missing.
        **sources : (time, band, y, x) DataArray
            The other `sources` on the same dates, each on its own grid, NaN where missing. Of a
            method that `needs_like_bands` they have the bands of `coarse`, in its order.

        Returns
        -------
        (time, band, y, x) array
            Reflectance [1] in the bands of `coarse`, on the grid of `like`; NaN where unknown.
        """

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> Checked:
        """Accept any cube with a contract: a change of pixels fits all bandpasses and levels."""
        steps = tuple(read_contract(cube))
        return Checked(steps=steps, is_due=(True,) * len(steps))

    def changed(self, cube: xr.Dataset, checked: Checked, **others: Any) -> xr.Dataset:  # noqa: ARG002
        """Sharpen the reflectance of all dates."""
        coarse = base.decoded(cube[REFLECTANCE]).transpose("time", "band", "y", "x")
        like = self._grid(others)
        if self.needs_like_bands:
            coarse, others = with_like_bands(coarse, others, what=self.name)
        data = self.sharpened(coarse, **others)
        result = on_grid(coarse, masked(data, coarse, like, self.shifts), like)
        return result.to_dataset(name=REFLECTANCE)

    def carried(
        self,
        cube: xr.Dataset,  # noqa: ARG002
        result: xr.Dataset,  # noqa: ARG002
        checked: Checked,  # noqa: ARG002
    ) -> Mapping[str, xr.DataArray]:
        """None: `xharmonize.sharpen` brings companions to the fine grid, whatever the method."""
        return {}

    def _grid(self, others: Mapping[str, Any]) -> xr.DataArray:
        like = next(iter(others.values()), None) if self.like is None else self.like
        if not isinstance(like, xr.DataArray):
            raise GridError(
                f"model {self.name!r} needs a grid to sharpen to",
                cure="call xh.sharpen(cube, fine), or give it with like=",
            )
        return like


def with_like_bands(
    coarse: xr.DataArray, others: Mapping[str, xr.DataArray], *, what: str
) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    """Select the bands that all cubes have, in the order of the coarse one.

    Raises
    ------
    BandError
        If there are none.
    """
    held = [{str(band) for band in one["band"].values} for one in others.values()]
    names = [str(band) for band in coarse["band"].values]
    common = [name for name in names if all(name in one for one in held)]
    if not common:
        raise BandError(
            f"model {what!r} needs bands that all cubes have: the coarse cube has {names}",
            cure=f"the fine one {sorted(set().union(*held))}; rename bands that are alike with "
            "cube.assign_coords(band=[...]), or choose model='atprk', which takes any bands",
        )
    chosen = {name: one.sel(band=common) for name, one in others.items()}
    return coarse.sel(band=common), chosen


def upsampled(
    coarse: xr.DataArray, like: xr.DataArray, shifts: xr.Dataset | None = None
) -> xr.DataArray:
    """Interpolate a coarse cube bilinearly to a fine grid, lazily.

    At the edge of what is valid the nearest valid values are kept; see `masked` for what lies under
    missing pixels.
    """
    found: xr.DataArray = regrid(coarse, like=like, method="bilinear", min_valid=0, shifts=shifts)
    return found


def masked(
    data: Any, coarse: xr.DataArray, like: xr.DataArray, shifts: xr.Dataset | None = None
) -> Any:
    """Set to NaN what lies under missing pixels of the coarse cube, lazily."""
    there = regrid(coarse, like=like, method="nearest", min_valid=0, shifts=shifts)
    return map_blocks(
        _where_valid, "tbyx,tbyx->tbyx", data, there.data, dtype=np.float32, name="sharpen-mask"
    )


def _where_valid(values: AnyArray, there: AnyArray) -> AnyArray:
    return np.where(np.isfinite(there), values, np.float32(np.nan)).astype(np.float32, copy=False)


def on_grid(coarse: xr.DataArray, data: Any, like: xr.DataArray) -> xr.DataArray:
    """Wrap pixels on a fine grid with the dates, bands and contract of the coarse cube."""
    keep = {n: c for n, c in coarse.coords.items() if not {"y", "x"} & set(c.dims)}
    keep |= {name: like[name] for name in ("y", "x", "spatial_ref")}
    return xr.DataArray(
        data, dims=("time", "band", "y", "x"), coords=keep, name=REFLECTANCE, attrs=coarse.attrs
    )


def require_finer(coarse: xr.DataArray, fine: xr.DataArray, *, what: str) -> None:
    """Raise `GridError` unless the grid of `fine` is finer, in the same CRS, and north up."""
    require_reflectance(coarse)
    one, other = geobox_of(coarse), geobox_of(fine)
    if not is_same_crs(one.crs, other.crs):
        raise GridError(
            f"{what} needs one CRS: the cube is in {crs_name(one.crs)}, the fine one in "
            f"{crs_name(other.crs)}",
            cure="open both with the same crs=, or call cube.harmonize.regrid(crs="
            f"{crs_name(other.crs)!r}, resolution={abs(one.affine.a):g})",
        )
    steps = [(abs(box.affine.e), abs(box.affine.a)) for box in (one, other)]
    if not all(b < a * 0.999 for a, b in zip(*steps)):
        raise GridError(
            f"the grid to sharpen to ({describe_grid(other)}) is not finer than the cube's "
            f"({describe_grid(one)})",
            cure="open the cubes at their own pixel sizes, without resolution=; a cube that was "
            "regridded before holds no more than it did",
        )
