"""The model of a command: opened before pixels are, and applied as its kind wants it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.reading import Cube
from xharmonize.errors import ModelError
from xharmonize.harmonizers.protocol import Harmonizer, TableMaker
from xharmonize.harmonizers.registry import as_harmonizer, resolve

DEFAULT_BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
BANDPASSES = {"landsat": "oli", "sentinel-2": "msi"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model, and how it is applied; the fields are options (see ``harmonize --help``).

    An empty `to` is the model's own direction: its tables are wanted, not its result.
    """

    to: Literal["landsat", "sentinel-2", ""] = "landsat"
    model: str = "hls-v2"
    tables: Path | None = None
    tile: float | None = None
    interpolate: bool = False
    flags: bool = False
    pad: bool = False
    device: xh.models.refs.Device = "auto"
    dtype: xh.models.refs.Precision = "float32"
    batch_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model ready to be applied.

    Attributes
    ----------
    choice : Choice
    model : Harmonizer or Dataset
        What `xharmonize.load_model` returned.
    harmonizer : Harmonizer
        What it stands for, in the direction asked for.
    tables : Dataset or None
        Look-up tables that were named.
    """

    choice: Choice
    model: Any
    harmonizer: Harmonizer
    tables: xr.Dataset | None

    def require_look_up(self) -> None:
        """Raise `ModelError` unless the model makes look-up tables."""
        if not isinstance(self.harmonizer, TableMaker):
            raise ModelError(
                f"model {self.harmonizer.name!r} makes no look-up tables; give a fit of --method "
                "histogram or lut, or a bundle of kind 'lut'"
            )

    def check(self) -> None:
        """Raise `ModelError` for options the model does not take, before any pixel is read."""
        if self.choice.tile is not None or self.choice.interpolate:
            self.require_look_up()
        takes = self.harmonizer.options
        given = {
            "flags": self.choice.flags,
            "tables": self.choice.tables is not None,
            "runtime": self._runtime() is not None,
        }
        strange = [name for name, is_given in given.items() if is_given and name not in takes]
        if strange:
            options = {"runtime": "--device, --dtype and --batch-size"}
            named = ", ".join(options.get(name, f"--{name}") for name in strange)
            raise ModelError(
                f"model {self.harmonizer.name!r} takes no {', '.join(strange)}; leave {named} out"
            )

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Bands of the result where the user names none: of published lines, those in common."""
        is_made = isinstance(self.model, xr.Dataset) or self.harmonizer.needs_all_bands
        return self.harmonizer.target_bands if is_made else DEFAULT_BANDS

    @property
    def pad(self) -> Any:
        """The model, where its margin is to be read too."""
        if not self.choice.pad:
            return None
        if not self.harmonizer.changes_grid:
            raise ModelError(
                f"model {self.harmonizer.name!r} has no tiles that reach beyond the area; leave "
                "--pad out"
            )
        return self.harmonizer

    def apply(self, source: Cube, target: Cube | None, resolution: float | None) -> Any:
        """Put the source into the target's bandpass, on the target's grid where there is one."""
        convert: Any = xh.to_landsat if self.choice.to == "landsat" else xh.to_sentinel2
        tables = self.tables
        if self.choice.tile is not None or self.choice.interpolate:
            source = self.on_grid(source, target)
            with console.progress("Fitting tables"):
                tables = self.fit_tables(source)
        grid = {"like": target} if target is not None else {"resolution": resolution}
        return convert(
            source,
            self.model,
            tables=tables,
            flags=self.choice.flags,
            runtime=self._runtime(),
            **grid,
        )

    def fit_tables(self, cube: Cube) -> xr.Dataset:
        """Fit look-up tables per tile and date; computes."""
        fit = xh.fit_tables(
            cube, self.model, tile=self.choice.tile, interpolate=self.choice.interpolate
        )
        return fit.compute()

    def on_grid(self, source: Any, target: Cube | None) -> Any:
        """Put the source on the target's grid, where there is one."""
        share = self.harmonizer.min_valid_fraction
        return source if target is None else xh.regrid(source, like=target, min_valid=share)

    def _runtime(self) -> xh.Runtime | None:
        """How networks are to be run; None where nothing was said."""
        chosen = xh.Runtime(
            device=self.choice.device, dtype=self.choice.dtype, batch_size=self.choice.batch_size
        )
        return None if chosen == xh.Runtime() else chosen


def open_model(choice: Choice) -> Opened:
    """Open a model, and its tables, before any pixel is read.

    Raises
    ------
    UnknownModelError, ModelError
        If there is none, if it is damaged, or if it leads to another bandpass.
    """
    model = xh.load_model(choice.model)
    if choice.tables is not None and not choice.tables.exists():
        raise ModelError(
            f"there are no tables at {choice.tables}; make them with xharmonize fit --method tables"
        )
    tables = None if choice.tables is None else xh.load_model(choice.tables)
    if tables is not None and not isinstance(tables, xr.Dataset):
        raise ModelError(f"{choice.tables} holds a model and no tables; give it as --model")
    return Opened(
        choice=choice,
        model=model,
        harmonizer=resolve(model, BANDPASSES[choice.to]) if choice.to else as_harmonizer(model),
        tables=tables,
    )
