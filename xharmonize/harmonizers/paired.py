"""What fits of all kinds read from matched pairs, and say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    read_coordinate,
    require_reflectance,
    suggest_names,
)
from xharmonize.cube.geobox import require_same_grid
from xharmonize.cube.pairs import on_target_grid
from xharmonize.errors import BandError, FitError, RadiometryError
from xharmonize.sensors import UNKNOWN, Names
from xharmonize.types import AnyArray, IntArray

_FIELDS = ("bandpass", "level", "platform", "sensor")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Matched pairs and their metadata.

    Attributes
    ----------
    source, target : (pair, band, y, x) DataArray
        Reflectance [1] on one grid; NaN where missing.
    source_time, target_time : (pair,) datetime64 array
        Times of the two observations [UTC].
    facts : dict of str to str
        ``source_bandpass``, ``target_level``… : the values found, joined by `Names`.
    """

    source: xr.DataArray
    target: xr.DataArray
    source_time: Any
    target_time: Any
    facts: dict[str, str]

    def take(self, index: IntArray) -> Pairs:
        """Return some of the pairs."""
        source, target = self.source.isel(pair=index), self.target.isel(pair=index)
        times = np.asarray(self.source_time)[index], np.asarray(self.target_time)[index]
        return replace(
            self, source=source, target=target, source_time=times[0], target_time=times[1]
        )

    @property
    def lag(self) -> IntArray:
        """Whole days between the two observations [day], (pair,).

        The rounded time difference rather than the difference of UTC dates: over the Pacific,
        midnight UTC can lie between two observations of one morning.
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
    pairs: xr.Dataset | xr.DataTree,
    *,
    predictors: xr.DataArray | xr.Dataset | None = None,
    allow_mixed_levels: bool = False,
) -> Pairs:
    """Check matched pairs and separate source and target.

    Parameters
    ----------
    pairs : Dataset or DataTree
        From `xharmonize.match_pairs`: ``source`` (pair, band, y, x) and ``target``
        (pair, band, y, x), with coordinates ``time_source``, ``time_target``, ``level_source``…
        along ``pair``. The source may have other bands, along ``source_band``. Pairs from
        `xharmonize.collect_pairs` are brought to the grid of the target.
    predictors : cube, optional
        Cube to take the source from instead, with all its bands, at ``time_source``.
    allow_mixed_levels : bool
        Whether to accept pairs with only one side normalised to nadir view.

    Raises
    ------
    FitError
        If there are no pairs, or variables are missing.
    RadiometryError
        If only one side is normalised to nadir view (NBAR), or levels vary.
    """
    if isinstance(pairs, xr.DataTree):
        pairs = on_target_grid(pairs)
    if not isinstance(pairs, xr.Dataset) or not {"source", "target"} <= set(pairs.data_vars):
        raise FitError(
            "a fit needs a Dataset with 'source' and 'target'",
            cure="make one with xh.match_pairs(source, target, tolerance='2D')",
        )
    if not pairs.sizes.get("pair", 0):
        raise FitError("there are no pairs", cure="allow more days with match_pairs(tolerance=...)")
    source, target = pairs["source"], pairs["target"]
    if predictors is not None:
        source = _observations(predictors, pairs)
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
    """Raise `RadiometryError` if only one side of a pair is normalised to nadir view."""
    sides = (_along_pairs(pairs, "level_source"), _along_pairs(pairs, "level_target"))
    for source, target in zip(*np.broadcast_arrays(*sides)):
        if source != target and "NBAR" in Names.of([source, target]):
            raise RadiometryError(
                f"the source is {source} and the target {target}: normalising one sensor of a "
                "pair only biases the fit",
                cure="apply nbar to both, or pass allow_mixed_levels=True",
            )


def _observations(cube: xr.DataArray | xr.Dataset, pairs: xr.Dataset) -> xr.DataArray:
    """Time steps of a cube at the source times of the pairs: (pair, band, y, x)."""
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    require_reflectance(array)
    require_same_grid(array, pairs.assign_coords(spatial_ref=array["spatial_ref"]), what="a fit")
    place = {time: i for i, time in reversed(list(enumerate(array["time"].values)))}
    times = read_coordinate(pairs, "time_source")
    lost = [str(time)[:19] for time in times if time not in place]
    if lost:
        raise FitError(
            f"predictors= has no observation at {lost[0]} and {len(lost) - 1} other times"
        )
    observations = array.isel(time=[place[time] for time in times])
    bare = observations.drop_vars([n for n in observations.coords if n not in ("band", "y", "x")])
    return bare.rename(time="pair")


def _values(pairs: xr.Dataset, name: str) -> str:
    """Distinct values of a coordinate along the pairs, joined by `Names`."""
    return str(Names.of(_along_pairs(pairs, name)))


def _along_pairs(pairs: xr.Dataset, name: str) -> AnyArray:
    known = name in pairs.coords
    found: AnyArray = np.atleast_1d(read_coordinate(pairs, name) if known else UNKNOWN)
    return found


def fit_attrs(
    kind: str, facts: dict[str, str], dates: Sequence[str], *, min_valid: float
) -> dict[str, Any]:
    """Attributes of every fit: its kind, source and target, and the data it is based on."""
    source, target = facts["source_bandpass"], facts["target_bandpass"]
    words = f"fit_{kind}: {facts.get('method', kind)}, {source} to {target}, {len(dates)} pairs"
    return {
        "model": kind,
        "title": f"{kind} fit, {source} to {target}",
        "direction": f"{source} to {target}",
        **facts,
        "dates": ", ".join(dates),
        "min_valid": min_valid,
        "history": words,
    }


def pixel_size(array: xr.DataArray) -> list[float]:
    """Width and height of a pixel [unit of the CRS], NaN along an axis of one pixel."""
    steps = [
        np.diff(array[name].values[:2]) if array.sizes[name] > 1 else [np.nan] for name in "xy"
    ]
    return [abs(float(step[0])) for step in steps]


def common_bands(data: Pairs) -> list[str]:
    """Bands that source and target both have, in the target's order."""
    present = set(map(str, data.source["source_band"].values))
    names = [str(name) for name in data.target["band"].values if str(name) in present]
    if not names:
        raise BandError(
            f"source and target share no band: {sorted(present)} and "
            f"{list(map(str, data.target['band'].values))}",
            cure=suggest_names(sorted(present), map(str, data.target["band"].values))
            or "fit method='multiband'",
        )
    return names
