"""Polygons as users have them: GeoJSON, shapely geometries, GeoDataFrames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xharmonize.cube.geobox import crs_name, read_crs
from xharmonize.errors import GridError

GEOJSON_CRS = "EPSG:4326"
"""Default CRS of coordinates (RFC 7946, section 4)."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A polygon in the CRS of the cube.

    Attributes
    ----------
    geometry : shapely geometry
        Polygon or MultiPolygon; empty if a negative buffer left nothing.
    """

    name: Any
    geometry: Any


def read_polygons(
    polygons: Any, *, name: str | None, crs: Any, target: Any, buffer: float
) -> list[Field]:
    """Return polygons as fields in the CRS of the cube; see `xharmonize.series.to_table`."""
    import shapely

    source = read_crs(_crs_of(polygons) if crs is None else crs)
    if buffer != 0 and (target.geographic or target.units[0] not in ("metre", "meter", "m")):
        raise GridError(
            f"is in metres, the cube is in {crs_name(target)}",
            cure="put it on a projected grid with cube.harmonize.regrid(crs=...)",
            argument="buffer",
            value=buffer,
        )
    fields = []
    for number, (label, shape) in enumerate(_features(polygons, name)):
        geometry = _geometry(shape, label)
        if source.geographic:
            _require_degrees(geometry, label, is_told=crs is not None)
        if source != target:
            geometry = _projected(geometry, source, target, label)
        if buffer != 0:
            geometry = shapely.buffer(geometry, buffer)
        fields.append(Field(name=number if label is None else label, geometry=geometry))
    if not fields:
        raise GridError("there are no polygons", cure="give at least one field")
    return fields


def _crs_of(polygons: Any) -> Any:
    found = getattr(polygons, "crs", None)
    return GEOJSON_CRS if found is None else found


def _features(polygons: Any, name: str | None) -> Iterable[tuple[Any, Any]]:
    """Name and geometry of each feature."""
    if isinstance(polygons, str | os.PathLike):
        raise GridError(
            f"{os.fspath(polygons)!r} is a path, no polygons",
            cure="read them first, for instance with geopandas.read_file or json.load",
        )
    if not isinstance(polygons, Mapping) and hasattr(polygons, "__geo_interface__"):
        polygons = polygons.__geo_interface__
    if isinstance(polygons, Mapping) and polygons.get("type") == "FeatureCollection":
        polygons = polygons["features"]
    elif isinstance(polygons, Mapping) or not isinstance(polygons, Iterable):
        polygons = [polygons]
    for one in polygons:
        feature = one if isinstance(one, Mapping) else getattr(one, "__geo_interface__", None)
        if not isinstance(feature, Mapping):
            raise GridError(
                f"{one!r:.80} is no polygon",
                cure="give GeoJSON-like mappings, shapely geometries or "
                "objects with __geo_interface__",
            )
        if feature.get("type") != "Feature":
            if name is not None:
                raise GridError(
                    f"a bare geometry has no property {name!r}", cure="leave `name` out"
                )
            yield None, feature
            continue
        properties = feature.get("properties") or {}
        if name is not None and name not in properties:
            raise GridError(
                f"a feature has no property {name!r}", cure=f"it has {sorted(properties)}"
            )
        yield properties[name] if name is not None else feature.get("id"), feature["geometry"]


def _geometry(shape: Any, label: Any) -> Any:
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry import shape as to_shapely

    try:
        geometry = shapely.force_2d(to_shapely(shape))
    except (ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise GridError(
            f"the geometry of field {label!r} cannot be read ({error})",
            cure="give a Polygon or MultiPolygon",
        ) from None
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise GridError(
            f"field {label!r} is {'empty' if geometry.is_empty else 'a ' + geometry.geom_type}",
            cure="give a Polygon or MultiPolygon with an area",
        )
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _require_degrees(geometry: Any, label: Any, *, is_told: bool) -> None:
    west, south, east, north = geometry.bounds
    if max(abs(west), abs(east)) > 360 or max(abs(south), abs(north)) > 90:
        hint = "" if is_told else ", which GeoJSON means where nothing else is said"
        raise GridError(
            f"field {label!r} reaches to ({east:g}, {north:g}), which are no degrees{hint}",
            cure="give the polygons' CRS with crs=...",
        )


def _projected(geometry: Any, source: Any, target: Any, label: Any) -> Any:
    import shapely
    from pyproj import Transformer

    transformer = Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
    moved = shapely.transform(geometry, transformer.transform, interleaved=False)
    if not all(abs(edge) < 1e12 for edge in moved.bounds):
        raise GridError(f"field {label!r} lies outside the area that {crs_name(target)} can show")
    return moved
