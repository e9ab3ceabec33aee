"""``xharmonize score``, ``plot`` and ``report``: evaluate and plot stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
import xarray as xr

import xharmonize as xh
from xharmonize._replace import require_new
from xharmonize.cli import console
from xharmonize.cli.arguments import Read, mode_of, parse_point, split_names, takes
from xharmonize.cli.info import is_store, n_incomplete
from xharmonize.cli.places import (
    STORAGE,
    Options,
    Storage,
    load,
    open_store,
    parse_storage,
    place_of,
)
from xharmonize.cube.contract import main_layer
from xharmonize.cube.door import is_result
from xharmonize.metrics.pairing import compare, of_sensor, paired
from xharmonize.plot.overview import place_of as pixel_of
from xharmonize.report.write import clearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Figures: TypeAlias = Literal[
    "maps", "scatter", "errors", "series", "timeline", "frequency", "shifts", "tables", "training"
]
COMPARED = ("scatter", "errors")
DEFAULT_TOLERANCE = "2D"
_PAIR = {"sensor", "reference-sensor", "tolerance", "bands", "title"}
OPTIONS: dict[Figures, set[str]] = {
    "maps": {"time", "bands", "stretch", "sensor"},
    "scatter": _PAIR,
    "errors": _PAIR | {"time"},
    "series": {"point", "smooth", "bands", "sensor", "title"},
    "timeline": {"sensor", "title"},
    "frequency": {"sensor", "title"},
    "shifts": {"title"},
    "tables": {"title"},
    "training": {"title"},
}
"""Options that each kind of figure accepts."""


TOLERANCE = "Largest time gap between compared dates, if the stores differ in dates."
SENSOR = "Use only the dates of this sensor in a merged store."
REFERENCE_SENSOR = (
    "Sensor of the reference dates. Without REFERENCE, both come from one merged store."
)


def parse_stretch(text: str) -> tuple[float, float] | Literal["three-stage"]:
    """Parse ``low,high`` or ``three-stage``; raise `typer.BadParameter` for anything else."""
    if text == "three-stage":
        return "three-stage"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--stretch {text!r} is neither LOW,HIGH nor three-stage") from (
            error
        )
    return low, high


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A requested figure; the fields are options of `plot`."""

    figure: Annotated[Figures, typer.Argument(help="Kind of figure.")]
    stores: Annotated[
        list[str],
        typer.Argument(
            help="Zarr stores, by path or URL: one or more for maps and timeline; "
            "prediction and reference for scatter and errors; a fit for tables, one of auto for "
            "shifts; a CSV file or a log.jsonl for training; otherwise one."
        ),
    ]
    out: Annotated[Path, typer.Option(help="Figure to write: .png, .svg or .pdf.")]
    time: Annotated[
        str | None,
        typer.Option(
            help="For maps and errors: date; the nearest is used. Default: the clearest date of "
            "the first store; for errors, the mean over all dates."
        ),
    ] = None
    bands: Annotated[
        tuple[str, ...] | None,
        typer.Option(help="Comma-separated bands; three make a colour composite."),
        Read(split_names),
    ] = None
    stretch: Annotated[
        tuple[float, float] | Literal["three-stage"] | None,
        typer.Option(help="For maps: LOW,HIGH, or three-stage (a fixed stretch for true colour)."),
        Read(parse_stretch),
    ] = None
    point: Annotated[
        tuple[float, float] | None,
        typer.Option(help="For series: LON,LAT of a pixel. Default: mean of the area."),
        Read(parse_point),
    ] = None
    smooth: Annotated[
        bool, typer.Option("--smooth", help="For series: also draw the smoothed series.")
    ] = False
    sensor: Annotated[str | None, typer.Option(help=SENSOR)] = None
    reference_sensor: Annotated[str | None, typer.Option(help=REFERENCE_SENSOR)] = None
    tolerance: Annotated[
        str | None, typer.Option(help=f"{TOLERANCE} Default: {DEFAULT_TOLERANCE}.")
    ] = None
    title: Annotated[str, typer.Option(help="Title of the figure.")] = ""
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = (
        False
    )
    storage_options: Annotated[Options, STORAGE, Read(parse_storage)] = None

    def complaint(self) -> str:
        """Return what is wrong with the options; empty if they are valid."""
        if self.out.suffix not in (".png", ".svg", ".pdf"):
            return f"--out {self.out} is neither .png, .svg nor .pdf"
        names = {name for allowed in OPTIONS.values() for name in allowed}
        idle = sorted(name for name in names - OPTIONS[self.figure] if self._value(name))
        if idle:
            usable = ", ".join(f"--{name}" for name in sorted(OPTIONS[self.figure]))
            return f"{self.figure} has no use for --{idle[0]}; it takes {usable}"
        most = 2 if self.figure in COMPARED else 1
        if self.figure not in ("maps", "timeline") and len(self.stores) > most:
            return f"{self.figure} takes {most} of STORES, not {len(self.stores)}"
        return ""

    def _value(self, option: str) -> Any:
        return getattr(self, option.replace("-", "_"))

    def draw(self) -> Figure:
        """Draw the figure; computes."""
        plot, title = xh.plot, self.title
        bands = None if self.bands is None else list(self.bands)
        draw: dict[Figures, Callable[[], Figure]] = {
            "maps": self._maps,
            "scatter": lambda: plot.scatter(*self._compared(), bands=bands, title=title),
            "errors": lambda: plot.errors(
                *self._compared(), time=self.time, bands=bands, title=title
            ),
            "series": self._series,
            "timeline": lambda: plot.timeline(*self._cubes(), title=title),
            "frequency": lambda: plot.frequency(self._cubes()[0], title=title),
            "shifts": lambda: plot.shifts(self._fit(), title=title),
            "tables": lambda: plot.tables(self._fit(), title=title),
            "training": lambda: plot.training(self.stores[0], title=title),
        }
        return draw[self.figure]()

    def _maps(self) -> Figure:
        cubes = self._cubes()
        bands = None if self.bands is None else list(self.bands)
        if all(map(is_result, cubes)):
            return xh.plot.maps(*cubes, bands=bands, stretch=self.stretch)
        first = main_layer(cubes[0])
        time = self.time or str(first["time"].values[clearest(first)])
        return xh.plot.maps(*cubes, time=time, bands=bands, stretch=self.stretch)

    def _cubes(self) -> list[Any]:
        return [of_sensor(self._open(store), self.sensor) for store in self.stores]

    def _open(self, store: str) -> Any:
        return open_store(store, self.storage_options)

    def _fit(self) -> xr.Dataset:
        fit = load(self.stores[0], self.storage_options)
        if not isinstance(fit, xr.Dataset):
            raise xh.errors.ModelError(f"{self.stores[0]} is a model, not a fit")
        return fit

    def _compared(self) -> tuple[xr.DataArray, xr.DataArray]:
        other = self.stores[1] if len(self.stores) > 1 else None
        sensors = self.sensor, self.reference_sensor
        cubes = open_both(self.stores[0], other, *sensors, self.storage_options)
        return paired(*cubes, tolerance=self.tolerance or DEFAULT_TOLERANCE)

    def _series(self) -> Figure:
        cube = self._cubes()[0]
        x, y = pixel_of(cube, self.point)
        smoothed = xh.series.smooth(cube, step="1D", uncertainty=True) if self.smooth else None
        band = self.bands[0] if self.bands else None
        return xh.plot.series(cube, x=x, y=y, band=band, smoothed=smoothed, title=self.title)


