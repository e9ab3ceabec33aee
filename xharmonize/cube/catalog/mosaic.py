"""Which scenes show the same thing: duplicates, passes and solar days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from math import isnan
from typing import Literal, TypeAlias

import numpy as np

from xharmonize.cube.catalog.scene import Scene
from xharmonize.cube.days import solar_day
from xharmonize.errors import CatalogError
from xharmonize.kernels.longitude import unwrapped
from xharmonize.sensors.spec import UNKNOWN

Mosaic: TypeAlias = Literal["none", "pass", "solar_day"]
"""What becomes one time step: every item, what was seen in one overflight, or on one day."""


def drop_duplicates(scenes: Iterable[Scene]) -> list[Scene]:
    """Keep one granule per datatake and tile: the highest baseline, then the newest processing.

    A granule that a ground station delivered in two parts (two datastrips of one datatake) keeps
    both. Scenes of unknown tile are compared by item id only.

    Returns
    -------
    list of Scene
        In the order in which they came.
    """
    best: dict[Hashable, Scene] = {}
    for scene in scenes:
        key = _granule(scene)
        if key not in best or _rank(scene) > _rank(best[key]):
            best[key] = scene
    highest: dict[Hashable, str] = defaultdict(str)
    for scene in best.values():
        whole = _granule(scene)[:4]
        highest[whole] = max(highest[whole], _baseline(scene))
    return [s for s in best.values() if _baseline(s) == highest[_granule(s)[:4]]]


def mosaic_groups(scenes: Sequence[Scene], how: Mosaic = "pass") -> list[list[Scene]]:
    """Group scenes into time steps, in order of time.

    Scenes of one group share sensor, platform, day, CRS-independent radiometry (scale, offset,
    nodata of every band) and, for ``"pass"``, the datatake: two rows of one Landsat pass, adjacent
    tiles of one Sentinel-2 datatake. Pixels in their overlap are to be counted once.

    Parameters
    ----------
    scenes : sequence of Scene
    how : {"none", "pass", "solar_day"}
        ``"none"`` gives every scene a step of its own.

    Raises
    ------
    CatalogError
        If `how` is none of these.
    """
    if how not in ("none", "pass", "solar_day"):
        raise CatalogError(f"mosaic={how!r} is not known; take 'none', 'pass' or 'solar_day'")
    groups: dict[Hashable, list[list[Scene]]] = defaultdict(list)
    for position, scene in enumerate(sorted(scenes, key=_when)):
        steps = groups[position if how == "none" else _group(scene, how)]
        if steps and (not _is_by_day(scene, how) or _is_same_day(steps[-1][0], scene)):
            steps[-1].append(scene)
        else:
            steps.append([scene])
    found = [step for steps in groups.values() for step in steps]
    return sorted(found, key=lambda group: _when(group[0]))


def _granule(scene: Scene) -> tuple[str, ...]:
    """Identify a granule; the last part tells the pieces of a split one apart."""
    if scene.tile == UNKNOWN:
        return scene.sensor.name, scene.step.platform, "", "", scene.id
    return scene.sensor.name, scene.step.platform, scene.datatake, scene.tile, scene.datastrip


def _rank(scene: Scene) -> tuple[str, str, str]:
    properties = scene.item["properties"]
    made = properties.get("s2:generation_time") or properties.get("created") or ""
    return _baseline(scene), str(made), scene.id


def _baseline(scene: Scene) -> str:
    baseline = scene.step.processing_baseline
    return "" if baseline == UNKNOWN else baseline


def _group(scene: Scene, how: Mosaic) -> Hashable:
    step = scene.step
    numbers = tuple(
        (band, step.scale[band], step.offset[band], step.nodata[band])
        for band in sorted(step.scale)
    )
    # The day is left to `_is_same_day`: on both sides of 180° one pass has two dates.
    seen = scene.datatake.removesuffix(f"_{scene.solar_day}") if how == "pass" else ""
    return scene.sensor.name, step.platform, seen, scene.units, numbers


def _is_by_day(scene: Scene, how: Mosaic) -> bool:
    """Tell whether the day decides what a scene belongs to, and not the name of its pass alone."""
    return how == "solar_day" or scene.datatake.endswith(f"_{scene.solar_day}")


def _is_same_day(first: Scene, scene: Scene) -> bool:
    """Tell whether two scenes share a solar day, counted on from the longitude of the first."""
    here, there = first.center[0], scene.center[0]
    if isnan(here) or isnan(there):
        return first.solar_day == scene.solar_day
    return solar_day(scene.datetime, float(unwrapped(np.array(there), here))) == first.solar_day


def _when(scene: Scene) -> tuple[object, str]:
    return scene.datetime, scene.id
