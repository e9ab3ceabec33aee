"""Tables on cubes: what the check of the radiometry found, and what a series holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize.cli import console
from xharmonize.cube.contract import main_layer, read_coordinate

if TYPE_CHECKING:
    import pandas as pd

HARMLESS = ("ok", "saturated", "all masked")
"""Verdicts that do not contradict the metadata."""

HAZE_LIKE = "offset missed"
SYSTEMATIC = 0.25
MOST_SHOWN = 5


def print_check(table: pd.DataFrame) -> int:
    """Print the findings of `xharmonize.check_radiometry`; return how many dates to refuse for.

    A single date that looks as if its offset were missed may be hazy; metadata are wrong for all
    items of a baseline alike. That finding counts where a quarter of a baseline's dates share it.
    """
    groups = table.groupby(["sensor", "verdict"], sort=True)
    rows = [
        {
            "sensor": sensor,
            "pixels say": verdict,
            "dates": len(found),
            "darkest 1 % (median)": float(found["dark"].median()),
        }
        for (sensor, verdict), found in groups
    ]
    console.print_table(rows, title="Pixels against metadata")
    wrong = table[~table["verdict"].isin(HARMLESS)]
    for item, message in list(zip(wrong["item_id"], wrong["message"]))[:MOST_SHOWN]:
        console.say(f"  {item}: {message}")
    if len(wrong) > MOST_SHOWN:
        console.say(f"  … and {len(wrong) - MOST_SHOWN} more")
    refused = int((wrong["verdict"] != HAZE_LIKE).sum()) + _systematic(table)
    if len(wrong) and not refused:
        console.complain("warning", "single dates look as if haze or an offset were left", "yellow")
    return refused


def _systematic(table: pd.DataFrame) -> int:
    """Number of dates that look like haze, of those baselines where they are too many for haze."""
    checked = table[table["verdict"] != "all masked"]
    total = 0
    for _, dates in checked.groupby(["sensor", "processing_baseline"]):
        n_alike = int((dates["verdict"] == HAZE_LIKE).sum())
        total += n_alike if n_alike >= SYSTEMATIC * len(dates) else 0
    return total


def print_summary(series: xr.DataArray | xr.Dataset, *, title: str) -> None:
    """Print one row for each platform: dates, period, valid pixels, median value."""
    rows = summarize(series)
    console.print_table(rows, title=title)


def summarize(series: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return one row for each (sensor, platform): dates, period, valid share, median of dates."""
    layer, name = _one_layer(series)
    with console.progress("Summing up"):
        table = xr.Dataset(
            {"valid": layer.notnull().mean(["y", "x"]), "mean": layer.mean(["y", "x"])}
        ).compute()
    sensors, platforms = (read_coordinate(series, n).astype(str) for n in ("sensor", "platform"))
    dates = np.datetime_as_string(series["time"].values, unit="D")
    rows = []
    for sensor, platform in sorted(set(zip(sensors, platforms))):
        here = (sensors == sensor) & (platforms == platform)
        means = table["mean"].values[here]
        seen = means[np.isfinite(means)]
        rows.append(
            {
                "sensor": sensor,
                "platform": platform,
                "dates": int(here.sum()),
                "first": min(dates[here].tolist()),
                "last": max(dates[here].tolist()),
                "valid [%]": round(float(table["valid"].values[here].mean()) * 100, 1),
                f"median {name}": float(np.median(seen)) if seen.size else float("nan"),
            }
        )
    return rows


def _one_layer(series: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, str]:
    """The index of a series, or one band of its reflectance: red where there is one."""
    layer = main_layer(series)
    if "band" not in layer.dims:
        return layer, str(layer.name)
    bands = layer["band"].values.astype(str).tolist()
    band = "red" if "red" in bands else bands[0]
    return layer.sel(band=band), band
