"""Sentinel-2 and Landsat as one dense, comparable reflectance series, on xarray and Dask.

Importing this package registers the ``.harmonize`` accessor on DataArrays and Datasets. Public
names are listed in ``__init__.pyi`` and loaded when first used, so that the import costs little
more than that of xarray.
"""

import lazy_loader

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

from xharmonize import accessor as _accessor  # noqa: E402, F401  (registers .harmonize)
