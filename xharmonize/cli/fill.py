"""``xharmonize fill``: open, check, fill clouds, write and summarise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, mode_of, takes
from xharmonize.cli.harmonize import Job, cannot_write, require_free, write
from xharmonize.cli.inputs import (
    DEFAULT_BANDS,
    WHERE,
    Choice,
    Cogs,
    Force,
    Out,
    Overwrite,
    Query,
    Reading,
    check,
    open_cube,
    print_summary,
    refusals,
)
from xharmonize.cli.places import loaded, save
from xharmonize.fusion.fill import FILLERS
from xharmonize.fusion.methods.filler import Reference
from xharmonize.fusion.passes import POLARISATIONS

HOW = "How to fill"


@dataclass(frozen=True, kw_only=True)
class Filling:
    """One run of the command; the fields are its options."""

    query: Reading
    sentinel1_collection: Annotated[
        str | None,
        typer.Option(
            help="Collection of Sentinel-1 backscatter, for models that use it.",
            rich_help_panel=WHERE,
        ),
    ] = None
    resolution: Annotated[
        float | None,
        typer.Option(help="Pixel size in CRS units. Default: the finest.", rich_help_panel=WHERE),
    ] = None
    model: Annotated[
        str,
        typer.Option(
            help="temporal: interpolate between the clear dates of a pixel; nearest: take the "
            "nearest one; sar-regression: add the change that Sentinel-1 shows; or path or "
            "URL of a fit or a bundle.",
            rich_help_panel=HOW,
        ),
    ] = "temporal"
    reference: Annotated[
        Reference,
        typer.Option(
            help="Clear dates that count: on both sides of a date, before it, or after it.",
            rich_help_panel=HOW,
        ),
    ] = "nearest"
    max_gap: Annotated[
        str,
        typer.Option(help="Longest time to a clear date: 60D, 36h.", rich_help_panel=HOW),
    ] = "60D"
    max_offset: Annotated[
        str,
        typer.Option(help="Longest time to a Sentinel-1 pass: 6D.", rich_help_panel=HOW),
    ] = "6D"
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Estimate all pixels, each without its own date.",
            rich_help_panel=HOW,
        ),
    ] = False
    out: Out = None
    cogs: Cogs = None
    save_fit: Annotated[
        str | None,
        typer.Option(
            help="File to keep the fit in, to fill other places by: fit.zarr or fit.nc; or a URL.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    overwrite: Overwrite = False
    force: Force = False

    def complaint(self) -> str:
        """Return what is wrong with the combination of options; empty if it is valid."""
        if complaint := cannot_write(self.outputs):
            return complaint
        if self.model == "sar-regression" and self.sentinel1_collection is None:
            return "--model sar-regression needs --sentinel1-collection"
        if self.save_fit is not None and self.model not in FILLERS:
            return "--save-fit keeps a fit to this place, and --model names another"
        return ""

    @property
    def outputs(self) -> Job:
        """What is written, as `xharmonize harmonize` writes it."""
        return Job(
            query=Query(**vars(self.query)),
            choice=Choice(),
            out=self.out,
            cogs=self.cogs,
            overwrite=self.overwrite,
        )


def run(job: Filling) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If pixels contradict the metadata and the job does not force it.
    StoreError
        If an output exists and the job does not replace it.
    """
    require_free(job.outputs)
    cube = open_cube(
        job.query,
        job.query.source_collection,
        bands=job.query.bands or DEFAULT_BANDS,
        resolution=job.resolution,
        platform=job.query.platform,
    )
    check(cube, refuse=not job.force)
    radar = _radar(job)
    storage = job.query.storage_options
    model: Any = loaded(job.model, storage)
    options: dict[str, Any] = {"max_gap": job.max_gap, "max_offset": job.max_offset}
    if job.save_fit is not None:
        with console.progress("Fitting"):
            model = xh.fusion.fit_fill(cube, radar, model, **options).compute()
        save(model, job.save_fit, mode_of(job.overwrite), storage)
        console.say(
            f"Kept in {job.save_fit}; apply it with: xharmonize fill … --model {job.save_fit}"
        )
    filled = xh.fill_clouds(cube, radar, model, reference=job.reference, whole=job.whole, **options)
    print_summary(write(job.outputs, filled), title="Observed")


def _radar(job: Filling) -> Any:
    if job.sentinel1_collection is None:
        return None
    query = replace(job.query, mask="none", dilate=0.0, platform=None)
    return open_cube(query, job.sentinel1_collection, bands=POLARISATIONS)


@takes(Filling)
def fill(job: Filling) -> None:
    """Fill the cloudy pixels of a STAC collection from its clear dates, and write Zarr or COGs.

    Example: xharmonize fill catalog.json --source-collection sentinel-2-l2a --out filled.zarr

    With --model sar-regression --sentinel1-collection sentinel-1-rtc, Sentinel-1 says what changed.
    """
    with refusals(job):
        run(job)
