"""Reference to a model in a graph, and runtime settings for workers; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from xharmonize.errors import ModelError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """Reference to a bundle: the only part of a model that a graph contains.

    Attributes
    ----------
    digest : str
        Hexadecimal sha256 of the bundle's content; key of workers' caches and Dask tokens.
    location : str
        Folder of the bundle, as a path or fsspec URL.
    name : str
        Name for messages and history.
    options : mapping
        What the fsspec plugin of the URL is given, on workers too; no part of what a model is.
    """

    digest: str
    location: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __dask_tokenize__(self) -> tuple[str, str]:
        """Tokenise by content only, so that a bundle that was moved gives the same tasks."""
        return "xharmonize.ModelRef", self.digest


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Settings for running networks; defaults adapt to each worker.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` uses the worker's GPU if it has one, else its CPU.
    dtype : {"float32", "bfloat16"}
        Precision of the network's arithmetic; inputs and outputs are float32.
    batch_size : int, optional
        Tiles per batch. Default: as many as fit a reasonable fraction of cache or GPU memory. It
        changes the result only by rounding.
    channels_last : bool
        Whether convolutions use the channels-last memory layout.
    compile : bool
        Whether to ``torch.compile`` the network, once per worker; worthwhile for long runs.
    """

    device: Device = "auto"
    dtype: Precision = "float32"
    batch_size: int | None = None
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid settings."""
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
