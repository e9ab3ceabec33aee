"""One shape for STAC items of any version and catalogue, as plain dictionaries.

The shape is that of STAC 1.0: ``proj:epsg`` and ``raster:bands`` on every asset that says so in
any way, because stackstac reads nothing else, and pystac and odc-stac accept it. The input is never
changed, and the fields of STAC 1.1 stay beside the restored ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urljoin, urlparse

from xharmonize.errors import CatalogError, show
from xharmonize.io.stac.fields import (
    as_list,
    as_mapping,
    as_numbers,
    as_objects,
    epsg_stated,
    malformed,
    name_of,
)
from xharmonize.kernels.longitude import box_around, flat_box
from xharmonize.types import Item

_EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
)
_REPLACED = re.compile(r"^(eo|proj|projection|raster)$|/(eo|projection|raster)/v[\d.]+")

_DEEPEST = 4  # of coordinates: a multipolygon

_RENAMED = {  # names of STAC before 1.0 (eo extension of 0.6)
    "eo:platform": "platform",
    "eo:constellation": "constellation",
    "eo:gsd": "gsd",
    "eo:sun_azimuth": "view:sun_azimuth",
    "eo:sun_elevation": "view:sun_elevation",
    "eo:off_nadir": "view:off_nadir",
    "eo:azimuth": "view:azimuth",
}

_RASTER_FIELDS = {  # STAC 1.1 field -> key of a raster:bands entry
    "data_type": "data_type",
    "nodata": "nodata",
    "unit": "unit",
    "raster:scale": "scale",
    "raster:offset": "offset",
    "raster:spatial_resolution": "spatial_resolution",
    "raster:bits_per_sample": "bits_per_sample",
    "raster:sampling": "sampling",
}
_EO_FIELDS = {  # STAC 1.1 field -> key of an eo:bands entry
    "name": "name",
    "description": "description",
    "eo:common_name": "common_name",
    "eo:center_wavelength": "center_wavelength",
    "eo:full_width_half_max": "full_width_half_max",
}


def normalize_item(item: Mapping[str, Any], *, base: str | None = None) -> Item:
    """Normalise a STAC item to the form that every engine reads.

    Parameters
    ----------
    item : mapping
        STAC item of any version from 1.0.0-beta to 1.1.
    base : str, optional
        Path or URL of the file the item was read from, which relative hrefs refer to. Default: the
        item's ``self`` link, if that is absolute.

    Returns
    -------
    dict
        STAC 1.0 item: absolute hrefs, ``proj:epsg`` from ``proj:code``, six-element
        ``proj:transform``, ``raster:bands`` and ``eo:bands`` from the fields of STAC 1.1.

    Raises
    ------
    CatalogError
        If it is not an item (no id, properties or assets), or a field has another type than in
        STAC. Metadata about pixels are checked when assets are read.
    """
    name = check_item(item)
    restored = _restore_properties(item["properties"])
    table = as_objects(restored.get("eo:bands"), f"{name}: properties > eo:bands")
    base = base or self_href(item)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": _extensions(as_list(item.get("stac_extensions"), f"{name}: extensions")),
        "id": str(item["id"]),
        "collection": item.get("collection") or restored.get("collection"),
        "geometry": item.get("geometry"),
        "bbox": bbox_of(item),
        "properties": restored,
        "links": [],
        "assets": {
            str(key): _restore_asset(asset, table=table, base=base, where=f"{name}: asset {key!r}")
            for key, asset in item["assets"].items()
            if asset is not None and as_mapping(asset, f"{name}: asset {key!r}").get("href")
        },
    }


def check_item(item: Any) -> str:
    """Return how messages name an item; raise `CatalogError` where it is none.

    Looked at is what a query asks for: id, collection, properties, and that there are assets.
    """
    parts = item if isinstance(item, Mapping) else {}
    about = parts.get("properties"), parts.get("assets")
    if parts.get("id") is None or not all(isinstance(part, Mapping) for part in about):
        raise CatalogError(
            f"not a STAC item: {_summary(item)}", cure="an item has an id, properties and assets"
        )
    name = name_of(item)
    if not isinstance(item["id"], str | int):
        raise malformed(f"{name}: id", item["id"], "text")
    for key, found in (
        ("collection", item.get("collection")),
        ("properties > collection", item["properties"].get("collection")),
    ):
        if found is not None and not isinstance(found, str):
            raise malformed(f"{name}: {key}", found, "the id of a collection")
    return name


def bbox_of(item: Mapping[str, Any]) -> list[float] | None:
    """Return ``[west, south, east, north]`` [degrees] of an item, from its geometry if need be.

    West > east where it crosses 180°. A box of more than half a turn is what is left of one that
    crosses, if the geometry says so.
    """
    stated, name = _stated_bbox(item), name_of(item)
    if stated is not None and stated[2] - stated[0] <= 180:
        return stated
    geometry = as_mapping(item.get("geometry"), f"{name}: geometry")
    box = box_around(_points(geometry.get("coordinates"), f"{name}: geometry > coordinates"))
    return stated if box is None else list(box)


def _stated_bbox(item: Mapping[str, Any]) -> list[float] | None:
    box = item.get("bbox")
    if isinstance(box, Mapping):  # as GeoParquet has it
        box = [box.get(key) for key in ("xmin", "ymin", "xmax", "ymax")]
    if box is None:
        return None
    wanted = "west, south, east, north in degrees"
    values = as_numbers(box, f"{name_of(item)}: bbox", lengths=(4, 6), wanted=wanted)
    return list(flat_box(values))


def make_absolute(href: str, base: str | None) -> str:
    """Return an absolute href; relative ones are resolved against the file `base`."""
    href = href.strip()
    try:
        parsed = urlparse(href)
    except ValueError as error:
        raise CatalogError(
            f"{show(href)} is no address: {error}", cure="correct the item"
        ) from None
    if parsed.scheme == "file":
        return unquote(parsed.path)
    if parsed.scheme or os.path.isabs(href) or base is None:
        return href
    scheme = urlparse(base).scheme
    if scheme in ("http", "https"):
        return urljoin(base, href)
    folder = base.rpartition("/")[0] if scheme else os.path.dirname(os.path.abspath(base))
    if scheme:
        return f"{scheme}:{os.path.normpath(folder.partition(':')[2] + '/' + href)}"
    return os.path.normpath(os.path.join(folder, href))


def _restore_properties(properties: Mapping[str, Any]) -> Item:
    restored = {key: value for key, value in properties.items() if value is not None}
    for old, new in _RENAMED.items():
        if old in restored:
            restored.setdefault(new, restored[old])
    _restore_projection(restored)
    return restored


def _restore_projection(fields: Item) -> None:
    """Write ``proj:epsg`` beside ``proj:code``, and the six numbers that make a transform.

    What cannot be read is left as it is: whoever reads the asset says what is wrong with it.
    """
    epsg = epsg_stated(fields)
    if epsg is not None:
        fields |= {"proj:epsg": epsg, "proj:code": f"EPSG:{epsg}"}
    transform = fields.get("proj:transform")
    if isinstance(transform, list | tuple) and len(transform) == 9:
        fields["proj:transform"] = list(transform[:6])


def _restore_asset(
    asset: Mapping[str, Any], *, table: list[Mapping[str, Any]], base: str | None, where: str
) -> Item:
    restored = {str(key): value for key, value in asset.items() if value is not None}
    if not isinstance(asset["href"], str):
        raise malformed(f"{where}: href", asset["href"], "text")
    restored["href"] = make_absolute(asset["href"], base)
    _restore_projection(restored)
    bands = as_objects(restored.get("bands"), where)
    if "raster:bands" not in restored:
        raster = _collect(restored, bands, _RASTER_FIELDS)
        if raster:
            restored["raster:bands"] = raster
    known = as_list(restored.get("eo:bands"), where)
    if known:
        restored["eo:bands"] = [_band(band, table, f"{where}: eo:bands") for band in known]
    elif bands:
        restored["eo:bands"] = _collect({}, bands, _EO_FIELDS)
    return restored


def _band(band: Any, table: list[Mapping[str, Any]], where: str) -> Mapping[str, Any]:
    """A band; before STAC 1.0 the number of one in the item's own table."""
    if isinstance(band, int) and not isinstance(band, bool) and 0 <= band < len(table):
        return table[band]
    if not isinstance(band, Mapping):
        raise malformed(where, band, f"bands, or numbers of the item's {len(table)} bands")
    return band


