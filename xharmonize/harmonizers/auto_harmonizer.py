"""Apply a fit of `xharmonize.harmonizers.fit_auto`, or the table that it falls back to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, read_coordinate, select_bands, with_history
from xharmonize.cube.orbits import orbit_groups
from xharmonize.cube.platforms import MEAN_PLATFORM, settle_platform
from xharmonize.cube.regrid import regrid
from xharmonize.errors import ModelError, RadiometryWarning, warn
from xharmonize.harmonizers import base
from xharmonize.harmonizers.linear import LinearHarmonizer, apply_matrix_fit, require_pixel_size
from xharmonize.harmonizers.protocol import Checked, Fitted
from xharmonize.harmonizers.published import BandpassHarmonizer
from xharmonize.sensors import UNKNOWN
from xharmonize.sensors.bandpass import get_table
from xharmonize.types import AnyArray

AUTO = "auto"
MEMBERS = ("linear", "log")
"""Fits whose mean is the estimate."""


def published(table: str, target: str) -> BandpassHarmonizer:
    """A published table in the direction of a bandpass."""
    found = BandpassHarmonizer(table=get_table(table))
    return found if found.target_bandpass == target else found.inverse()


def settled(cube: base.Cube) -> base.Cube:
    """The cube with unknown Sentinel-2 platforms taken as the mean of 2A and 2B."""
    names = [read_coordinate(cube, name) for name in ("platform", "sensor", "item_id")]
    if not (names[0] == UNKNOWN).any():
        return cube
    found = settle_platform(
        MEAN_PLATFORM,
        platforms=list(map(str, names[0])),
        sensors=list(map(str, names[1])),
        times=cube["time"].values,
        item_ids=list(map(str, names[2])),
        latitudes=np.nan,
    )
    return cube.assign_coords(platform=("time", np.array(found, dtype=str)))


def apply_members(fit: xr.Dataset, array: xr.DataArray) -> Any:
    """Mean of the members (time, band, y, x); the linear one where others have no value."""
    parts = [apply_matrix_fit(member_of(fit, name), array) for name in MEMBERS]
    return map_blocks(
        _mean_block, "tbyx,tbyx->tbyx", *parts, dtype=np.float32, name="harmonize-auto"
    )


def _mean_block(linear: AnyArray, other: AnyArray) -> AnyArray:
    return np.asarray(np.where(np.isfinite(other), (linear + other) / 2, linear), np.float32)


def member_of(fit: xr.Dataset, name: str) -> xr.Dataset:
    """One member as a fit of `fit_linear`."""
    keep = ["matrix", "intercept", *(["lowest"] if name == "log" else [])]
    part = fit[keep].sel(member=name, drop=True)
    return part.assign_attrs({**fit.attrs, "scale": name, "method": AUTO})


@dataclass(frozen=True, kw_only=True)
class AutoHarmonizer(Fitted):
    """Apply a fit of `fit_auto`, on the grid of the target.

    Attributes
    ----------
    uncertainty : bool
        Whether to add the companion ``uncertainty``: the level of a date (``between``) and pixels
        within it (``within``) in quadrature, with that which the cube had.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "uncertainty")
    name: str = AUTO
    citation: str = "fitted on the pairs named in its attribute dates"
    uncertainty: bool = False

    @property
    def uses(self) -> str:
        """``"auto"``, or the published table it falls back to."""
        return str(self.fit.attrs["uses"])

    @property
    def _table(self) -> BandpassHarmonizer | None:
        return None if self.uses == AUTO else published(self.uses, self.target_bandpass)

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands of the fit, or of the table."""
        table = self._table
        return self._axis("source_band") if table is None else table.bands

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Target bands of the fit, or of the table."""
        table = self._table
        return self._axis("band") if table is None else table.target_bands

    @property
    def needs_all_bands(self) -> bool:
        """Whether it is the fit, and not the table."""
        return self.uses == AUTO

    @property
    def min_valid(self) -> float:
        """Minimum valid fraction of a target pixel [1] when regridding first."""
        return 0.5 if self.uses == AUTO else 1.0

    def on_grid(self, cube: Any, **grid: Any) -> Any:
        """Regrid with the point spread and the shifts of the fit; warn if there is no grid."""
        if all(value is None for value in grid.values()):
            return self._as_it_is(cube)
        step = partial(regrid, cube, min_valid=self.min_valid, **grid)
        if self.uses != AUTO:
            return step()
        return step(psf=float(self.fit.attrs["psf"]), shifts=self._shifts(cube))

    def _as_it_is(self, cube: Any) -> Any:
        """The cube, which must be prepared as the pairs were: nothing of that is done here."""
        is_due = read_coordinate(cube, "bandpass") != self.target_bandpass
        psf, is_moved = float(self.fit.attrs["psf"]), "shift_x" in self.fit
        if self.uses != AUTO or not is_due.any() or not (psf or is_moved):
            return cube
        array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
        require_pixel_size(self.fit, array)
        parts = [f"a point spread of {psf:g} m"] * bool(psf) + ["shifts of dates"] * is_moved
        note = f"{self.name}: on the cube's own grid, without {' and '.join(parts)} of its fit"
        warn(
            f"{note}: unless the cube was regridded with these, its dates are sharper or lie "
            "elsewhere than those of the pairs; pass like= with a cube on the target's grid, and "
            "the source as it was opened",
            RadiometryWarning,
        )
        noted = array.assign_attrs(with_history(array.attrs, note))
        return noted if isinstance(cube, xr.DataArray) else cube.assign({REFLECTANCE: noted})

    def _shifts(self, cube: Any) -> xr.Dataset | None:
        """Shift of each date: its own, that of its platform and orbit, or the mean of all."""
        if "shift_x" not in self.fit:
            return None
        own = np.stack([self.fit[f"shift_{axis}"].values for axis in "xy"], axis=-1)
        known = dict(zip(self.fit["time"].values.astype("datetime64[ns]").tolist(), own))
        groups = np.stack([self.fit[f"group_{axis}"].values for axis in "xy"], axis=-1)
        by_group = dict(zip(self.fit["group"].values.astype(str).tolist(), groups))
        mean = own.mean(axis=0)
        times = cube["time"].values.astype("datetime64[ns]").tolist()
        found = np.array(
            [
                known.get(time, by_group.get(str(group), mean))
                for time, group in zip(times, orbit_groups(cube))
            ]
        ).reshape(-1, 2)
        is_there = read_coordinate(cube, "bandpass") == self.target_bandpass
        found = np.where(is_there[:, None], 0.0, found)
        layers = {f"shift_{axis}": ("time", found[:, k]) for k, axis in enumerate("xy")}
        return xr.Dataset(layers, coords={"time": cube["time"].values})

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply the members, or the table."""
        if self.uncertainty and np.isnan(self.fit["between"].values).any():
            raise ModelError(
                f"{self.name} was fitted on one date: how dates differ is unknown",
                cure="leave uncertainty= out, or fit on more dates",
            )
        table = self._table
        if table is not None:
            known = settled(cube)
            result = table.changed(known, table.check(known))
            note = f"{self.name} falls back to {self.uses}: {self.fit.attrs['history']}"
            result[REFLECTANCE].attrs = with_history(result[REFLECTANCE].attrs, note)
            return self._with_uncertainty(result, np.array(checked.is_due))
        return base.change_steps(cube, checked.is_due, self._map, keep=self._kept)

    def _map(self, cube: xr.Dataset) -> xr.Dataset:
        array = cube[REFLECTANCE]
        sources = list(self.bands)
        data = apply_members(self.fit, select_bands(array, sources))
        target = base.Target(
            bandpass=self.target_bandpass,
            bands=self.target_bands,
            sources=self.target_bands,
            history=f"{self.fit.attrs['history']}{base.drop_note(array, sources)}",
        )
        result = base.rebuild(array, data, target).to_dataset(name=REFLECTANCE)
        if base.UNCERTAINTY in cube:
            linear = LinearHarmonizer(fit=member_of(self.fit, "linear"))
            due = np.ones(array.sizes["time"], bool)
            result = linear.with_uncertainty(cube, result[REFLECTANCE], due)
        return self._with_uncertainty(result, np.ones(array.sizes["time"], bool))

    def _with_uncertainty(self, result: xr.Dataset, is_due: AnyArray) -> xr.Dataset:
        """Add the model's own uncertainty where it is asked for, missing where the value is."""
        if not self.uncertainty:
            return result
        array = result[REFLECTANCE]
        names = [str(name) for name in array["band"].values]
        between, within = (
            self.fit[name].sel(band=names).values.astype(float) for name in ("between", "within")
        )
        square = np.where(is_due[:, None], between**2 + within**2, 0.0)[:, :, None, None]
        if base.UNCERTAINTY in result:
            square = square + result[base.UNCERTAINTY] ** 2
        sigma = (array * 0 + square) ** 0.5
        attrs = {
            "long_name": "one standard deviation",
            "units": "1",
            "between": between.tolist(),
            "within": within.tolist(),
            "comment": "between: level of a date, one pattern of all bands; within: pixels of a "
            "date; estimated on dates left out",
        }
        return result.assign({base.UNCERTAINTY: sigma.astype(np.float32).assign_attrs(attrs)})

    def _kept(self, rest: xr.Dataset, changed: xr.Dataset) -> xr.Dataset:
        """Dates that are in the target's bandpass have no uncertainty of the model."""
        if base.UNCERTAINTY not in changed or base.UNCERTAINTY in rest:
            return rest
        return rest.assign({base.UNCERTAINTY: rest[REFLECTANCE] * np.float32(0)})
