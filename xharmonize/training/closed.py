"""Methods that are solved at once: fitted on all pairs, scored by leaving one date out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.pairs import as_cube, on_target_grid, source_groups, target_of
from xharmonize.cube.regrid import regrid
from xharmonize.errors import FitError, XHarmonizeError
from xharmonize.harmonizers.linear import fit_linear
from xharmonize.harmonizers.lut.references import fit_histogram
from xharmonize.harmonizers.pixelwise import fit_pixelwise
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


def fit(pairs: xr.DataTree, config: Closed) -> xr.Dataset:
    """Fit a closed form on collected pairs.

    Raises
    ------
    FitError
        As the function that fits.
    """
    if isinstance(config, Auto):
        from xharmonize.harmonizers.auto import fit_auto

        return fit_auto(pairs, allow_one_pair=config.allow_one_pair)
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
    return fit_pixelwise(together, days=gaps, n_min=config.n_min, fallback=config.fallback)


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
    return fit_histogram(target, source=regrid(as_cube(groups[0]), like=target))


_FITS: dict[type[Closed], Callable[[xr.DataTree, Any], xr.Dataset]] = {
    Ols: _ols,
    MultiOls: _multi,
    Deming: _deming,
    PerPixel: _pixels,
    HistogramMatching: _histogram,
}


def leave_one_out(pairs: xr.DataTree, config: Closed) -> tuple[pd.DataFrame, list[str]]:
    """Score a closed form on each target date, fitted on the pairs of the others.

    The pairs of the scored date are taken away before anything is fitted.

    Returns
    -------
    DataFrame, list of str
        As `judge.judge`; empty, with the reason, where there is one date.
    """
    dates = target_of(pairs)["time"].values.astype("datetime64[D]")
    names = [str(band) for band in target_of(pairs)["band"].values]
    if np.unique(dates).size < 2:
        return pd.DataFrame(), ["not scored: there is one date, and none is left to fit on"]
    rows: list[dict[str, Any]] = []
    notes: dict[str, str] = {}
    for date in np.unique(dates):
        rest = take(pairs, np.flatnonzero(dates != date))
        models: dict[str, Any] = {judge.IDENTITY: None, judge.HLS: judge.HLS}
        models[judge.OLS] = fit(rest, Ols())
        if not isinstance(config, Ols):
            try:
                models[config.name] = fit(rest, config)
            except XHarmonizeError as error:
                notes[config.name] = f"{config.name} is not scored on {date}: {error}"
        for number in np.flatnonzero(dates == date):
            rows += judge.score_pair(models, pairs, int(number), None, names, notes)
    return judge.mean_of(rows), list(notes.values())


def take(pairs: xr.DataTree, numbers: Any) -> xr.DataTree:
    """Return some of the collected pairs."""
    return pairs.isel(pair=list(numbers))
