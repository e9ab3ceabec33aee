"""What the methods that fill clouds share: one block of whole series, ordered in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, read_contract, read_coordinate, with_history
from xharmonize.cube.origin import is_filled
from xharmonize.cube.whole import days_of, whole_series
from xharmonize.errors import BandError, FitError, ModelError, TimeAxisError
from xharmonize.fusion.structure import PARAMETERS, table_of
from xharmonize.harmonizers import base
from xharmonize.harmonizers.protocol import Checked, Fitted
from xharmonize.harmonizers.published import require_one_bandpass
from xharmonize.kernels import filling
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

Reference: TypeAlias = Literal["nearest", "before", "after"]
GAP = "gap"

SLAB = 2**14
"""Values of one date in flight at a time, so that intermediate arrays stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Filler(Fitted):
    """Estimates each value of a cube from other dates of the same pixel, never from itself.

    Attributes
    ----------
    reference : {"nearest", "before", "after"}
        Which clear dates count: those on both sides, earlier ones, later ones.
    max_gap : float
        Longest time to a clear date that is used [day].
    """

    reference: Reference = "nearest"
    max_gap: float = 60.0
    options: ClassVar[tuple[str, ...]] = ("flags", "reference", "max_gap")
    is_between: ClassVar[bool] = True
    """Whether clear dates on both sides count; else the nearest one."""

    citation = ""

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> Checked:
        """Refuse a cube that the fit was not made for; all of its dates are estimated.

        Raises
        ------
        ModelError
            If its dates have several bandpasses, or not that of the fit.
        BandError
            If it lacks a band of the fit.
        TimeAxisError
            If it has fewer than two dates.
        """
        array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
        steps = tuple(read_contract(array))
        if len(steps) < 2:
            raise TimeAxisError(
                f"filling needs other dates, the cube has {len(steps)}", cure="give more dates"
            )
        require_one_bandpass(array, what="fill_clouds")
        found = str(read_coordinate(array, "bandpass")[0])
        if self.source_bandpass and self.source_bandpass != found:
            raise ModelError(
                f"model {self.name!r} was fitted on {self.source_bandpass}, the cube is in {found}",
                cure="fit it on this cube, or harmonise the cube first",
            )
        lost = [band for band in map(str, array["band"].values) if band not in self.bands]
        if lost:
            raise BandError(
                f"model {self.name!r} was not fitted on band {', '.join(lost)}",
                cure=f"it has {', '.join(self.bands)}: select those, or fit it on this cube",
                value=lost,
            )
        return Checked(steps=steps, is_due=(True,) * len(steps))

    def changed(self, cube: xr.Dataset, checked: Checked, **others: Any) -> xr.Dataset:  # noqa: ARG002
        """Return estimates of all values, with their ``uncertainty``."""
        return self.estimated(cube, **others)[[REFLECTANCE, "uncertainty"]]

    def estimated(self, cube: xr.Dataset, **others: Any) -> xr.Dataset:
        """Estimate all values of a cube, lazily.

        Returns
        -------
        Dataset
            ``reflectance`` and ``uncertainty`` (time, band, y, x) [1]; ``gap`` (time, y, x), time
            to the nearest clear date that was used [day]; NaN where there is none.
        """
        array = base.decoded(cube[REFLECTANCE])
        seen = whole_series(observed(cube, array), whole=("time", "band"))
        days = days_of(seen)
        layers = self._layers(seen, others)
        n_bands = seen.sizes["band"]
        stack = map_blocks(
            partial(self._block, days=days),
            ",".join(["tbyx", *(["tkyx"] * len(layers)), *self._tables()]) + "->tcyx",
            seen.data,
            *layers,
            *self._parameters([str(band) for band in seen["band"].values]),
            new={"c": 2 * n_bands + 1},
            dtype=np.float32,
            name=f"fill-{self.name}",
        )
        attrs = with_history(array.attrs, f"{self.name}: estimated from other dates")
        value = seen.copy(data=stack[:, :n_bands]).assign_attrs(attrs)
        sigma = seen.copy(data=stack[:, n_bands:-1]).drop_attrs()
        gap = (("time", "y", "x"), stack[:, -1])
        return value.to_dataset(name=REFLECTANCE).assign({"uncertainty": sigma, GAP: gap})

    def _layers(self, cube: xr.DataArray, others: Mapping[str, Any]) -> list[Any]:  # noqa: ARG002
        """Further arrays (time, layer, y, x) that blocks take."""
        return []

    def _tables(self) -> list[str]:
        return ["bp"]

    def _parameters(self, bands: list[str]) -> list[Any]:
        """The fit of the bands, as blocks take it: lazy if the fit is."""
        return [self.fit["structure"].sel(band=bands).transpose("band", "parameter").data]

    def _block(self, values: AnyArray, *more: AnyArray, days: IntArray) -> FloatArray:
        """Estimate a block (time, band, y, x): values, deviations of each band, and gaps."""
        order = np.argsort(days, kind="stable")
        n_layers = len(more) - len(self._tables())
        flat = [one.reshape(*one.shape[:2], -1)[order] for one in (values, *more[:n_layers])]
        n_times, n_bands, n_pixels = flat[0].shape
        result = np.empty((n_times, 2 * n_bands + 1, n_pixels), np.float32)
        size = max(1, SLAB // n_bands)
        for start in range(0, n_pixels, size):
            part = slice(start, start + size)
            cut = [np.ascontiguousarray(one[:, :, part], np.float32) for one in flat]
            self._slab(*cut, *more[n_layers:], days=days[order], result=result[:, :, part])
        back = np.empty_like(result)
        back[order] = result
        return back.reshape(n_times, -1, *values.shape[2:])

    def _slab(
        self, values: FloatArray, *more: AnyArray, days: IntArray, result: FloatArray
    ) -> None:
        """Write the result (time, column, pixel) of values (time, band, pixel)."""
        steps = filling.neighbours(
            self._valid(values, *more),
            days,
            float(self.max_gap),
            self.reference != "after",
            self.reference != "before",
            self.is_between,
        )
        n_bands = values.shape[1]
        spread = table_of(np.asarray(more[-1], np.float64), self.max_gap)
        found = interpolated(values, steps, days, spread)
        gaps = gaps_of(steps, days)
        self._correct(found, steps, days, gaps, *more)
        result[:, :n_bands], result[:, n_bands:-1] = found
        result[:, -1] = gaps

    def _correct(self, found: FloatArray, steps: IntArray, days: IntArray, *more: Any) -> None:
        """Change estimates and deviations (2, time, band, pixel) in place; here not at all."""

    def _valid(self, values: FloatArray, *more: AnyArray) -> Any:  # noqa: ARG002
        """Which observations count: those valid in all bands."""
        return np.isfinite(values).all(axis=1)


def observed(cube: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """Return the values with NaN where an earlier step filled them: they are no observations."""
    filled = is_filled(cube, array)
    return array if filled is None else array.copy(data=array.where(~filled.variable).data)


def interpolated(
    values: FloatArray, steps: IntArray, days: IntArray, spread: Float64Array
) -> FloatArray:
    """Estimates and deviations (2, time, layer, pixel) from the steps (2, time, pixel) of each.

    Parameters
    ----------
    values : (time, layer, pixel) array
        What is interpolated.
    spread : (layer, lag) array
        Semivariogram of each layer.
    """
    found = np.empty((2, *values.shape), np.float32)
    at = np.maximum(steps, 0)
    for k in range(values.shape[1]):
        layer = np.ascontiguousarray(values[:, k])
        before, after = (np.take_along_axis(layer, one, axis=0) for one in at)
        found[:, :, k] = filling.interpolate(before, after, steps, days, spread[k])
    return found


def gaps_of(steps: IntArray, days: IntArray) -> FloatArray:
    """Days (time, pixel) to the nearer of two steps (2, time, pixel); NaN where there is none."""
    away = np.abs(days[np.maximum(steps, 0)] - days[:, None]).astype(np.float32)
    nearest = np.where(steps < 0, np.float32(np.inf), away).min(axis=0)
    return np.where(np.isinf(nearest), np.float32(np.nan), nearest)


def fit_coords(structure: Any, bands: list[str]) -> xr.Dataset:
    """A fit with the semivariogram of each band."""
    found = xr.DataArray(
        structure,
        dims=("band", "parameter"),
        coords={"band": bands, "parameter": list(PARAMETERS)},
        attrs={"long_name": "semivariogram in time, nugget + growth * days ** exponent"},
    )
    return found.to_dataset(name="structure")


def require_dates_to_fit(cube: xr.DataArray) -> None:
    """Raise `FitError` if there are too few dates to fit anything to."""
    if cube.sizes["time"] < 3:
        raise FitError(
            f"a fit needs at least 3 dates, the cube has {cube.sizes['time']}",
            cure="give more dates, or pass a fit of another place",
        )


def facts_of(cube: xr.DataArray, model: str) -> dict[str, Any]:
    """Attributes that say what a fit was made on."""
    names = {name: sorted(set(map(str, read_coordinate(cube, name)))) for name in _FACTS}
    facts = {f"source_{name}": "|".join(values) for name, values in names.items()}
    dates = [str(day) for day in cube["time"].values[[0, -1]].astype("datetime64[D]")]
    return {
        "model": model,
        **facts,
        "target_bandpass": facts["source_bandpass"],
        "dates": f"{cube.sizes['time']} from {dates[0]} to {dates[1]}",
    }


_FACTS = ("bandpass", "sensor", "level")
