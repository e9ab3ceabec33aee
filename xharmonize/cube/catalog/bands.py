"""Which bands a cube of several items has, where some items lack one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from xharmonize.cube.catalog.scene import Scene
from xharmonize.errors import BandError, RadiometryWarning, warn
from xharmonize.sensors.spec import UNKNOWN


def with_bands(
    scenes: Sequence[Scene], names: Sequence[str] | None
) -> tuple[list[Scene], tuple[str, ...]]:
    """Settle the bands of a cube, and give every scene a contract for all of them.

    Parameters
    ----------
    scenes : sequence of Scene
    names : sequence of str, optional
        Bands asked for. By default those that all instruments have; an instrument has what any of
        its scenes has, because one item must not take a band from all dates.

    Returns
    -------
    scenes : list of Scene
        Where a scene lacks a band it has scale, offset and nodata for it, and no asset: it is read
        as missing.
    bands : tuple of str

    Raises
    ------
    BandError
        If the instruments have no band in common.

    Warns
    -----
    RadiometryWarning
        For each band that some items lack.
    """
    bands = tuple(names) if names is not None else _common_bands(scenes)
    lacking = defaultdict(list)
    for scene in scenes:
        for band in bands:
            if band not in scene.assets:
                lacking[band].append(scene.id)
    for band, ids in lacking.items():
        named = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        warn(
            f"{len(ids)} of {len(scenes)} items ({named}) have no band {band!r}: it is missing "
            "(NaN) there; leave the items out, or name the bands to read with bands=",
            RadiometryWarning,
        )
    return [_completed(scene, bands) for scene in scenes], bands


def _common_bands(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Bands that all instruments have, in order of wavelength."""
    found: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for scene in scenes:
        found[_table(scene)] |= set(scene.step.scale)
    common = [
        band for band in next(iter(found)) if all(band in others for others in found.values())
    ]
    if not common:
        sensors = sorted({scene.sensor.name for scene in scenes})
        raise BandError(f"the items ({', '.join(sensors)}) have no band in common; open them apart")
    return tuple(common)


def _table(scene: Scene) -> tuple[str, ...]:
    """Bands of the instrument of a scene."""
    platform = scene.step.platform
    known = platform if platform in scene.sensor.platforms else UNKNOWN
    return (scene.sensor.name, *(band.name for band in scene.sensor.instrument(known).bands))


def _completed(scene: Scene, bands: Sequence[str]) -> Scene:
    """Return a scene whose contract has all bands; a missing one gets the numbers of another."""
    lacking = [band for band in bands if band not in scene.step.scale]
    if not lacking:
        return scene

    def full(values: Mapping[str, float]) -> dict[str, float]:
        return {**values, **dict.fromkeys(lacking, next(iter(values.values())))}

    step = scene.step
    step = replace(step, scale=full(step.scale), offset=full(step.offset), nodata=full(step.nodata))
    return replace(scene, step=step)
