"""Read STAC items as scenes with settled radiometry, without reading pixels.

source → items (`sources`) → one shape (`items`) → scene (`identity`, `radiometry`, `settle`)
→ duplicates (`mosaic`) → platforms (`platforms`)
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any, Literal, TypeAlias
from urllib.parse import urlparse

import numpy as np

from xharmonize._optional import require
from xharmonize.cube.dates import solar_day
from xharmonize.cube.platforms import PlatformChoice, settle_platform
from xharmonize.errors import (
    BandError,
    CatalogError,
    EmptyQueryError,
    RadiometryError,
    RadiometryWarning,
    warn,
)
from xharmonize.io.stac.fields import Grid, Scene, is_remote, make_access
from xharmonize.io.stac.identity import is_own
from xharmonize.io.stac.items import normalize_item, self_href
from xharmonize.io.stac.query import DatetimeQuery, Query, make_query
from xharmonize.io.stac.settle import bandpass_of, settle_scene
from xharmonize.io.stac.sources import Located, Source, describe_source, load_items
from xharmonize.kernels.longitude import unwrapped
from xharmonize.sensors.registry import normalize_platform
from xharmonize.sensors.spec import UNKNOWN


def with_bands(
    scenes: Sequence[Scene], names: Sequence[str] | None
) -> tuple[list[Scene], tuple[str, ...]]:
    """Choose the bands of a cube, and complete the contract of each scene for all of them.

    Parameters
    ----------
    scenes : sequence of Scene
    names : sequence of str, optional
        Requested bands. Default: those that all instruments have. An instrument has every band
        that any of its scenes has, so that one item cannot remove a band from all dates.

    Returns
    -------
    scenes : list of Scene
        A scene that lacks a band has scale, offset and nodata for it but no asset, and is read as
        missing.
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
        raise BandError(
            f"the items ({', '.join(sensors)}) have no band in common", cure="open them apart"
        )
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


Mosaic: TypeAlias = Literal["none", "pass", "solar_day"]
"""What becomes one time step: an item, an overflight, or a day."""


def drop_duplicates(scenes: Iterable[Scene]) -> list[Scene]:
    """Keep one granule per datatake and tile: the highest baseline, then the latest processing.

    Both parts of a granule that was delivered in two (two datastrips of one datatake) are kept.
    Scenes of unknown tile are compared by item id only.

    Returns
    -------
    list of Scene
        In their original order.
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
    tiles of one Sentinel-2 datatake. Pixels in their overlap should be counted once.

    Parameters
    ----------
    scenes : sequence of Scene
    how : {"none", "pass", "solar_day"}
        ``"none"`` gives every scene its own time step.

    Raises
    ------
    CatalogError
        If `how` is none of these.
    """
    if how not in ("none", "pass", "solar_day"):
        raise CatalogError(
            "is not known", cure="take 'none', 'pass' or 'solar_day'", argument="mosaic", value=how
        )
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
    """Identify a granule; the last part distinguishes the pieces of a split one."""
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


__all__ = ["Grid", "RadiometryChoice", "Scene", "Source", "read_scenes"]

RadiometryChoice: TypeAlias = Mapping[str, float] | Mapping[str, Mapping[str, float]]
"""``scale``, ``offset``, ``nodata`` for all items, or a mapping of item id to these."""


