"""``xharmonize harmonize``: open, check, harmonise, merge, write, plot and summarise."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

import xharmonize as xh
from xharmonize._replace import GrowMode
from xharmonize._urls import Remote, options_for
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, Read, mode_of, parse_point, takes
from xharmonize.cli.inputs import (
    CHECK,
    HOW,
    WHERE,
    Choice,
    Cogs,
    Cube,
    Force,
    Opened,
    Out,
    Overwrite,
    Query,
    Upsert,
    check,
    open_cube,
    open_model,
    print_summary,
    refusals,
)
from xharmonize.cli.places import (
    open_store,
    place_of,
    require_free_at,
    require_local,
    to_store,
)
from xharmonize.cube.indices import bands_for, get_index
from xharmonize.errors import BandError, StoreError
from xharmonize.io.cog.catalog import is_written_here


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command; the fields are its options."""

    query: Query
    qa: Annotated[
        bool,
        typer.Option(
            "--qa", help="Keep the quality flags as a layer of the output.", rich_help_panel=WHERE
        ),
    ] = False
    choice: Choice
    resolution: Annotated[
        float | None,
        typer.Option(
            help="Output pixel size in CRS units. Default: the target's grid, or the source's "
            "if there is no target. A network always reads the source at its native size.",
            rich_help_panel=HOW,
        ),
    ] = None
    index: Annotated[
        str | None,
        typer.Option(
            help="Write this index instead of reflectance: bsi, evi, evi2, mndwi, nbr, nbr2, "
            "ndmi, ndre, ndvi, ndwi, savi.",
            rich_help_panel=HOW,
        ),
    ] = None
    out: Out = None
    cogs: Cogs = None
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder to write figures to (PNG).", rich_help_panel=OUTPUT),
    ] = None
    point: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="LON,LAT of the pixel to plot in --figures. Default: mean of the area.",
            rich_help_panel=OUTPUT,
        ),
        Read(parse_point),
    ] = None
    upsert: Upsert = False
    overwrite: Overwrite = False
    skip_check: Annotated[
        bool,
        typer.Option(
            "--skip-check", help="Don't check pixels against metadata.", rich_help_panel=CHECK
        ),
    ] = False
    force: Force = False

    @property
    def mode(self) -> GrowMode:
        """How to treat output that already exists."""
        return "upsert" if self.upsert else mode_of(self.overwrite)

    def complaint(self) -> str:
        """Return what is wrong with the combination of options; empty if it is valid."""
        if complaint := cannot_write(self):
            return complaint
        if self.point is not None and self.figures is None:
            return "--point chooses what --figures draws: give --figures FOLDER too"
        choice = self.choice
        if choice.tables is not None and (choice.tile is not None or choice.interpolate):
            return "--tables names tables, --tile and --interpolate fit new ones"
        return ""


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
    model = open_model(job.choice, job.query.storage_options)
    model.check()
    source, target = _open(job, model)
    if job.point is not None:
        from xharmonize.plot.overview import place_of as pixel_of

        pixel_of(source if target is None else target, job.point)
    for cube in (source, target):
        if cube is not None and not job.skip_check:
            check(cube, refuse=not job.force)
    harmonized = _harmonize(job, model, source, target)
    cubes = [harmonized] if target is None else [target, harmonized]
    series = xh.densify(*cubes)
    result = xh.index(series, job.index) if job.index else series
    stored = write(job, result)
    print_summary(stored, title="Series")
    if job.figures is not None:
        from xharmonize.plot.overview import draw

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


class Writing(Protocol):
    """A job that writes a series."""

    @property
    def query(self) -> Query:
        """What is read, with the options of URLs."""

    @property
    def out(self) -> str | None:
        """Zarr store to write."""

    @property
    def cogs(self) -> str | None:
        """Folder to write COGs to."""

    @property
    def figures(self) -> Path | None:
        """Folder to write figures to."""

    @property
    def upsert(self) -> bool:
        """Whether to add to output that already exists."""

    @property
    def overwrite(self) -> bool:
        """Whether to replace it."""

    @property
    def mode(self) -> GrowMode:
        """Both, as writing takes them."""


