"""What a graph carries of a model, and how workers are to run it; no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from xharmonize.errors import ModelError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A handle on a bundle: all that the graph carries of a model.

    Attributes
    ----------
    digest : str
        sha256 of the bundle's content, hexadecimal; the key of workers' caches and of dask tokens.
    location : str
        Folder of the bundle: a path, or an fsspec URL.
    name : str
        Name for messages and the history.
    """

    digest: str
    location: str
    name: str

    def __dask_tokenize__(self) -> tuple[str, str]:
        """Content only: a bundle that was moved gives the same tasks."""
        return "xharmonize.ModelRef", self.digest


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How networks are run; every field has a default that suits the worker it arrives at.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto``: the worker's GPU where it has one, else its CPU.
    dtype : {"float32", "bfloat16"}
        Precision of the network's arithmetic; inputs and outputs are float32.
    batch_size : int, optional
        Tiles run at once; by default as many as fit a sane share of cache or GPU memory. It never
        changes the result beyond rounding.
    channels_last : bool
        Memory layout of convolutions.
    compile : bool
        ``torch.compile`` the network, once per worker; pays for long runs.
    """

    device: Device = "auto"
    dtype: Precision = "float32"
    batch_size: int | None = None
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that no worker can follow."""
        if self.device not in ("auto", "cpu", "cuda"):
            raise ModelError(
                "is unknown",
                cure="choose 'auto', 'cpu' or 'cuda'",
                argument="device",
                value=self.device,
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ModelError(
                "is unknown",
                cure="choose 'float32' or 'bfloat16'",
                argument="dtype",
                value=self.dtype,
            )
        size = self.batch_size
        if size is not None and not (type(size) is int and size >= 1):
            raise ModelError(
                "is no number of tiles", cure="give 1 or more", argument="batch_size", value=size
            )
