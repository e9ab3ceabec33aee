"""``xharmonize harmonize``: open, check, harmonise, merge, write, plot and summarise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import xharmonize as xh
from xharmonize._replace import GrowMode
from xharmonize.cli import console
from xharmonize.cli.inputs import (
    DEFAULT_BANDS,
    WHERE,
    Choice,
    Contradiction,
    Cube,
    Drivers,
    Opened,
    Query,
    Schemes,
    check,
    open_cube,
    open_model,
    print_summary,
    split_names,
)
from xharmonize.cube.indices import get_index
from xharmonize.errors import BandError, StoreError
from xharmonize.io.cog.catalog import is_written_here
from xharmonize.models.refs import Device, Precision
from xharmonize.types import Engine


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command; the fields are its options (see ``--help``)."""

    query: Query
    choice: Choice
    source_collection: str | None = None
    target_collection: str | None = None
    bands: tuple[str, ...] | None = None
    platform: str | None = None
    resolution: float | None = None
    index: str | None = None
    out: Path | None = None
    cogs: Path | None = None
    figures: Path | None = None
    point: tuple[float, float] | None = None
    upsert: bool = False
    overwrite: bool = False
    check: Literal["refuse", "warn", "skip"] = "refuse"

    @property
    def mode(self) -> GrowMode:
        """How to treat output that already exists."""
        return "upsert" if self.upsert else "w" if self.overwrite else "w-"


