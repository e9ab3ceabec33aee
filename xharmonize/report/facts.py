"""What a report says of a cube, and of a prediction beside doing nothing and HLS v2."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.cube.check import conclude_check, list_findings, summarize_check
from xharmonize.cube.companions import COMPANIONS, validity_of
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.cube.geobox import crs_text, geobox_of
from xharmonize.cube.regrid import regrid
from xharmonize.errors import ContractError, TimeAxisError, XHarmonizeError
from xharmonize.harmonizers import to_landsat, to_sentinel2
from xharmonize.metrics import Sam, score
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series.axis import has_observation, is_smoothed, observed_values

MANY_FLAGGED, MOSTLY = 0.05, 0.5
MOST_SHOWN = 20
SOFTWARE = ("xharmonize", "numpy", "xarray", "dask", "numba", "torch")


def sensor_rows(cube: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return one row for each sensor, platform, bandpass and level; computes valid shares."""
    layer = main_layer(cube)
    if "time" not in layer.dims:
        return []
    share = _valid_share(seen_values(cube))
    seen = has_observation(layer)
    names = ("sensor", "platform", "bandpass", "level", "processing_baseline")
    table = [_along_time(layer, name) for name in names]
    dates = np.datetime_as_string(layer["time"].values, unit="D")
    rows = []
    for key in sorted(set(zip(*(column[seen] for column in table)))):
        here = np.all([seen, *(column == value for column, value in zip(table, key))], axis=0)
        rows.append(
            dict(zip(("sensor", "platform", "bandpass", "level", "baseline"), key))
            | {
                "dates": int(here.sum()),
                "first (UTC)": min(dates[here].tolist()),
                "last (UTC)": max(dates[here].tolist()),
                "valid pixels [%]": float(share[here].mean() * 100),
            }
        )
    return rows


def _along_time(layer: xr.DataArray, name: str) -> Any:
    if name not in layer.coords:
        return np.full(layer.sizes["time"], UNKNOWN)
    return np.broadcast_to(read_coordinate(layer, name).astype(str), layer.sizes["time"])


def _valid_share(layer: xr.DataArray) -> Any:
    flat = layer.notnull().all("band") if "band" in layer.dims else layer.notnull()
    return flat.mean([dim for dim in flat.dims if dim != "time"]).compute().values


def seen_values(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the quantity with NaN where it was filled, as far as the cube says it; lazy."""
    layer = main_layer(cube)
    try:
        return observed_values(cube, layer, what="a report")
    except ContractError:
        return layer


def cube_rows(cube: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return grid, bands and unit as rows of a name and a value."""
    layer = main_layer(cube)
    facts = {
        "quantity": f"{layer.attrs.get('long_name', layer.name)} [{layer.attrs.get('units', '1')}]",
        "size": " × ".join(f"{name} {size:,}" for name, size in layer.sizes.items()),
        "values": str(layer.dtype),
    }
    if "band" in layer.dims:
        facts["bands"] = ", ".join(layer["band"].values.astype(str))
    if {"y", "x"} <= set(layer.dims):
        grid = geobox_of(layer)
        left, bottom, right, top = grid.extent.boundingbox
        unit = str(grid.crs.units[0])
        facts["CRS"] = crs_text(grid.crs)
        facts["pixel"] = f"{abs(grid.resolution.x):g} × {abs(grid.resolution.y):g} {unit}"
        facts["bounds"] = f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g} {unit}"
    if isinstance(cube, xr.Dataset):
        facts["companions"] = ", ".join(map(str, cube.data_vars.keys() - {layer.name})) or "none"
    return [{"property": name, "value": value} for name, value in facts.items()]


def history_lines(cube: xr.DataArray | xr.Dataset) -> list[str]:
    """Return what was done, oldest first; models are named there with their digest."""
    lines = _lines(main_layer(cube).attrs)
    whole = _lines(cube.attrs) if isinstance(cube, xr.Dataset) else []
    return [line for line in whole if line not in lines] + lines


def _lines(attrs: Mapping[Hashable, Any]) -> list[str]:
    stripped = (line.strip() for line in str(attrs.get("history", "")).splitlines())
    return [line for line in stripped if line]


def software_rows() -> list[dict[str, Any]]:
    """Return the versions this report was made with."""
    rows = []
    for name in SOFTWARE:
        try:
            rows.append({"package": name, "version": version(name)})
        except PackageNotFoundError:
            continue
    return rows


