"""What a training is told: one frozen dataclass per method, the data, and the run.

A TOML file mirrors them, ``[method]``, ``[data]`` and ``[run]``. What stands in ``[run]`` may
change how fast a training is, and how it is told of, but not what is learned.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from xharmonize.errors import ModelError, OptionError, UnknownModelError, suggest
from xharmonize.models.card import Matching, Part, Within

Name = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,200}")]
Split = Literal["date", "block", "scene", "random"]


class Settings(Part):
    """A frozen dataclass whose wrong values are an `OptionError`."""

    def __post_init__(self) -> None:
        """Refuse values of wrong types or out of bounds."""
        try:
            super().__post_init__()
        except ModelError as error:
            what = error.what.removeprefix(f"{type(self).__name__}: ")
            raise OptionError(f"{type(self).__name__}: {what}", cure=error.cure) from None


@dataclass(frozen=True, kw_only=True)
class Method(Settings):
    """What all networks are told.

    Attributes
    ----------
    seed : int
        Of initial weights, order of samples and augmentation.
    steps : int
        Most steps of the optimiser; early stopping may end before.
    batch : int
        Samples a step, over all ranks and accumulations.
    accumulate : int
        Parts that a batch is computed in, where memory is short.
    learning_rate, weight_decay : float
        Of the generator's optimiser.
    date_weight : float
        Weight of the part of the residual that is its date's mean: below 1 a network learns what
        differs within dates rather than the levels of those few it has seen. 1 is a plain mean.
    ema : float
        Decay of the moving average of weights that is scored and kept; 0 keeps the last weights.
    evaluate : int
        Steps between scores on held-out samples.
    patience : int
        Evaluations without a better score after which training ends; 0 never stops early.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """Where `describe` and `make` of the method stand."""

    seed: Annotated[int, Within(0, 2**31)] = 0
    steps: Annotated[int, Within(1, 10**8)] = 400
    batch: Annotated[int, Within(1, 2**16)] = 8
    accumulate: Annotated[int, Within(1, 1024)] = 1
    learning_rate: Annotated[float, Within(1e-8, 1.0)] = 1e-3
    weight_decay: Annotated[float, Within(0.0, 1.0)] = 0.0
    date_weight: Annotated[float, Within(0.0, 1.0)] = 0.1
    ema: Annotated[float, Within(0.0, 0.99999)] = 0.99
    evaluate: Annotated[int, Within(1, 10**6)] = 25
    patience: Annotated[int, Within(0, 10**6)] = 8

    def check(self) -> None:
        """Refuse a batch that has no equal parts."""
        if self.batch % self.accumulate:
            raise OptionError(
                f"a batch of {self.batch} has no {self.accumulate} equal parts",
                cure="make batch a multiple of accumulate",
            )


@dataclass(frozen=True, kw_only=True)
class SmallConv(Method):
    """A few 3 x 3 convolutions at the target's pixel size, added to a fitted line.

    Attributes
    ----------
    width, depth : int
        Channels and number of convolutions: an output pixel sees ``2 depth + 1`` target pixels.
    base : {"line", "mean"}
        What the network adds to: a line fitted on the training samples, or the area-weighted mean.
    """

    name: ClassVar[str] = "small-conv"
    module: ClassVar[str] = "xharmonize.training.methods.small_conv"
    width: Annotated[int, Within(1, 512)] = 32
    depth: Annotated[int, Within(1, 8)] = 3
    base: Literal["line", "mean"] = "line"


# Options of the methods below are those of their modules in `training/methods`.
@dataclass(frozen=True, kw_only=True)
class Mgan(Method):
    """The dual-resolution U-Net of paper 000 against a PatchGAN."""

    name: ClassVar[str] = "mgan"
    module: ClassVar[str] = "xharmonize.training.methods.mgan"
    width: Annotated[int, Within(1, 512)] = 32


