"""``xharmonize fit``: open, check, pair, fit, print and save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import typer
import xarray as xr

import xharmonize as xh
from xharmonize._urls import Remote
from xharmonize.cli import console
from xharmonize.cli.arguments import OUTPUT, mode_of, takes
from xharmonize.cli.inputs import (
    DEFAULT_BANDS,
    HOW,
    Choice,
    Cube,
    Force,
    Opened,
    Query,
    check,
    open_cube,
    open_model,
    refusals,
)
from xharmonize.cli.places import place_of, save
from xharmonize.errors import StoreError, XHarmonizeError

Method: TypeAlias = Literal["ols", "multiband", "deming", "pixelwise", "lut", "histogram", "tables"]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """One run of the command; the fields are its options."""

    query: Query
    out: Annotated[
        str,
        typer.Option(
            help="File to write the fit to: fit.zarr or fit.nc; or a URL: s3://bucket/fit.zarr.",
            rich_help_panel=OUTPUT,
        ),
    ]
    method: Annotated[
        Method,
        typer.Option(
            help="ols: least squares per band; multiband: regression on all bands; deming: errors "
            "in both variables; pixelwise: a line per pixel; lut: a look-up table per band; "
            "histogram: histogram matching; tables: tables of --model per tile and date.",
            rich_help_panel=HOW,
        ),
    ] = "ols"
    tolerance: Annotated[
        str,
        typer.Option(help="Largest time gap within a pair: 2D, 36h.", rich_help_panel=HOW),
    ] = "2D"
    model: Annotated[
        str | None,
        typer.Option(
            help="For --method tables: a histogram or lut fit, or a bundle, by path or URL.",
            rich_help_panel=HOW,
        ),
    ] = None
    tile: Annotated[
        float | None,
        typer.Option(
            help="For --method tables: side of a tile in metres.", min=0, rich_help_panel=HOW
        ),
    ] = None
    interpolate: Annotated[
        bool,
        typer.Option(
            "--interpolate",
            help="For --method tables: blend between tile centres.",
            rich_help_panel=HOW,
        ),
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing fit.", rich_help_panel=OUTPUT),
    ] = False
    force: Force = False

    def complaint(self) -> str:
        """Return what is wrong with the combination of options; empty if it is valid."""
        is_tables = self.method == "tables"
        if is_tables and self.model is None:
            return "--method tables makes tables of a model: give --model"
        if not is_tables and (self.model or self.tile is not None or self.interpolate):
            return "--model, --tile and --interpolate belong to --method tables"
        if not is_tables and self.query.target_collection is None:
            return f"--method {self.method} needs a target: give --target-collection"
        return ""


def run(job: Fitting) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If pixels contradict the metadata and the job does not force it.
    StoreError
        If the output exists and may not be replaced.
    """
    _require_free(job)
    model = None
    if job.model is not None:
        choice = Choice(to=None, model=job.model, tile=job.tile, interpolate=job.interpolate)
        model = open_model(choice, job.query.storage_options)
        model.require_look_up()
    source, target = _open(job, model)
    for cube in (source, target):
        if cube is not None:
            check(cube, refuse=not job.force)
    with console.progress("Fitting"):
        fit = _fit(job, model, source, target).compute()
    _print(fit)
    save(fit, job.out, mode_of(job.overwrite), job.query.storage_options)
    use = f"--model {job.model} --tables" if job.method == "tables" else "--model"
    console.say(f"Kept in {job.out}; apply it with: xharmonize harmonize … {use} {job.out}")


def _require_free(job: Fitting) -> None:
    """Raise `StoreError` if the output exists and is not a fit that may be replaced."""
    where = place_of(job.out, job.query.storage_options)
    if isinstance(where, Remote) or not where.exists():
        return  # at a URL nothing is replaced
    if not job.overwrite:
        raise StoreError(f"{job.out} exists", cure="replace it with --overwrite, or name another")
    try:
        found = xh.load_model(where)
    except XHarmonizeError:
        found = None
    if not isinstance(found, xr.Dataset):
        raise StoreError(f"{job.out} holds no fit of xharmonize and stays", cure="name another")


def _open(job: Fitting, model: Opened | None) -> tuple[Cube, Cube | None]:
    bands = job.query.bands or (model.harmonizer.bands if model else DEFAULT_BANDS)
    target = None
    if job.query.target_collection is not None:
        target = open_cube(job.query, job.query.target_collection, bands=bands)
    source = open_cube(
        job.query, job.query.source_collection, bands=bands, platform=job.query.platform
    )
    return source, target


def _fit(job: Fitting, model: Opened | None, source: Any, target: Any) -> xr.Dataset:
    """Fit the model of the job, on the target's grid if there is a target."""
    if model is not None:
        return model.fit_tables(model.on_grid(source, target))
    source = xh.regrid(source, like=target)
    if job.method == "histogram":
        return xh.harmonizers.fit_histogram(target, source=source)
    pairs = xh.match_pairs(source, target, tolerance=job.tolerance)
    console.say(f"Pairs of dates within {job.tolerance}: {pairs.sizes['pair']}")
    if job.method == "pixelwise":
        return xh.fit_pixelwise(pairs)
    if job.method == "lut":
        return xh.fit_lut(pairs)
    line: Any = job.method
    return xh.fit_linear(pairs, method=line)


def _print(fit: xr.Dataset) -> None:
    """Print one row per band; medians over pixels and dates, and the sum of counts of pixels."""
    rows = []
    axis = "band"
    for band in fit[axis].values.astype(str):
        row: dict[str, Any] = {"band": band}
        for name in ("slope", "intercept", "rmse", "r2", "n"):
            if name in fit and axis in fit[name].dims:
                values = np.asarray(fit[name].sel({axis: band}).values, float)
                seen = values[np.isfinite(values)]
                row[name] = float(np.median(seen)) if seen.size else float("nan")
        for name in ("reference", "histogram", "histograms"):
            if name in fit:
                row["pixels"] = int(fit[name].sel({axis: band}).sum())
        rows.append(row)
    console.say(str(fit.attrs.get("title") or fit.attrs["model"]))
    console.print_table(rows)
    if "matrix" in fit:
        matrix = fit["matrix"].to_pandas()
        rows = [
            {"band": str(name), **{str(key): value for key, value in row.items()}}
            for name, row in matrix.iterrows()
        ]
        console.print_table(
            rows, title="Coefficients: a band of the target from those of the source"
        )


@takes(Fitting)
def fit(job: Fitting) -> None:
    """Fit a model on pairs of two collections, or look-up tables per tile, and save it.

    Example: xharmonize fit catalog.json --source-collection sentinel-2-l2a
    --target-collection landsat-c2-l2 --method multiband --out fit.zarr

    Pass the output to `xharmonize harmonize` as --model, or tables as --tables.
    """
    with refusals(job):
        run(job)
