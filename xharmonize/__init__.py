"""Sentinel-2 and Landsat as one dense, comparable reflectance series, on xarray and Dask.

Importing this package registers the ``.harmonize`` accessor on DataArrays and Datasets. Public
names are listed in ``__init__.pyi`` and loaded when first used, so that the import costs little
more than that of xarray.
"""

import os
import sys
from typing import Any

__version__ = "0.1.0"

try:
    import lazy_loader

    _load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

    def __getattr__(name: str) -> Any:
        """Load a public name; errors and warnings of `xharmonize.errors` are found here too."""
        if name.endswith(("Error", "Warning")):
            from xharmonize import errors

            return getattr(errors, name)
        return _load(name)

    if "_XHARMONIZE_COMPLETE" not in os.environ:  # a shell that completes a word waits for it
        from xharmonize import accessor as _accessor  # noqa: F401  (registers .harmonize)
except KeyboardInterrupt:
    if sys.argv[0].rpartition("/")[2] not in ("xharmonize", "-m"):  # another program
        raise
    sys.stderr.write("interrupted: nothing had begun\n")
    exec("")  # or ``python -m`` would end by SIGINT; see cli/start.py
    sys.exit(130)
