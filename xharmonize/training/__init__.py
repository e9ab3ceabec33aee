"""Training: from pairs to a bundle.

`train` is the verb; what it is told stands in `config`. Only the files that run networks
(`protocol`, `losses`, `loop`, `checkpoint`, `ranks`, `methods`) import torch when they are loaded.
"""

from xharmonize.training.config import (
    Config,
    Data,
    GlobalLut,
    GlobalLutConv,
    HlsGan,
    Mgan,
    Pix2pix,
    Run,
    SmallConv,
    TileLut,
    TileLutConv,
)

__all__ = [
    "Config",
    "Data",
    "GlobalLut",
    "GlobalLutConv",
    "HlsGan",
    "Mgan",
    "Pix2pix",
    "Run",
    "SmallConv",
    "TileLut",
    "TileLutConv",
]
