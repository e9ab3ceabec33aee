"""What a fit reads from a Dataset of matched pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, read_coordinate, require_reflectance
from xharmonize.cube.geobox import require_same_grid
from xharmonize.errors import FitError, RadiometryError
from xharmonize.sensors import UNKNOWN, Names
from xharmonize.types import AnyArray, IntArray

_FIELDS = ("bandpass", "level", "platform", "sensor")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Matched pairs and what is known about them.

    Attributes
    ----------
    source, target : (pair, band, y, x) DataArray
        Reflectance [1] on one grid; NaN marks a missing pixel.
    source_time, target_time : (pair,) datetime64 array
        When the two were observed [UTC].
    facts : dict of str to str
        ``source_bandpass``, ``target_level``… : the values met, joined by `Names`.
    """

    source: xr.DataArray
    target: xr.DataArray
    source_time: Any
    target_time: Any
    facts: dict[str, str]

    @property
    def lag(self) -> IntArray:
        """Whole days between the two observations [day], (pair,).

        The gap rounded, not the difference of dates in UTC: over the Pacific midnight lies between
        two sensors of one morning.
        """
        gap = np.asarray(self.source_time) - np.asarray(self.target_time)
        return np.asarray(np.rint(np.abs(gap) / np.timedelta64(1, "D")), np.int64)

    @property
    def dates(self) -> list[str]:
        """Dates of the pairs, ``source/target``."""
        first, second = (
            np.datetime_as_string(np.asarray(time).astype("datetime64[D]"))
            for time in (self.source_time, self.target_time)
        )
        return [f"{a}/{b}" for a, b in zip(first, second)]


def read_pairs(
    pairs: xr.Dataset,
    *,
    predictors: xr.DataArray | xr.Dataset | None = None,
    allow_mixed_levels: bool = False,
) -> Pairs:
    """Check matched pairs and tell source from target.

    Parameters
    ----------
    pairs : Dataset
        As `xharmonize.match_pairs` gives it: ``source`` (pair, band, y, x) and ``target``
        (pair, band, y, x), with coordinates ``time_source``, ``time_target``, ``level_source``…
        along ``pair``. The source may have other bands, along ``source_band``.
    predictors : cube, optional
        Take the source from this cube instead, with all its bands, at ``time_source``.
    allow_mixed_levels : bool
        Accept pairs of which only one side is normalised to nadir view.

    Raises
    ------
    FitError
        If there are no pairs, or variables are missing.
    RadiometryError
        If only one side is normalised to nadir view (NBAR), or levels vary.
    """
    if not isinstance(pairs, xr.Dataset) or not {"source", "target"} <= set(pairs.data_vars):
        raise FitError(
            "a fit needs a Dataset with 'source' and 'target'; make one with "
            "xh.match_pairs(source, target, tolerance='2D')"
        )
    if not pairs.sizes.get("pair", 0):
        raise FitError("there are no pairs; allow more days with match_pairs(tolerance=...)")
    source, target = pairs["source"], pairs["target"]
    if predictors is not None:
        source = _looks(predictors, pairs)
    if "source_band" not in source.dims:
        source = source.rename(band="source_band")
    facts = {
        f"{side}_{field}": _values(pairs, f"{field}_{side}")
        for side in ("source", "target")
        for field in _FIELDS
    }
    if not allow_mixed_levels:
        _require_same_view(pairs)
    return Pairs(
        source=source.transpose("pair", "source_band", "y", "x"),
        target=target.transpose("pair", "band", "y", "x"),
        source_time=read_coordinate(pairs, "time_source"),
        target_time=read_coordinate(pairs, "time_target"),
        facts=facts,
    )


def _require_same_view(pairs: xr.Dataset) -> None:
    """Raise `RadiometryError` where one side of a pair is normalised to nadir view only."""
    sides = (_along_pairs(pairs, "level_source"), _along_pairs(pairs, "level_target"))
    for source, target in zip(*np.broadcast_arrays(*sides)):
        if source != target and "NBAR" in Names.of([source, target]):
            raise RadiometryError(
                f"the source is {source} and the target {target}: normalising one sensor of a "
                "pair only biases the fit; apply nbar to both, or pass allow_mixed_levels=True"
            )


def _looks(cube: xr.DataArray | xr.Dataset, pairs: xr.Dataset) -> xr.DataArray:
    """Time steps of a cube at the source times of the pairs: (pair, band, y, x)."""
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    require_reflectance(array)
    require_same_grid(array, pairs.assign_coords(spatial_ref=array["spatial_ref"]), what="a fit")
    place = {time: i for i, time in reversed(list(enumerate(array["time"].values)))}
    times = read_coordinate(pairs, "time_source")
    lost = [str(time)[:19] for time in times if time not in place]
    if lost:
        raise FitError(f"predictors= has no look at {lost[0]} and {len(lost) - 1} other times")
    looks = array.isel(time=[place[time] for time in times])
    bare = looks.drop_vars([n for n in looks.coords if n not in ("band", "y", "x")])
    return bare.rename(time="pair")


def _values(pairs: xr.Dataset, name: str) -> str:
    """Distinct values of a coordinate along the pairs, joined by `Names`."""
    return str(Names.of(_along_pairs(pairs, name)))


def _along_pairs(pairs: xr.Dataset, name: str) -> AnyArray:
    known = name in pairs.coords
    found: AnyArray = np.atleast_1d(read_coordinate(pairs, name) if known else UNKNOWN)
    return found
