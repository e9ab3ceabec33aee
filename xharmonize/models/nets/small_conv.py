"""A small network that sees seven target pixels: for sites smaller than a deep network's tile.

The inputs are brought to the target's pixels by their area-weighted mean, beside which the network
sees how the pixels inside a target pixel depart from it. A few convolutions give what is added to
the mean. Weights of zero hence give the mean itself, in reflectance. With ``base="line"`` they
are added to a line of all bands, which was fitted beforehand and stands among the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets.layers import Line, to_target
from xharmonize.sensors.spec import SAME_ROLE

HYPERPARAMETERS = {
    "width": Parameter(default=32, low=1, high=512),
    "depth": Parameter(default=3, low=1, high=8),
    "base": Parameter(default="mean", choices=("mean", "line")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return SmallConv(inputs, base_lines(card), **values)


def base_lines(card: GeneratorCard) -> list[tuple[int, float, float] | None]:
    """Say for each output which input channel it is added to, and the line between their units.

    Returns
    -------
    list of (channel, slope, offset) or None
        Channels count over all inputs; None where no input has the band.
    """
    rows = [
        (label, band, mean, scale)
        for one in card.inputs
        for label, band, mean, scale in zip(one.labels, one.bands, one.mean, one.scale)
    ]
    channels = {label: (n, mean, scale) for n, (label, _, mean, scale) in enumerate(rows)}
    for number, (_, band, mean, scale) in enumerate(rows):  # of further sources the first
        channels.setdefault(band, (number, mean, scale))
    lines: list[tuple[int, float, float] | None] = []
    for band, mean, scale in zip(card.output.bands, card.output.mean, card.output.scale):
        found = channels.get(band) or channels.get(SAME_ROLE.get(band, ""))
        if found:
            number, source_mean, source_scale = found
            lines.append((number, source_scale / scale, (source_mean - mean) / scale))
        else:
            lines.append(None)
    return lines


class SmallConv(nn.Module):
    """A few 3 x 3 convolutions at the target's pixel size, added to the area-weighted mean.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel.
    lines : sequence of (int, float, float) or None
        Per output the channel, slope and offset of what it is added to; see `base_lines`.
    width : int
        Channels of the convolutions.
    depth : int
        Convolutions of 3 x 3: an output pixel depends on ``2 depth + 1`` target pixels a side.
    base : {"mean", "line"}
        What is added to: the mean of the same band (`lines`), or a fitted line of all bands.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        lines: Sequence[tuple[int, float, float] | None],
        *,
        width: int = 32,
        depth: int = 3,
        base: str = "mean",
    ) -> None:
        super().__init__()
        self.ratios = [ratio for _, ratio in inputs]
        self.lines = list(lines)
        channels = sum(
            count * (1 + (ratio.numerator**2 if ratio.numerator > 1 else 0))
            for count, ratio in inputs
        )
        layers: list[nn.Module] = []
        for number in range(depth):
            layers += [nn.Conv2d(width if number else channels, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(width, len(self.lines), 1)
        n_means = sum(count for count, _ in inputs)
        self.line = Line(n_means, len(self.lines)) if base == "line" else None

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target."""
        parts = [to_target(image, ratio) for image, ratio in zip(images, self.ratios, strict=True)]
        means = torch.cat([mean for mean, _ in parts], 1)
        details = [inside for _, inside in parts if inside is not None]
        output: Tensor = self.last(self.layers(torch.cat([means, *details], 1)))
        return output + self._base(means)

    def _base(self, means: Tensor) -> Tensor:
        """Return the line, or the means as outputs; zero where no input has the band."""
        if self.line is not None:
            return self.line(means)  # type: ignore[no-any-return]
        bands = [
            means[:, 0] * 0 if line is None else means[:, line[0]] * line[1] + line[2]
            for line in self.lines
        ]
        return torch.stack(bands, 1)