def read_scenes(
    source: Source,
    *,
    collection: str | Sequence[str] | None = None,
    datetime: DatetimeQuery = None,
    bbox: Sequence[float] | None = None,
    query: Mapping[str, Any] | None = None,
    modifier: Callable[[Any], Any] | None = None,
    platform: PlatformChoice | None = None,
    bands: Sequence[str] | None = None,
    radiometry: RadiometryChoice | None = None,
    skips: bool = False,
    drivers: str | Sequence[str] | None = None,
    schemes: str | Sequence[str] | None = None,
) -> list[Scene]:
    """Read the items of a STAC source and settle their radiometry.

    Parameters
    ----------
    source : pystac object, mapping, list, path or URL
        pystac items, an ItemCollection, a Catalog or a ``pystac_client`` Client or ItemSearch; an
        item or item collection as dictionaries; the path or address of an item, an item
        collection or a static catalogue (walked and filtered here); the URL of a STAC API.
    collection : str or sequence of str, optional
        Collection ids to keep.
    datetime : str, datetime or pair, optional
        RFC 3339 datetime or interval; ``"2018"`` and ``"2018-07/2018-09"`` cover whole years and
        months, ``".."`` is an open end.
    bbox : (west, south, east, north), optional
        Bounding box [degrees] that items must intersect.
    query : mapping, optional
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    modifier : callable, optional
        Called with each pystac item; modifies it in place or returns a modified one, like
        ``planetary_computer.sign``.
    platform : str or mapping, optional
        Unknown platforms; see `xharmonize.cube.platforms.settle_platform`.
    bands : sequence of str, optional
        Required bands; a scene that lacks one is an error. Default: all.
    radiometry : mapping, optional
        ``{"offset": 0.0}``, or ``{item id: {"scale": …, "offset": …, "nodata": …}}``: overrides
        the metadata.
    skips : bool
        Whether a scene may lack requested bands.
    drivers, schemes : str or sequence of str, optional
        GDAL drivers allowed to read assets, and URL schemes allowed for them. Default: those in
        `xharmonize.io.stac.fields`.

    Returns
    -------
    list of Scene
        Sorted by time. One granule per datatake and tile: the one with the highest baseline.

    Raises
    ------
    EmptyQueryError
        If no item matches.
    CatalogError, GridError
        If the source is not STAC, a field or the query is malformed, or the URL of a required
        asset is not allowed.
    CatalogConnectionError
        If a server cannot be reached.
    RadiometryError
        If metadata are missing or contradict each other.
    BandError, UnknownSensorError
        If an item lacks a band, or belongs to no registered sensor.

    Warns
    -----
    RadiometryWarning
        If a rule settled what metadata left open or contradicted.
    """
    asked = make_query(collection=collection, datetime=datetime, bbox=bbox, query=query)
    access = make_access(drivers, schemes)
    located = load_items(source, asked)
    if not located:
        raise _empty(source, asked)
    _check_radiometry(radiometry, {str(found.item.get("id")) for found in located})
    settled = []
    for item, is_web in normalized(located, modifier):
        scene, notes = settle_scene(
            item,
            bands=bands,
            radiometry=_radiometry_of(item["id"], radiometry),
            platform=_named_platform(item["id"], platform),
            skips=skips,
        )
        for key in scene.assets.values():
            where = f"asset {key!r} of item {item['id']!r}"
            access.check(item["assets"][key]["href"], is_web=is_web[key], where=where)
        settled.append((replace(scene, drivers=access.drivers), notes))
    _warn_of_rules(settled)
    scenes = sorted(drop_duplicates(s for s, _ in settled), key=lambda s: (s.datetime, s.id))
    return _with_platforms(scenes, platform)


def normalized(
    located: Iterable[Located], modifier: Callable[[Any], Any] | None
) -> Iterator[tuple[dict[str, Any], dict[str, bool]]]:
    """Yield items in one shape, and by asset whether its address comes from the web.

    A modifier is the user's, and so are the addresses it gives.
    """
    for found in located:
        normal = normalize_item(found.item, base=found.base)
        given = normal["assets"]
        is_web = found.is_web or is_remote(found.base or self_href(found.item) or "")
        if modifier is not None:
            normal = {**normal, "assets": _signed_assets(normal, modifier)}
        yield (
            normal,
            {
                key: is_web and asset["href"] == given[key]["href"]
                for key, asset in normal["assets"].items()
            },
        )


