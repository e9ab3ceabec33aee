"""The patch store: samples cut from pairs, written once by Dask, read directly by each rank.

A Zarr group of one array per input, each at its own pixel size, and of what lies on the target's
grid. A shard holds the samples of a few rows of windows of one pair: one task writes it, and no
other. Samples that do not count are not written, and take no space. Nothing is scaled, clipped or
split here: the same samples serve any method and any split.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xharmonize._replace import remove
from xharmonize._urls import Remote, find
from xharmonize.errors import FitError, StoreError
from xharmonize.io.zarr.remote import as_zarr
from xharmonize.models.card import read_part
from xharmonize.models.kinds.generator import Input
from xharmonize.models.lattice import Lattice
from xharmonize.training.places import (
    Pair,
)
from xharmonize.types import AnyArray, BoolArray, FloatArray, IntArray

FORMAT = 1
MARK = "xharmonize:samples"
"""Attribute that is written last."""
N_BINS = 256
HIGH = {"blue": 0.3, "green": 0.3, "red": 0.4, "nir": 0.65, "nir08": 0.65}
HIGH_OF_OTHERS = 0.65
"""Upper limits of the histograms [1]; those named are of paper 002 (UNet-LUT), from 0."""
IN_MEMORY = 2**31
"""Bytes up to which samples are read once and kept."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some samples, as they are stored.

    Attributes
    ----------
    inputs : list of (n, band, y, x) float32 array
        Reflectance [1], filled and mirrored as for a tile of the lattice.
    exact : (n, source_band, y, x) float32 array
        The source on the target's grid by exact area weights [1]; NaN where a part is missing.
    target : (n, band, y, x) float32 array
        Reflectance [1]; NaN where it or the source is missing.
    histograms : (n, source_band, bin) int64 array
        Counts of `exact`.
    """

    inputs: list[FloatArray]
    exact: FloatArray
    target: FloatArray
    histograms: IntArray


@dataclass(frozen=True, kw_only=True)
class Store:
    """Samples on disk.

    Attributes
    ----------
    path : str
        Folder, or fsspec URL.
    inputs : tuple of Input
        Not scaled.
    bands : tuple of str
        Of the target.
    lattice : Lattice
        Its tiles are the samples.
    pairs : tuple of Pair
    pair, row, column : (sample,) int64 array
        Number of the pair, and target row and column at which the window begins, counted from the
        lattice's phase to the south and to the east.
    kept : (sample,) bool array
        Samples that are there.
    degraded : int
        How many pixels a side were averaged, where all was degraded: models are then for pixels
        smaller by that.
    columns : tuple of int, optional
        Those of the source bands that inputs of this view have; by default all.
    options : mapping
        What the fsspec plugin of a URL is given.
    """

    path: str
    inputs: tuple[Input, ...]
    bands: tuple[str, ...]
    lattice: Lattice
    pairs: tuple[Pair, ...]
    pair: IntArray
    row: IntArray
    column: IntArray
    kept: BoolArray
    degraded: int = 1
    columns: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def source_bands(self) -> tuple[str, ...]:
        """Bands of all inputs, one input after the other; see `Input.labels`."""
        return tuple(label for source in self.inputs for label in source.labels)

    @property
    def sources(self) -> tuple[str, ...]:
        """The cubes that inputs are read from."""
        return tuple(dict.fromkeys(source.source for source in self.inputs))

    @property
    def limits(self) -> list[tuple[float, float]]:
        """Range of the histograms of each source band [1]."""
        return limits_of([band for source in self.inputs for band in source.bands])

    def only(self, roles: Sequence[str]) -> Store:
        """Return the same samples with the inputs of some sources; of all if none is named.

        Raises
        ------
        FitError
            If the samples have no such source.
        """
        lacking = [role for role in roles if role not in self.sources]
        if lacking:
            raise FitError(
                f"the samples have no source {lacking[0]!r}",
                cure=f"they have {', '.join(self.sources)}; give it to "
                "xh.training.collect_sources, or name others in Data(sources=...)",
            )
        if not roles or set(roles) == set(self.sources):
            return self
        chosen = tuple(one for one in self.inputs if one.source in roles)
        labels = {label for one in chosen for label in one.labels}
        held = self.columns or range(len(self.source_bands))
        kept = tuple(n for n, label in zip(held, self.source_bands) if label in labels)
        return replace(self, inputs=chosen, columns=kept)

    @property
    def _names(self) -> list[str]:
        return [*(f"input_{source.name}" for source in self.inputs), "exact", "target", "histogram"]

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        import zarr

        group = zarr.open_group(as_zarr(find(self.path, self.options)), mode="r")
        return {name: group[name] for name in self._names}

    @cached_property
    def _held(self) -> tuple[IntArray, dict[str, AnyArray]] | None:
        """Place of each sample among those in memory, and these; None where they are too many."""
        kept = np.flatnonzero(self.kept)
        each = sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in self._arrays.values())
        if each * kept.size > IN_MEMORY:
            return None
        place = np.full(self.kept.size, -1, np.int64)
        place[kept] = np.arange(kept.size)
        return place, {name: _rows(array, kept) for name, array in self._arrays.items()}

    def read(self, samples: Sequence[int] | IntArray) -> Samples:
        """Read samples by their numbers."""
        *inputs, exact, target, histograms = (self.read_layer(n, samples) for n in self._names)
        return Samples(inputs=inputs, exact=exact, target=target, histograms=histograms)

    def read_layer(self, name: str, samples: Sequence[int] | IntArray) -> AnyArray:
        """Read one array of samples: ``"exact"``, ``"target"``, ``"histogram"`` or an input."""
        wanted = np.asarray(samples, np.int64)
        if self._held is None:
            values = _rows(self._arrays[name], wanted)
        else:
            place, held = self._held
            values = held[name][place[wanted]]
        by_band = self.columns is not None and name in ("exact", "histogram")
        return values[:, list(self.columns or ())] if by_band else values

    def stream(self, samples: IntArray, n: int = 64) -> Iterator[Samples]:
        """Read samples, a few at a time and in their order."""
        for start in range(0, len(samples), n):
            yield self.read(samples[start : start + n])

    @property
    def core(self) -> tuple[slice, slice]:
        """Pixels of a sample that no other sample's core has, but for the last ones of a row."""
        inner = slice(self.lattice.buffer, self.lattice.tile - self.lattice.buffer)
        return inner, inner


