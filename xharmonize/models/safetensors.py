"""The header of a safetensors file, checked before anything is allocated; and views of tensors.

The file is 8 bytes (length of the header, little endian), a JSON header, and the tensors one after
the other.

References
----------
Hugging Face, safetensors format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np

from xharmonize.errors import ModelError, show
from xharmonize.models.card import PLAIN, Matching, Sized, Within, parse_json, read_part
from xharmonize.types import AnyArray

PREFIX = 8
MAX_HEADER = 16 * 2**20
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
"""Accepted types of tensors. Not BF16, for which numpy has no type, nor narrow integers."""
NAME = r"(?!__metadata__$)[A-Za-z0-9_][A-Za-z0-9_.\-]*"
MAX_TENSORS = 10**4
_MAX_SIDE = 2**40
_MAX_MARKS = 20 * MAX_TENSORS  # brackets and commas: an entry of eight dimensions has 17


Whole: TypeAlias = Annotated[int, Within(0, _MAX_SIDE)]


@dataclass(frozen=True)
class _Entry:
    """What a header says of a tensor."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    dtype: Literal["F16", "F32", "F64", "I64"]
    shape: Annotated[tuple[Whole, ...], Sized(8)]
    data_offsets: tuple[Whole, Whole]


_Name: TypeAlias = Annotated[str, Matching(NAME, 100)]
_Entries: TypeAlias = Annotated[dict[_Name, _Entry], Sized(MAX_TENSORS)]
_Note: TypeAlias = Annotated[str, Matching(PLAIN, 10_000)]
_Notes: TypeAlias = Annotated[dict[_Note, _Note], Sized(1000)]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where a tensor lies in a file.

    Attributes
    ----------
    dtype : str
        numpy's name.
    shape : tuple of int
    start : int
        First byte, counted from the beginning of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """The byte after the last."""
        return self.start + self.size * np.dtype(self.dtype).itemsize


def header_length(prefix: bytes, file_size: int, what: str) -> int:
    """Return the length of the header from the first 8 bytes of a file of `file_size` bytes.

    Raises
    ------
    ModelError
        If the file is shorter than it says, or the header longer than 16 MiB.
    """
    length = int.from_bytes(prefix[:PREFIX], "little")
    if len(prefix) < PREFIX or length < 2:
        raise ModelError(f"{what} is no safetensors file: it has no header")
    if length > MAX_HEADER:
        raise ModelError(
            f"{what} says its header has {length} bytes", cure=f"at most {MAX_HEADER} are read"
        )
    if PREFIX + length > file_size:
        raise ModelError(f"{what} is cut off: its header has {length} bytes, the file {file_size}")
    return length


def read_header(header: bytes, file_size: int, what: str) -> dict[str, Tensor]:
    """Return the tensors that a header names.

    Parameters
    ----------
    header : bytes
        Without the 8 bytes before it.
    file_size : int
        Bytes of the whole file; the tensors must fill it exactly.
    what : str
        The file, for messages.

    Raises
    ------
    ModelError
        If the header is malformed, names more than `MAX_TENSORS` or a type that is not accepted,
        or if tensors overlap, leave gaps or reach beyond the file.
    """
    if sum(map(header.count, (b"{", b"[", b","))) > _MAX_MARKS:  # before it is parsed
        raise ModelError(
            f"{what} has a header of more values than {MAX_TENSORS:,} tensors need, and at most so "
            "many are read"
        )
    fields = parse_json(header, what)
    read_part(fields.pop("__metadata__", {}), _Notes, f"{what}: __metadata__")
    first = PREFIX + len(header)
    tensors = {
        name: _tensor(entry, first, f"{what}: tensor {name}")
        for name, entry in read_part(fields, _Entries, what).items()
    }
    _require_filled(tensors, first, file_size, what)
    return tensors


def _tensor(entry: _Entry, first: int, where: str) -> Tensor:
    """One entry of the header, its size checked against its place."""
    start, stop = entry.data_offsets
    tensor = Tensor(dtype=DTYPES[entry.dtype], shape=entry.shape, start=first + start)
    if tensor.stop != first + stop:
        raise ModelError(
            f"{where} has shape {show(entry.shape)} and dtype {entry.dtype}, but {stop - start} "
            "bytes of data",
            cure="get the bundle again",
        )
    if math.prod(side for side in entry.shape if side) > _MAX_SIDE:  # numpy refuses it though empty
        raise ModelError(f"{where} has shape {show(entry.shape)}, which is too large")
    return tensor


def _require_filled(tensors: Mapping[str, Tensor], first: int, file_size: int, what: str) -> None:
    """Raise `ModelError` unless the tensors lie end to end and fill the file."""
    end = first
    for name, tensor in sorted(tensors.items(), key=lambda pair: (pair[1].start, pair[1].stop)):
        if tensor.start != end:
            raise ModelError(f"{what}: tensor {name} overlaps another or leaves a gap before it")
        end = tensor.stop
    if end != file_size:
        raise ModelError(f"{what} has {file_size} bytes", cure=f"its tensors end at {end}")


def check_weight(name: str, array: AnyArray) -> AnyArray:
    """Return an array as it is stored.

    Raises
    ------
    ModelError
        If its name or type is not accepted, or if it holds values that are not finite.
    """
    if not re.fullmatch(NAME, name):
        raise ModelError(
            f"{name!r} is no name of a weight", cure="use letters, digits, '.', '_' and '-'"
        )
    kept = np.asarray(array, order="C")
    if kept.dtype.newbyteorder("=") not in {np.dtype(code) for code in DTYPES.values()}:
        raise ModelError(
            f"weight {name!r} is {kept.dtype}",
            cure="accepted are float16, float32, float64 and int64",
        )
    if not np.isfinite(kept).all():
        raise ModelError(f"weight {name!r} holds values that are not finite", cure="train again")
    return kept.astype(kept.dtype.newbyteorder("<"), copy=False)


def is_finite(piece: bytes, tensor: Tensor) -> bool:
    """Tell whether a part of a tensor's bytes holds finite numbers only."""
    dtype = np.dtype(tensor.dtype)
    whole = len(piece) - len(piece) % dtype.itemsize  # a file that is cut off has another hash
    return dtype.kind != "f" or bool(np.isfinite(np.frombuffer(piece[:whole], dtype)).all())


def views(buffer: AnyArray, tensors: Mapping[str, Tensor]) -> dict[str, AnyArray]:
    """Return the tensors of a file that was read into `buffer`, as views where they are aligned.

    Parameters
    ----------
    buffer : (byte,) uint8 array
        The whole file.
    """
    return {
        name: np.require(
            np.frombuffer(buffer, tensor.dtype, tensor.size, tensor.start).reshape(tensor.shape)
            if tensor.size
            else np.empty(tensor.shape, tensor.dtype),
            requirements="A",
        )
        for name, tensor in tensors.items()
    }
