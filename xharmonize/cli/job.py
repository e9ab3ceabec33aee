"""What ``xharmonize harmonize`` does: open, check, harmonise, merge, write, draw, sum up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import xharmonize as xh
from xharmonize._replace import GrowMode
from xharmonize.cli import console
from xharmonize.cli.choice import Choice, Opened, open_model
from xharmonize.cli.reading import Cube, Query, check, open_cube
from xharmonize.cli.report import print_summary
from xharmonize.cube.cog.write import is_written_here
from xharmonize.errors import BandError, StoreError


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
        """What happens to what is there."""
        return "upsert" if self.upsert else "w" if self.overwrite else "w-"


def run(job: Job) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If the check of the radiometry finds one and the job says to refuse.
    StoreError
        If an output exists and the job says neither to add to it nor to replace it.
    """
    require_free(job)
    require_index(job.index)
    model = open_model(job.choice)
    model.check()
    source, target = _open(job, model)
    if job.point is not None:
        from xharmonize.cli.figures import place_of

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
        from xharmonize.cli.figures import draw

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
    """Raise `BandError` if there is no such index, before anything is read."""
    if name is not None and name not in xh.list_indices():
        raise BandError(f"index {name!r} is unknown; choose one of {', '.join(xh.list_indices())}")


def require_free(job: Job) -> None:
    """Raise `StoreError` if an output is there already and may be neither kept nor replaced."""
    if job.out is not None and job.out.exists() and not (job.upsert or job.overwrite):
        raise StoreError(f"{job.out} exists; add to it with --upsert, or replace it: --overwrite")
    for path in (job.out, job.cogs, job.figures):
        if path is not None:
            _require_writable(path)
    _require_no_figures(job)
    if job.cogs is None or not job.cogs.exists() or not any(job.cogs.iterdir()):
        return
    if not (job.upsert or job.overwrite):
        raise StoreError(
            f"{job.cogs} is not empty; add to it with --upsert, or replace it: --overwrite"
        )
    # Only what `to_cogs` wrote is ever replaced: a folder may hold the scenes that are read.
    if not is_written_here(job.cogs):
        raise StoreError(
            f"{job.cogs} is not empty and holds no catalogue written by xharmonize; name another "
            "folder"
        )


def _require_no_figures(job: Job) -> None:
    from xharmonize.cli.figures import NAMES

    paths = [] if job.figures is None else [job.figures / name for name in NAMES]
    found = [path for path in paths if path.exists()]
    if found and job.mode == "w-":
        raise StoreError(f"{found[0]} exists; replace it with --overwrite")


def _require_writable(path: Path) -> None:
    """Raise `StoreError` now rather than after the work if nothing can be written there."""
    place = path.absolute()
    if place.is_file():
        raise StoreError(f"{path} is a file; name a folder")
    place = next(parent for parent in (place, *place.parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise StoreError(f"{path} cannot be written: {place} is no folder you may write to")


def write(job: Job, result: Any) -> Any:
    """Write what the job asks for, and return the series as it can be read again."""
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
    """Open the source, and the target where there is one.

    A network is given all the bands it needs at their own pixel size, whatever the result is to be.
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
    """Bands of the result: those asked for, or what the index needs, or all the model gives."""
    if job.bands is not None:
        return job.bands
    if job.index is None or job.figures is not None:
        return model.target_bands
    from xharmonize.cube.indices import INDICES

    return tuple("nir08" if role == "nir" else role for role in INDICES[job.index].roles)


def _harmonize(job: Job, model: Opened, source: Cube, target: Cube | None) -> Any:
    """Put the source into the target's bandpass and on its grid, in the bands asked for."""
    resolution = job.resolution if model.harmonizer.changes_grid else None
    result = model.apply(source, target, resolution)
    wanted = list(_bands(job, model))
    given = result["band"].values.astype(str).tolist()
    lacking = [band for band in wanted if band not in given]
    if lacking:
        raise BandError(
            f"model {model.harmonizer.name!r} gives {', '.join(given)}, not {', '.join(lacking)}; "
            "change --bands or --index"
        )
    return result if given == wanted else result.sel(band=wanted)
