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

import numpy as np

from xharmonize.errors import ModelError
from xharmonize.models.checks import (
    check_integer,
    check_list,
    check_mapping,
    check_object,
    check_text,
    parse_json,
    show,
)
from xharmonize.types import AnyArray

PREFIX = 8
MAX_HEADER = 16 * 2**20
DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
"""Accepted types of tensors. Not BF16, for which numpy has no type, nor narrow integers."""
NAME = r"(?!__metadata__$)[A-Za-z0-9_][A-Za-z0-9_.\-]*"
MAX_TENSORS = 10**4
_MAX_SIDE, _MAX_DIMENSIONS = 2**40, 8
_MAX_MARKS = 20 * MAX_TENSORS  # brackets and commas: an entry of eight dimensions has 17


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
            f"{what} says its header has {length} bytes; at most {MAX_HEADER} are read"
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
    fields = dict(check_mapping(parse_json(header, what), what, most=MAX_TENSORS, pattern=r".*"))
    notes = check_mapping(
        fields.pop("__metadata__", {}), f"{what}: __metadata__", most=1000, pattern=r".*"
    )
    for key, value in notes.items():
        check_text(value, f"{what}: __metadata__ {show(key)}", most=10_000)
    first = PREFIX + len(header)
    tensors = {
        check_text(name, f"{what}: name of a tensor", pattern=NAME): _tensor(
            entry, first, file_size, f"{what}: tensor {name}"
        )
        for name, entry in fields.items()
    }
    _require_filled(tensors, first, file_size, what)
    return tensors


def _tensor(entry: object, first: int, file_size: int, where: str) -> Tensor:
    """One entry of the header, its size checked against its place."""
    fields = check_object(entry, where, ("dtype", "shape", "data_offsets"))
    dtype = check_text(fields["dtype"], f"{where}: dtype", most=20)
    if dtype not in DTYPES:
        raise ModelError(f"{where} has dtype {show(dtype)}; accepted are {', '.join(DTYPES)}")
    sides = check_list(fields["shape"], f"{where}: shape", most=_MAX_DIMENSIONS)
    shape = tuple(check_integer(n, f"{where}: shape", 0, _MAX_SIDE) for n in sides)
    ends = check_list(fields["data_offsets"], f"{where}: data_offsets", least=2, most=2)
    start, stop = (check_integer(n, f"{where}: data_offsets", 0, file_size) for n in ends)
    tensor = Tensor(dtype=DTYPES[dtype], shape=shape, start=first + start)
    if tensor.stop != first + stop:
        raise ModelError(
            f"{where} has shape {shape} and dtype {dtype}, but {stop - start} bytes of data"
        )
    if math.prod(side for side in shape if side) > _MAX_SIDE:  # numpy refuses it though empty
        raise ModelError(f"{where} has shape {show(shape)}, which is too large")
    return tensor


def _require_filled(tensors: Mapping[str, Tensor], first: int, file_size: int, what: str) -> None:
    """Raise `ModelError` unless the tensors lie end to end and fill the file."""
    end = first
    for name, tensor in sorted(tensors.items(), key=lambda pair: (pair[1].start, pair[1].stop)):
        if tensor.start != end:
            raise ModelError(f"{what}: tensor {name} overlaps another or leaves a gap before it")
        end = tensor.stop
    if end != file_size:
        raise ModelError(f"{what} has {file_size} bytes; its tensors end at {end}")


def check_weight(name: str, array: AnyArray) -> AnyArray:
    """Return an array as it is stored.

    Raises
    ------
    ModelError
        If its name or type is not accepted, or if it holds values that are not finite.
    """
    if not re.fullmatch(NAME, name):
        raise ModelError(f"{name!r} is no name of a weight; use letters, digits, '.', '_' and '-'")
    kept = np.asarray(array, order="C")
    if kept.dtype.newbyteorder("=") not in {np.dtype(code) for code in DTYPES.values()}:
        raise ModelError(
            f"weight {name!r} is {kept.dtype}; accepted are float16, float32, float64 and int64"
        )
    if not np.isfinite(kept).all():
        raise ModelError(f"weight {name!r} holds values that are not finite; train again")
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
