"""Start a Dask cluster on this machine, share models with workers, and run ranks on them.

``distributed`` and ``torch`` are imported when a function is called, not with this package.
"""

from xharmonize.cluster.launch import run_ranks
from xharmonize.cluster.local import local
from xharmonize.cluster.rank import Rank
from xharmonize.cluster.share import share

__all__ = ["Rank", "local", "run_ranks", "share"]
