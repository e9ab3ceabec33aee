"""The harmoniser of a bundle of kind ``lut``: tables that a network makes of histograms."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from xharmonize._replace import Mode
from xharmonize.cube.contract import read_contract
from xharmonize.harmonizers.lut.base import LookUp
from xharmonize.harmonizers.lut.check import require_card, require_tables
from xharmonize.harmonizers.lut.predictors import Network, Predictor
from xharmonize.harmonizers.lut.refine import refine
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import ModelRef, Runtime


@dataclass(frozen=True, kw_only=True)
class LutHarmonizer(LookUp):
    """Apply a bundle of kind ``lut``: tables that a network makes of the tiles' histograms.

    Attributes
    ----------
    ref, card
        The bundle.
    tables : Dataset, optional
        Of `fit_tables`; without, they are made in the same graph.
    flags : bool
        Also make the ``flag`` companion.
    runtime : Runtime, optional
        How the network is run.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """

    ref: ModelRef
    card: LutCard
    tables: xr.Dataset | None = None
    flags: bool = False
    runtime: Runtime | None = None
    changes_grid: bool = field(default=False, init=False)
    citation: str = "Liu et al. (2023), doi:10.3390/rs15102563"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the bundle."""
        return self.ref.name

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to."""
        return self.card.source_bandpass

    @property
    def target_bandpass(self) -> str:  # type: ignore[override]
        """Bandpass of the result."""
        return self.card.target_bandpass

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands."""
        return self.card.bands

    @property
    def min_valid_fraction(self) -> float:
        """Least valid share of a target pixel [1] when regridding first."""
        return self.card.min_valid_fraction

    def save(self, path: str | os.PathLike[str], *, mode: Mode = "w-") -> ModelRef:
        """Write the bundle to a folder (a new one, or with ``"w"`` in place of a bundle)."""
        from xharmonize.models.bundle import copy_bundle

        return copy_bundle(self.ref, path, card=self.card, mode=mode)

    def predictor(self) -> Predictor:
        """The network."""
        return Network(ref=self.ref, card=self.card, runtime=self.runtime or Runtime())

    def facts(self) -> dict[str, Any]:
        """As the card says."""
        source, target = self.card.source_bandpass, self.card.target_bandpass
        return {
            "source_bandpass": source,
            "source_sensor": self.card.source_sensor,
            "target_bandpass": target,
            "direction": f"{source or 'any'} to {target}",
            "min_valid_fraction": self.card.min_valid_fraction,
            "is_refined": int(self.card.has_refinement),
        }

    def foreign(self, cube: xr.DataArray) -> list[bool]:
        """Which steps have to be changed; also refuses other sensors and levels."""
        is_foreign = super().foreign(cube)
        for step, changes in zip(read_contract(cube), is_foreign):
            if changes:
                require_card(self.card, step)
        return is_foreign

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse tables of another network."""
        require_tables(tables, self.ref.digest)

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """Add what the network's convolution sees around each pixel, where it has one."""
        return refine(data, marks, self.ref, self.card, self.runtime or Runtime())