def run(job: Job) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If the radiometry check finds a contradiction and the job refuses those.
    StoreError
        If an output exists and the job neither adds to it nor replaces it.
    """
    require_free(job)
    require_index(job.index)
    model = open_model(job.choice)
    model.check()
    source, target = _open(job, model)
    if job.point is not None:
        from xharmonize.cli.demo import place_of

        place_of(source if target is None else target, job.point)
    for cube in (source, target):
        if cube is not None and job.check != "skip":
            check(cube, refuse=job.check == "refuse")
    harmonized = _harmonize(job, model, source, target)
    cubes = [harmonized] if target is None else [target, harmonized]
    series = xh.densify(*cubes)
    result = xh.index(series, job.index) if job.index else series
    stored = write(job, result)
    print_summary(stored, title="Series")
    if job.figures is not None:
        from xharmonize.cli.demo import draw

        with console.progress("Drawing"):
            paths = draw(
                job.figures,
                source=source,
                harmonized=harmonized,
                target=target,
                series=stored,
                point=job.point,
            )
        console.say("Figures: " + ", ".join(str(path) for path in paths))


def require_index(name: str | None) -> None:
    """Raise `BandError` for an unknown index, before reading anything."""
    if name is not None:
        get_index(name)


def require_free(job: Job) -> None:
    """Raise `StoreError` if an output exists and the job neither adds to it nor replaces it."""
    if job.out is not None and job.out.exists() and not (job.upsert or job.overwrite):
        raise StoreError(
            f"{job.out} exists", cure="add to it with --upsert, or replace it: --overwrite"
        )
    for path in (job.out, job.cogs, job.figures):
        if path is not None:
            _require_writable(path)
    _require_no_figures(job)
    if job.cogs is None or not job.cogs.exists() or not any(job.cogs.iterdir()):
        return
    if not (job.upsert or job.overwrite):
        raise StoreError(
            f"{job.cogs} is not empty", cure="add to it with --upsert, or replace it: --overwrite"
        )
    # Replace only what `to_cogs` wrote: the folder may hold the very scenes being read.
    if not is_written_here(job.cogs):
        raise StoreError(
            f"{job.cogs} is not empty and holds no catalogue written by xharmonize",
            cure="name another folder",
        )


def _require_no_figures(job: Job) -> None:
    from xharmonize.cli.demo import NAMES

    paths = [] if job.figures is None else [job.figures / name for name in NAMES]
    found = [path for path in paths if path.exists()]
    if found and job.mode == "w-":
        raise StoreError(f"{found[0]} exists", cure="replace it with --overwrite")


def _require_writable(path: Path) -> None:
    """Raise `StoreError` if the path is not writable, before the work rather than after it."""
    place = path.absolute()
    if place.is_file():
        raise StoreError(f"{path} is a file", cure="name a folder")
    place = next(parent for parent in (place, *place.parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise StoreError(f"{path} cannot be written: {place} is no folder you may write to")


def write(job: Job, result: Any) -> Any:
    """Write the outputs of the job and return the series, read back from disk if stored."""
    stored = result
    if job.out is not None:
        with console.progress(f"Writing {job.out}"):
            xh.to_zarr(result, job.out, mode=job.mode)
        stored = xh.open_series(job.out)
        console.say(f"Zarr store: {job.out}")
    if job.cogs is not None:
        with console.progress(f"Writing {job.cogs}"):
            xh.to_cogs(stored, job.cogs, mode=job.mode)
        console.say(f"COGs and STAC items: {job.cogs}")
    return stored


def _open(job: Job, model: Opened) -> tuple[Cube, Cube | None]:
    """Open the source, and the target if there is one.

    A network gets all the bands it needs at their native pixel size, whatever the output is.
    """
    wanted = _bands(job, model)
    is_whole = model.harmonizer.needs_all_bands
    target = None
    if job.target_collection is not None:
        target = open_cube(
            job.query, job.target_collection, bands=wanted, resolution=job.resolution
        )
    source = open_cube(
        job.query,
        job.source_collection,
        bands=model.harmonizer.bands if is_whole else wanted,
        resolution=None if model.harmonizer.changes_grid else job.resolution,
        platform=job.platform,
        pad=model.pad,
    )
    return source, target


def _bands(job: Job, model: Opened) -> tuple[str, ...]:
    """Bands of the result: the requested ones, those of the index, or all the model produces."""
    if job.bands is not None:
        return job.bands
    if job.index is None or job.figures is not None:
        return model.target_bands
    from xharmonize.cube.indices import INDICES

    return tuple("nir08" if role == "nir" else role for role in INDICES[job.index].roles)


def _harmonize(job: Job, model: Opened, source: Cube, target: Cube | None) -> Any:
    """Convert the source to the target's bandpass and grid, in the requested bands."""
    resolution = job.resolution if model.harmonizer.changes_grid else None
    result = model.apply(source, target, resolution)
    wanted = list(_bands(job, model))
    given = result["band"].values.astype(str).tolist()
    lacking = [band for band in wanted if band not in given]
    if lacking:
        raise BandError(
            f"model {model.harmonizer.name!r} gives {', '.join(given)}, not {', '.join(lacking)}",
            cure="change --bands or --index",
        )
    return result if given == wanted else result.sel(band=wanted)


HOW, OUTPUT, CHECK = "How to harmonise", "What to write", "Checks"
MODEL = "Trained models and tables"


