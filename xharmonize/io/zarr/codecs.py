"""By what pixels are coded: zarrs, in Rust, where it is as safe as zarr-python, and else that.

zarrs 0.2.3 checks the CRC32C of chunks only where a shard is decoded whole: of a part, of a shard
at the end of its array and of any chunk longer than its array, it returns damaged numbers. Its
threads do not live on in a forked process, which waits for them for ever. And it replaces files in
place. So it decodes and encodes whole shards of pixels in directories, those at the end with what
lies beyond it, in processes that were not forked; all else (coordinates, parts of shards, object
stores, Icechunk) is left to zarr-python.

zarr's own setting of a pipeline holds for the whole process, threads of others included, so it is
left as it is: the pipeline is put into the arrays that are opened here.

References
----------
zarrs-python, https://github.com/zarrs/zarrs-python; decision 33.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from numbers import Integral
from typing import Any

import numpy as np

from xharmonize.types import AnyArray, Codecs, Compression

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def compressors_of(dtype: np.dtype[Any], compression: Compression) -> list[Any]:
    """Return the codecs of pixels: one that compresses, and the checksum of what it gives.

    ``"small"`` is zstd, for 16 bits of level 1, which is as small as level 3 there and faster;
    reflectance is smallest by level 3, better than 5 and any shuffle. ``"fast"`` is LZ4 on shuffled
    bytes. Figures are in the measurements, by ``benchmarks/codecs.py``.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    codec: Any
    if compression == "fast":
        codec = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=dtype.itemsize)
    else:
        codec = ZstdCodec(level=1 if dtype.itemsize == 2 else 3)
    return [codec, Crc32cCodec()]


def by_zarrs(array: Any, codecs: Codecs | None) -> Any:
    """Return the same array for whole shards only, coded by zarrs; None where zarrs cannot.

    It is as long as its shards along all axes: at the end lies what the last ones hold beyond it.

    Parameters
    ----------
    array : zarr.Array
    codecs : {"zarrs", "zarr-python"}, optional
        What the user wants; None for zarrs where it is installed.
    """
    if not _is_able(array, codecs):
        return None
    import zarr
    from zarr.core.array import AsyncArray
    from zarrs import ZarrsCodecPipeline

    unit = unit_of(array)
    shape = tuple(-(-size // edge) * edge for size, edge in zip(array.shape, unit))
    metadata = array.metadata.update_shape(shape)
    whole: Any = AsyncArray(metadata=metadata, store_path=array.store_path)
    store = array.store_path.store
    pipeline = ZarrsCodecPipeline.from_array_metadata_and_store(metadata, store)
    object.__setattr__(whole, "codec_pipeline", pipeline)  # as its own __init__ does
    return zarr.Array(whole)


def _is_able(array: Any, codecs: Codecs | None) -> bool:
    from zarr.storage import LocalStore

    return (
        codecs != "zarr-python"
        and not _forked
        and type(array.store_path.store) is LocalStore
        and array.dtype.kind in "iuf"
        and array.dtype.isnative
        and find_spec("zarrs") is not None
    )


def is_usable(whole: Any) -> bool:
    """Whether an array of `by_zarrs` may still be used: the process may have been forked since."""
    return whole is not None and not _forked


def unit_of(array: Any) -> tuple[int, ...]:
    """Return the shape of what is one file: a shard, or a chunk where there are none."""
    return tuple(array.shards or array.chunks)


def read_whole(whole: Any, shape: Sequence[int], key: Any) -> AnyArray | None:
    """Read what consists of whole shards, up to the end of the array.

    Parameters
    ----------
    whole : zarr.Array
        Of `by_zarrs`.
    shape : sequence of int
        Of the array itself.
    key : tuple of slice and int
        What is asked for.

    Returns
    -------
    array, or None
        None where the key asks for parts of shards, or for anything but slices and numbers.
    """
    if not isinstance(key, tuple) or len(key) != len(shape):
        return None
    spans = list(map(_span, key, shape, unit_of(whole)))
    if None in spans:
        return None
    held: AnyArray = whole[tuple(slice(first, end) for first, _, end in spans)]
    size = tuple(last - first for first, last, _ in spans)
    # A copy: else the block of an edge would keep all of its shard.
    held = held if held.shape == size else held[tuple(map(slice, size))].copy()
    return held[tuple(slice(None) if isinstance(along, slice) else 0 for along in key)]


def _span(along: Any, size: int, edge: int) -> Any:
    """First index, the one after the last, and the end of its shard; None for parts of shards."""
    if not isinstance(along, slice):
        if not isinstance(along, Integral):
            return None
        at = int(along) % size
        along = slice(at, at + 1)
    first, last, step = along.indices(size)
    is_whole = first % edge == 0 and (last % edge == 0 or last == size)
    return (
        (first, last, -(-last // edge) * edge) if step == 1 and first < last and is_whole else None
    )


def write_whole(whole: Any, start: Sequence[int], values: AnyArray) -> None:
    """Write one shard, from its first index on; beyond the end of the array it gets the fill value.

    Parameters
    ----------
    whole : zarr.Array
        Of `by_zarrs`.
    start : sequence of int
        First index along each axis.
    values : array
        Up to the end of the shard, or of the array.
    """
    unit = unit_of(whole)
    if values.shape != unit:
        padded = np.full(unit, whole.fill_value, values.dtype)
        padded[tuple(map(slice, values.shape))] = values
        values = padded
    whole[tuple(slice(at, at + edge) for at, edge in zip(start, unit))] = values
