"""One shape for STAC items of any version and catalogue, as plain dictionaries.

The shape is that of STAC 1.0: ``proj:epsg`` and ``raster:bands`` on every asset that says so in
any way, because stackstac reads nothing else, and pystac and odc-stac accept it. The input is never
changed, and the fields of STAC 1.1 stay beside the restored ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urljoin, urlparse

from xharmonize.errors import CatalogError
from xharmonize.kernels.longitude import box_around

Item: TypeAlias = dict[str, Any]
"""A STAC item or asset as a plain dictionary."""

_EXTENSIONS = (
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
)
_REPLACED = re.compile(r"^(eo|proj|projection|raster)$|/(eo|projection|raster)/v[\d.]+")

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
    """Return a STAC item in the one shape that every engine reads.

    Parameters
    ----------
    item : mapping
        STAC item of any version from 1.0.0-beta to 1.1.
    base : str, optional
        Path or address of the file the item was read from: relative hrefs start there. Without
        it, the item's own ``self`` link serves where that is absolute.

    Returns
    -------
    dict
        STAC 1.0 item: absolute hrefs, ``proj:epsg`` from ``proj:code``, six-element
        ``proj:transform``, ``raster:bands`` and ``eo:bands`` from the fields of STAC 1.1.

    Raises
    ------
    CatalogError
        If it is no item: no id, no properties, no assets.
    """
    name = item.get("id")
    properties, assets = item.get("properties"), item.get("assets")
    if name is None or not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise CatalogError(
            f"not a STAC item: {_summary(item)}; an item has an id, properties and assets"
        )
    restored = _restore_properties(properties)
    table = [band for band in restored.get("eo:bands") or () if isinstance(band, Mapping)]
    base = base or _self_href(item)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": _extensions(item.get("stac_extensions") or ()),
        "id": str(name),
        "collection": item.get("collection") or restored.get("collection"),
        "geometry": item.get("geometry"),
        "bbox": bbox_of(item),
        "properties": restored,
        "links": [],
        "assets": {
            key: _restore_asset(asset, table=table, base=base)
            for key, asset in assets.items()
            if asset is not None and asset.get("href") is not None
        },
    }


def bbox_of(item: Mapping[str, Any]) -> list[float] | None:
    """Return ``[west, south, east, north]`` [degrees] of an item, from its geometry if need be.

    West > east where it crosses 180°. A box of more than half a turn is what is left of one that
    crosses, if the geometry says so.
    """
    stated = _stated_bbox(item)
    if stated is not None and stated[2] - stated[0] <= 180:
        return stated
    box = box_around(_points((item.get("geometry") or {}).get("coordinates") or ()))
    return stated if box is None else list(box)


def _stated_bbox(item: Mapping[str, Any]) -> list[float] | None:
    box = item.get("bbox")
    if isinstance(box, Mapping):  # as GeoParquet has it
        return [float(box[key]) for key in ("xmin", "ymin", "xmax", "ymax")]
    if box is None:
        return None
    values = [float(value) for value in box]
    return values if len(values) == 4 else [values[0], values[1], values[3], values[4]]


def epsg_of(fields: Mapping[str, Any]) -> int | None:
    """Return the EPSG code that properties or an asset give as ``proj:epsg`` or ``proj:code``."""
    epsg = fields.get("proj:epsg")
    if epsg is not None:
        return int(epsg)
    code = str(fields.get("proj:code") or "")
    authority, _, number = code.partition(":")
    return int(number) if authority.upper() == "EPSG" and number.isdigit() else None


def make_absolute(href: str, base: str | None) -> str:
    """Return an href that needs no base: relative ones start at the file `base`."""
    parsed = urlparse(href)
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
    """Write ``proj:epsg`` beside ``proj:code``, and the six numbers that make a transform."""
    epsg = epsg_of(fields)
    if epsg is not None:
        fields["proj:epsg"] = epsg
        fields["proj:code"] = f"EPSG:{epsg}"
    if fields.get("proj:transform") is not None:
        fields["proj:transform"] = [float(value) for value in fields["proj:transform"][:6]]


def _restore_asset(
    asset: Mapping[str, Any], *, table: list[Mapping[str, Any]], base: str | None
) -> Item:
    restored = {key: value for key, value in asset.items() if value is not None}
    restored["href"] = make_absolute(str(asset["href"]), base)
    _restore_projection(restored)
    bands = [band for band in restored.get("bands") or () if isinstance(band, Mapping)]
    if "raster:bands" not in restored:
        raster = _collect(restored, bands, _RASTER_FIELDS)
        if raster:
            restored["raster:bands"] = raster
    known = restored.get("eo:bands")
    if known:  # before STAC 1.0: numbers of the item's own table of bands
        restored["eo:bands"] = [table[b] if isinstance(b, int) else b for b in known]
    elif bands:
        restored["eo:bands"] = _collect({}, bands, _EO_FIELDS)
    return restored


def _collect(
    asset: Mapping[str, Any], bands: list[Mapping[str, Any]], fields: Mapping[str, str]
) -> list[Item]:
    """Gather fields of STAC 1.1 per band; what a band says itself goes before the asset's word."""
    shared = {new: asset[old] for old, new in fields.items() if asset.get(old) is not None}
    gathered = [
        shared | {new: band[old] for old, new in fields.items() if band.get(old) is not None}
        for band in bands or [{}]
    ]
    return gathered if any(gathered) else []


def _extensions(declared: Any) -> list[str]:
    kept = [str(uri) for uri in declared if not _REPLACED.search(str(uri))]
    return [*kept, *_EXTENSIONS]


def _self_href(item: Mapping[str, Any]) -> str | None:
    for link in item.get("links") or ():
        href = str(link.get("href") or "")
        if link.get("rel") == "self" and (urlparse(href).scheme or os.path.isabs(href)):
            return href
    return None


def _points(coordinates: Any) -> Iterator[tuple[float, float]]:
    if coordinates and isinstance(coordinates[0], int | float):
        yield float(coordinates[0]), float(coordinates[1])
        return
    for part in coordinates:
        yield from _points(part)


def _summary(item: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={item.get(key)!r}" for key in ("type", "id") if key in item) or str(
        sorted(map(str, item))[:8]
    )