def open_both(
    pred: str,
    reference: str | None,
    sensor: str | None,
    reference_sensor: str | None,
    options: Options,
) -> tuple[Any, Any]:
    """Open prediction and reference: two stores, or two sensors of one.

    Raises
    ------
    typer.BadParameter
        If there is nothing to compare with.
    """
    if reference is None and (sensor is None or reference_sensor is None):
        raise typer.BadParameter(
            "nothing to compare with: give REFERENCE, or --sensor and --reference-sensor of a "
            "merged store"
        )
    one = open_store(pred, options)
    other = one if reference is None else open_store(reference, options)
    return of_sensor(one, sensor), of_sensor(other, reference_sensor)


def score(
    pred: Annotated[str, typer.Argument(help="Zarr store of the prediction, by path or URL.")],
    reference: Annotated[
        str | None, typer.Argument(help="Zarr store of the reference, on the same grid.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Comma-separated metrics; see `xharmonize.metrics.list_metrics()`."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Comma-separated groups to score by: sensor, platform, time.month."),
    ] = None,
    sensor: Annotated[str | None, typer.Option(help=SENSOR)] = None,
    reference_sensor: Annotated[str | None, typer.Option(help=REFERENCE_SENSOR)] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Zarr store of another prediction, for skill; scores only pixels valid in both."
        ),
    ] = None,
    tolerance: Annotated[str, typer.Option(help=TOLERANCE)] = DEFAULT_TOLERANCE,
    pooled: Annotated[
        bool,
        typer.Option("--pooled", help="Compute one score over all bands instead of one per band."),
    ] = False,
    data_range: Annotated[
        float, typer.Option(help="Data range for psnr and ssim: 2 for an index.", min=0)
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="File to write the scores to: scores.csv or scores.json.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    storage_options: Storage = None,
) -> None:
    """Score a store against a reference.

    Example: xharmonize score s2-as-landsat.zarr landsat.zarr --metrics n,rmse,bias,ssim

    Within one merged store: xharmonize score dense.zarr --sensor sentinel-2-l2a --reference-sensor
    landsat-c2-l2
    """
    if out is not None and out.suffix not in (".csv", ".json"):
        raise typer.BadParameter(f"--out {out} is neither .csv nor .json")
    _require_new(out, overwrite)
    storage = parse_storage(storage_options)
    both = open_both(pred, reference, sensor, reference_sensor, storage)
    other_prediction = None
    if baseline is None:
        one, other = paired(*both, tolerance=tolerance)
    else:
        cubes = {"prediction": both[0], "baseline": open_store(baseline, storage)}
        pairs = compare(cubes, both[1], tolerance=tolerance)
        (one, other), (other_prediction, _) = pairs["prediction"], pairs["baseline"]
    with console.progress("Scoring"):
        scores = xh.score(
            one,
            other,
            None if metrics is None else split_names(metrics),
            by=None if by is None else split_names(by),
            per_band=not pooled,
            baseline=other_prediction,
            data_range=data_range,
        ).compute()
    for dims in dict.fromkeys(array.dims for array in scores.data_vars.values()):
        console.print_table(_wide(scores, dims), title=_title(dims, other))
    if out is not None:
        _write(out, _long(scores))
        console.say(f"Scores: {out}")


