"""What a training is told: one frozen dataclass per method, the data, and the run.

A TOML file mirrors them, ``[method]``, ``[data]`` and ``[run]``. What stands in ``[run]`` may
change how fast a training is, and how it is told of, but not what is learned.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from xharmonize.errors import ModelError, OptionError
from xharmonize.models.card import Part, Within

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
    min_valid: Annotated[float, Within(0.0, 1.0)] = 0.8
    max_cloud: Annotated[float, Within(0.0, 1.0)] = 0.3
    clip: tuple[Annotated[float, Within(0.0, 50.0)], Annotated[float, Within(50.0, 100.0)]] = (
        1.0,
        99.0,
    )
    split: Split | None = None
    holdout: tuple[str, ...] = ()
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


def read_toml(path: Path) -> Mapping[str, Any]:
    """Read a TOML file."""
    with path.open("rb") as file:
        return tomllib.load(file)


__all__ = [
    "NETWORKS",
    "Config",
    "Data",
    "HlsGan",
    "Method",
    "Mgan",
    "Pix2pix",
    "Run",
    "Settings",
    "SmallConv",
    "Split",
    "Tables",
    "read_toml",
]


@dataclass(frozen=True, kw_only=True)
class Config:
    """All that a training is told.

    Attributes
    ----------
    method : Method
    data : Data
    run : Run
    """

    method: Any
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)
