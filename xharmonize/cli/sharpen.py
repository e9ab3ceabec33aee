"""``xharmonize sharpen``: open two collections, sharpen one with the other, merge and write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

import xharmonize as xh
from xharmonize._replace import GrowMode
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, mode_of, takes
from xharmonize.cli.harmonize import cannot_write, require_free, require_index, write
from xharmonize.cli.inputs import (
    DEFAULT_BANDS,
    WHERE,
    Cogs,
    Cube,
    Force,
    Out,
    Overwrite,
    Query,
    Upsert,
    check,
    open_cube,
    print_summary,
    refusals,
)
from xharmonize.cli.places import loaded
from xharmonize.fusion.consistency import TOLERANCE

HOW = "How to sharpen"


@dataclass(frozen=True, kw_only=True)
class Sharpening:
    """One run of the command; the fields are its options."""

    query: Query
    resolution: Annotated[
        float | None,
        typer.Option(
            help="Pixel size of the target in CRS units, and so of the result. Default: its own. "
            "10 for all bands of Sentinel-2.",
            rich_help_panel=WHERE,
        ),
    ] = None
    model: Annotated[
        str,
        typer.Option(
            help=f"Method ({', '.join(xh.fusion.METHODS)}), or path or URL of a bundle.",
            rich_help_panel=HOW,
        ),
    ] = "bilinear"
    reference: Annotated[
        Literal["nearest", "before", "after"],
        typer.Option(help="Which clear date of the target helps.", rich_help_panel=HOW),
    ] = "nearest"
    tolerance: Annotated[
        str,
        typer.Option(help="Largest time to a reference: 32D, 36h.", rich_help_panel=HOW),
    ] = "32D"
    bandpass: Annotated[
        str,
        typer.Option(
            help="Model that brings the source to the bandpass of the target: a name, path or URL "
            "of a fit, or 'none'.",
            rich_help_panel=HOW,
        ),
    ] = "published"
    psf: Annotated[
        float,
        typer.Option(
            help="Standard deviation in metres of the point spread of the source's pixels.",
            min=0,
            rich_help_panel=HOW,
        ),
    ] = 0.0
    correct: Annotated[
        bool,
        typer.Option(
            "--correct", help="Make the result agree with the source.", rich_help_panel=HOW
        ),
    ] = False
    consistency: Annotated[
        float,
        typer.Option(
            help="Reflectance by which a value may differ from the source before it is flagged.",
            min=0,
            rich_help_panel=HOW,
        ),
    ] = TOLERANCE
    alone: Annotated[
        bool,
        typer.Option(
            "--alone",
            help="Write the sharpened dates only, not the target's.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    index: Annotated[
        str | None,
        typer.Option(
            help="Write this index instead of reflectance, such as ndvi.", rich_help_panel=OUTPUT
        ),
    ] = None
    out: Out = None
    cogs: Cogs = None
    upsert: Upsert = False
    overwrite: Overwrite = False
    force: Force = False

    @property
    def figures(self) -> None:
        """None are drawn."""

    @property
    def mode(self) -> GrowMode:
        """How to treat output that already exists."""
        return "upsert" if self.upsert else mode_of(self.overwrite)

    def complaint(self) -> str:
        """Return what is wrong with the combination of options; empty if it is valid."""
        if complaint := cannot_write(self):
            return complaint
        if self.query.target_collection is None and self.alone:
            return "--alone leaves out the target's dates, and there is no --target-collection"
        return ""


def run(job: Sharpening) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If pixels contradict the metadata and the job does not force it.
    StoreError
        If an output exists and the job neither adds to it nor replaces it.
    """
    require_free(job)
    require_index(job.index)
    source, target = _open(job)
    for cube in (source, target):
        if cube is not None:
            check(cube, refuse=not job.force)
    with console.progress("Choosing references"):
        sharp = xh.sharpen(
            source,
            target,
            loaded(job.model, job.query.storage_options),
            references=job.reference,
            tolerance=job.tolerance,
            bandpass=None
            if job.bandpass == "none"
            else loaded(job.bandpass, job.query.storage_options),
            psf=job.psf,
            correct=job.correct,
            consistency=job.consistency,
        )
    series: Any = sharp
    if target is not None and not job.alone:
        series = xh.densify(target.sel(band=sharp["band"].values), sharp)
    result = xh.index(series, job.index) if job.index else series
    print_summary(write(job, result), title="Series")


def _open(job: Sharpening) -> tuple[Cube, Cube | None]:
    """Open the source at its own pixels, and the target if there is one."""
    query = job.query
    bands = DEFAULT_BANDS if query.bands is None else query.bands
    if query.target_collection is None:
        own = open_cube(
            query,
            query.source_collection,
            bands=bands,
            resolution=job.resolution,
            platform=query.platform,
        )
        return own, None
    target = open_cube(
        query,
        query.target_collection,
        bands=bands,
        resolution=job.resolution,
        platform=query.platform,
    )
    return open_cube(query, query.source_collection, bands=bands), target


@takes(Sharpening)
def sharpen(job: Sharpening) -> None:
    """Sharpen a STAC collection with a finer one, merge both, and write Zarr or COGs.

    Without --target-collection, the coarser bands of Sentinel-2 with its 10 m bands.

    Example: xharmonize sharpen catalog.json --source-collection landsat-c2-l2
    --target-collection sentinel-2-l2a --resolution 10 --datetime 2018 --out sharp.zarr
    """
    with refusals(job):
        run(job)
