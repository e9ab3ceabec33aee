"""``xharmonize harmonize``: what the command takes; `xharmonize.cli.job` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xharmonize.cli import console
from xharmonize.cli.choice import DEFAULT_BANDS, Choice
from xharmonize.cli.job import Job, run
from xharmonize.cli.reading import WHERE, Contradiction, Drivers, Query, Schemes, split_names
from xharmonize.models.refs import Device, Precision
from xharmonize.types import Engine

HOW, OUTPUT, CHECK = "How to harmonise", "What to write", "Checks"
MODEL = "Trained models and tables"


def harmonize(
    source: Annotated[
        str, typer.Argument(help="STAC API URL, static catalogue, or file of items.")
    ],
    source_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection to harmonise; may be left out if SOURCE holds one sensor only.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    target_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection of the target sensor. It stays as it is, gives the grid, and the "
            "harmonised dates are merged into it.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    bbox: Annotated[
        str | None,
        typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.", rich_help_panel=WHERE),
    ] = None,
    datetime: Annotated[
        str | None,
        typer.Option(
            help="Date or period: 2018, 2018-06/2018-08, 2018-06-01/.., 2018-07-15.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Common names, separated by commas. Default: those the index needs, or "
            f"all the model gives ({', '.join(DEFAULT_BANDS)}). A network reads what it needs.",
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
        typer.Option(
            help="Function that signs items, as module:function.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    drivers: Drivers = None,
    schemes: Schemes = None,
    mask: Annotated[
        str,
        typer.Option(
            help="Quality flags to remove, separated by commas; 'clear' removes all that are not "
            "clear, 'none' nothing.",
            rich_help_panel=WHERE,
        ),
    ] = "clear",
    dilate: Annotated[
        float, typer.Option(help="Widen the mask by so many metres.", min=0, rich_help_panel=WHERE)
    ] = 0.0,
    qa: Annotated[
        bool,
        typer.Option(
            "--qa", help="Keep the quality flags as a layer of the result.", rich_help_panel=WHERE
        ),
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Treat assets that cannot be read as missing.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    to: Annotated[
        Literal["landsat", "sentinel-2"],
        typer.Option(help="Sensor whose bandpass the result follows.", rich_help_panel=HOW),
    ] = "landsat",
    model: Annotated[
        str,
        typer.Option(
            help="Name of a model (see `xharmonize models`), folder of a bundle, or file of a fit.",
            rich_help_panel=HOW,
        ),
    ] = "hls-v2",
    platform: Annotated[
        str | None,
        typer.Option(
            help="Where items name no platform: sentinel-2a, sentinel-2b, sentinel-2c; 'infer' "
            "(from the orbit's phase); 'sentinel-2' (mean of 2A and 2B).",
            rich_help_panel=HOW,
        ),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(
            help="Pixel size of the result in CRS units. Default: the target's own grid, or the "
            "source's without a target. A network always reads the source as it is.",
            rich_help_panel=HOW,
        ),
    ] = None,
    flags: Annotated[
        bool,
        typer.Option(
            "--flags",
            help="Write the flags of the result as a layer: outside the training data, "
            "near missing pixels, beyond the table, partial context.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Look-up tables of `xharmonize fit --method tables`.", rich_help_panel=MODEL
        ),
    ] = None,
    tile: Annotated[
        float | None,
        typer.Option(
            help="Fit look-up tables per date and tile of so many metres, then apply them.",
            min=0,
            rich_help_panel=MODEL,
        ),
    ] = None,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate",
            help="Blend look-up tables between the centres of tiles.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Read a margin around the area, so that a network sees whole tiles at its border.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    device: Annotated[
        Device, typer.Option(help="Where networks run.", rich_help_panel=MODEL)
    ] = "auto",
    dtype: Annotated[
        Precision, typer.Option(help="Precision of networks.", rich_help_panel=MODEL)
    ] = "float32",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Tiles run at once; fewer need less memory.", rich_help_panel=MODEL),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="Write this index instead of reflectance: bsi, evi, evi2, mndwi, nbr, nbr2, "
            "ndmi, ndre, ndvi, ndwi, savi.",
            rich_help_panel=HOW,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Zarr store to write.", rich_help_panel=OUTPUT)
    ] = None,
    cogs: Annotated[
        Path | None,
        typer.Option(help="Folder for COGs with STAC items.", rich_help_panel=OUTPUT),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for maps, series and timeline (PNG).", rich_help_panel=OUTPUT),
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help="LON,LAT of the pixel whose series is drawn; default: mean of the area.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    upsert: Annotated[
        bool,
        typer.Option(
            "--upsert", help="Add to the store, replacing dates it has.", rich_help_panel=OUTPUT
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace what exists.", rich_help_panel=OUTPUT),
    ] = False,
    skip_check: Annotated[
        bool,
        typer.Option(
            "--skip-check", help="Don't compare pixels with the metadata.", rich_help_panel=CHECK
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Go on where pixels contradict the metadata.", rich_help_panel=CHECK
        ),
    ] = False,
) -> None:
    """Harmonise a STAC collection, merge it with the target's, and write Zarr or COGs.

    Example: xharmonize harmonize catalog.json --source-collection sentinel-2-l2a
    --target-collection landsat-c2-l2 --datetime 2018 --index ndvi --out ndvi.zarr

    Items of Planetary Computer are signed with --modifier planetary_computer:sign_inplace
    """
    if out is None and cogs is None:
        raise typer.BadParameter("nothing to write: give --out STORE.zarr, --cogs FOLDER or both")
    if upsert and overwrite:
        raise typer.BadParameter("--upsert keeps what exists and --overwrite replaces it: give one")
    if point is not None and figures is None:
        raise typer.BadParameter("--point chooses what --figures draws: give --figures FOLDER too")
    if tables is not None and (tile is not None or interpolate):
        raise typer.BadParameter("--tables names tables, --tile and --interpolate fit new ones")
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
        qa=qa,
        skip_unreadable=skip_unreadable,
    )
    choice = Choice(
        to=to,
        model=model,
        tables=tables,
        tile=tile,
        interpolate=interpolate,
        flags=flags,
        pad=pad,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
    job = Job(
        query=query,
        choice=choice,
        source_collection=source_collection,
        target_collection=target_collection,
        bands=None if bands is None else split_names(bands),
        platform=platform,
        resolution=resolution,
        index=index,
        out=out,
        cogs=cogs,
        figures=figures,
        point=parse_point(point),
        upsert=upsert,
        overwrite=overwrite,
        check="skip" if skip_check else "warn" if force else "refuse",
    )
    try:
        run(job)
    except Contradiction as error:
        console.complain("refused", error, "red")
        raise typer.Exit(console.CONTRADICTION) from error


def parse_bbox(text: str | None) -> tuple[float, float, float, float] | None:
    """Read ``west,south,east,north``; raises `typer.BadParameter` unless it is four numbers."""
    if text is None:
        return None
    west, south, east, north = _numbers(text, 4, "--bbox", "WEST,SOUTH,EAST,NORTH")
    return west, south, east, north


def parse_point(text: str | None) -> tuple[float, float] | None:
    """Read ``longitude,latitude``; raises `typer.BadParameter` unless it is two numbers."""
    if text is None:
        return None
    longitude, latitude = _numbers(text, 2, "--point", "LON,LAT")
    return longitude, latitude


def _numbers(text: str, n_numbers: int, option: str, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != n_numbers:
        words = {2: "two", 4: "four"}[n_numbers]
        raise typer.BadParameter(
            f"{option} {text!r} is not {words} numbers; write {form} in degrees"
        )
    return numbers
