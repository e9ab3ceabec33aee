"""What ``xharmonize fit`` does: open, check, pair, fit, print, keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.choice import DEFAULT_BANDS, Choice, Opened, open_model
from xharmonize.cli.reading import Cube, Query, check, open_cube
from xharmonize.errors import StoreError, XHarmonizeError

Method: TypeAlias = Literal["ols", "multiband", "deming", "pixelwise", "lut", "histogram", "tables"]


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """One run of the command; the fields are its options (see ``--help``)."""

    query: Query
    method: Method
    out: Path
    source_collection: str | None = None
    target_collection: str | None = None
    bands: tuple[str, ...] | None = None
    platform: str | None = None
    tolerance: str = "2D"
    model: str | None = None
    tile: float | None = None
    interpolate: bool = False
    overwrite: bool = False
    is_forced: bool = False

    def complaint(self) -> str:
        """Return what is wrong with the options together; empty where nothing is."""
        is_tables = self.method == "tables"
        if is_tables and self.model is None:
            return "--method tables makes tables of a model: give --model"
        if not is_tables and (self.model or self.tile is not None or self.interpolate):
            return "--model, --tile and --interpolate belong to --method tables"
        if not is_tables and self.target_collection is None:
            return f"--method {self.method} needs a target: give --target-collection"
        return ""


def run(job: Fitting) -> None:
    """Run a job.

    Raises
    ------
    Contradiction
        If pixels contradict the metadata and the job does not say to go on.
    StoreError
        If the output exists and may not be replaced.
    """
    _require_free(job)
    model = None
    if job.model is not None:
        choice = Choice(to="", model=job.model, tile=job.tile, interpolate=job.interpolate)
        model = open_model(choice)
        model.require_look_up()
    source, target = _open(job, model)
    for cube in (source, target):
        if cube is not None:
            check(cube, refuse=not job.is_forced)
    with console.progress("Fitting"):
        fit = _fit(job, model, source, target).compute()
    _print(fit)
    xh.save_model(fit, job.out, mode="w" if job.overwrite else "w-")
    use = f"--model {job.model} --tables" if job.method == "tables" else "--model"
    console.say(f"Kept in {job.out}; apply it with: xharmonize harmonize … {use} {job.out}")


def _require_free(job: Fitting) -> None:
    """Raise `StoreError` if the output is there and is no fit that may be replaced."""
    if not job.out.exists():
        return
    if not job.overwrite:
        raise StoreError(f"{job.out} exists; replace it with --overwrite, or name another")
    try:
        found = xh.load_model(job.out)
    except XHarmonizeError:
        found = None
    if not isinstance(found, xr.Dataset):
        raise StoreError(f"{job.out} holds no fit of xharmonize and stays; name another")


def _open(job: Fitting, model: Opened | None) -> tuple[Cube, Cube | None]:
    bands = job.bands or (model.harmonizer.bands if model else DEFAULT_BANDS)
    target = None
    if job.target_collection is not None:
        target = open_cube(job.query, job.target_collection, bands=bands)
    source = open_cube(job.query, job.source_collection, bands=bands, platform=job.platform)
    return source, target


def _fit(job: Fitting, model: Opened | None, source: Any, target: Any) -> xr.Dataset:
    """Fit what the job asks for; the target gives the grid, where there is one."""
    if model is not None:
        return model.fit_tables(model.on_grid(source, target))
    source = xh.regrid(source, like=target)
    if job.method == "histogram":
        return xh.fit_histogram(target, source=source)
    pairs = xh.match_pairs(source, target, tolerance=job.tolerance)
    console.say(f"Pairs of dates within {job.tolerance}: {pairs.sizes['pair']}")
    if job.method == "pixelwise":
        return xh.fit_pixelwise(pairs)
    if job.method == "lut":
        return xh.fit_lut(pairs)
    line: Any = job.method
    return xh.fit_linear(pairs, method=line)


def _print(fit: xr.Dataset) -> None:
    """Print what a fit says of each band; for pixels, tables and dates their mean or sum."""
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
        rows = [{"band": str(name), **row.to_dict()} for name, row in matrix.iterrows()]
        console.print_table(
            rows, title="Coefficients: a band of the target from those of the source"
        )
