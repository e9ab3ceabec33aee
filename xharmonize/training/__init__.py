"""Training: from pairs to a bundle.

`train` is the verb; what it is told stands in `config`. Only the files that run networks
(`protocol`, `losses`, `loop`, `checkpoint`, `ranks`, `methods` and what they use) import torch when
they are loaded.
"""

from xharmonize.training.collect import collect_sources
from xharmonize.training.config import (
    Auto,
    Config,
    CycleGan,
    Data,
    DcstfnOs,
    Deming,
    Dstfn,
    Esrcnn,
    GlobalLut,
    GlobalLutConv,
    HistogramMatching,
    HlsGan,
    MccGan,
    Mgan,
    MtcGan,
    MultiOls,
    Ols,
    PerPixel,
    Pix2pix,
    RdcstfnOs,
    Run,
    SCycleGan,
    SmallConv,
    TileLut,
    TileLutConv,
)
from xharmonize.training.cutting import build_store
from xharmonize.training.split import split
from xharmonize.training.store import Store, open_store
from xharmonize.training.toml import from_toml, to_toml
from xharmonize.training.train import Training, train

__all__ = [
    "SCycleGan",
    "RdcstfnOs",
    "MtcGan",
    "MccGan",
    "Esrcnn",
    "Dstfn",
    "DcstfnOs",
    "CycleGan",
    "Auto",
    "Config",
    "Data",
    "Deming",
    "GlobalLut",
    "GlobalLutConv",
    "HistogramMatching",
    "HlsGan",
    "Mgan",
    "MultiOls",
    "Ols",
    "PerPixel",
    "Pix2pix",
    "Run",
    "SmallConv",
    "Store",
    "TileLut",
    "TileLutConv",
    "Training",
    "build_store",
    "collect_sources",
    "from_toml",
    "open_store",
    "split",
    "to_toml",
    "train",
]
