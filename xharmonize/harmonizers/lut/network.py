"""The harmoniser of a bundle of kind ``lut``: tables that a network makes of histograms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import xarray as xr

from xharmonize.harmonizers.lut.base import LookUp
from xharmonize.harmonizers.lut.check import require_tables
from xharmonize.harmonizers.lut.predictors import Network, Predictor
from xharmonize.harmonizers.lut.refine import refine
from xharmonize.harmonizers.protocol import OfBundle
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import Runtime
from xharmonize.sensors import Names


@dataclass(frozen=True, kw_only=True)
class LutHarmonizer(OfBundle, LookUp):
    """Apply a bundle of kind ``lut``: tables that a network makes of the tiles' histograms.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """

    card: LutCard
    options: ClassVar[tuple[str, ...]] = ("flags", "tables", "runtime")
    changes_grid: bool = field(default=False, init=False)
    citation: str = "Liu et al. (2023), doi:10.3390/rs15102563"

    def predictor(self) -> Predictor:
        """The network."""
        return Network(ref=self.ref, card=self.card, runtime=self.runtime or Runtime())

    def facts(self) -> dict[str, Any]:
        """As the card says."""
        source, target = self.card.source_bandpass, self.card.target_bandpass
        return {
            "source_bandpass": source,
            "source_sensor": self.card.source_sensor,
            "source_level": str(Names.of(self.card.levels)),
            "target_bandpass": target,
            "direction": f"{source or 'any'} to {target}",
            "min_valid_fraction": self.card.min_valid_fraction,
            "is_refined": int(self.card.has_refinement),
        }

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse tables of another network."""
        require_tables(tables, self.ref.digest)

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """Add what the network's convolution sees around each pixel, where it has one."""
        return refine(data, marks, self.ref, self.card, self.runtime or Runtime())
