"""Start a Dask cluster on this machine, and share models with the workers of any cluster.

``distributed`` is imported when a function is called, not with this package.
"""

from xharmonize.cluster.local import local
from xharmonize.cluster.share import share

__all__ = ["local", "share"]
