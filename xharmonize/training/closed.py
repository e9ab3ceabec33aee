"""Methods that are solved at once: fitted on all pairs, scored by leaving one date out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._progress import computing, counted
from xharmonize.cube.pairs import (
    as_cube,
    on_target_grid,
    shifts_in,
    source_groups,
    target_of,
)
from xharmonize.errors import FitError, XHarmonizeError
from xharmonize.harmonizers.linear import fit_linear
from xharmonize.harmonizers.lut.references import fit_histogram
from xharmonize.harmonizers.pixelwise import fit_pixelwise
from xharmonize.harmonizers.validation import (
    By,
    as_estimate,
    estimate_left_out,
    score_estimates,
    source_cube,
)
from xharmonize.training import judge
from xharmonize.training.config import (
    Auto,
    Closed,
    Deming,
    HistogramMatching,
    MultiOls,
    Ols,
    PerPixel,
)


def fit(pairs: xr.DataTree, config: Closed, *, progress: bool | None = False) -> xr.Dataset:
    """Fit a closed form on collected pairs.

    Raises
    ------
    FitError
        As the function that fits.
    """
    if isinstance(config, Auto):
        from xharmonize.harmonizers.auto import fit_auto

        return fit_auto(pairs, allow_one_pair=config.allow_one_pair, progress=progress)
    with computing("Fitting", progress):
        return _FITS[type(config)](pairs, config).compute()


def _ols(pairs: xr.DataTree, config: Any) -> xr.Dataset:
    return fit_linear(on_target_grid(pairs), method="ols", weight=config.weight)


def _multi(pairs: xr.DataTree, config: Any) -> xr.Dataset:
    together = on_target_grid(pairs)
    return fit_linear(together, method="multiband", weight=config.weight, ridge=config.ridge)


def _deming(pairs: xr.DataTree, config: Any) -> xr.Dataset:
    together = on_target_grid(pairs)
    return fit_linear(together, method="deming", weight=config.weight, ratio=config.ratio)


def _pixels(pairs: xr.DataTree, config: Any) -> xr.Dataset:
    together = on_target_grid(pairs)
    gaps = np.unique(np.rint(np.abs(together["gap"].values)).astype(int)).tolist()
    return fit_pixelwise(
        together,
        days=gaps,
        n_min=config.n_min,
        fallback=config.fallback,
        neighbours=config.neighbours,
    )


def _histogram(pairs: xr.DataTree, config: Any) -> xr.Dataset:
    target = as_cube(target_of(pairs))
    if config.per == "date":
        return fit_histogram(target, per="date")
    groups = list(source_groups(pairs).values())
    if len(groups) > 1:
        raise FitError(
            "histogram matching takes a source of one pixel size",
            cure="collect the pairs from one cube",
        )
    return fit_histogram(target, source=source_cube(on_target_grid(pairs)))


_FITS: dict[type[Closed], Callable[[xr.DataTree, Any], xr.Dataset]] = {
    Ols: _ols,
    MultiOls: _multi,
    Deming: _deming,
    PerPixel: _pixels,
    HistogramMatching: _histogram,
}


def leave_one_out(
    pairs: xr.DataTree, config: Closed, fitted: xr.Dataset, *, progress: bool | None = False
) -> tuple[pd.DataFrame, list[str]]:
    """Score a closed form on each target date, fitted on the pairs of the others.

    Where there is one date, each quarter of the area is scored, fitted on the others. Both are left
    out by `xharmonize.harmonizers.validation`, which hides the target of what is
    scored from what is fitted. ``auto`` has scored itself that way.

    Returns
    -------
    DataFrame, list of str
        As `judge.judge`, and what was left out; empty, with the reason, where nothing can be.
    """
    if isinstance(config, Auto):
        return judge.mean_of(judge.rows_of(_own_scores(fitted), judge.OBSERVED)), []
    methods = {
        judge.IDENTITY: _method(lambda _: None),
        judge.HLS: _method(lambda _: judge.HLS),
        judge.OLS: _method(lambda rest: fit(rest, Ols())),
        config.name: _method(lambda rest: fit(rest, config)),
    }
    notes = []
    try:
        _applies(judge.HLS, pairs)
    except XHarmonizeError as error:
        notes.append(f"{judge.HLS} was not scored: {error}")
        del methods[judge.HLS]
    days = np.unique(target_of(pairs)["time"].values.astype("datetime64[D]"))
    by: By = "date" if days.size > 1 else "block"
    if by == "block":
        notes.append("one date: scored by quarters of the area, what dates differ by is not seen")
    try:
        with counted(f"Leaving out {by}s", progress) as tell:
            found = estimate_left_out(pairs, methods, by=by, tell=tell)
    except XHarmonizeError as error:
        return pd.DataFrame(), [*notes, f"not scored: {error}"]
    rows = []
    for number in range(found.sizes["pair"]):
        one = found.isel(pair=[number])
        pixels = int(np.isfinite(one["target"].values).all(axis=1).sum())
        if pixels:
            rows += judge.rows_of(score_estimates(one), judge.OBSERVED, pixels)
    return judge.mean_of(rows), notes


def _applies(model: Any, pairs: xr.DataTree) -> None:
    """Raise as a model does that does not suit the pairs; lazy."""
    target = target_of(pairs)
    bands = [str(band) for band in target["band"].values]
    for number in range(target.sizes["pair"]):
        cube = as_cube(target.isel(pair=[number]))
        judge.applied(model, judge.source_cube(pairs, number), cube, bands)


def _own_scores(fitted: xr.Dataset) -> xr.Dataset:
    """Scores that a fit of `fit_auto` holds, by their own names."""
    held = [name for name in fitted.data_vars if {"model", "pair"} <= set(fitted[name].dims)]
    return fitted[held].rename({n: str(n).removeprefix("score_") for n in held})


def _method(make: Callable[[xr.DataTree], Any]) -> Callable[[Any, Any], xr.DataArray]:
    """A method of `estimate_left_out`: a model of the rest, applied to what was left out."""

    def _on_grid(model: Any, look: xr.DataTree, target: xr.DataArray) -> xr.DataArray:
        cube = source_cube(on_target_grid(look))
        bands = [str(band) for band in target["band"].values]
        return judge.applied(model, cube, as_cube(target), bands)

    def method(rest: xr.DataTree, look: xr.DataTree) -> xr.DataArray:
        model = make(rest)
        target = target_of(look)
        if shifts_in(look) is not None:  # moved by its weights, as the pairs of the fit were
            return as_estimate(_on_grid(model, look, target))
        bands = [str(band) for band in target["band"].values]
        cubes = [
            judge.applied(
                model,
                judge.source_cube(look, number),
                as_cube(target.isel(pair=[number])),
                bands,
            )
            for number in range(target.sizes["pair"])
        ]
        return as_estimate(xr.concat(cubes, "time"))

    return method
