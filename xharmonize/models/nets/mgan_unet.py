"""The generator of MGAN: a U-Net that takes inputs of several pixel sizes.

Each input has a stem that brings it to the pixel size of the target; the stems' channels are
joined and pass through the U-Net of pix2pix, without any normalisation. Sentinel-2's 10 m bands
(n, 4, 384, 384) and 20 m bands (n, 2, 192, 192) thus give Landsat's six bands (n, 6, 128, 128) of
30 m. At 128 x 128 the innermost layer is a single pixel; larger sides that are multiples of 128
work too, since every layer is a convolution. An input of the target's own pixels has a stem too:
the 1:1 variant, for pairs of one pixel size.

With ``base="line"`` the U-Net is added to a line of all bands over their area-weighted means,
which was fitted beforehand: its detail does not have to pass the first convolution, which halves
the sides and has `width` channels for the 24 numbers of 2 x 2 pixels of six bands.

References
----------
Isola, P. et al. (2017), Image-to-image translation with conditional adversarial networks, CVPR,
doi:10.1109/CVPR.2017.632. The dual-resolution inputs follow the MGAN for Landsat-8 and Sentinel-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.errors import ModelError
from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets.draws import SampleDropout
from xharmonize.models.nets.layers import NORMS, Line, area_means

ACTIVATIONS = {"tanh": nn.Tanh, "identity": nn.Identity, "sigmoid": nn.Sigmoid}
HYPERPARAMETERS = {
    "width": Parameter(default=64, low=1, high=256),
    "depth": Parameter(default=7, low=2, high=9),
    "max_factor": Parameter(default=8, low=1, high=16),
    "dropout": Parameter(default=0.5, low=0.0, high=0.9),
    "output_activation": Parameter(default="tanh", choices=tuple(ACTIVATIONS)),
    "base": Parameter(default="none", choices=("none", "line")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return MganUNet(inputs, len(card.output.bands), **values)


class Stem(nn.Module):
    """Bring one input to the target's pixels: nearest to a common pixel size, then one convolution.

    With p/q input pixels per target pixel, each is first repeated q times a side, then a kernel of
    p + 2 with stride p sees the target pixel's own p x p and one pixel around it.

    A transposed convolution in place of the repetition would have other weights for odd and even
    pixels: at 20 m to 30 m, target pixels alternate between two places relative to the input, and
    a flat field would come out as a checkerboard of period 2. Repetition keeps it flat, and the
    area-weighted mean is among the kernels.
    """

    def __init__(self, channels: int, ratio: Fraction) -> None:
        super().__init__()
        self.repeat = ratio.denominator
        stride = ratio.numerator
        self.convolution = nn.Conv2d(channels, channels, stride + 2, stride, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, channel, y / ratio, x / ratio)."""
        if self.repeat > 1:
            image = nn.functional.interpolate(image, scale_factor=self.repeat, mode="nearest")
        output: Tensor = self.convolution(image)
        return output


class Level(nn.Module):
    """One level of the U-Net: halve, let the levels below work, double, join what was skipped.

    Parameters
    ----------
    outer : int
        Channels that come in, and that go out before the skip is joined.
    inner : int
        Channels at half the side.
    below : Level, optional
        The next level; None for the innermost.
    outputs : int, optional
        Channels that go out, where they are not `outer`: the outermost level.
    dropout : float
        Share of values dropped in training.
    norm : {"none", "batch", "instance"}
        After each convolution but those of the outermost level and the innermost one down.
    """

    def __init__(
        self,
        outer: int,
        inner: int,
        below: Level | None,
        *,
        outputs: int | None = None,
        dropout: float = 0.0,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.is_outermost = outputs is not None
        has_bias = norm != "batch"  # which takes the mean away
        above = inner if below is None else 2 * inner
        self.down = nn.Conv2d(outer, inner, 4, 2, padding=1, bias=has_bias)
        self.below = below
        self.up = nn.ConvTranspose2d(
            above, outputs or outer, 4, 2, padding=1, bias=has_bias or self.is_outermost
        )
        is_inside = not self.is_outermost and below is not None
        self.down_norm = NORMS[norm if is_inside else "none"](inner)
        self.up_norm = NORMS["none" if self.is_outermost else norm](outputs or outer)
        self.dropout = SampleDropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, outer, y, x) to (n, 2 outer, y, x), or to the outputs at the outermost level."""
        skipped = image if self.is_outermost else nn.functional.leaky_relu_(image, 0.2)
        inner = self.down_norm(self.down(skipped))
        if self.below is not None:
            inner = self.below(inner)
        output: Tensor = self.dropout(self.up_norm(self.up(nn.functional.relu_(inner))))
        return output if self.is_outermost else torch.cat([skipped, output], 1)


def make_levels(
    channels: int,
    outputs: int,
    *,
    width: int,
    depth: int,
    max_factor: int,
    dropout: float,
    norm: str = "none",
) -> Level:
    """Nest the levels of a U-Net; parameters as for `MganUNet` and `Level`."""
    widths = [width * min(2**level, max_factor) for level in range(depth)]
    level = Level(widths[-2], widths[-1], None, norm=norm)
    for outer, inner in zip(widths[-3::-1], widths[-2:0:-1]):
        share = dropout if outer == inner else 0.0
        level = Level(outer, inner, level, dropout=share, norm=norm)
    return Level(channels, widths[0], level, outputs=outputs, norm=norm)


def require_multiple(image: Tensor, multiple: int) -> None:
    """Raise `ModelError` unless the sides of (n, channel, y, x) are multiples of this number."""
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        raise ModelError(
            f"this U-Net maps tiles whose sides are multiples of {multiple} target pixels, not "
            f"{height} x {width}",
            cure="change the lattice's tile",
        )


class MganUNet(nn.Module):
    """U-Net over one stem per input; parameters as in the module's docstring and `HYPERPARAMETERS`.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel (3 for 10 m, 3/2 for 20 m).
    outputs : int
        Channels of the target.
    width : int
        Channels of the outermost level; they double inwards up to ``width * max_factor``.
    depth : int
        Levels; the target's sides are multiples of ``2**depth``.
    dropout : float
        In training, in the levels of full width but the innermost, as pix2pix does.
    output_activation : {"tanh", "identity", "sigmoid"}
        Last layer.
    base : {"none", "line"}
        Whether a fitted line is added to that.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        outputs: int,
        *,
        width: int = 64,
        depth: int = 7,
        max_factor: int = 8,
        dropout: float = 0.5,
        output_activation: str = "tanh",
        base: str = "none",
    ) -> None:
        super().__init__()
        self.multiple = 2**depth
        self.stems = nn.ModuleList(Stem(channels, ratio) for channels, ratio in inputs)
        channels = sum(count for count, _ in inputs)
        self.body = make_levels(
            channels, outputs, width=width, depth=depth, max_factor=max_factor, dropout=dropout
        )
        self.ratios = [ratio for _, ratio in inputs]
        self.line = Line(channels, outputs) if base == "line" else None
        self.activation = ACTIVATIONS[output_activation]()

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target.

        Raises
        ------
        ModelError
            If the target's sides are no multiples of ``2**depth``.
        """
        features = [stem(image) for stem, image in zip(self.stems, images, strict=True)]
        require_multiple(features[0], self.multiple)
        output: Tensor = self.activation(self.body(torch.cat(features, 1)))
        return output if self.line is None else output + self.line(area_means(images, self.ratios))