def cannot_write(job: Writing) -> str:
    """Return why a job's options write nothing, or contradict each other; empty if they don't."""
    if job.out is None and job.cogs is None:
        return "nothing to write: give --out STORE.zarr, --cogs FOLDER or both"
    if job.upsert and job.overwrite:
        return "--upsert keeps what exists and --overwrite replaces it: give one"
    return ""


def require_free(job: Writing) -> None:
    """Raise `StoreError` if an output exists and the job neither adds to it nor replaces it."""
    if job.figures is not None:
        require_local(job.figures, "--figures")
        _require_writable(job.figures)
    _require_no_figures(job)
    for text, require in ((job.out, _require_free_store), (job.cogs, _require_free_folder)):
        place = None if text is None else place_of(text, job.query.storage_options)
        if isinstance(place, Remote):
            require_free_at(place, job.mode, is_store=text == job.out)
        elif place is not None:
            require(place, job.mode)
            _require_writable(place)


def _require_free_store(out: Path, mode: GrowMode) -> None:
    if out.exists() and mode == "w-":
        raise StoreError(
            f"{out} exists", cure="add to it with --upsert, or replace it: --overwrite"
        )


def _require_free_folder(cogs: Path, mode: GrowMode) -> None:
    if not cogs.is_dir() or not any(cogs.iterdir()):
        return
    if mode == "w-":
        raise StoreError(
            f"{cogs} is not empty", cure="add to it with --upsert, or replace it: --overwrite"
        )
    # Replace only what `to_cogs` wrote: the folder may hold the very scenes being read.
    if not is_written_here(cogs):
        raise StoreError(
            f"{cogs} is not empty and holds no catalogue written by xharmonize",
            cure="name another folder",
        )


def _require_no_figures(job: Writing) -> None:
    from xharmonize.plot.overview import NAMES

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


def write(job: Writing, result: Any) -> Any:
    """Write the outputs of the job and return the series, read back from disk if stored."""
    stored, options = result, job.query.storage_options
    if job.out is not None:
        with console.progress(f"Writing {job.out}"):
            to_store(result, job.out, job.mode, options)
        stored = open_store(job.out, options)
        console.say(f"Zarr store: {job.out}")
    if job.cogs is not None:
        with console.progress(f"Writing {job.cogs}"):
            where = options_for(job.cogs, options)
            xh.to_cogs(stored, job.cogs, mode=job.mode, storage_options=where)
        console.say(f"COGs and STAC items: {job.cogs}")
    return stored


def _open(job: Job, model: Opened) -> tuple[Cube, Cube | None]:
    """Open the source, and the target if there is one.

    A network gets all the bands it needs at their native pixel size, whatever the output is.
    """
    wanted = _bands(job, model)
    is_whole = model.harmonizer.needs_all_bands
    target = None
    if job.query.target_collection is not None:
        target = open_cube(
            job.query,
            job.query.target_collection,
            bands=wanted,
            resolution=job.resolution,
            qa=job.qa,
        )
    source = open_cube(
        job.query,
        job.query.source_collection,
        bands=model.harmonizer.bands if is_whole else wanted,
        resolution=None if model.harmonizer.changes_grid else job.resolution,
        platform=job.query.platform,
        qa=job.qa,
        pad=model.pad,
    )
    return source, target


def _bands(job: Job, model: Opened) -> tuple[str, ...]:
    """Bands of the result: the requested ones, those of the index, or all the model produces."""
    if job.query.bands is not None:
        return job.query.bands
    if job.index is None or job.figures is not None:
        return model.target_bands
    return bands_for(job.index)


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


@takes(Job)
def harmonize(job: Job) -> None:
    """Harmonise a STAC collection, merge it with a target collection, and write Zarr or COGs.

    Example: xharmonize harmonize catalog.json --source-collection sentinel-2-l2a
    --target-collection landsat-c2-l2 --datetime 2018 --index ndvi --out ndvi.zarr

    For items from Planetary Computer, add --modifier planetary_computer:sign_inplace
    """
    with refusals(job):
        run(job)
