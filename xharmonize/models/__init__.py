"""Trained models: model cards, bundles on disk, networks, and inference.

Nothing here depends on xarray or Dask, and only `runtime` and `nets` import torch.
"""

from xharmonize.models.architectures import Parameter, register_architecture
from xharmonize.models.bundle import (
    Bundle,
    copy_bundle,
    list_bundles,
    open_bundle,
    read_weights,
    write_bundle,
)
from xharmonize.models.card import Card, Domain, Output
from xharmonize.models.kinds import GeneratorCard, LutCard, register_kind
from xharmonize.models.kinds.generator import Input
from xharmonize.models.kinds.lut import Histograms
from xharmonize.models.lattice import Lattice
from xharmonize.models.refs import ModelRef, Runtime

__all__ = [
    "Bundle",
    "Card",
    "Domain",
    "GeneratorCard",
    "Histograms",
    "Input",
    "Lattice",
    "LutCard",
    "ModelRef",
    "Output",
    "Parameter",
    "Runtime",
    "copy_bundle",
    "list_bundles",
    "open_bundle",
    "read_weights",
    "register_architecture",
    "register_kind",
    "write_bundle",
]
