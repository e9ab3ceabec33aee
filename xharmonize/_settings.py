"""Defaults of arguments that many calls share, set once: `xharmonize.set_options`."""

from __future__ import annotations

from numbers import Real
from types import TracebackType
from typing import Any, get_args

from xharmonize.errors import OptionError
from xharmonize.types import Codecs, Compression, Engine

UNSET: Any = object()
"""Marks an option that is not given: None is a value."""

_defaults: dict[str, Any] = {
    "progress": None,
    "engine": None,
    "chunks": None,
    "shard": 1024,
    "compression": "small",
    "codecs": None,
    "timeout": 60.0,
}


def option(name: str) -> Any:
    """Return the default of an argument. Asked for by functions that are called, never by tasks."""
    return _defaults[name]


class set_options:
    """Set defaults of arguments, in a ``with`` block or from here on.

    An argument that is given to a function counts more. Options are read when a function is
    called, in the process that calls it: results that are lazy do not change afterwards.

    Parameters
    ----------
    progress : bool, optional
        Bars of computations: True and False always and never; None where somebody sees them, on a
        terminal and in a notebook.
    engine : {"stackstac", "odc"}, optional
        Library by which `open_stac` reads; None chooses.
    chunks : int, tuple, mapping or "auto", optional
        Dask chunks of `open_stac`; None for one date, all bands, and 2048 or 1024 pixels a side.
    shard : int
        Side of a shard of stores that `to_zarr` creates [pixels].
    compression : {"small", "fast"}
        Of pixels in stores that `to_zarr` creates. ``"fast"`` writes reflectance three to four
        times as fast as ``"small"``, and takes 1.3 to 1.7 times as much space.
    codecs : {"zarrs", "zarr-python"}, optional
        Library that codes pixels of stores; None for zarrs where it is installed and able.
    timeout : float
        How long a catalogue may take to answer [seconds].

    Raises
    ------
    OptionError
        If a value is none of these.

    Examples
    --------
    >>> import xharmonize as xh
    >>> with xh.set_options(progress=False, engine="odc"):
    ...     pass
    """

    def __init__(
        self,
        *,
        progress: bool | None = UNSET,
        engine: Engine | None = UNSET,
        chunks: Any = UNSET,
        shard: int = UNSET,
        compression: Compression = UNSET,
        codecs: Codecs | None = UNSET,
        timeout: float = UNSET,
    ) -> None:
        given = {
            "progress": progress,
            "engine": engine,
            "chunks": chunks,
            "shard": shard,
            "compression": compression,
            "codecs": codecs,
            "timeout": timeout,
        }
        new = {name: value for name, value in given.items() if value is not UNSET}
        for name, value in new.items():
            if name in _CURES and not _IS_VALID[name](value):
                raise OptionError("", cure=_CURES[name], argument=name, value=value)
        self._old = {name: _defaults[name] for name in new}
        _defaults.update(new)

    def __enter__(self) -> None:
        """Keep the options until the block ends."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the options that were in force before."""
        _defaults.update(self._old)


_IS_VALID = {
    "progress": lambda value: value is None or isinstance(value, bool),
    "engine": lambda value: value is None or value in get_args(Engine),
    "compression": lambda value: value in get_args(Compression),
    "codecs": lambda value: value is None or value in get_args(Codecs),
    "shard": lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    "timeout": lambda value: isinstance(value, Real) and 0 < float(value) < float("inf"),
}
_CURES = {
    "progress": "give True, False or None",
    "engine": f"give one of {', '.join(get_args(Engine))}, or None",
    "compression": f"give one of {', '.join(get_args(Compression))}",
    "codecs": f"give one of {', '.join(get_args(Codecs))}, or None",
    "shard": "give a positive number of pixels",
    "timeout": "give a positive number of seconds",
}
