"""Options of networks that harmonise: one frozen dataclass per method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from xharmonize.errors import OptionError
from xharmonize.models.card import Sized, Within
from xharmonize.training.settings import AS_PRINTED, Method


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
    adversary : {"relativistic", "absolute", "squares", "none"}
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
    """Most levels of its U-Net; 0: it is none."""
    passed: ClassVar[tuple[str, ...]] = ("width", "dropout", "output_activation", "base")
    """Options that are the architecture's."""
    last: ClassVar[tuple[str, ...]] = ("body.up.weight", "body.up.bias")
    """Weights of the last layer, which begin at zero beside a line."""
    width: Annotated[int, Within(1, 256)] = 32
    depth: Annotated[int, Within(2, 9)] | None = None
    dropout: Annotated[float, Within(0.0, 0.9)] = 0.0
    output_activation: Literal["identity", "tanh"] = "identity"
    base: Literal["line", "none"] = "line"
    adversary: Literal["relativistic", "absolute", "squares", "none"] = "relativistic"
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
    passed: ClassVar[tuple[str, ...]] = (*Gan.passed, "norm", "noise")
    norm: Literal["batch", "instance", "none"] = "none"
    noise: Annotated[int, Within(0, 16)] = 0
    adversary: Literal["relativistic", "absolute", "squares", "none"] = "absolute"
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
    roles: ClassVar[tuple[str, ...]] = ("cube",)
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
