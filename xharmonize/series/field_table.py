"""Tables of fields that can become cubes again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.errors import TimeAxisError
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

KEYS, VARIABLES = "keys", "variables"
"""Names of a table's attributes: columns that say what a row is of, and those that hold values,
with their own attributes."""


class FieldTable(pd.DataFrame):  # type: ignore[misc]  # pandas has no types here
    """Rows of fields, dates and bands, as `xharmonize.to_table` makes them."""

    @property
    def _constructor(self) -> type[FieldTable]:
        return FieldTable

    def to_xarray(self) -> xr.Dataset:
        """Return the table as a cube without pixels, along ``field``, ``time`` and so on.

        Returns
        -------
        Dataset
            The values by their names, with `origin`, `flag` and `uncertainty` where there are
            any, NaN where a row is missing; what else the table holds is a coordinate. ``time`` is
            UTC, and ``day`` the solar day. It goes on into `smooth` and `phenology`. A table that
            lacks the columns of its rows becomes what pandas makes of it.

        Raises
        ------
        TimeAxisError
            If two rows are of one field and date.
        """
        keys = [str(key) for key in self.attrs.get(KEYS, ())]
        if not keys or not set(keys) <= set(self.columns):
            plain: xr.Dataset = pd.DataFrame(self).to_xarray()
            return plain
        self._require_unique(keys)
        codes, labels = zip(*(_factorized(self[key], is_sorted=key == "time") for key in keys))
        variables = {
            str(name): self._spread(str(name), keys, codes, [len(own) for own in labels])
            for name in self.columns
            if name not in keys
        }
        own = self.attrs.get(VARIABLES, {})
        data = {n: variable for n, variable in variables.items() if n in own}
        coords = {n: variable for n, variable in variables.items() if n not in own}
        coords |= {key: xr.Variable(key, values) for key, values in zip(keys, labels)}
        return xr.Dataset(data, coords=coords)

    def _require_unique(self, keys: list[str]) -> None:
        twice = self.duplicated(keys)
        if twice.any():
            first = ", ".join(f"{key} {self.loc[twice.idxmax(), key]}" for key in keys)
            raise TimeAxisError(
                f"{int(twice.sum())} rows come twice, the first of {first}; keep one of them, for "
                f"instance with table.drop_duplicates({keys})"
            )

    def _spread(
        self, name: str, keys: list[str], codes: tuple[AnyArray, ...], shape: list[int]
    ) -> xr.Variable:
        """A column along those of the keys that it varies with."""
        column = self[name]
        along = [key for key in _DIMS_OF.get(name, keys) if key in keys] or keys
        places = [keys.index(key) for key in along]
        values = np.asarray(column)
        whole = np.full([shape[i] for i in places], _fill(values), values.dtype)
        whole[tuple(codes[i] for i in places)] = values
        return xr.Variable(along, whole, self.attrs.get(VARIABLES, {}).get(name))


_DIMS_OF = {
    "day": ["time"],
    "sensor": ["time"],
    "platform": ["time"],
    "n_pixels": ["field"],
}


def _factorized(column: pd.Series[Any], *, is_sorted: bool) -> tuple[AnyArray, AnyArray]:
    """Number of each value among the distinct ones, and these, in order of appearance."""
    codes, labels = pd.factorize(column, sort=is_sorted)
    values = pd.Index(labels)
    if isinstance(values, pd.DatetimeIndex):
        values = values.tz_convert(None) if values.tz is not None else values
        return codes, values.to_numpy("datetime64[ns]")
    found = values.to_numpy()
    is_text = found.dtype == object and all(isinstance(value, str) for value in found)
    return codes, found.astype(str) if is_text else found


def _fill(values: AnyArray) -> Any:
    """What stands where there is no row."""
    if values.dtype.kind == "M":
        return np.datetime64("NaT")
    if values.dtype.kind in "iub":
        return 0
    return UNKNOWN if values.dtype == object else np.nan
