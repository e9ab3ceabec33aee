"""Trained models: what they say of themselves, bundles on disk, networks, and running them.

Nothing here knows xarray or dask, and only `runtime` and `nets` load torch.
"""

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
    "Runtime",
    "copy_bundle",
    "list_bundles",
    "open_bundle",
    "read_weights",
    "register_kind",
    "write_bundle",
]
