"""Stores by xarray's own door: ``xr.open_dataset(path, engine="xharmonize")``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from xharmonize.io.zarr.store import is_store, open_series
from xharmonize.types import AnyArray


class HarmonizeBackend(BackendEntrypoint):
    """Opens what `xharmonize.to_zarr` wrote, as `xharmonize.open_series` does.

    Complete entries only, sorted by time, with the contract's coordinates as names. Pixels are
    read when they are indexed; with ``chunks={}`` they are Dask arrays, one chunk per shard.
    """

    description = "Open series of reflectance written by xharmonize"
    url = "https://xharmonize.readthedocs.io/en/latest/reference/store.html"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")
    supports_groups = False

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None
    ) -> xr.Dataset:
        """Open a store as a Dataset; a cube without companions is its one variable.

        Raises
        ------
        StoreError
            As `xharmonize.open_series`.
        """
        cube = open_series(filename_or_obj)
        dataset = cube if isinstance(cube, xr.Dataset) else cube.to_dataset()
        left_out = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        dataset = dataset.drop_vars(left_out, errors="ignore")
        # xarray's options are about arrays of its own kind: a Dask array here would be lazy twice.
        return dataset.assign_coords(_indexed(dataset.coords)).assign(_indexed(dataset.data_vars))

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Tell whether it is a store of this package, so that it needs no ``engine=``."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        return is_store(Path(filename_or_obj))


@dataclass(frozen=True)
class _Pixels(BackendArray):
    """A Dask array that is computed piece by piece, in the thread that asks for a piece."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> AnyArray:
        # Nobody's pool: the thread may be one of Dask's own workers.
        return np.asarray(self.array[key].compute(scheduler="synchronous"))


def _indexed(arrays: Any) -> dict[str, xr.Variable]:
    """Return the variables that are Dask arrays as those of a backend, with the same chunks."""
    found = {}
    for name, array in arrays.items():
        if array.chunks is None:
            continue
        data = indexing.LazilyIndexedArray(_Pixels(array.data))
        sizes = {str(dim): max(along) for dim, along in zip(array.dims, array.chunks)}
        found[str(name)] = xr.Variable(array.dims, data, array.attrs, {"preferred_chunks": sizes})
    return found
