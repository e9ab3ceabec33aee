"""What a training is told: one frozen dataclass per method, the data, and the run.

A TOML file mirrors them, ``[method]``, ``[data]`` and ``[run]``. What stands in ``[run]`` may
change how fast a training is, and how it is told of, but not what is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from xharmonize.errors import ModelError, OptionError, UnknownModelError, suggest
from xharmonize.models.card import Matching, Part, Sized, Within

Name = Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,200}")]
Url = Annotated[str, Matching(r"[a-z][a-z0-9+.-]*(://|::)[^\x00-\x1f\x7f]{1,1000}")]
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
    epochs : int
        Passes over the training samples, instead of `steps`; 0: `steps` says how long.
    batch : int
        Samples a step, over all ranks: a multiple of their number.
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
    as_printed: ClassVar[dict[str, Any]] = {}
    """Options that a paper prints, where they differ from the defaults: the recipe that works."""

    seed: Annotated[int, Within(0, 2**31)] = 0
    steps: Annotated[int, Within(1, 10**8)] = 400
    epochs: Annotated[int, Within(0, 10**6)] = 0
    batch: Annotated[int, Within(1, 2**16)] = 8
    learning_rate: Annotated[float, Within(1e-8, 1.0)] = 1e-3
    weight_decay: Annotated[float, Within(0.0, 1.0)] = 0.0
    date_weight: Annotated[float, Within(0.0, 1.0)] = 0.1
    ema: Annotated[float, Within(0.0, 0.99999)] = 0.99
    evaluate: Annotated[int, Within(1, 10**6)] = 25
    patience: Annotated[int, Within(0, 10**6)] = 8

    @classmethod
    def printed(cls, **changes: Any) -> Self:
        """Return the method as its paper prints it, but for `changes`.

        Raises
        ------
        OptionError
            If no paper has it, or an option has a wrong value.
        """
        if not cls.as_printed:
            raise OptionError(f"{cls.name} is in no paper", cure=f"give {cls.__name__}()")
        options = cls.as_printed | changes
        if "steps" in changes and "epochs" not in changes:  # either says how long
            options["epochs"] = 0
        return cls(**options)

    def for_samples(self, n: int) -> Self:
        """Return the method with the steps that its epochs take.

        Parameters
        ----------
        n : int
            Number of training samples.
        """
        if not self.epochs:
            return self
        return replace(self, steps=max(1, -(-self.epochs * n // self.batch)))


@dataclass(frozen=True, kw_only=True)
class SmallConv(Method):
    """A few 3 x 3 convolutions at the target's pixel size, added to a fitted line.

    Options that all networks have, such as `steps` and `batch`, stand in `Method`.

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


Policies = Annotated[tuple[Literal["color", "translation", "cutout"], ...], Sized(3)]


