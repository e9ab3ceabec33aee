"""Fields: polygons from wherever they come, on the grid of a cube."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

from xharmonize.cube.geobox import centre_of, crs_name, read_crs
from xharmonize.errors import GridError, GridWarning, warn
from xharmonize.kernels.longitude import unwrapped

GEOJSON_CRS = "EPSG:4326"
"""CRS of coordinates that say nothing (RFC 7946, section 4)."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A polygon in the CRS of the cube.

    Attributes
    ----------
    geometry : shapely geometry
        Polygon or MultiPolygon; empty where a negative buffer left nothing.
    """

    name: Any
    geometry: Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """A field with the window of pixels it may touch; empty where it lies outside."""

    number: int
    field: Field
    rows: tuple[int, int]
    columns: tuple[int, int]


def read_polygons(
    polygons: Any, *, name: str | None, crs: Any, target: Any, buffer: float
) -> list[Field]:
    """Return polygons as fields in the CRS of the cube; see `xharmonize.to_table`."""
    import shapely

    source = read_crs(_crs_of(polygons) if crs is None else crs)
    if buffer != 0 and (target.geographic or target.units[0] not in ("metre", "meter", "m")):
        raise GridError(
            f"buffer={buffer} is in metres, the cube is in {crs_name(target)}; put it on a "
            "projected grid with cube.harmonize.regrid(crs=...)"
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
        raise GridError("there are no polygons; give at least one field")
    return fields


def _crs_of(polygons: Any) -> Any:
    found = getattr(polygons, "crs", None)
    return GEOJSON_CRS if found is None else found


def _features(polygons: Any, name: str | None) -> Iterable[tuple[Any, Any]]:
    """Name and geometry of each feature."""
    if isinstance(polygons, str | os.PathLike):
        raise GridError(
            f"{os.fspath(polygons)!r} is a path, no polygons; read them first, for instance with "
            "geopandas.read_file or json.load"
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
                f"{one!r:.80} is no polygon; give GeoJSON-like mappings, shapely geometries or "
                "objects with __geo_interface__"
            )
        if feature.get("type") != "Feature":
            if name is not None:
                raise GridError(f"a bare geometry has no property {name!r}; leave `name` out")
            yield None, feature
            continue
        properties = feature.get("properties") or {}
        if name is not None and name not in properties:
            raise GridError(f"a feature has no property {name!r}; it has {sorted(properties)}")
        yield properties[name] if name is not None else feature.get("id"), feature["geometry"]


def _geometry(shape: Any, label: Any) -> Any:
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry import shape as to_shapely

    try:
        geometry = shapely.force_2d(to_shapely(shape))
    except (ShapelyError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise GridError(
            f"the geometry of field {label!r} cannot be read ({error}); give a Polygon or "
            "MultiPolygon"
        ) from None
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise GridError(
            f"field {label!r} is {'empty' if geometry.is_empty else 'a ' + geometry.geom_type}; "
            "give a Polygon or MultiPolygon with an area"
        )
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _require_degrees(geometry: Any, label: Any, *, is_told: bool) -> None:
    west, south, east, north = geometry.bounds
    if max(abs(west), abs(east)) > 360 or max(abs(south), abs(north)) > 90:
        hint = "" if is_told else ", which GeoJSON means where nothing else is said"
        raise GridError(
            f"field {label!r} reaches to ({east:g}, {north:g}), which are no degrees{hint}; give "
            "the polygons' CRS with crs=..."
        )


def _projected(geometry: Any, source: Any, target: Any, label: Any) -> Any:
    import shapely
    from pyproj import Transformer

    transformer = Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)
    moved = shapely.transform(geometry, transformer.transform, interleaved=False)
    if not all(abs(edge) < 1e12 for edge in moved.bounds):
        raise GridError(f"field {label!r} lies outside the area that {crs_name(target)} can show")
    return moved


def place_fields(fields: Sequence[Field], grid: Any) -> list[Place]:
    """Return the window of pixels of each field."""
    inverse = ~grid.affine
    n_rows, n_columns = grid.shape
    places = []
    for number, field in enumerate(fields):
        if field.geometry.is_empty:
            places.append(Place(number=number, field=field, rows=(0, 0), columns=(0, 0)))
            continue
        field = _beside(field, grid)
        west, south, east, north = field.geometry.bounds
        corners = [inverse * corner for corner in ((west, south), (east, north))]
        columns = _clip([c for c, _ in corners], n_columns)
        rows = _clip([r for _, r in corners], n_rows)
        places.append(Place(number=number, field=field, rows=rows, columns=columns))
    return places


def warn_if_none_meets(fields: Sequence[Field], places: Sequence[Place], grid: Any) -> None:
    """Warn if all fields lie elsewhere: their table holds no value."""
    if any(place.rows[1] > 0 and place.columns[1] > 0 for place in places):
        return
    some = next((field for field in fields if not field.geometry.is_empty), None)
    if some is None:  # a buffer that leaves nothing of them
        return
    west, south, east, north = some.geometry.bounds
    box = grid.extent.boundingbox
    warn(
        f"no field meets the cube, which goes from ({box.left:g}, {box.bottom:g}) to "
        f"({box.right:g}, {box.top:g}) in {crs_name(grid.crs)}; field {some.name!r} goes there "
        f"from ({west:g}, {south:g}) to ({east:g}, {north:g}): give fields of the cube's area, "
        "longitude before latitude, or their CRS with crs=...",
        GridWarning,
    )


def _beside(field: Field, grid: Any) -> Field:
    """Move a field by whole turns next to a grid in degrees: 180.1° is -179.9° too."""
    import shapely
    from shapely.affinity import translate

    if not grid.crs.geographic:
        return field
    longitude = centre_of(grid)[0]
    west, _, east, _ = field.geometry.bounds
    if east - west > 180:  # corners on both sides of 180°

        def unwrap(x: Any, y: Any) -> tuple[Any, Any]:
            return unwrapped(x, longitude), y

        return replace(field, geometry=shapely.transform(field.geometry, unwrap, interleaved=False))
    turns = round((longitude - (west + east) / 2) / 360)
    return replace(field, geometry=translate(field.geometry, 360 * turns)) if turns else field


def _clip(ends: list[float], size: int) -> tuple[int, int]:
    first, stop = max(0, floor(min(ends))), min(size, ceil(max(ends)))
    return (first, stop) if first < stop else (0, 0)