def _collect(
    asset: Mapping[str, Any], bands: list[Mapping[str, Any]], fields: Mapping[str, str]
) -> list[Item]:
    """Gather fields of STAC 1.1 per band; what a band says itself overrides its asset."""
    shared = {new: asset[old] for old, new in fields.items() if asset.get(old) is not None}
    gathered = [
        shared | {new: band[old] for old, new in fields.items() if band.get(old) is not None}
        for band in bands or [{}]
    ]
    return gathered if any(gathered) else []


def _extensions(declared: Sequence[Any]) -> list[str]:
    kept = [str(uri) for uri in declared if not _REPLACED.search(str(uri))]
    return [*kept, *_EXTENSIONS]


def self_href(item: Mapping[str, Any]) -> str | None:
    """Return the absolute address of the "self" link; None if there is none."""
    for link in as_objects(item.get("links"), f"{name_of(item)}: links"):
        href = str(link.get("href") or "")
        if link.get("rel") == "self" and (_has_scheme(href) or os.path.isabs(href)):
            return href
    return None


def _has_scheme(href: str) -> bool:
    try:
        return bool(urlparse(href).scheme)
    except ValueError:
        return False


def _points(coordinates: Any, where: str) -> Iterator[tuple[float, float]]:
    """Longitudes and latitudes of a geometry, however its rings are nested."""
    waiting = [(coordinates, 0)]
    while waiting:
        found, depth = waiting.pop()
        parts = as_list(found, where)
        if parts and isinstance(parts[0], int | float):
            lon, lat = as_numbers(
                parts[:2], where, lengths=(2,), wanted="pairs of longitude and latitude"
            )
            yield lon, lat
        elif depth > _DEEPEST:
            raise malformed(where, coordinates, "rings of points")
        else:
            waiting += [(part, depth + 1) for part in parts]


def _summary(item: Any) -> str:
    if not isinstance(item, Mapping):
        return show(item)
    named = ", ".join(f"{key}={show(item[key])}" for key in ("type", "id") if key in item)
    return named or show(sorted(map(str, item))[:8])