@dataclass(frozen=True, kw_only=True)
class HlsGan(Method):
    """HLS-GAN of paper 001."""

    name: ClassVar[str] = "hls-gan"
    module: ClassVar[str] = "xharmonize.training.methods.mgan"


@dataclass(frozen=True, kw_only=True)
class Pix2pix(Method):
    """The conditional GAN that paper 000 builds on."""

    name: ClassVar[str] = "pix2pix"
    module: ClassVar[str] = "xharmonize.training.methods.mgan"


@dataclass(frozen=True, kw_only=True)
class Tables(Method):
    """The table family of paper 002; its four members differ in two options."""

    name: ClassVar[str] = "tile-lut-conv"
    module: ClassVar[str] = "xharmonize.training.methods.tables"


@dataclass(frozen=True, kw_only=True)
class Data(Settings):
    """Which samples are cut from the pairs, and which are held out.

    Attributes
    ----------
    patch : int
        Side of a sample [target pixels].
    stride : int, optional
        From one sample to the next; by default half a patch.
    min_valid : float
        Minimum fraction of a sample's target pixels that both sensors saw.
    source_bands, target_bands : tuple of str
        Bands that the network is given, and those it gives; by default all.
    max_cloud : float
        Pairs of which a larger fraction is missing on either side are left out.
    clip : (float, float)
        Percentiles to which training samples are clipped per band; held-out ones never are.
    split : {"date", "block", "scene", "random"}
        What is held out as a whole: dates of the target, spatial blocks, or scenes (place and
        date). ``"random"`` patches overlap those trained on; it only shows what such a leak gives.
        By default dates, blocks where there is one date.
    holdout : tuple of str
        Target dates or blocks (``"3/5"``, row and column) to test on. By default the share `test`
        of them, drawn with the seed.
    validation, test : float
        Shares of the groups that decide when to stop, and that are scored at the end.
    block : float
        Side of a spatial block [m].
    guard : float
        Width of the ring around held-out blocks that is not trained on [m].
    seed : int
        Of the split.
    """

    patch: Annotated[int, Within(1, 4096)] = 16
    stride: Annotated[int, Within(1, 4096)] | None = None
    source_bands: tuple[Name, ...] = ()
    target_bands: tuple[Name, ...] = ()
    min_valid: Annotated[float, Within(0.0, 1.0)] = 0.8
    max_cloud: Annotated[float, Within(0.0, 1.0)] = 0.3
    clip: tuple[Annotated[float, Within(0.0, 50.0)], Annotated[float, Within(50.0, 100.0)]] = (
        1.0,
        99.0,
    )
    split: Split | None = None
    holdout: tuple[Name, ...] = ()
    validation: Annotated[float, Within(0.0, 0.5)] = 0.2
    test: Annotated[float, Within(0.0, 0.5)] = 0.2
    block: Annotated[float, Within(1.0, 1e6)] = 2000.0
    guard: Annotated[float, Within(0.0, 1e6)] = 200.0
    seed: Annotated[int, Within(0, 2**31)] = 0


@dataclass(frozen=True, kw_only=True)
class Run(Settings):
    """How a training runs; no option of it changes what is learned but by rounding.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}
        Where networks are trained.
    precision : {"float32", "bfloat16"}
        Of products on a GPU; the CPU always computes in float32.
    threads : int
        Of torch on the CPU. Sums depend on it in their last bits: a training resumes bit for bit
        with as many as it began with.
    save : int
        Steps between checkpoints.
    log : int
        Steps between lines of the log.
    tensorboard : bool
        Whether to write for TensorBoard too, if it is installed.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Within(1, 1024)] = 1
    save: Annotated[int, Within(1, 10**6)] = 100
    log: Annotated[int, Within(1, 10**6)] = 10
    tensorboard: bool = True


NETWORKS: dict[str, type[Method]] = {
    one.name: one for one in (SmallConv, Mgan, HlsGan, Pix2pix, Tables)
}
"""Methods that are trained step by step."""


Weight = Literal["pixel", "pair"]


@dataclass(frozen=True, kw_only=True)
class Closed(Settings):
    """What is solved at once, by a function of the library that its docstring names."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Ols(Closed):
    """A line per band by least squares: `xharmonize.fit_linear`."""

    name: ClassVar[str] = "ols"
    weight: Weight = "pixel"


