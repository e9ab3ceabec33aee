"""Grid and CRS of a store: the CF grid mapping, and the GeoZarr keys in addition.

References
----------
CF Conventions 1.11, appendix F (grid mappings), https://cfconventions.org.
Zarr conventions ``proj`` and ``spatial`` v0.1, https://github.com/zarr-conventions.
"""

from __future__ import annotations

from typing import Any

from xharmonize.cube.geobox import crs_code
from xharmonize.cube.store.encode import json_attrs
from xharmonize.cube.store.parts import FORMAT, Parts

_CONVENTIONS = {
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
}


def crs_attrs(parts: Parts) -> dict[str, Any]:
    """Return the attributes of the grid mapping variable."""
    a, b, c, d, e, f = parts.transform
    wkt = str(parts.grid_mapping.get("crs_wkt") or parts.crs.to_wkt())
    geotransform = " ".join(repr(float(v)) for v in (c, a, b, f, d, e))
    return {
        **json_attrs(parts.crs.to_cf()),
        **parts.grid_mapping,
        "crs_wkt": wkt,
        "spatial_ref": wkt,
        "GeoTransform": geotransform,
    }


def axis_attrs(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return CF axis, standard name and unit of the y and x coordinates."""
    return {str(axis["axis"]).lower(): json_attrs(axis) for axis in parts.crs.cs_to_cf()}


def root_attrs(parts: Parts) -> dict[str, Any]:
    """Return the attributes of the root group: ours, CF's and GeoZarr's."""
    own = {"format": FORMAT, "kind": parts.kind, "variables": list(parts.variables)}
    return {
        **parts.attrs,
        "Conventions": "CF-1.11",
        "xharmonize": own,
        **geozarr_attrs(parts),
    }


def geozarr_attrs(parts: Parts) -> dict[str, Any]:
    """Return the keys of the Zarr conventions ``proj`` and ``spatial``."""
    n_y, n_x = parts.statics["y"].values.size, parts.statics["x"].values.size
    a, _, c, _, e, f = parts.transform
    xs, ys = sorted((c, c + a * n_x)), sorted((f, f + e * n_y))
    known = crs_code(parts.crs)
    code = {"proj:code": known} if known else {}
    return {
        "zarr_conventions": [
            {
                "schema_url": "https://raw.githubusercontent.com/zarr-conventions/"
                f"{name}/refs/tags/v0.1/schema.json",
                "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
                "uuid": uuid,
                "name": name,
                "description": description,
            }
            for name, (uuid, description) in _CONVENTIONS.items()
        ],
        **code,
        "proj:wkt2": parts.crs.to_wkt("WKT2_2019"),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [n_y, n_x],
        "spatial:transform": list(parts.transform),
        "spatial:bbox": [xs[0], ys[0], xs[1], ys[1]],
        "spatial:registration": "pixel",
    }
