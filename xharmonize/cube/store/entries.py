"""Which entries of a store are whole, and whether they still are what they were.

A writer marks an entry incomplete, then gives it another version, then changes it. Versions are
never used twice. So whoever reads the version, then the mark, then the rest, then the version
again, knows whether all of it belongs together; and pixels are those of the entry that was opened
if its version has not changed after they were read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.store.encode import COMPLETE, VERSION
from xharmonize.errors import StoreError
from xharmonize.types import AnyArray, IntArray

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError)
"""What zarr and its codecs raise for bytes that are damaged or gone."""


def complete_rows(store: Any) -> tuple[IntArray, IntArray]:
    """Return the rows of whole entries, and the versions of all rows."""
    versions = versions_of(store)
    complete = np.flatnonzero(_read(store, COMPLETE) == 1)
    return complete[complete < versions.size], versions


def versions_of(store: Any) -> IntArray:
    """Version of each row, as it is now."""
    return _read(store, VERSION)


def unchanged(store: Any, rows: IntArray, versions: IntArray) -> bool:
    """Whether these rows still have these versions (one for each row)."""
    try:
        now = versions_of(store)
    except FileNotFoundError:
        return False
    return bool(rows.max(initial=-1) < now.size and np.array_equal(now[rows], versions))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """Pixels of a variable, an array that is read piece by piece and checked after each piece.

    Attributes
    ----------
    variable : xr.Variable
        Lazy, along (time, …).
    versions : (time,) int64 array
        Of each row when the store was opened; 0 where it was not whole, and nobody asks for it.
    """

    variable: xr.Variable
    name: str
    store: Any
    versions: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes."""
        return self.variable.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.variable.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = self.variable.dtype
        return dtype

    def __getitem__(self, key: Any) -> AnyArray:
        """Read a piece.

        Raises
        ------
        StoreError
            If its entries were replaced since the store was opened, or it is damaged.
        """
        first = key[0] if isinstance(key, tuple) else key
        rows = np.atleast_1d(np.arange(self.shape[0])[first])
        try:
            values = self.variable[key].values
        except UNREADABLE as error:
            self._require_unchanged(rows)
            raise StoreError(
                f"{self.name!r} of {self.store} cannot be read, its bytes are damaged or gone "
                f"({error}); write these dates again with to_zarr(..., mode='upsert')"
            ) from error
        self._require_unchanged(rows)
        return np.asarray(values)

    def _require_unchanged(self, rows: IntArray) -> None:
        rows = rows[self.versions[rows] != 0]
        if not unchanged(self.store, rows, self.versions[rows]):
            raise StoreError(
                f"{self.store} was written to since this cube was opened, and {self.name!r} of "
                "the dates asked for is not what it was; open it again with xh.open_series"
            )


def _read(store: Any, name: str) -> IntArray:
    import zarr

    try:
        return np.asarray(zarr.open_array(store, path=name, mode="r", zarr_format=3)[:])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise StoreError(
            f"{name!r} of {store} is damaged ({error}); bring the store back from a copy, or write "
            "it again with mode='w'"
        ) from error