def _signed_assets(item: Mapping[str, Any], modifier: Callable[[Any], Any]) -> dict[str, Any]:
    """Assets whose hrefs a modifier rewrote; the modifier sees an ordinary pystac item."""
    pystac = require("pystac", extra="stac")
    stac_item = pystac.Item.from_dict(copy.deepcopy(dict(item)))
    modified = modifier(stac_item)
    signed = (stac_item if modified is None else modified).to_dict(transform_hrefs=False)
    return {
        key: {**asset, "href": signed["assets"][key]["href"]}
        for key, asset in item["assets"].items()
        if key in signed["assets"]
    }


def _check_radiometry(choice: RadiometryChoice | None, ids: set[str]) -> None:
    """Refuse both forms at once, and a mapping that names none of the items."""
    nested = [isinstance(value, Mapping) for value in (choice or {}).values()]
    if any(nested) and not all(nested):
        raise RadiometryError(
            "mixes both forms",
            cure="give {'offset': 0.0} for all items, or {item id: {'offset': 0.0}}",
            argument="radiometry",
            value=choice,
        )
    if choice and all(nested) and not ids & set(choice):
        raise RadiometryError(
            f"radiometry= names {list(choice)[:3]}, none of which is among the items",
            cure=f"their ids are {sorted(ids)[:3]}",
        )


def _radiometry_of(item_id: str, choice: RadiometryChoice | None) -> Mapping[str, Any] | None:
    """Radiometry that the user gives for one item."""
    if not choice or not isinstance(next(iter(choice.values())), Mapping):
        return choice
    found = choice.get(item_id)
    return found if isinstance(found, Mapping) else None


def _named_platform(item_id: str, choice: PlatformChoice | None) -> str | None:
    """Platform that the user named for this very item: it overrides the metadata."""
    if isinstance(choice, Mapping) and item_id in choice:
        return normalize_platform(choice[item_id])
    return None


def _with_platforms(scenes: list[Scene], choice: PlatformChoice | None) -> list[Scene]:
    names = settle_platform(
        choice,
        platforms=[scene.step.platform for scene in scenes],
        sensors=[scene.sensor.name for scene in scenes],
        times=np.array([scene.datetime for scene in scenes]),
        item_ids=[scene.id for scene in scenes],
        latitudes=np.array([scene.center[1] for scene in scenes]),
    )
    return [_rename(scene, name) for scene, name in zip(scenes, names)]


def _rename(scene: Scene, platform: str) -> Scene:
    if platform == scene.step.platform:
        return scene
    bandpass = bandpass_of(scene.sensor, platform)
    if is_own(scene.item):  # it may have been harmonised
        bandpass = scene.step.bandpass
    return replace(scene, step=replace(scene.step, platform=platform, bandpass=bandpass))


def _warn_of_rules(settled: Sequence[tuple[Scene, tuple[str, ...]]]) -> None:
    """Warn once per rule, naming the first items it settled."""
    ids = defaultdict(list)
    for scene, notes in settled:
        for note in notes:
            ids[note].append(scene.id)
    for note, named in ids.items():
        warn(
            f"{len(named)} items ({', '.join(named[:3])}{', …' if len(named) > 3 else ''}): {note}"
            "; radiometry={item id: {'offset': ...}} settles it otherwise",
            RadiometryWarning,
        )


def _empty(source: Source, asked: Query) -> EmptyQueryError:
    return EmptyQueryError(
        f"no item of {describe_source(source)} fits {asked}",
        cure="widen datetime or bbox (degrees of "
        f"longitude and latitude), or check the collection ids{_names(source, asked)}",
    )


def _names(source: Source, asked: Query) -> str:
    """Collections of a catalogue on disk, where one that was asked for is not among them."""
    if not asked.collections or not isinstance(source, str | os.PathLike):
        return ""
    if urlparse(os.fspath(source)).scheme in ("http", "https"):
        return ""
    items = (located.item for located in load_items(source, make_query()))
    found = sorted({str(item["collection"]) for item in items if item.get("collection")})
    if not found or set(asked.collections) <= set(found):
        return ""
    return f": it has {', '.join(found)}"
