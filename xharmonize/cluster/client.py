"""The client that `local` returns; imported where a cluster is started."""

from __future__ import annotations

from typing import Any

from distributed import Client


class LocalClient(Client):  # type: ignore[misc]
    """A client that closes its cluster with itself, and knows why it is of the kind it is.

    Attributes
    ----------
    reason : str
        Which cluster was started, and why.
    """

    reason: str = ""

    def close(self, *args: Any, **options: Any) -> Any:
        """Close the client and its cluster."""
        closing = super().close(*args, **options)
        if self.cluster is not None:
            self.cluster.close()
        return closing

    def __repr__(self) -> str:
        return f"{super().__repr__().removesuffix('>')}, {self.reason}>"
