"""What a training is told: one frozen dataclass per method, the data, and the run.

A TOML file mirrors them, ``[method]``, ``[data]`` and ``[run]``. What stands in ``[run]`` may
change how fast a training is, and how it is told of, but not what is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xharmonize.errors import OptionError, UnknownModelError, suggest
from xharmonize.training.closed_options import (
    Auto,
    Closed,
    Deming,
    HistogramMatching,
    MultiOls,
    Ols,
    PerPixel,
    Weight,
)
from xharmonize.training.fusion_options import (
    CycleGan,
    DcstfnOs,
    Dstfn,
    Esrcnn,
    MccGan,
    MtcGan,
    RdcstfnOs,
    SCycleGan,
)
from xharmonize.training.network_options import (
    Gan,
    GlobalLut,
    GlobalLutConv,
    HlsGan,
    Mgan,
    Pix2pix,
    Policies,
    SmallConv,
    TileLut,
    TileLutConv,
)
from xharmonize.training.settings import AS_PRINTED, Data, Method, Name, Run, Settings, Split, Url

__all__ = [
    "SCycleGan",
    "RdcstfnOs",
    "MtcGan",
    "MccGan",
    "Esrcnn",
    "Dstfn",
    "DcstfnOs",
    "CycleGan",
    "AS_PRINTED",
    "Auto",
    "CLOSED",
    "Closed",
    "Config",
    "Data",
    "Deming",
    "Gan",
    "GlobalLut",
    "GlobalLutConv",
    "HistogramMatching",
    "HlsGan",
    "Method",
    "Mgan",
    "MultiOls",
    "NETWORKS",
    "Name",
    "Ols",
    "PerPixel",
    "Pix2pix",
    "Policies",
    "Run",
    "Settings",
    "SmallConv",
    "Split",
    "TileLut",
    "TileLutConv",
    "Url",
    "Weight",
    "settle",
]

NETWORKS: dict[str, type[Method]] = {
    one.name: one
    for one in (
        SmallConv,
        Mgan,
        HlsGan,
        Pix2pix,
        GlobalLut,
        GlobalLutConv,
        TileLut,
        TileLutConv,
        Esrcnn,
        Dstfn,
        MccGan,
        MtcGan,
        DcstfnOs,
        RdcstfnOs,
        CycleGan,
        SCycleGan,
    )
}
"""Methods that are trained step by step."""


CLOSED: dict[str, type[Closed]] = {
    one.name: one for one in (Ols, MultiOls, Deming, PerPixel, HistogramMatching, Auto)
}
"""Methods that are solved at once."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All that a training is told.

    Attributes
    ----------
    method : Method or Closed
        Options of the method; its class says which.
    data : Data
        Samples and what is held out. Closed forms use all pairs and leave one date out to score.
    run : Run
    """

    method: Method | Closed
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        """Refuse settings of samples for what is fitted on all pairs."""
        if isinstance(self.method, Closed) and self.data != Data():
            raise OptionError(
                f"settings of samples were given, and {self.method.name!r} is fitted on all pairs",
                cure="leave data out, or choose the pairs by collect_pairs",
            )

    @property
    def roles(self) -> tuple[str, ...]:
        """Sources that a network is given; none named: all that there are."""
        own = () if isinstance(self.method, Closed) else self.method.roles
        return self.data.sources or own


def settle(method: Any, config: Any) -> Config:
    """Return the configuration of a method's name and of what was given with it.

    Parameters
    ----------
    method : str, Method or Closed
        A name, for its defaults, or the method's own dataclass.
    config : Config, Method, Closed or None

    Raises
    ------
    UnknownModelError
        If no method has that name.
    OptionError
        If the configuration is of another method, or is none.
    """
    if isinstance(method, (Method, Closed)):
        if config is None:
            return Config(method=method)
        method = method.name
    known: dict[str, type[Method | Closed]] = {**CLOSED, **NETWORKS}
    if not isinstance(method, str) or method not in known:
        raise UnknownModelError(
            "is no method",
            argument="method",
            value=method,
            cure=f"{suggest(method, known)}there are {', '.join(known)}",
        )
    if config is None:
        return Config(method=known[method]())
    whole = Config(method=config) if isinstance(config, (Method, Closed)) else config
    if not isinstance(whole, Config):
        raise OptionError(
            f"is a {type(config).__name__}",
            argument="config",
            value=config,
            cure=f"give training.{known[method].__name__}(...), or training.Config(method=..., "
            "data=..., run=...)",
        )
    if whole.method.name != method:
        raise OptionError(
            f"configures {whole.method.name!r}, not {method!r}",
            argument="config",
            value=config,
            cure=f"give training.{known[method].__name__}(...)",
        )
    return whole
