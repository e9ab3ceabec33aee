"""Sentinel-2 and Landsat as one dense, comparable reflectance series, on xarray and Dask.

Importing this package registers the ``.harmonize`` accessor on DataArrays and Datasets. Public
names are loaded when first used, so that the import costs little more than that of xarray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "xharmonize.accessor": ["HarmonizeAccessor"],
    "xharmonize.cube.check": ["check_radiometry"],
    "xharmonize.cube.cog": ["to_cogs"],
    "xharmonize.cube.describe": ["describe"],
    "xharmonize.cube.encode": ["decode"],
    "xharmonize.cube.grid": ["regrid"],
    "xharmonize.cube.indices": ["index", "list_indices"],
    "xharmonize.cube.masks": ["Mask", "mask"],
    "xharmonize.cube.pairs": ["match_pairs"],
    "xharmonize.cube.stac": ["open_stac"],
    "xharmonize.cube.store": ["open_series", "to_zarr"],
    "xharmonize.errors": [
        "AssetReadError",
        "BandError",
        "CatalogConnectionError",
        "CatalogError",
        "ContractError",
        "EmptyQueryError",
        "FitError",
        "GridError",
        "MaskError",
        "MissingDependencyError",
        "ModelError",
        "RadiometryError",
        "RadiometryWarning",
        "StoreError",
        "TimeAxisError",
        "UnknownModelError",
        "UnknownSensorError",
        "XHarmonizeError",
    ],
    "xharmonize.harmonizers": [
        "fit_histogram",
        "fit_linear",
        "fit_pixelwise",
        "list_models",
        "load_model",
        "nbar",
        "save_model",
        "to_landsat",
        "to_sensor",
        "to_sentinel2",
    ],
    "xharmonize.sensors": [
        "Band",
        "Flag",
        "Instrument",
        "QALayer",
        "Radiometry",
        "Sensor",
        "get_sensor",
        "list_sensors",
        "register_sensor",
    ],
    "xharmonize.series": ["densify"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted([*globals(), *_MODULE_OF])


from xharmonize import accessor as _accessor  # noqa: E402  (registers .harmonize)

if TYPE_CHECKING:
    from xharmonize.accessor import HarmonizeAccessor as HarmonizeAccessor