@takes(Drawing)
def plot(drawing: Drawing) -> None:
    """Plot one or more stores.

    Example: xharmonize plot scatter s2-as-landsat.zarr landsat.zarr --out scatter.png
    """
    if complaint := drawing.complaint():
        raise typer.BadParameter(complaint)
    _require_new(drawing.out, drawing.overwrite)
    with console.progress(f"Drawing {drawing.figure}"):
        drawing.draw().savefig(drawing.out)
    console.say(f"Picture: {drawing.out}")


def report(
    store: Annotated[
        str, typer.Argument(help="Zarr store of a series or prediction, by path or URL.")
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    reference: Annotated[
        str | None, typer.Option(help="Zarr store of a reference to score against.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Zarr store the prediction was made from. It is scored too, both unchanged and "
            "harmonised with HLS v2."
        ),
    ] = None,
    tolerance: Annotated[str, typer.Option(help=TOLERANCE)] = DEFAULT_TOLERANCE,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    storage_options: Storage = None,
) -> None:
    """Write an HTML report on a store: contents, scores, figures and warnings.

    Example: xharmonize report pred.zarr --reference landsat.zarr --source s2.zarr --out report.html

    The page embeds its figures and works offline.
    """
    if source is not None and reference is None:
        raise typer.BadParameter("--source is compared with a reference: give --reference too")
    _require_new(out, overwrite)
    storage = parse_storage(storage_options)
    hidden = n_incomplete(store, storage) if is_store(store, storage) else 0
    lost = f"{hidden} dates of an interrupted write are hidden; run the write again"
    cubes = [None if one is None else open_store(one, storage) for one in (reference, source)]
    with console.progress("Reporting"):
        xh.write_report(
            open_store(store, storage),
            out,
            mode=mode_of(overwrite),
            reference=cubes[0],
            source=cubes[1],
            tolerance=tolerance,
            title=title or f"Report on {place_of(store, storage).name}",
            notes=[lost] if hidden else [],
        )
    console.say(f"Report: {out}")


def _require_new(out: Path | None, overwrite: bool) -> None:
    if out is not None:
        require_new(out, mode_of(overwrite), cure="replace it with --overwrite")


def _wide(scores: xr.Dataset, dims: Sequence[Any]) -> list[dict[str, Any]]:
    """One row per group and band, one column per metric with these dimensions."""
    names = [name for name, array in scores.data_vars.items() if array.dims == tuple(dims)]
    units = {name: scores[name].attrs["units"] for name in names}
    labels = {n: f"{n} [{u}]" if u != "1" else str(n) for n, u in units.items()}
    part = scores[names].stack(row=list(dims)) if dims else scores[names].expand_dims("row")
    rows = []
    for k in range(part.sizes["row"]):
        here = part.isel(row=k)
        rows.append(
            {str(dim): console.as_plain(here[dim].values) for dim in dims}
            | {labels[name]: here[name].item() for name in names}
        )
    return rows


def _long(scores: xr.Dataset) -> list[dict[str, Any]]:
    """One row per score."""
    rows = []
    dims = list(dict.fromkeys(d for array in scores.data_vars.values() for d in array.dims))
    for name, array in scores.data_vars.items():
        flat = array.stack(row=list(array.dims)) if array.dims else array.expand_dims("row")
        for k in range(flat.sizes["row"]):
            here = flat.isel(row=k)
            place = {
                str(dim): console.as_plain(here[dim].values) if dim in array.dims else "all"
                for dim in dims
            }
            value = {"metric": str(name), "value": here.item(), "units": array.attrs["units"]}
            rows.append(place | value)
    return rows


def _title(dims: Sequence[Any], other: xr.DataArray) -> str:
    n = other.sizes.get("pair", other.sizes.get("time", 1))
    what = "Each band" if "band" in dims else "All bands" if "band" in other.dims else other.name
    return f"{what}, {n} dates"


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
        return
    known = [
        row | {"value": None if row["value"] != row["value"] else row["value"]} for row in rows
    ]
    path.write_text(json.dumps(known, indent=1), encoding="utf-8")
