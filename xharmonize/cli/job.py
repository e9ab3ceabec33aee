"""What ``xharmonize harmonize`` does: open, check, harmonise, merge, write, draw, sum up."""

from __future__ import annotations

import importlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.report import print_check, print_summary
from xharmonize.cube.cog.write import is_written_here
from xharmonize.errors import (
    BandError,
    GridError,
    MaskError,
    ModelError,
    RadiometryError,
    StoreError,
)
from xharmonize.types import Engine

Cube: TypeAlias = xr.DataArray | xr.Dataset
DEFAULT_BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")


class Contradiction(RadiometryError):
    """Pixels contradict the metadata, and the user did not say to go on."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the command; the fields are its options (see ``--help``)."""

    source: str
    source_collection: str | None = None
    target_collection: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    datetime: str | None = None
    bands: tuple[str, ...] | None = None
    engine: Engine = "stackstac"
    modifier: str | None = None
    mask: str = "clear"
    dilate: float = 0.0
    qa: bool = False
    skip_unreadable: bool = False
    to: Literal["landsat", "sentinel-2"] = "landsat"
    model: str = "hls-v2"
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
    target = _open(job, job.target_collection) if job.target_collection else None
    source = _open(job, job.source_collection, platform=job.platform)
    if job.point is not None:
        from xharmonize.cli.figures import place_of

        place_of(source if target is None else target, job.point)
    for cube in (source, target):
        if cube is not None and job.check != "skip":
            check(cube, refuse=job.check == "refuse")
    harmonized = _harmonize(job, source, target)
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


def require_free(job: Job) -> None:
    """Raise `StoreError` if an output is there already and may be neither kept nor replaced."""
    if job.out is not None and job.out.exists() and not (job.upsert or job.overwrite):
        raise StoreError(f"{job.out} exists; add to it with --upsert, or replace it: --overwrite")
    for path in (job.out, job.cogs, job.figures):
        if path is not None:
            _require_writable(path)
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
            xh.to_zarr(result, job.out, mode="upsert" if job.upsert else "w")
        stored = xh.open_series(job.out)
        console.say(f"Zarr store: {job.out}")
    if job.cogs is not None:
        with console.progress(f"Writing {job.cogs}"):
            _write_cogs(stored, job.cogs, replace=job.overwrite and job.cogs.exists())
        console.say(f"COGs and STAC items: {job.cogs}")
    return stored


def _write_cogs(series: Any, folder: Path, *, replace: bool) -> None:
    """Write a catalogue; one that is replaced stays whole until the new one is."""
    if not replace:
        xh.to_cogs(series, folder)
        return
    place = folder.absolute()
    beside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        # The catalogue takes its id from the name of its folder.
        xh.to_cogs(series, beside / place.name)
        shutil.rmtree(place)
        (beside / place.name).rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _open(job: Job, collection: str | None, *, platform: str | None = None) -> Cube:
    with _collection_named(collection):
        cube = _read(job, collection, platform=platform)
    sizes = cube.sizes
    pixel = abs(float(cube["x"][1] - cube["x"][0])) if sizes["x"] > 1 else float("nan")
    name = collection or "source"
    console.say(f"{name}: {sizes['time']} dates, {sizes['y']} x {sizes['x']} pixels of {pixel:g}")
    return cube


@contextmanager
def _collection_named(collection: str | None) -> Iterator[None]:
    """Add to an error that comes of reading all collections of a source together."""
    try:
        yield
    except (BandError, GridError) as error:
        if collection is not None:
            raise
        hint = "if SOURCE holds several collections, name one with --source-collection"
        raise type(error)(f"{error.args[0]}; {hint}") from error


def _read(job: Job, collection: str | None, *, platform: str | None) -> Cube:
    cube: Cube = xh.open_stac(
        job.source,
        collection=collection,
        datetime=job.datetime,
        bbox=job.bbox,
        bands=list(_bands(job)),
        resolution=job.resolution,
        engine=job.engine,
        mask=_mask(job),
        qa=job.qa,
        on_error="skip" if job.skip_unreadable else "raise",
        platform=platform,
        modifier=_import_function(job.modifier) if job.modifier else None,
    )
    return cube


def _bands(job: Job) -> tuple[str, ...]:
    """Bands to read: those asked for, or what the index needs, or all common ones."""
    if job.bands is not None:
        return job.bands
    if job.index is None or job.index not in xh.list_indices() or job.figures is not None:
        return DEFAULT_BANDS
    from xharmonize.cube.indices import INDICES

    return tuple("nir08" if role == "nir" else role for role in INDICES[job.index].roles)


def split_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _mask(job: Job) -> Any:
    if job.mask == "none":
        if job.dilate:
            raise MaskError("--dilate widens a mask, and --mask none removes nothing; drop one")
        return None
    names = split_names(job.mask)
    if not names:
        raise MaskError("--mask names no flag; write none to remove nothing")
    return xh.Mask(names=names, dilate=job.dilate, dilate_unit="metres")


def check(cube: Cube, *, refuse: bool) -> None:
    """Compare pixels with the metadata, print the findings, and refuse contradictions.

    Raises
    ------
    Contradiction
        If there is one and `refuse` is True.
    """
    with console.progress("Comparing pixels with metadata"):
        table = xh.check_radiometry(cube)
    n_wrong = print_check(table)
    if n_wrong and refuse:
        raise Contradiction(
            f"the pixels of {n_wrong} dates contradict the metadata and nothing was written; read "
            "another collection, or go on with --force"
        )


def _harmonize(job: Job, source: Cube, target: Cube | None) -> Any:
    """Put the source into the target's bandpass, on the target's grid where there is one."""
    convert: Callable[..., Any] = xh.to_landsat if job.to == "landsat" else xh.to_sentinel2
    return convert(source, job.model, like=target)


def _import_function(path: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names."""
    module, _, name = path.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"cannot import {path!r} ({error}); write module:function") from error
    return function