@dataclass(frozen=True, kw_only=True)
class MultiOls(Closed):
    """Every target band from all source bands: ``fit_linear(method="multiband")``."""

    name: ClassVar[str] = "multi-ols"
    weight: Weight = "pixel"
    ridge: Annotated[float, Within(0.0, 1e6)] = 0.0


@dataclass(frozen=True, kw_only=True)
class Deming(Closed):
    """A line per band that allows for errors on both sides: ``fit_linear(method="deming")``."""

    name: ClassVar[str] = "deming"
    weight: Weight = "pixel"
    ratio: Annotated[float, Within(1e-6, 1e6)] = 1.0


@dataclass(frozen=True, kw_only=True)
class PerPixel(Closed):
    """A line per pixel: `xharmonize.fit_pixelwise`."""

    name: ClassVar[str] = "per-pixel"
    n_min: Annotated[int, Within(2, 10**4)] = 4
    fallback: Literal["none", "line"] = "line"


@dataclass(frozen=True, kw_only=True)
class HistogramMatching(Closed):
    """The source's distribution becomes the target's: `xharmonize.fit_histogram`."""

    name: ClassVar[str] = "histogram-matching"
    per: Literal["source", "date"] = "source"


@dataclass(frozen=True, kw_only=True)
class Auto(Closed):
    """The fixed recipe of `xharmonize.harmonizers.auto.fit_auto`.

    Attributes
    ----------
    allow_one_pair : bool
        Whether to fit on one pair alone, which is refused otherwise.
    """

    name: ClassVar[str] = "auto"
    allow_one_pair: bool = False


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
    known = {**CLOSED, **NETWORKS}
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


def from_toml(path: str | os.PathLike[str]) -> Config:
    """Read a configuration from a TOML file with ``[method]``, ``[data]`` and ``[run]``.

    ``[method]`` has the method's ``name`` and its options. Other tables are left to others.

    Raises
    ------
    OptionError
        If a key is unknown, with the nearest name, or a value is of a wrong type or out of bounds.
    UnknownModelError
        If no method has that name.
    """
    return from_tables(read_toml(path), os.fspath(path))


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    OptionError
        If it cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{os.fspath(path)} cannot be read: {error}") from error


def from_tables(tables: Mapping[str, Any], where: str) -> Config:
    """Return the configuration of tables as `from_toml` reads them."""
    own = dict(_table(tables, "method", where))
    name = own.pop("name", None)
    kind = type(settle(name, None).method)
    return Config(
        method=_made(kind, own, f"{where}: [method]"),
        data=_made(Data, _table(tables, "data", where), f"{where}: [data]"),
        run=_made(Run, _table(tables, "run", where), f"{where}: [run]"),
    )


def _table(tables: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, Mapping):
        raise OptionError(f"{where}: {name} is {found!r}", cure=f"write it as a table, [{name}]")
    return found


def _made(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of plain values; unknown keys are refused."""
    known = [one.name for one in fields(kind)]
    for key in values:
        if key not in known:
            raise OptionError(
                f"{where} has no {key!r}",
                cure=f"{suggest(key, known)}it has {', '.join(known)}",
            )
    try:
        return kind(**values)
    except OptionError as error:
        raise OptionError(f"{where}: {error.what}", cure=error.cure) from None


def to_toml(config: Config) -> str:
    """Return a configuration as TOML; `from_toml` reads the same back."""
    lines = []
    for name in ("method", "data", "run"):
        part = getattr(config, name)
        lines.append(f"[{name}]")
        if name == "method":
            lines.append(f"name = {_toml(part.name)}")
        lines += [f"{key} = {_toml(v)}" for key, v in asdict(part).items() if v is not None]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # of numbers, truths and texts: the same in both
