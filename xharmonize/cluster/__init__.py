"""Dask clusters: one on this machine, and models on the workers of any.

Importing this package loads no ``distributed``; calling its functions does.
"""

from xharmonize.cluster.local import local
from xharmonize.cluster.share import share

__all__ = ["local", "share"]
