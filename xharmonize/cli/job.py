"""What ``xharmonize harmonize`` does: open, check, harmonise, merge, write, draw, sum up."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.report import print_check, print_summary
from xharmonize.errors import ModelError, RadiometryError, StoreError
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
    if job.cogs is None or not job.cogs.exists() or not any(job.cogs.iterdir()):
        return
    if not (job.upsert or job.overwrite):
        raise StoreError(
            f"{job.cogs} is not empty; add to it with --upsert, or replace it: --overwrite"
        )
    if not (job.cogs / "catalog.json").exists():
        raise StoreError(f"{job.cogs} holds other files than a catalogue; name another folder")


def write(job: Job, result: Any) -> Any:
    """Write what the job asks for, and return the series as it can be read again."""
    stored = result
    if job.out is not None:
        with console.progress(f"Writing {job.out}"):
            xh.to_zarr(result, job.out, mode="upsert" if job.upsert else "w")
        stored = xh.open_series(job.out)
        console.say(f"Zarr store: {job.out}")
    if job.cogs is not None:
        if job.overwrite:
            shutil.rmtree(job.cogs, ignore_errors=True)
        with console.progress(f"Writing {job.cogs}"):
            xh.to_cogs(stored, job.cogs)
        console.say(f"COGs and STAC items: {job.cogs}")
    return stored


def _open(job: Job, collection: str | None, *, platform: str | None = None) -> Cube:
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
    sizes = cube.sizes
    pixel = abs(float(cube["x"][1] - cube["x"][0])) if sizes["x"] > 1 else float("nan")
    name = collection or "source"
    console.say(f"{name}: {sizes['time']} dates, {sizes['y']} x {sizes['x']} pixels of {pixel:g}")
    return cube


def _bands(job: Job) -> tuple[str, ...]:
    """Bands to read: those asked for, or what the index needs, or all common ones."""
    if job.bands is not None:
        return job.bands
    if job.index is None or job.index not in xh.list_indices() or job.figures is not None:
        return DEFAULT_BANDS
    from xharmonize.cube.indices import INDICES

    return tuple("nir08" if role == "nir" else role for role in INDICES[job.index].roles)


def _mask(job: Job) -> Any:
    if job.mask == "none":
        return None
    return xh.Mask(names=tuple(job.mask.split(",")), dilate=job.dilate, dilate_unit="metres")


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
