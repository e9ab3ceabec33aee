"""Scores of a prediction beside those of doing nothing and of HLS v2, on the same pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import main_layer
from xharmonize.cube.grid import regrid
from xharmonize.errors import XHarmonizeError
from xharmonize.harmonizers import to_landsat, to_sentinel2
from xharmonize.metrics import Sam, score

IDENTITY, HLS = "identity (source unchanged)", "HLS v2"
LOWER, HIGHER = ("rmse", "mae", "sam", "ergas"), ("r2", "cc", "psnr", "ssim")
_BASE = ("n", "rmse", "mae", "bias", "r2", "cc")


def baselines(
    source: xr.DataArray | xr.Dataset, ref: xr.DataArray | xr.Dataset
) -> tuple[dict[str, Any], list[str]]:
    """Return what is known to compare with, on the reference's grid; lazy.

    Returns
    -------
    dict of str to cube
        The source as it is, and by HLS v2.
    list of str
        Why one of them is lacking.
    """
    target = main_layer(ref)
    told: Any = target["bandpass"].values.astype(str) if "bandpass" in target.coords else []
    convert: Any = to_sentinel2 if set(told) == {"msi"} else to_landsat
    make: dict[str, Any] = {
        IDENTITY: partial(regrid, min_valid=1.0),
        HLS: partial(convert, model="hls-v2"),
    }
    found: dict[str, Any] = {}
    notes = []
    for name, function in make.items():
        try:
            found[name] = function(source, like=ref)
        except XHarmonizeError as error:
            notes.append(f"No scores of {name}: {error}")
    return found, notes


def score_rows(
    pairs: Mapping[str, tuple[xr.DataArray, xr.DataArray]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row per prediction, over all bands, and one per prediction and band; computes."""
    import dask

    has_bands = next(iter(pairs.values()))[0].sizes.get("band", 1) > 1
    spectral: tuple[Any, ...] = (Sam(unit="deg"), "ergas") if has_bands else ()
    data_range = 1.0 if has_bands else 2.0
    made = {
        name: (
            score(one, other, [*_BASE, "psnr", *spectral], per_band=False, data_range=data_range),
            score(one, other, list(_BASE)),
        )
        for name, (one, other) in pairs.items()
    }
    (found,) = dask.compute(made)
    overall = [{"prediction": name, **_values(all_bands)} for name, (all_bands, _) in found.items()]
    by_band = [
        {"band": str(band), "prediction": name, **_values(own.sel(band=band))}
        for band in (next(iter(found.values()))[1]["band"].values if has_bands else [])
        for name, (_, own) in found.items()
    ]
    return overall, by_band


def _values(scores: xr.Dataset) -> dict[str, Any]:
    """Metrics with their unit in the name."""
    row: dict[str, Any] = {}
    for name, array in scores.data_vars.items():
        unit = str(array.attrs.get("units", "1"))
        label = str(name) if unit == "1" else f"{name} [{unit}]"
        row[label] = int(array) if name == "n" else float(array)
    return row


def best_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Best value of each metric that has one."""
    best = {}
    for label in rows[0]:
        name = label.partition(" ")[0]
        values = [row[label] for row in rows if isinstance(row[label], float)]
        known = [value for value in values if np.isfinite(value)]
        if known and name in LOWER:
            best[label] = min(known)
        elif known and name in HIGHER:
            best[label] = max(known)
    return best