@dataclass(frozen=True, kw_only=True)
class Gan(Method):
    """A generator, with or without a PatchGAN against it.

    Options that all networks have, such as `steps` and `batch`, stand in `Method`.

    Attributes
    ----------
    width : int
        Channels of the generator's outermost level.
    depth : int, optional
        Times it halves; by default as often as patches allow, to the published number at most.
    dropout : float
        Share of values dropped in the generator's inner levels.
    output_activation : {"identity", "tanh"}
        Last layer.
    base : {"line", "none"}
        What the network adds to: a line fitted on the training samples, or nothing.
    adversary : {"relativistic", "absolute", "none"}
        How the two are set against each other; see `losses.discriminator_loss`. ``"none"`` trains
        on the L1 loss alone: what an adversary adds is seen beside it.
    l1_weight : float
        Weight of the L1 loss, beside 1 for the adversary's.
    warm_up, ramp : int
        Steps of L1 alone, and steps after it over which the adversary's weight grows to 1.
    discriminator_width, discriminator_depth : int
        Channels of the first convolution, and convolutions of stride 2 (by default three, fewer
        where patches are too small).
    discriminator_norm : {"instance", "batch", "none"}
        After its convolutions.
    discriminator_weight : float
        Of its loss. pix2pix halves it.
    spectral : bool
        Spectral normalisation of its kernels.
    conditional : bool
        Whether it sees the source beside the target, as its means over target pixels.
    augmentation : tuple of {"color", "translation", "cutout"}
        What is varied before it sees images (`augment`).
    beta1 : float
        Decay of both optimisers' first moments.
    scale_learning_rate : bool
        Whether the learning rate is multiplied by the number of ranks.
    scaling : {"deviation", "largest", "range"}
        What values are divided by; see `cards.Scaling`.
    initial : {"glorot", "normal"}
        Initial weights: Glorot-uniform, or normal with a standard deviation of 0.02.
    """

    architecture: ClassVar[str]
    max_depth: ClassVar[int]
    width: Annotated[int, Within(1, 256)] = 32
    depth: Annotated[int, Within(2, 9)] | None = None
    dropout: Annotated[float, Within(0.0, 0.9)] = 0.0
    output_activation: Literal["identity", "tanh"] = "identity"
    base: Literal["line", "none"] = "line"
    adversary: Literal["relativistic", "absolute", "none"] = "relativistic"
    l1_weight: Annotated[float, Within(0.0, 1e6)] = 100.0
    warm_up: Annotated[int, Within(0, 10**8)] = 100
    ramp: Annotated[int, Within(0, 10**8)] = 100
    discriminator_width: Annotated[int, Within(1, 512)] = 32
    discriminator_depth: Annotated[int, Within(1, 6)] | None = None
    discriminator_norm: Literal["instance", "batch", "none"] = "instance"
    discriminator_weight: Annotated[float, Within(0.0, 1e3)] = 1.0
    spectral: bool = True
    conditional: bool = False
    augmentation: Policies = ("color", "translation", "cutout")
    beta1: Annotated[float, Within(0.0, 0.999)] = 0.9
    scale_learning_rate: bool = False
    scaling: Literal["deviation", "largest", "range"] = "deviation"
    initial: Literal["glorot", "normal"] = "glorot"
    learning_rate: Annotated[float, Within(1e-8, 1.0)] = 2e-4


AS_PRINTED: dict[str, Any] = {"date_weight": 1.0, "ema": 0.0, "patience": 0}
"""What no paper of these has: a weight of dates, averaged weights, early stopping on dates."""


@dataclass(frozen=True, kw_only=True)
class Mgan(Gan):
    """The dual-resolution U-Net of MGAN (paper 000) against a PatchGAN.

    Inputs of several pixel sizes have a stem each; of pairs of one pixel size it is the 1:1
    variant. The defaults are the recipe that works; `Mgan.printed` has what the paper prints: width
    64, tanh, no line, L1 × 100 (λ is not printed: pix2pix's), dropout as pix2pix (not printed),
    Glorot, Adam 1e-4 × ranks, batches of 16, 100 epochs, an adversary from the first step.
    """

    name: ClassVar[str] = "mgan"
    module: ClassVar[str] = "xharmonize.training.methods.gan"
    architecture: ClassVar[str] = "mgan-unet"
    max_depth: ClassVar[int] = 7
    as_printed: ClassVar[dict[str, Any]] = AS_PRINTED | {
        "width": 64,
        "dropout": 0.5,
        "output_activation": "tanh",
        "base": "none",
        "warm_up": 0,
        "ramp": 0,
        "discriminator_width": 64,
        "learning_rate": 1e-4,
        "scale_learning_rate": True,
        "scaling": "largest",
        "batch": 16,
        "epochs": 100,
    }


