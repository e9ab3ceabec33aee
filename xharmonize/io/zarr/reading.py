"""Read what a store holds now: the rows of complete entries, and pixels if they are still those.

What a writer does in which order, so that readers can tell, is said in `xharmonize.io.zarr.write`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.codes import COMPLETE, VERSION
from xharmonize.errors import StoreError
from xharmonize.io.zarr.codecs import by_zarrs, is_usable, read_whole
from xharmonize.io.zarr.remote import as_zarr
from xharmonize.types import AnyArray, Codecs, IntArray

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError)
"""What zarr and its codecs raise for bytes that are damaged or gone."""


def complete_rows(store: Any) -> tuple[IntArray, IntArray]:
    """Return the rows of complete entries, and the versions of all rows."""
    versions = versions_of(store)
    complete = np.flatnonzero(_read(store, COMPLETE) == 1)
    return complete[complete < versions.size], versions


def versions_of(store: Any, array: Any = None) -> IntArray:
    """Version of each row, as it is now; of those that there were when `array` was opened."""
    return _read(store, VERSION, array)


def unchanged(store: Any, rows: IntArray, versions: IntArray, *, array: Any = None) -> bool:
    """Whether these rows still have these versions (one for each row)."""
    try:
        now = versions_of(store, array)
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
    codecs : {"zarrs", "zarr-python"}, optional
        What decodes whole shards.
    """

    variable: xr.Variable
    name: str
    store: Any
    versions: IntArray
    codecs: Codecs | None = None

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
            values = self._read(key)
        except UNREADABLE as error:
            self._require_unchanged(rows)
            raise StoreError(
                f"{self.name!r} of {self.store} cannot be read, its bytes are damaged or gone "
                f"({error})",
                cure="write these dates again with to_zarr(..., mode='upsert')",
            ) from error
        self._require_unchanged(rows)
        return values

    def _read(self, key: Any) -> AnyArray:
        found = None
        if is_usable(self._whole):
            found = read_whole(self._whole, self.shape, key)
        if found is None:
            return np.asarray(self.variable[key].values)
        return found.astype(self.dtype, copy=False)

    @cached_property
    def _whole(self) -> Any:
        """The array by zarrs, opened once in each process; None where that cannot read it."""
        array = open_array(self.store, self.name, mode="r")
        is_plain = self.dtype in (array.dtype, np.dtype(bool))
        return by_zarrs(array, self.codecs) if is_plain else None

    @cached_property
    def _now(self) -> Any:
        """The versions, opened once in each process: what they are is read each time."""
        try:
            return open_array(self.store, VERSION, mode="r")
        except UNREADABLE:
            return None  # and said by who tries to read them

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _require_unchanged(self, rows: IntArray) -> None:
        rows = rows[self.versions[rows] != 0]
        if not unchanged(self.store, rows, self.versions[rows], array=self._now):
            raise StoreError(
                f"{self.store} was written to since this cube was opened, and {self.name!r} of "
                "the dates asked for is not what it was",
                cure="open it again with xh.open_series",
            )


def _read(store: Any, name: str, array: Any = None) -> IntArray:
    try:
        found = open_array(store, name, mode="r") if array is None else array
        return np.asarray(found[:])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise StoreError(
            f"{name!r} of {store} is damaged ({error})",
            cure="bring the store back from a copy, or write it again with mode='w'",
        ) from error


def open_array(store: Any, name: str, *, mode: Any) -> Any:
    """Open one array of a store."""
    import zarr

    return zarr.open_array(as_zarr(store), path=name, mode=mode, zarr_format=3)
