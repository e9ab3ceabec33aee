"""The picture that ``xharmonize plot`` draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import typer
import xarray as xr

import xharmonize as xh
from xharmonize.cli.figures import place_of
from xharmonize.cli.harmonize import parse_point
from xharmonize.cube.contract import main_layer
from xharmonize.cube.results import is_result
from xharmonize.metrics.pairing import of_sensor, paired
from xharmonize.report.pictures import clearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind: TypeAlias = Literal[
    "maps", "scatter", "errors", "series", "timeline", "frequency", "tables", "training"
]
COMPARED = ("scatter", "errors")
DEFAULT_TOLERANCE = "2D"
_PAIR = {"sensor", "ref-sensor", "tolerance", "bands", "title"}
OPTIONS: dict[Kind, set[str]] = {
    "maps": {"time", "bands", "stretch", "sensor"},
    "scatter": _PAIR,
    "errors": _PAIR | {"time"},
    "series": {"point", "smooth", "bands", "sensor", "title"},
    "timeline": {"sensor", "title"},
    "frequency": {"sensor", "title"},
    "tables": {"title"},
    "training": {"title"},
}
"""Which options a picture can use."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture as it was asked for; the fields are options (see ``plot --help``)."""

    kind: Kind
    stores: tuple[Path, ...]
    time: str | None = None
    bands: tuple[str, ...] | None = None
    stretch: str | None = None
    point: str | None = None
    smooth: bool = False
    sensor: str | None = None
    ref_sensor: str | None = None
    tolerance: str | None = None
    title: str = ""

    def complaint(self) -> str:
        """Return what is wrong with the options; empty where nothing is."""
        names = {name for allowed in OPTIONS.values() for name in allowed}
        idle = sorted(name for name in names - OPTIONS[self.kind] if self._value(name))
        if idle:
            usable = ", ".join(f"--{name}" for name in sorted(OPTIONS[self.kind]))
            return f"{self.kind} has no use for --{idle[0]}; it takes {usable}"
        most = 2 if self.kind in COMPARED else 1
        if self.kind not in ("maps", "timeline") and len(self.stores) > most:
            return f"{self.kind} takes {most} of STORES, not {len(self.stores)}"
        return ""

    def _value(self, option: str) -> Any:
        return getattr(self, option.replace("-", "_"))

    def figure(self) -> Figure:
        """Draw; computes."""
        plot, title = xh.plot, self.title
        bands = None if self.bands is None else list(self.bands)
        draw: dict[Kind, Callable[[], Figure]] = {
            "maps": self._maps,
            "scatter": lambda: plot.scatter(*self._compared(), bands=bands, title=title),
            "errors": lambda: plot.errors(
                *self._compared(), time=self.time, bands=bands, title=title
            ),
            "series": self._series,
            "timeline": lambda: plot.timeline(*self._cubes(), title=title),
            "frequency": lambda: plot.frequency(self._cubes()[0], title=title),
            "tables": lambda: plot.tables(_fit(self.stores[0]), title=title),
            "training": lambda: plot.training(self.stores[0], title=title),
        }
        return draw[self.kind]()

    def _maps(self) -> Figure:
        cubes = self._cubes()
        bands = None if self.bands is None else list(self.bands)
        if all(map(is_result, cubes)):
            return xh.plot.maps(*cubes, bands=bands, stretch=_stretch(self.stretch))
        first = main_layer(cubes[0])
        time = self.time or str(first["time"].values[clearest(first)])
        return xh.plot.maps(*cubes, time=time, bands=bands, stretch=_stretch(self.stretch))

    def _cubes(self) -> list[Any]:
        return [of_sensor(xh.open_series(store), self.sensor) for store in self.stores]

    def _compared(self) -> tuple[xr.DataArray, xr.DataArray]:
        other = self.stores[1] if len(self.stores) > 1 else None
        cubes = open_both(self.stores[0], other, self.sensor, self.ref_sensor)
        return paired(*cubes, tolerance=self.tolerance or DEFAULT_TOLERANCE)

    def _series(self) -> Figure:
        cube = self._cubes()[0]
        x, y = place_of(cube, parse_point(self.point))
        smoothed = xh.smooth(cube, step="1D", uncertainty=True) if self.smooth else None
        band = self.bands[0] if self.bands else None
        return xh.plot.series(cube, x=x, y=y, band=band, smoothed=smoothed, title=self.title)


def open_both(
    pred: Path, ref: Path | None, sensor: str | None, ref_sensor: str | None
) -> tuple[Any, Any]:
    """Open prediction and reference: two stores, or two sensors of one.

    Raises
    ------
    typer.BadParameter
        If there is nothing to compare with.
    """
    if ref is None and (sensor is None or ref_sensor is None):
        raise typer.BadParameter(
            "nothing to compare with: give REF, or --sensor and --ref-sensor of a merged store"
        )
    one = xh.open_series(pred)
    other = one if ref is None else xh.open_series(ref)
    return of_sensor(one, sensor), of_sensor(other, ref_sensor)


def _fit(path: Path) -> xr.Dataset:
    fit = xh.load_model(path)
    if not isinstance(fit, xr.Dataset):
        raise xh.ModelError(f"{path} is a model, not a fit with look-up tables")
    return fit


def _stretch(text: str | None) -> Any:
    if text is None or text == "three-stage":
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--stretch {text!r} is neither LOW,HIGH nor three-stage") from (
            error
        )
    return low, high
