"""Samples of several cubes: what a network is to give, and what it is given, date by date."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, require_contract, with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of, snap
from xharmonize.cube.pairs import collected, with_node
from xharmonize.cube.regrid import regrid_to
from xharmonize.errors import ContractError, OptionError
from xharmonize.harmonizers.base import reflectance_of
from xharmonize.harmonizers.beside import PAN, require_aligned, values_of
from xharmonize.models.kinds.generator import CUBE, DateRule, scaled_phase
from xharmonize.training.places import DEGRADED, phase_of

RULES: dict[str, DateRule] = {
    PAN: "same",
    "before": "before",
    "after": "after",
    "coarse_before": "before",
    "coarse_after": "after",
    "sentinel1_reference": "reference",
}
"""Which date of a source goes with a date of the cube, by role; of others it is the nearest."""


def collect_sources(
    target: xr.DataArray | xr.Dataset,
    *,
    cube: xr.DataArray | xr.Dataset | None = None,
    degrade: int = 1,
    **sources: xr.DataArray | xr.Dataset,
) -> xr.DataTree:
    """Put what a network is to give beside the cubes that it is given, date by date, lazily.

    Fusion has three ways to train, and this is the door for all of them:

    - Sentinel-2 rebuilt under clouds: ``collect_sources(clear, reference=..., sentinel1=...,
      sentinel1_reference=...)``. The target is a clear date, and no pixel of it is an input.
    - Sharpening by Wald's protocol: ``collect_sources(landsat, degrade=3, fine=..., pan=...)``. No
      image of 10 m is there to learn from, so that all cubes are averaged to pixels three times as
      large, and the network learns to give back the Landsat that was observed. The bundle is for
      the original pixels.
    - Sharpening where the truth was observed: ``collect_sources(sentinel2, cube=landsat,
      fine=...)`` with the same or next day's Sentinel-2.

    Parameters
    ----------
    target : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        What the network is to give: reflectance [1], NaN where missing.
    cube : (time, band, y, x) DataArray or Dataset, optional
        What it is applied to, on the target's dates. By default the target itself, degraded; with
        ``degrade=1`` it is not looked at.
    degrade : int
        How many pixels a side are averaged, of all but the target.
    **sources : (time, band, y, x) DataArray or Dataset
        Further cubes by role, each on its own grid and already on the target's dates
        (`xharmonize.fusion.take_references`): ``fine``, ``before``, ``after``, ``pan``,
        ``reference``, ``sentinel1``, ``sentinel1_reference``, …. Backscatter becomes dB.

    Returns
    -------
    DataTree
        In the form of `xharmonize.collect_pairs`, with ``/sources/<role>`` beside ``/source``; for
        `xharmonize.train`.

    Raises
    ------
    TimeAxisError
        If a source has other dates than the target.
    OptionError
        If `degrade` is no number above 0, or `cube` is given beside it.
    ContractError
        If there is nothing for a network to look at.
    """
    _require_options(degrade, cube, sources)
    wanted = _of(at_door(target))
    others = {
        role: values_of(require_aligned(one, wanted, what=f"source {role!r}", is_pan=role == PAN))
        for role, one in sources.items()
    }
    own = None if cube is None else _of(require_aligned(cube, wanted, what="cube"))
    if degrade > 1:
        about = phase_of(geobox_of(wanted))
        own = degraded(wanted, degrade, about=about)
        others = {role: degraded(one, degrade, about=about) for role, one in others.items()}
    line = f"collect_sources: {', '.join(others) or CUBE}"
    attrs = with_history({}, line + (f", degraded by {degrade}" if degrade > 1 else ""))
    tree = collected(own, wanted, attrs | ({DEGRADED: degrade} if degrade > 1 else {}))
    for role, one in others.items():
        rule = RULES.get(role, "nearest")
        tree = with_node(tree, f"/sources/{role}", one.assign_attrs(date=rule))
    return tree


def degraded(
    cube: xr.DataArray, factor: int, *, about: tuple[float, float] = (0.0, 0.0)
) -> xr.DataArray:
    """Average a cube to pixels larger by a factor, lazily.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1] or backscatter; NaN where missing, and in every pixel of the result that
        lacks a part.
    about : (float, float)
        Point in x and y [m] that stays in place while all is magnified: cubes degraded about one
        point lie beside each other as they did, counted in pixels.
    """
    box = geobox_of(cube)
    side = float(abs(box.affine.a))
    phase = tuple(
        scaled_phase(edge, centre, side, Fraction(factor))
        for edge, centre in zip(phase_of(box), about)
    )
    left, bottom, right, top = (float(edge) for edge in box.boundingbox)
    grid = snap((left, bottom, right, top), factor * side, box.crs, phase=(phase[0], phase[1]))
    result: xr.DataArray = regrid_to(cube, grid, min_valid=1.0)
    return result


def _of(cube: Any) -> xr.DataArray:
    array = reflectance_of(cube)
    require_contract(array)
    return values_of(array)


def _require_options(degrade: Any, cube: Any, sources: dict[str, Any]) -> None:
    if isinstance(degrade, bool) or not isinstance(degrade, (int, np.integer)) or degrade < 1:
        raise OptionError(
            "is no number of pixels",
            argument="degrade",
            value=degrade,
            cure="give 2, 3, …: the ratio of the pixel sizes; or 1 for none",
        )
    if degrade > 1 and cube is not None:
        raise OptionError(
            "is given beside cube=, which would be the target itself, degraded",
            argument="degrade",
            value=degrade,
            cure="leave one of them out",
        )
    if not sources and cube is None and degrade == 1:
        raise ContractError(
            "there is no cube for a network to look at",
            cure="give cube=, fine=, sentinel1=, …, or degrade=",
        )
    if REFLECTANCE in sources or CUBE in sources:
        raise OptionError("is no role", argument="sources", value=list(sources))