@dataclass(frozen=True, kw_only=True)
class Pix2pix(Gan):
    """The conditional GAN that MGAN builds on, for pairs of one pixel size.

    Finer inputs are averaged to the target's pixels. `Pix2pix.printed`: U-Net-256 (fewer levels
    where patches are smaller), batch normalisation, dropout 0.5, L1 × 100, the discriminator's loss
    halved, Adam 2e-4 with β1 0.5, normal initial weights, batches of one, 200 epochs.

    Attributes
    ----------
    norm : {"batch", "instance", "none"}
        After the generator's convolutions.
    noise : int
        Channels of noise beside the inputs, in training.
    """

    name: ClassVar[str] = "pix2pix"
    module: ClassVar[str] = "xharmonize.training.methods.gan"
    architecture: ClassVar[str] = "pix2pix"
    max_depth: ClassVar[int] = 8
    norm: Literal["batch", "instance", "none"] = "none"
    noise: Annotated[int, Within(0, 16)] = 0
    adversary: Literal["relativistic", "absolute", "none"] = "absolute"
    conditional: bool = True
    discriminator_weight: Annotated[float, Within(0.0, 1e3)] = 0.5
    as_printed: ClassVar[dict[str, Any]] = AS_PRINTED | {
        "width": 64,
        "dropout": 0.5,
        "output_activation": "tanh",
        "base": "none",
        "norm": "batch",
        "warm_up": 0,
        "ramp": 0,
        "discriminator_width": 64,
        "discriminator_norm": "batch",
        "spectral": False,
        "augmentation": (),
        "learning_rate": 2e-4,
        "beta1": 0.5,
        "scaling": "range",
        "initial": "normal",
        "batch": 1,
        "epochs": 200,
    }


@dataclass(frozen=True, kw_only=True)
class HlsGan(Pix2pix):
    """HLS-GAN (paper 001): pix2pix with noise, between HLS products of 30 m, 128-pixel windows.

    The paper prints the noise, windows, 45,000 iterations and the range −1…1; what is not printed
    is pix2pix's.
    """

    name: ClassVar[str] = "hls-gan"
    max_depth: ClassVar[int] = 7
    noise: Annotated[int, Within(0, 16)] = 1
    as_printed: ClassVar[dict[str, Any]] = Pix2pix.as_printed | {
        "noise": 1,
        "steps": 45_000,
        "epochs": 0,
    }


@dataclass(frozen=True, kw_only=True)
class TileLutConv(Method):
    """UNet-LUT (paper 002): tables from the histograms of a tile, and a 3 x 3 convolution after.

    The defaults are the recipe that works: tables and convolution both start at nothing beside a
    fitted line per band, and the convolution may lower values. `TileLutConv.printed`: no line; the
    convolution is followed by batch normalisation, which starts at γ = 1, and ReLU; Adam 1e-3 with
    a weight decay of 1e-4, batches of 4, 200 epochs, early stopping.

    Attributes
    ----------
    adaptive : bool
        Whether tables come from histograms, or are the same everywhere.
    refine : bool
        Whether a 3 x 3 convolution follows.
    width, depth : int
        First level's channels and poolings of the one-dimensional U-Net.
    base : {"line", "ramp", "none"}
        What the tables are added to: a line fitted per band, the identity, nothing.
    refine_scale : float
        Initial scale γ of the convolution's batch normalisation. With 0 it starts at nothing.
    refine_activation : {"identity", "relu"}
        After it. ReLU never lowers a value, and with γ = 0 never learns.
    smooth, monotone : float
        Weights of `losses.roughness` and `losses.decrease`, in units of the output.
    """

    name: ClassVar[str] = "tile-lut-conv"
    module: ClassVar[str] = "xharmonize.training.methods.tables"
    adaptive: bool = True
    refine: bool = True
    width: Annotated[int, Within(1, 256)] = 8
    depth: Annotated[int, Within(1, 8)] = 4
    base: Literal["line", "ramp", "none"] = "line"
    refine_scale: Annotated[float, Within(0.0, 10.0)] = 0.0
    refine_activation: Literal["identity", "relu"] = "identity"
    smooth: Annotated[float, Within(0.0, 1e3)] = 0.01
    monotone: Annotated[float, Within(0.0, 1e3)] = 0.01
    weight_decay: Annotated[float, Within(0.0, 1.0)] = 1e-4
    as_printed: ClassVar[dict[str, Any]] = AS_PRINTED | {
        "base": "none",
        "refine_scale": 1.0,
        "refine_activation": "relu",
        "batch": 4,
        "epochs": 200,
        "patience": 8,
    }

    def check(self) -> None:
        """Refuse a convolution that could not learn."""
        super().check()
        if self.refine and not self.refine_scale and self.refine_activation == "relu":
            raise OptionError(
                "a convolution that starts at 0 before ReLU never learns: its gradient is 0",
                argument="refine_scale",
                value=self.refine_scale,
                cure="give refine_activation='identity', or refine_scale above 0",
            )


