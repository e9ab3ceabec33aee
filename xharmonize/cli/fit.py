"""``xharmonize fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xharmonize.cli import console
from xharmonize.cli.choice import DEFAULT_BANDS
from xharmonize.cli.fitting import Fitting, Method, run
from xharmonize.cli.harmonize import CHECK, HOW, OUTPUT, parse_bbox
from xharmonize.cli.reading import WHERE, Contradiction, Drivers, Query, Schemes, split_names
from xharmonize.types import Engine


def fit(
    source: Annotated[
        str, typer.Argument(help="STAC API URL, static catalogue, or file of items.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Where to keep the fit: fit.zarr or fit.nc.", rich_help_panel=OUTPUT),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="Lines by least squares, from all bands, or with errors on both sides; a line per "
            "pixel; a look-up table per band; histogram matching; tables per tile and date of "
            "--model.",
            rich_help_panel=HOW,
        ),
    ] = "ols",
    source_collection: Annotated[
        str | None, typer.Option(help="Collection to be harmonised.", rich_help_panel=WHERE)
    ] = None,
    target_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection it is to resemble; it gives the grid.", rich_help_panel=WHERE
        ),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.", rich_help_panel=WHERE),
    ] = None,
    datetime: Annotated[
        str | None,
        typer.Option(help="Date or period: 2018, 2018-06/2018-08.", rich_help_panel=WHERE),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help=f"Common names, separated by commas. Default: {', '.join(DEFAULT_BANDS)}, or "
            "those of --model.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Library that lays out the reading. Default: stackstac where it works, else odc.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    modifier: Annotated[
        str | None,
        typer.Option(help="Function that signs items, as module:function.", rich_help_panel=WHERE),
    ] = None,
    drivers: Drivers = None,
    schemes: Schemes = None,
    mask: Annotated[
        str,
        typer.Option(help="Quality flags to remove, separated by commas.", rich_help_panel=WHERE),
    ] = "clear",
    dilate: Annotated[
        float, typer.Option(help="Widen the mask by so many metres.", min=0, rich_help_panel=WHERE)
    ] = 0.0,
    platform: Annotated[
        str | None,
        typer.Option(help="Where items name no platform; see `harmonize`.", rich_help_panel=WHERE),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(help="Largest gap between two looks of a pair: 2D, 36h.", rich_help_panel=HOW),
    ] = "2D",
    model: Annotated[
        str | None,
        typer.Option(
            help="For --method tables: a fit of histogram or lut, or a bundle.", rich_help_panel=HOW
        ),
    ] = None,
    tile: Annotated[
        float | None,
        typer.Option(
            help="For --method tables: side of a tile in metres.", min=0, rich_help_panel=HOW
        ),
    ] = None,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate",
            help="For --method tables: blend between the centres of tiles.",
            rich_help_panel=HOW,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the fit that is there.", rich_help_panel=OUTPUT),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on where pixels contradict the metadata.", rich_help_panel=CHECK
        ),
    ] = False,
) -> None:
    """Fit a model on pairs of two collections, or look-up tables per tile, and keep it.

    Example: xharmonize fit catalog.json --source-collection sentinel-2-l2a
    --target-collection landsat-c2-l2 --method multiband --out fit.zarr

    What it writes is given to `xharmonize harmonize` as --model, tables as --tables.
    """
    query = Query(
        source=source,
        bbox=parse_bbox(bbox),
        datetime=datetime,
        engine=engine,
        modifier=modifier,
        drivers=drivers,
        schemes=schemes,
        mask=mask,
        dilate=dilate,
    )
    job = Fitting(
        query=query,
        method=method,
        source_collection=source_collection,
        target_collection=target_collection,
        bands=None if bands is None else split_names(bands),
        platform=platform,
        tolerance=tolerance,
        model=model,
        tile=tile,
        interpolate=interpolate,
        out=out,
        overwrite=overwrite,
        is_forced=force,
    )
    complaint = job.complaint()
    if complaint:
        raise typer.BadParameter(complaint)
    try:
        run(job)
    except Contradiction as error:
        console.complain("refused", error, "red")
        raise typer.Exit(console.CONTRADICTION) from error