def share_rows(cube: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return how many valid values came about how, and carry which flag; computes."""
    from dask.base import compute

    if not isinstance(cube, xr.Dataset):
        return []
    layer = main_layer(cube)
    wanted: dict[tuple[str, str], Any] = {}
    for name in ("origin", "flag"):
        if name not in cube:
            continue
        values = cube[name]
        valid = validity_of(layer, values)
        for bit in COMPANIONS[name].flags or ():
            held = ((values & values.dtype.type(bit)) != 0) & valid
            wanted[name, str(bit.name).lower()] = held.sum() / valid.sum()
    (found,) = compute(wanted)
    return [
        {"layer": name, "meaning": meaning, "share of valid values [%]": float(share) * 100}
        for (name, meaning), share in found.items()
    ]


def radiometry_rows(cube: xr.DataArray | xr.Dataset) -> tuple[list[dict[str, Any]], list[str]]:
    """Return verdicts of `xharmonize.check_radiometry`, and warnings; computes."""
    if "band" not in main_layer(cube).dims:  # an index says nothing of offsets
        return [], []
    try:
        table = xh.check_radiometry(cube)
    except ContractError as error:
        return [], [f"Pixels could not be compared with the metadata: {error}"]
    notes = list_findings(table)
    more = [f"… and {len(notes) - MOST_SHOWN} more findings like these"]
    shown = notes[:MOST_SHOWN] + (more if len(notes) > MOST_SHOWN else [])
    verdict = conclude_check(table)
    return summarize_check(table), [f"{verdict[:1].upper()}{verdict[1:]}", *shown] if notes else []


def step_rows(cube: xr.DataArray | xr.Dataset) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the step that is left between sensors, and warnings where it is plain; computes."""
    layer = main_layer(cube)
    if "time" not in layer.dims or len(set(_along_time(layer, "sensor"))) < 2:
        return [], []
    try:
        found = xh.series.sensor_offsets(layer).compute()
    except (TimeAxisError, ContractError) as error:
        return [], [f"The step between sensors was not measured: {error}"]
    rows, notes = [], []
    stacked = found if "band" in found.dims else found.expand_dims(band=[str(layer.name)])
    for sensor in stacked["sensor"].values:
        for band in stacked["band"].values:
            own = stacked.sel(sensor=sensor, band=band)
            step, spread = float(own["offset"]), float(own["standard_error"])
            n = int(own["n_dates"])
            rows.append(
                {"sensor": str(sensor), "band": str(band), "step": step}
                | {"standard error": spread, "dates": n}
            )
            if n > 2 and abs(step) > 2 * spread:
                notes.append(
                    f"{sensor} lies {step:+.4f} (± {spread:.4f}) from the other sensor in {band}: "
                    "a step is left between the sensors"
                )
    return rows, notes


def warnings_of(cube: xr.DataArray | xr.Dataset, shares: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what metadata and flags warn of."""
    layer = main_layer(cube)
    if "time" in layer.dims:
        levels = sorted(Names.of(_along_time(layer, "level")))
        if "NBAR" in levels and len(levels) > 1:
            yield f"Dates of different levels are mixed: {', '.join(levels)}"
        n = int((_along_time(layer, "platform")[has_observation(layer)] == UNKNOWN).sum())
        if n:
            yield f"The platform of {n} dates is unknown"
        bandpasses = sorted(set(_along_time(layer, "bandpass")))
        if len(bandpasses) > 1:
            yield f"Dates are of different bandpasses: {', '.join(bandpasses)}; harmonise them"
    if is_smoothed(layer):
        yield _warn_of_smoothing(cube)
    for row in shares:
        share = row["share of valid values [%]"]
        if row["layer"] == "flag" and share > 100 * MANY_FLAGGED:
            yield f"{share:.1f} % of the valid values are flagged {row['meaning']}"
        if row["meaning"] == "filled" and share > 100 * MOSTLY:
            yield f"{share:.1f} % of the valid values were filled: nobody observed them"


def _warn_of_smoothing(cube: xr.DataArray | xr.Dataset) -> str:
    """What a smoothed series is no longer."""
    if isinstance(cube, xr.Dataset) and "origin" in cube:
        return "The series was smoothed; only observed dates and pixels are counted"
    return (
        "The series was smoothed and has no 'origin': which values were observed is not known, and "
        "valid pixels are not all observed ones; smooth it as a Dataset to know"
    )


IDENTITY, HLS = "identity (source unchanged)", "HLS v2"
LOWER, HIGHER = ("rmse", "mae", "sam", "ergas"), ("r2", "cc", "psnr", "ssim")
_BASE = ("n", "rmse", "mae", "bias", "r2", "cc")


def baselines(
    source: xr.DataArray | xr.Dataset, reference: xr.DataArray | xr.Dataset
) -> tuple[dict[str, Any], list[str]]:
    """Return what is known to compare with, on the reference's grid; lazy.

    Returns
    -------
    dict of str to cube
        The source as it is, and by HLS v2.
    list of str
        Why one of them is lacking.
    """
    target = main_layer(reference)
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
            found[name] = function(source, like=reference)
        except XHarmonizeError as error:
            notes.append(f"No scores of {name}: {error}")
    return found, notes


def score_rows(
    pairs: Mapping[str, tuple[xr.DataArray, xr.DataArray]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row per prediction, over all bands, and one per prediction and band; computes."""
    from dask.base import compute

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
    (found,) = compute(made)
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