@dataclass(frozen=True, kw_only=True)
class TileLut(TileLutConv):
    """UNet-LUT without the convolution; see `TileLutConv`."""

    name: ClassVar[str] = "tile-lut"
    refine: bool = False


@dataclass(frozen=True, kw_only=True)
class GlobalLutConv(TileLutConv):
    """One table per band for all tiles, and a 3 x 3 convolution after; see `TileLutConv`."""

    name: ClassVar[str] = "global-lut-conv"
    adaptive: bool = False


@dataclass(frozen=True, kw_only=True)
class GlobalLut(TileLutConv):
    """One table per band for all tiles, learnt; see `TileLutConv` and `xharmonize.fit_lut`."""

    name: ClassVar[str] = "global-lut"
    adaptive: bool = False
    refine: bool = False


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
        By default dates, blocks where there are fewer than three.
    holdout : tuple of str
        Target dates or blocks (``"3/5"``, row and column) to test on. By default the share `test`
        of them, drawn with the seed.
    validation, test : float
        Shares of the groups that decide when to stop, and that are scored at the end.
    block : float
        Side of a spatial block [m].
    guard : float
        Width of the ring around held-out blocks, and around cores of held-out samples that reach
        beyond them, that is not trained on [m].
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
    ranks : int, optional
        Processes that train together on the workers of a cluster; by default one per worker.
    device : {"auto", "cpu", "cuda"}
        Where networks are trained.
    precision : {"float32", "bfloat16"}
        Of products on a GPU; the CPU always computes in float32.
    threads : int
        Of torch on the CPU. Sums depend on it in their last bits: a training resumes bit for bit
        with as many as it began with.
    accumulate : int
        Parts in which a rank computes the generator on its samples, where memory is short; it is
        computed once more in the backward pass. Refused with batch normalisation, whose
        statistics would be those of a part.
    timeout : float
        How long ranks wait for each other before they take one for lost [s].
    wait : float
        How long to wait for workers on which another training runs [s].
    max_restarts : int
        How often to go on from the last checkpoint after workers were lost.
    port : int
        Where rank 0 listens; 0 takes a free port.
    interface : str
        Network interface that ranks use, such as ``"ib0"``; by default that of the workers.
    samples : str, optional
        URL that workers read and write (``"s3://bucket/samples.zarr"``, ``"file:///scratch/..."``),
        where samples lie while a network is trained; by default beside what is written.
    save : int
        Steps between checkpoints.
    log : int
        Steps between lines of the log.
    tensorboard : bool
        Whether to write for TensorBoard too, if it is installed.
    """

    ranks: Annotated[int, Within(1, 2**16)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: Annotated[int, Within(1, 1024)] = 1
    accumulate: Annotated[int, Within(1, 1024)] = 1
    timeout: Annotated[float, Within(0.1, 1e6)] = 60.0
    wait: Annotated[float, Within(0.0, 1e7)] = 3600.0
    max_restarts: Annotated[int, Within(0, 1000)] = 2
    port: Annotated[int, Within(0, 65535)] = 0
    interface: Name | None = None
    samples: Url | None = None
    save: Annotated[int, Within(1, 10**6)] = 100
    log: Annotated[int, Within(1, 10**6)] = 10
    tensorboard: bool = True


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
    )
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
    """A line per pixel: `xharmonize.fit_pixelwise`.

    Attributes
    ----------
    neighbours : bool
        Whether pixels with too few pairs use those of the 3 x 3 pixels around.
    """

    name: ClassVar[str] = "per-pixel"
    n_min: Annotated[int, Within(2, 10**4)] = 4
    fallback: Literal["difference", "line"] = "line"
    neighbours: bool = False


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

    def __post_init__(self) -> None:
        """Refuse settings of samples for what is fitted on all pairs."""
        if isinstance(self.method, Closed) and self.data != Data():
            raise OptionError(
                f"settings of samples were given, and {self.method.name!r} is fitted on all pairs",
                cure="leave data out, or choose the pairs by collect_pairs",
            )


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
