"""From any STAC source to scenes whose numbers are settled; no pixel is read.

source → items (`sources`) → one shape (`items`) → scene (`identity`, `radiometry`, `settle`)
→ duplicates (`mosaic`) → platforms (`platforms`)
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from urllib.parse import urlparse

import numpy as np

from xharmonize._optional import require
from xharmonize.cube.catalog.access import is_remote, make_access
from xharmonize.cube.catalog.identity import is_own
from xharmonize.cube.catalog.items import normalize_item, self_href
from xharmonize.cube.catalog.mosaic import drop_duplicates
from xharmonize.cube.catalog.query import DatetimeQuery, Query, make_query
from xharmonize.cube.catalog.scene import Grid, Scene
from xharmonize.cube.catalog.settle import bandpass_of, settle_scene
from xharmonize.cube.catalog.sources import Located, Source, describe_source, load_items
from xharmonize.cube.platforms import PlatformChoice, settle_platform
from xharmonize.errors import EmptyQueryError, RadiometryError, RadiometryWarning, warn
from xharmonize.sensors.names import normalize_platform

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
    """Read the items of a STAC source and settle what their numbers mean.

    Parameters
    ----------
    source : pystac object, mapping, list, path or URL
        pystac items, an ItemCollection, a Catalog or a ``pystac_client`` Client or ItemSearch; an
        item or item collection as dictionaries; the path or address of an item, an item
        collection or a static catalogue (walked and filtered here); the URL of a STAC API.
    collection : str or sequence of str, optional
        Collection ids to keep.
    datetime : str, datetime or pair, optional
        RFC 3339 time or interval; ``"2018"`` and ``"2018-07/2018-09"`` stand for all of it,
        ``".."`` for an open end.
    bbox : (west, south, east, north), optional
        Box [degrees of longitude and latitude] that items must touch.
    query : mapping, optional
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    modifier : callable, optional
        Called with every pystac item, changes it in place or returns a changed one, as
        ``planetary_computer.sign`` does.
    platform : str or mapping, optional
        Settles unknown platforms, see `xharmonize.cube.platforms.settle_platform`.
    bands : sequence of str, optional
        Cube bands to look for; a scene without one of them is an error. All by default.
    radiometry : mapping, optional
        ``{"offset": 0.0}``, or ``{item id: {"scale": …, "offset": …, "nodata": …}}``: overrides
        the metadata.
    skips : bool
        Whether a scene may lack bands that are asked for.
    drivers, schemes : str or sequence of str, optional
        GDAL drivers that may read assets, and kinds of addresses they may have; by default those
        of `xharmonize.cube.catalog.access`.

    Returns
    -------
    list of Scene
        In order of time. One granule per datatake and tile: the highest baseline.

    Raises
    ------
    EmptyQueryError
        If no item fits.
    CatalogError, GridError
        If the source holds no STAC, a field is malformed, the query is, or an asset that would be
        read has an address that is not allowed.
    CatalogConnectionError
        If a server cannot be reached.
    RadiometryError
        If metadata are absent or contradict each other.
    BandError, UnknownSensorError
        If an item lacks a band, or belongs to no registered sensor.

    Warns
    -----
    RadiometryWarning
        If a rule settled what metadata left open or stated twice.
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
            f"radiometry={choice!r} mixes both forms; give {{'offset': 0.0}} for all items, or "
            "{item id: {'offset': 0.0}}"
        )
    if choice and all(nested) and not ids & set(choice):
        raise RadiometryError(
            f"radiometry= names {list(choice)[:3]}, none of which is among the items; their ids "
            f"are {sorted(ids)[:3]}"
        )


def _radiometry_of(item_id: str, choice: RadiometryChoice | None) -> Mapping[str, Any] | None:
    """What the user settled for one item."""
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
        f"no item of {describe_source(source)} fits {asked}; widen datetime or bbox (degrees of "
        f"longitude and latitude), or check the collection ids{_names(source, asked)}"
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
