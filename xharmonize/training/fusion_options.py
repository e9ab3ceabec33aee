"""Options of networks of several cubes: one frozen dataclass per method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from xharmonize.errors import OptionError
from xharmonize.models.card import Within
from xharmonize.training.network_options import Gan, Pix2pix
from xharmonize.training.settings import AS_PRINTED, Method

OVER_TIME = ("reference", "sentinel1", "sentinel1_reference")
"""What methods of several dates are given (paper 004, section 2.2)."""
AT_ONE_TIME = ("sentinel1",)
"""What methods of one date are given."""


@dataclass(frozen=True, kw_only=True)
class Esrcnn(Method):
    """ESRCNN: three convolutions of 9, 5 and 5 pixels over all inputs.

    Options that all networks have, such as `steps` and `batch`, stand in `Method`. Train it on
    ``xh.training.collect_sources(landsat, degrade=3, fine=...)``. `Esrcnn.printed`: no base,
    squared error, Adam 1e-4.

    Attributes
    ----------
    width, narrow : int
        Channels after the first and the second convolution.
    base : {"cube", "none"}
        What the network adds to: the cube's bands, resampled by cubic convolution, or nothing.
    loss : {"absolute", "squared"}
        Of the residual.
    """

    name: ClassVar[str] = "esrcnn"
    module: ClassVar[str] = "xharmonize.training.methods.detail"
    architecture: ClassVar[str] = "esrcnn"
    passed: ClassVar[tuple[str, ...]] = ("width", "narrow", "base")
    width: Annotated[int, Within(1, 512)] = 64
    narrow: Annotated[int, Within(1, 512)] = 32
    base: Literal["cube", "none"] = "cube"
    loss: Literal["absolute", "squared"] = "absolute"
    date_weight: Annotated[float, Within(0.0, 1.0)] = 1.0
    as_printed: ClassVar[dict[str, Any]] = AS_PRINTED | {
        "base": "none",
        "loss": "squared",
        "learning_rate": 1e-4,
    }


@dataclass(frozen=True, kw_only=True)
class Dstfn(Method):
    """DSTFN (paper 003), one of its two stages: residual dense blocks with attention.

    Stage 1 is trained on ``xh.training.collect_sources(twenty, degrade=2, fine=ten)``, stage 2 on
    ``collect_sources(landsat, degrade=3, fine=sentinel2, pan=pan)``. The loss is the paper's: L1,
    Frobenius and degradation terms, each weighted by its share of their sum, which has no gradient
    of its own. `Dstfn.printed`: 64 filters, three blocks after the first. Not printed are growth
    rate, optimiser, its rate, batches and epochs: Adam 1e-4, batches of 16 and 100 epochs are our
    choice.

    Attributes
    ----------
    width, growth, blocks : int
        Channels of features; those that each convolution of a block adds; blocks that the joined
        features pass.
    base : {"cube", "none"}
        What the network adds to: the cube's bands, resampled by cubic convolution, or nothing.
    loss : {"adaptive", "absolute"}
        The paper's three terms, or the first alone.
    """

    name: ClassVar[str] = "dstfn"
    module: ClassVar[str] = "xharmonize.training.methods.detail"
    architecture: ClassVar[str] = "dstfn"
    passed: ClassVar[tuple[str, ...]] = ("width", "growth", "blocks", "base")
    width: Annotated[int, Within(1, 256)] = 16
    growth: Annotated[int, Within(1, 256)] = 8
    blocks: Annotated[int, Within(1, 16)] = 3
    base: Literal["cube", "none"] = "cube"
    loss: Literal["adaptive", "absolute"] = "adaptive"
    date_weight: Annotated[float, Within(0.0, 1.0)] = 1.0
    as_printed: ClassVar[dict[str, Any]] = AS_PRINTED | {
        "width": 64,
        "growth": 32,
        "learning_rate": 1e-4,
        "batch": 16,
        "epochs": 100,
    }


@dataclass(frozen=True, kw_only=True)
class MccGan(Pix2pix):
    """MCcGAN (paper 004): pix2pix over Sentinel-1 at two dates and Sentinel-2 at one of them.

    A U-Net of 16 layers, eight down and eight up, for patches of 256 pixels (fewer where patches
    are smaller), against a PatchGAN of five convolutions that sees its inputs too. Train it on
    ``xh.training.collect_sources(clear, reference=..., sentinel1=..., sentinel1_reference=...)``.
    `MccGan.printed`: 256-pixel patches are ``Data(patch=256, stride=128)``; what the paper leaves
    out (weights of losses, optimiser) is pix2pix's.
    """

    name: ClassVar[str] = "mccgan"
    roles: ClassVar[tuple[str, ...]] = OVER_TIME
    date_weight: Annotated[float, Within(0.0, 1.0)] = 1.0


@dataclass(frozen=True, kw_only=True)
class _FlatGan(Gan):
    """A generator that is no U-Net: it has no depth."""

    max_depth: ClassVar[int] = 0
    last: ClassVar[tuple[str, ...]] = ("last.weight", "last.bias")
    adversary: Literal["relativistic", "absolute", "squares", "none"] = "absolute"
    conditional: bool = True
    discriminator_weight: Annotated[float, Within(0.0, 1e3)] = 0.5
    date_weight: Annotated[float, Within(0.0, 1.0)] = 1.0

    def check(self) -> None:
        """Refuse a depth."""
        super().check()
        if self.depth is not None:
            raise OptionError(
                f"{self.name!r} is no U-Net",
                argument="depth",
                value=self.depth,
                cure="leave it out",
            )


_PIX2PIX = {
    name: value
    for name, value in Pix2pix.as_printed.items()
    if name not in ("norm", "dropout", "width")
}


@dataclass(frozen=True, kw_only=True)
class MtcGan(_FlatGan):
    """MTcGAN: the inputs of `MccGan` through residual blocks, against a PatchGAN.

    `MtcGan.printed`: 64 channels, nine blocks, instance normalisation and tanh, as the generator
    of CycleGAN, and the rest as pix2pix.

    Attributes
    ----------
    blocks : int
        Residual blocks.
    norm : {"instance", "batch", "none"}
        After the generator's convolutions.
    """

    name: ClassVar[str] = "mtcgan"
    module: ClassVar[str] = "xharmonize.training.methods.gan"
    architecture: ClassVar[str] = "resnet-generator"
    roles: ClassVar[tuple[str, ...]] = OVER_TIME
    passed: ClassVar[tuple[str, ...]] = (*Gan.passed, "blocks", "norm")
    width: Annotated[int, Within(1, 256)] = 16
    blocks: Annotated[int, Within(1, 16)] = 4
    norm: Literal["instance", "batch", "none"] = "none"
    as_printed: ClassVar[dict[str, Any]] = _PIX2PIX | {
        "width": 64,
        "blocks": 9,
        "norm": "instance",
    }


@dataclass(frozen=True, kw_only=True)
class DcstfnOs(_FlatGan):
    """DCSTFN-OS: features of the reference plus the change of Sentinel-1's, against a PatchGAN.

    `DcstfnOs.printed`: widths 32, 64, 128, and the adversary of pix2pix.

    Attributes
    ----------
    blocks : int
        Residual blocks of each encoder.
    """

    name: ClassVar[str] = "dcstfn-os"
    module: ClassVar[str] = "xharmonize.training.methods.gan"
    architecture: ClassVar[str] = "dcstfn"
    roles: ClassVar[tuple[str, ...]] = OVER_TIME
    passed: ClassVar[tuple[str, ...]] = ("width", "output_activation", "base", "blocks")
    width: Annotated[int, Within(1, 256)] = 16
    blocks: Annotated[int, Within(0, 16)] = 0
    as_printed: ClassVar[dict[str, Any]] = _PIX2PIX | {"width": 32}

    def check(self) -> None:
        """Refuse dropout, which its generator has not."""
        super().check()
        if self.dropout:
            raise OptionError(
                f"the generator of {self.name!r} has no layer for it",
                argument="dropout",
                value=self.dropout,
                cure="leave it out",
            )


@dataclass(frozen=True, kw_only=True)
class RdcstfnOs(DcstfnOs):
    """RDCSTFN-OS: `DcstfnOs` with residual blocks in its encoders."""

    name: ClassVar[str] = "rdcstfn-os"
    blocks: Annotated[int, Within(0, 16)] = 2


@dataclass(frozen=True, kw_only=True)
class CycleGan(_FlatGan):
    """CycleGAN: from Sentinel-1 of one date, and back, without pairs.

    No loss compares a prediction with its own target: two discriminators say how real images of
    either kind look, and an image that went there and back has to be the same. Held-out pairs say
    when to stop, and are scored. `CycleGan.printed`: 64 channels, nine blocks, instance
    normalisation, least-squares adversaries, weight 10 of the cycle, Adam 2e-4 with β1 0.5,
    batches of one. Its memory of past predictions is left out.

    Attributes
    ----------
    blocks : int
        Residual blocks of both generators.
    norm : {"instance", "batch", "none"}
        After the generators' convolutions.
    cycle_weight : float
        Weight of what a cycle changes.
    """

    name: ClassVar[str] = "cyclegan"
    module: ClassVar[str] = "xharmonize.training.methods.cycle"
    architecture: ClassVar[str] = "resnet-generator"
    roles: ClassVar[tuple[str, ...]] = AT_ONE_TIME
    passed: ClassVar[tuple[str, ...]] = (*Gan.passed, "blocks", "norm")
    width: Annotated[int, Within(1, 256)] = 16
    blocks: Annotated[int, Within(1, 16)] = 4
    norm: Literal["instance", "batch", "none"] = "instance"
    adversary: Literal["absolute", "squares"] = "squares"
    base: Literal["line", "none"] = "none"
    conditional: bool = False
    l1_weight: Annotated[float, Within(0.0, 1e6)] = 0.0
    cycle_weight: Annotated[float, Within(0.0, 1e6)] = 10.0
    warm_up: Annotated[int, Within(0, 10**8)] = 0
    ramp: Annotated[int, Within(0, 10**8)] = 0
    as_printed: ClassVar[dict[str, Any]] = _PIX2PIX | {
        "width": 64,
        "blocks": 9,
        "adversary": "squares",
        "discriminator_norm": "instance",
    }

    def check(self) -> None:
        """Refuse what has no meaning without pairs."""
        super().check()
        wrong = {"conditional": self.conditional}
        if type(self) is CycleGan:
            wrong |= {"l1_weight": self.l1_weight > 0, "base": self.base == "line"}
        for name, is_given in wrong.items():
            if is_given:
                raise OptionError(
                    f"compares a prediction with its own target, which {self.name!r} does not",
                    argument=name,
                    value=getattr(self, name),
                    cure="leave it out, or train 's-cyclegan'",
                )


@dataclass(frozen=True, kw_only=True)
class SCycleGan(CycleGan):
    """S-CycleGAN: `CycleGan` trained on pairs, with the L1 loss of pix2pix besides."""

    name: ClassVar[str] = "s-cyclegan"
    l1_weight: Annotated[float, Within(0.0, 1e6)] = 100.0
    base: Literal["line", "none"] = "line"
    as_printed: ClassVar[dict[str, Any]] = CycleGan.as_printed | {"l1_weight": 100.0}
