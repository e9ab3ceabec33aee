"""Trained models: what they say of themselves, bundles on disk, networks, and running them.

Nothing here knows xarray or dask, and only `runtime` and `nets` load torch.
"""

from xharmonize.models.bundle import (
    Bundle,
    copy_bundle,
    open_bundle,
    read_weights,
    write_bundle,
)
from xharmonize.models.card import Card, Domain, Histograms, Input, Output
from xharmonize.models.lattice import Lattice
from xharmonize.models.listing import list_bundles
from xharmonize.models.refs import ModelRef, Runtime

__all__ = [
    "Bundle",
    "Card",
    "Domain",
    "Histograms",
    "Input",
    "Lattice",
    "ModelRef",
    "Output",
    "Runtime",
    "copy_bundle",
    "list_bundles",
    "open_bundle",
    "read_weights",
    "write_bundle",
]
