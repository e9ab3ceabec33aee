"""Inputs of the commands: cubes, models, and the check of pixels against metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

import numpy as np
import typer
import xarray as xr

import xharmonize as xh
from xharmonize._optional import import_function
from xharmonize._urls import is_url
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, Read, parse_bbox, split_names
from xharmonize.cli.places import STORAGE, Options, load, parse_storage
from xharmonize.cube.check import (
    conclude_check,
    count_contradictions,
    list_findings,
    summarize_check,
)
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.errors import (
    BandError,
    GridError,
    MaskError,
    ModelError,
    RadiometryError,
)
from xharmonize.harmonizers.protocol import Harmonizer, TableMaker
from xharmonize.harmonizers.registry import as_harmonizer, resolve
from xharmonize.models.refs import Device, Precision
from xharmonize.series.axis import has_observation, is_filled
from xharmonize.types import Engine

if TYPE_CHECKING:
    import pandas as pd


MOST_SHOWN = 5


def print_check(table: pd.DataFrame) -> None:
    """Print the findings of `xharmonize.check_radiometry`."""
    console.print_table(summarize_check(table), title="Pixels against metadata")
    found = list_findings(table)
    for line in found[:MOST_SHOWN]:
        console.say(f"  {console.respell(line)}")
    if len(found) > MOST_SHOWN:
        console.say(f"  … and {len(found) - MOST_SHOWN} more")
    if found and not count_contradictions(table):
        console.complain("warning", f"see above; {conclude_check(table)}", "yellow")


def print_summary(series: xr.DataArray | xr.Dataset, *, title: str) -> None:
    """Print one row per platform: dates, period, valid pixels and median value."""
    rows = summarize(series)
    console.print_table(rows, title=title)


def summarize(series: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return one row per sensor and platform: dates, period, valid fraction, median of dates.

    In a smoothed series, only observed dates count.
    """
    layer, name = _one_layer(series)
    filled = is_filled(series, layer)
    layer = layer if filled is None else layer.where(~filled)
    with console.progress("Summing up"):
        table = xr.Dataset(
            {"valid": layer.notnull().mean(["y", "x"]), "mean": layer.mean(["y", "x"])}
        ).compute()
    sensors, platforms = (read_coordinate(series, n).astype(str) for n in ("sensor", "platform"))
    dates = np.datetime_as_string(series["time"].values, unit="D")
    seen = has_observation(series)
    rows = []
    for sensor, platform in sorted(set(zip(sensors[seen], platforms[seen]))):
        here = seen & (sensors == sensor) & (platforms == platform)
        means = table["mean"].values[here]
        known = means[np.isfinite(means)]
        rows.append(
            {
                "sensor": sensor,
                "platform": platform,
                "dates": int(here.sum()),
                "first": min(dates[here].tolist()),
                "last": max(dates[here].tolist()),
                "valid [%]": round(float(table["valid"].values[here].mean()) * 100, 1),
                f"median {name}": float(np.median(known)) if known.size else float("nan"),
            }
        )
    return rows


def _one_layer(series: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, str]:
    """The index of a series, or one band of its reflectance: red where there is one."""
    layer = main_layer(series)
    if "band" not in layer.dims:
        return layer, str(layer.name)
    bands = layer["band"].values.astype(str).tolist()
    band = "red" if "red" in bands else bands[0]
    return layer.sel(band=band), band


Cube: TypeAlias = xr.DataArray | xr.Dataset


WHERE, HOW, CHECK = "What to read", "How to harmonise", "Checks"
MODEL = "Trained models and tables"
SCHEMES = typer.Option(
    help="Comma-separated URL schemes allowed for assets: https, s3, file. "
    "Default: web schemes, and file if the items are not from the web.",
    rich_help_panel=WHERE,
)
DRIVERS = typer.Option(
    help="Comma-separated GDAL drivers allowed to read assets. Default: those for GeoTIFF "
    "and JPEG 2000.",
    rich_help_panel=WHERE,
)