def limits_of(bands: Sequence[str]) -> list[tuple[float, float]]:
    """Range of the histograms of bands [1]."""
    return [(0.0, HIGH.get(band, HIGH_OF_OTHERS)) for band in bands]


def _rows(array: Any, rows: IntArray) -> AnyArray:
    order = np.argsort(rows, kind="stable")
    found = np.asarray(array.oindex[rows[order]]) if rows.size else np.asarray(array[:0])
    back = np.empty_like(order)
    back[order] = np.arange(order.size)
    values: AnyArray = found[back]
    return values


def is_there(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> bool:
    """Whether there is anything where a store would be."""
    where = find(path, options)
    return os.path.lexists(where) if isinstance(where, Path) else where.is_occupied()


def remove_store(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> None:
    """Remove a store, if there is one."""
    where = find(path, options)
    if isinstance(where, Path):
        remove(where)
    else:
        where.remove()


def open_store(
    path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
) -> Store:
    """Open a patch store.

    Parameters
    ----------
    path : path or URL
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes.

    Raises
    ------
    StoreError
        If there is none.
    """
    return open_at(find(path, storage_options))


def open_at(where: Path | Remote) -> Store:
    """Open the patch store of a place; raise `StoreError` if there is none."""
    import zarr

    if isinstance(where, Remote):
        where.has("zarr.json")  # says why where it cannot be reached
    try:
        group = zarr.open_group(as_zarr(where), mode="r")
        facts: Any = group.attrs[MARK]
    except StoreError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise StoreError(
            f"{where} holds no samples, or not all of them",
            cure="remove what is there, and make them with training.build_store",
        ) from error
    if facts["format"] != FORMAT:
        raise StoreError(
            f"{where} has samples of format {facts['format']}, this version reads {FORMAT}",
            cure="build it anew",
        )
    index: dict[str, Any] = {
        name: np.asarray(group[name]) for name in ("pair", "row", "column", "kept")
    }
    return Store(
        path=str(where),
        options=where.options if isinstance(where, Remote) else {},
        inputs=tuple(Input(**_tuples(one)) for one in facts["inputs"]),
        bands=tuple(facts["bands"]),
        lattice=Lattice(**_tuples(facts["lattice"])),
        pairs=tuple(read_part(one, Pair, "samples") for one in facts["pairs"]),
        degraded=int(facts.get("degraded", 1)),
        **index,
    )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