def harmonize(
    source: Annotated[str, typer.Argument(help="STAC API URL, static catalogue, or item file.")],
    source_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection to harmonise. Optional if SOURCE holds a single sensor.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    target_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection of the target sensor. It defines the grid and is left unchanged; "
            "the harmonised dates are merged with it.",
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
            help="Date or date range: 2018, 2018-06/2018-08, 2018-06-01/.., 2018-07-15.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated common band names. Default: the bands of --index, or all bands "
            f"of the model ({', '.join(DEFAULT_BANDS)}). A network always reads its own bands.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="Library that loads the items. Default: stackstac if it works here, else odc.",
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
            help="Comma-separated quality flags to mask. 'clear' masks every pixel that is not "
            "clear; 'none' masks nothing.",
            rich_help_panel=WHERE,
        ),
    ] = "clear",
    dilate: Annotated[
        float,
        typer.Option(
            help="Dilate the mask by this distance in metres.", min=0, rich_help_panel=WHERE
        ),
    ] = 0.0,
    qa: Annotated[
        bool,
        typer.Option(
            "--qa", help="Keep the quality flags as a layer of the output.", rich_help_panel=WHERE
        ),
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Treat unreadable assets as missing.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    to: Annotated[
        Literal["landsat", "sentinel-2"],
        typer.Option(help="Sensor whose bandpass to convert to.", rich_help_panel=HOW),
    ] = "landsat",
    model: Annotated[
        str,
        typer.Option(
            help="Model name (see `xharmonize models`), bundle folder, or fit file.",
            rich_help_panel=HOW,
        ),
    ] = "hls-v2",
    platform: Annotated[
        str | None,
        typer.Option(
            help="Platform of items that don't name one: sentinel-2a, sentinel-2b, sentinel-2c; "
            "'infer' (from the orbit phase); 'sentinel-2' (mean of 2A and 2B).",
            rich_help_panel=HOW,
        ),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(
            help="Output pixel size in CRS units. Default: the target's grid, or the source's "
            "if there is no target. A network always reads the source at its native size.",
            rich_help_panel=HOW,
        ),
    ] = None,
    flags: Annotated[
        bool,
        typer.Option(
            "--flags",
            help="Write a layer of result flags: outside the training data, "
            "near missing pixels, beyond the table, partial context.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    tables: Annotated[
        Path | None,
        typer.Option(
            help="Look-up tables from `xharmonize fit --method tables`.", rich_help_panel=MODEL
        ),
    ] = None,
    tile: Annotated[
        float | None,
        typer.Option(
            help="Fit and apply look-up tables per date and tile; side of a tile in metres.",
            min=0,
            rich_help_panel=MODEL,
        ),
    ] = None,
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate",
            help="Blend look-up tables between tile centres.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    pad: Annotated[
        bool,
        typer.Option(
            "--pad",
            help="Read a margin around the area, so that a network has full tiles at its edges.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    device: Annotated[
        Device, typer.Option(help="Device that runs networks.", rich_help_panel=MODEL)
    ] = "auto",
    dtype: Annotated[
        Precision, typer.Option(help="Numerical precision of networks.", rich_help_panel=MODEL)
    ] = "float32",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Tiles per batch; fewer use less memory.", rich_help_panel=MODEL),
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
        typer.Option(help="Folder to write COGs and STAC items to.", rich_help_panel=OUTPUT),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder to write figures to (PNG).", rich_help_panel=OUTPUT),
    ] = None,
    point: Annotated[
        str | None,
        typer.Option(
            help="LON,LAT of the pixel to plot in --figures. Default: mean of the area.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    upsert: Annotated[
        bool,
        typer.Option(
            "--upsert", help="Add to existing output; replace dates in it.", rich_help_panel=OUTPUT
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing output.", rich_help_panel=OUTPUT),
    ] = False,
    skip_check: Annotated[
        bool,
        typer.Option(
            "--skip-check", help="Don't check pixels against metadata.", rich_help_panel=CHECK
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Continue if pixels contradict metadata.", rich_help_panel=CHECK
        ),
    ] = False,
) -> None:
    """Harmonise a STAC collection, merge it with a target collection, and write Zarr or COGs.

    Example: xharmonize harmonize catalog.json --source-collection sentinel-2-l2a
    --target-collection landsat-c2-l2 --datetime 2018 --index ndvi --out ndvi.zarr

    For items from Planetary Computer, add --modifier planetary_computer:sign_inplace
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
    """Parse ``west,south,east,north``; raise `typer.BadParameter` unless it is four numbers."""
    if text is None:
        return None
    west, south, east, north = _numbers(text, 4, "--bbox", "WEST,SOUTH,EAST,NORTH")
    return west, south, east, north


def parse_point(text: str | None) -> tuple[float, float] | None:
    """Parse ``longitude,latitude``; raise `typer.BadParameter` unless it is two numbers."""
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