Out = Annotated[
    str | None,
    typer.Option(help="Zarr store to write: a path, or a URL.", rich_help_panel=OUTPUT),
]
Cogs = Annotated[
    str | None,
    typer.Option(help="Folder or URL to write COGs and STAC items to.", rich_help_panel=OUTPUT),
]
Upsert = Annotated[
    bool,
    typer.Option(
        "--upsert", help="Add to existing output; replace dates in it.", rich_help_panel=OUTPUT
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing output.", rich_help_panel=OUTPUT)
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Continue if pixels contradict metadata.", rich_help_panel=CHECK),
]


class Contradiction(RadiometryError):
    """Pixels contradict the metadata, and the user did not force the command."""


DEFAULT_BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
BANDPASSES = {"landsat": "oli", "sentinel-2": "msi"}


class Checked(Protocol):
    """A job that knows whether its options go together."""

    def complaint(self) -> str:
        """Return what is wrong with the combination of options; empty if it is valid."""
        ...


@contextmanager
def refusals(job: Checked) -> Iterator[None]:
    """Refuse options that don't go together; end with the exit code of contradictions on one."""
    if complaint := job.complaint():
        raise typer.BadParameter(complaint)
    try:
        yield
    except Contradiction as error:
        console.complain("refused", error, "red")
        raise typer.Exit(console.CONTRADICTION) from error


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a command reads and masks: options of all that read one collection."""

    source: Annotated[str, typer.Argument(help="STAC API URL, static catalogue, or item file.")]
    source_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection to harmonise. Optional if SOURCE holds a single sensor.",
            rich_help_panel=WHERE,
        ),
    ] = None
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.", rich_help_panel=WHERE),
        Read(parse_bbox),
    ] = None
    datetime: Annotated[
        str | None,
        typer.Option(
            help="Date or date range: 2018, 2018-06/2018-08, 2018-06-01/.., 2018-07-15.",
            rich_help_panel=WHERE,
        ),
    ] = None
    bands: Annotated[
        tuple[str, ...] | None,
        typer.Option(
            help="Comma-separated common band names. Default: the bands of --index, or all bands "
            f"of --model ({', '.join(DEFAULT_BANDS)}). A network always reads its own bands.",
            rich_help_panel=WHERE,
        ),
        Read(split_names),
    ] = None
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Library that loads the items. Default: stackstac if it works here, else odc.",
            rich_help_panel=WHERE,
        ),
    ] = None
    modifier: Annotated[
        str | None,
        typer.Option(help="Function that signs items, as module:function.", rich_help_panel=WHERE),
    ] = None
    drivers: Annotated[tuple[str, ...] | None, DRIVERS, Read(split_names)] = None
    schemes: Annotated[tuple[str, ...] | None, SCHEMES, Read(split_names)] = None
    mask: Annotated[
        str,
        typer.Option(
            help="Comma-separated quality flags to mask. 'clear' masks every pixel that is not "
            "clear; 'none' masks nothing.",
            rich_help_panel=WHERE,
        ),
    ] = "clear"
    dilate: Annotated[
        float,
        typer.Option(
            help="Dilate the mask by this distance in metres.", min=0, rich_help_panel=WHERE
        ),
    ] = 0.0
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Treat unreadable assets as missing.",
            rich_help_panel=WHERE,
        ),
    ] = False
    platform: Annotated[
        str | None,
        typer.Option(
            help="Platform of items that don't name one: sentinel-2a, sentinel-2b, sentinel-2c; "
            "'infer' (from the orbit phase); 'sentinel-2' (mean of 2A and 2B).",
            rich_help_panel=WHERE,
        ),
    ] = None
    storage_options: Annotated[Options, STORAGE, Read(parse_storage)] = None


@dataclass(frozen=True, kw_only=True)
class Query(Reading):
    """Options of commands that read a second collection too, such as `harmonize` and `fit`."""

    target_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection of the target sensor. It defines the grid and is left unchanged; "
            "`harmonize` merges the harmonised dates with it.",
            rich_help_panel=WHERE,
        ),
    ] = None


def open_cube(
    query: Reading,
    collection: str | None,
    *,
    bands: Sequence[str],
    resolution: float | None = None,
    platform: str | None = None,
    qa: bool = False,
    pad: Any = None,
) -> Cube:
    """Open a collection lazily, and print its size.

    Parameters
    ----------
    platform : str, optional
        Platform of items that don't name one.
    qa : bool
        Whether to keep the quality flags.
    pad : Harmonizer, optional
        Model whose tiles need full context at the edges of the area.
    """
    options = {} if pad is None else {"pad": pad}
    with _collection_named(collection):
        cube: Cube = xh.open_stac(
            query.source,
            collection=collection,
            datetime=query.datetime,
            bbox=query.bbox,
            bands=list(bands),
            resolution=resolution,
            engine=query.engine,
            mask=_mask(query),
            qa=qa,
            on_error="skip" if query.skip_unreadable else "raise",
            platform=platform,
            modifier=import_function(query.modifier) if query.modifier else None,
            drivers=query.drivers,
            schemes=query.schemes,
            **options,
        )
    sizes = cube.sizes
    pixel = abs(float(cube["x"][1] - cube["x"][0])) if sizes["x"] > 1 else float("nan")
    name = collection or "source"
    console.say(f"{name}: {sizes['time']} dates, {sizes['y']} x {sizes['x']} pixels of {pixel:g}")
    return cube


def check(cube: Cube, *, refuse: bool) -> None:
    """Compare pixels with the metadata, print the findings, and refuse contradictions.

    Raises
    ------
    Contradiction
        If pixels contradict the metadata and `refuse` is True.
    """
    with console.progress("Comparing pixels with metadata"):
        table = xh.check_radiometry(cube)
    print_check(table)
    if count_contradictions(table) and refuse:
        raise Contradiction(
            f"{conclude_check(table)} and nothing was written",
            cure="read another collection, or go on with --force",
        )


@contextmanager
def _collection_named(collection: str | None) -> Iterator[None]:
    """Add a hint to errors that arise when all collections of a source are read together."""
    try:
        yield
    except (BandError, GridError) as error:
        if collection is not None:
            raise
        several = "if SOURCE holds several collections, name one with --source-collection"
        error.cure = "; ".join(filter(None, (error.cure, several)))
        raise


def _mask(query: Reading) -> Any:
    if query.mask == "none":
        if query.dilate:
            raise MaskError(
                "--dilate widens a mask, and --mask none removes nothing", cure="drop one"
            )
        return None
    names = split_names(query.mask)
    if not names:
        raise MaskError("--mask names no flag", cure="write none to remove nothing")
    return xh.Mask(names=names, dilate=query.dilate, dilate_unit="metres")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which model to apply, and how: options of `harmonize`.

    None as `to` keeps the model's own direction, for fitting its tables without applying it.
    """

    to: Annotated[
        Literal["landsat", "sentinel-2"] | None,
        typer.Option(help="Sensor whose bandpass to convert to.", rich_help_panel=HOW),
    ] = "landsat"
    model: Annotated[
        str,
        typer.Option(
            help="Model name (see `xharmonize models`), or path or URL of a bundle or fit.",
            rich_help_panel=HOW,
        ),
    ] = "hls-v2"
    flags: Annotated[
        bool,
        typer.Option(
            "--flags",
            help="Write a layer of result flags: outside the training data, "
            "near missing pixels, beyond the table, partial context.",
            rich_help_panel=MODEL,
        ),
    ] = False
    tables: Annotated[
        str | None,
        typer.Option(
            help="Look-up tables from `xharmonize fit --method tables`.", rich_help_panel=MODEL
        ),
    ] = None
    tile: Annotated[
        float | None,
        typer.Option(
            help="Fit and apply look-up tables per date and tile; side of a tile in metres.",
            min=0,
            rich_help_panel=MODEL,
        ),
    ] = None
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate",
            help="Blend look-up tables between tile centres.",
            rich_help_panel=MODEL,
        ),
    ] = False
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Read a margin around the area, so that a network has full tiles at its edges.",
            rich_help_panel=MODEL,
        ),
    ] = False
    device: Annotated[
        Device, typer.Option(help="Device that runs networks.", rich_help_panel=MODEL)
    ] = "auto"
    dtype: Annotated[
        Precision, typer.Option(help="Numerical precision of networks.", rich_help_panel=MODEL)
    ] = "float32"
    batch_size: Annotated[
        int | None,
        typer.Option(help="Tiles per batch; fewer use less memory.", rich_help_panel=MODEL),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A loaded model, ready to apply.

    Attributes
    ----------
    choice : Choice
    model : Harmonizer or Dataset
        As returned by `xharmonize.load_model`.
    harmonizer : Harmonizer
        The model as a harmonizer in the requested direction.
    tables : Dataset or None
        Look-up tables given by the user.
    """

    choice: Choice
    model: Any
    harmonizer: Harmonizer
    tables: xr.Dataset | None

    def require_look_up(self) -> None:
        """Raise `ModelError` unless the model makes look-up tables."""
        if not isinstance(self.harmonizer, TableMaker):
            raise ModelError(
                f"model {self.harmonizer.name!r} makes no look-up tables",
                cure="give a fit of --method histogram or lut, or a bundle of kind 'lut'",
            )

    def check(self) -> None:
        """Raise `ModelError` for options the model does not accept, before reading pixels."""
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
                f"model {self.harmonizer.name!r} takes no {', '.join(strange)}",
                cure=f"leave {named} out",
            )

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Default bands of the result; for published models, the six common ones."""
        is_made = isinstance(self.model, xr.Dataset) or self.harmonizer.needs_all_bands
        return self.harmonizer.target_bands if is_made else DEFAULT_BANDS

    @property
    def pad(self) -> Any:
        """The model if its margin should be read too, else None."""
        if not self.choice.pad:
            return None
        if not self.harmonizer.changes_grid:
            raise ModelError(
                f"model {self.harmonizer.name!r} has no tiles that reach beyond the area",
                cure="leave --pad out",
            )
        return self.harmonizer

    def apply(self, source: Cube, target: Cube | None, resolution: float | None) -> Any:
        """Convert the source to the target's bandpass, on the target's grid if there is one."""
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
        fit = xh.harmonizers.fit_tables(
            cube, self.model, tile=self.choice.tile, interpolate=self.choice.interpolate
        )
        return fit.compute()

    def on_grid(self, source: Any, target: Cube | None) -> Any:
        """Regrid the source to the target's grid, if there is a target."""
        share = self.harmonizer.min_valid
        return source if target is None else xh.regrid(source, like=target, min_valid=share)

    def _runtime(self) -> xh.models.Runtime | None:
        """Runtime options of networks; None if all are defaults."""
        chosen = xh.models.Runtime(
            device=self.choice.device, dtype=self.choice.dtype, batch_size=self.choice.batch_size
        )
        return None if chosen == xh.models.Runtime() else chosen


def open_model(choice: Choice, options: Options) -> Opened:
    """Load a model and its tables, before any pixel is read.

    Raises
    ------
    UnknownModelError, ModelError
        If the model does not exist, is damaged, or converts to another bandpass.
    """
    model = load(choice.model, options)
    if choice.tables is not None and not is_url(choice.tables) and not Path(choice.tables).exists():
        raise ModelError(
            f"there are no tables at {choice.tables}",
            cure="make them with xharmonize fit --method tables",
        )
    tables = None if choice.tables is None else load(choice.tables, options)
    if tables is not None and not isinstance(tables, xr.Dataset):
        raise ModelError(f"{choice.tables} holds a model and no tables", cure="give it as --model")
    return Opened(
        choice=choice,
        model=model,
        harmonizer=resolve(model, BANDPASSES[choice.to]) if choice.to else as_harmonizer(model),
        tables=tables,
    )
