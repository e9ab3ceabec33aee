"""Tables on cubes: what the check of the radiometry found, and what a series holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize.cli import console
from xharmonize.cube.check import (
    conclude_check,
    count_contradictions,
    list_findings,
    summarize_check,
)
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.series.observed import has_look, is_filled

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 5


def print_check(table: pd.DataFrame) -> None:
    """Print the findings of `xharmonize.check_radiometry`."""
    console.print_table(summarize_check(table), title="Pixels against metadata")
    found = list_findings(table)
    for line in found[:MOST_SHOWN]:
        console.say(f"  {line}")
    if len(found) > MOST_SHOWN:
        console.say(f"  … and {len(found) - MOST_SHOWN} more")
    if found and not count_contradictions(table):
        console.complain("warning", f"see above; {conclude_check(table)}", "yellow")


def print_summary(series: xr.DataArray | xr.Dataset, *, title: str) -> None:
    """Print one row for each platform: dates, period, valid pixels, median value."""
    rows = summarize(series)
    console.print_table(rows, title=title)


def summarize(series: xr.DataArray | xr.Dataset) -> list[dict[str, Any]]:
    """Return one row for each (sensor, platform): dates, period, valid share, median of dates.

    Of a smoothed series, only what was observed counts.
    """
    layer, name = _one_layer(series)
    filled = is_filled(series, layer)
    layer = layer if filled is None else layer.where(~filled)
    with console.progress("Summing up"):
        table = xr.Dataset(
            {"valid": layer.notnull().mean(["y", "x"]), "mean": layer.mean(["y", "x"])}
        ).compute()
    sensors, platforms = (read_coordinate(series, n).astype(str) for n in ("sensor", "platform"))
    dates = np.datetime_as_string(series["time"].values, unit="D")
    seen = has_look(series)
    rows = []
    for sensor, platform in sorted(set(zip(sensors[seen], platforms[seen]))):
        here = seen & (sensors == sensor) & (platforms == platform)
        means = table["mean"].values[here]
        known = means[np.isfinite(means)]
        rows.append(
            {
                "sensor": sensor,
                "platform": platform,
                "dates": int(here.sum()),
                "first": min(dates[here].tolist()),
                "last": max(dates[here].tolist()),
                "valid [%]": round(float(table["valid"].values[here].mean()) * 100, 1),
                f"median {name}": float(np.median(known)) if known.size else float("nan"),
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
