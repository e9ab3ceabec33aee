"""What screening of pairs finds of haze that no mask shows, and what it drops of clear dates.

Run ``python benchmarks/haze.py [--seeds 11 12 13] [--from 2022-03-01] [--to 2022-10-31]``. Seasons
of Sentinel-2 and Landsat are simulated, 900 m wide, 15 % of passes with a veil of haze; variants of
the physics take turns, and those of variants b and c have all effects that the image reveals.
``--real``: the scores of the dates of `flanders-2018` that have a date of the other sensor within
four days, in the whole year and in a summer (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize.cube.screening import screen_dates
from xharmonize.simulate.config import EFFECTS, TILE, Pass, Simulation
from xharmonize.simulate.imaging import cloud_cover, pass_angles, render_sky
from xharmonize.simulate.noise import Window
from xharmonize.testing import places

S2, LANDSAT = "sentinel-2-l2a", "landsat-c2-l2"
VEIL = 0.04
"""Reflectance of the densest haze of the simulator in blue [1]."""
HAZY, HAZE_FREE = 0.01, 0.003
"""Median haze over a scene above and below which a date is called hazy, and free of it [1]."""
MOST_CLOUD = 0.6
FIRST = 11
"""A seed of variant a."""
LIMIT, TOLERANCE, MIN_VALID = 2.0, 4.0, 0.5
SPANS = ("2018-01-01/2018-11-30", "2018-06-01/2018-08-15", "2018-06-25/2018-08-05")


def simulate(seed: int, variant: str, effects: Sequence[str], first: str, last: str) -> Simulation:
    """A place of one tile, for the given days."""
    column, row = places._corner(seed, wet=False)
    return Simulation(
        seed=seed,
        center=((column + 0.5) * TILE, (row + 0.5) * TILE),
        size=(900.0, 900.0),
        variant=variant,
        start=first,
        end=last,
        haziness=0.15,
        effects=tuple(effects),
    )


def season(simulation: Simulation) -> dict[str, tuple[xr.DataArray, np.ndarray]]:
    """Cube in blue and red, and median haze of each date [1], by sensor."""
    found: dict[str, list] = {S2: [], LANDSAT: []}
    for look in simulation.passes():
        if cloud_cover(simulation, look) <= MOST_CLOUD:
            day = str(look.time)[:10]
            found[look.orbit.sensor].append(_date(replace(simulation, start=day, end=day), look))
    return {
        sensor: (xr.concat([cube for cube, _ in dates], "time"), np.array([h for _, h in dates]))
        for sensor, dates in found.items()
        if dates
    }


def _date(simulation: Simulation, look: Pass) -> tuple[xr.DataArray, float]:
    sensor = look.orbit.sensor
    seen = places._mosaics(simulation, {sensor: look})[sensor]
    gsd, quality = (10.0, "scl") if sensor == S2 else (30.0, "qa_pixel")
    cube = places._cube(simulation, look, seen, gsd, ("blue", "red"), quality)
    west, north = simulation.center[0] - TILE / 2, simulation.center[1] + TILE / 2
    window = Window(left=west, top=north, step=30.0, width=32, height=32)
    angles = pass_angles(look, *simulation.center, simulation.crs)
    sky = render_sky(simulation, look, window, angles)
    return cube, VEIL * float(np.median(sky.haze))


def rates(seed: int, first: str, last: str) -> pd.DataFrame:
    """Score and haze of each date."""
    turn = (seed - FIRST) % 3
    cubes = season(simulate(seed, "abc"[turn], EFFECTS if turn else (), first, last))
    (source, haze), (target, other) = cubes[S2], cubes[LANDSAT]
    found = screen_dates(source, target, min_valid=MIN_VALID, tolerance=TOLERANCE)
    tables = [
        pd.DataFrame(
            {
                "time": cube["time"].values,
                "haze": own,
                "clear": one.clear_fraction,
                "score": one.outlier_score,
            }
        )
        for cube, own, one in zip((source, target), (haze, other), found)
    ]
    return pd.concat(tables).query(f"clear >= {MIN_VALID}").dropna()


def real(catalog: Path) -> pd.DataFrame:
    """Score of each real date by span, and which the limit drops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cubes = [
            xh.open_stac(catalog, collection=name, bands=["blue", "red"], platform=platform).load()
            for name, platform in ((S2, "infer"), ("landsat-8-c1-sr", None))
        ]
    columns = {}
    for span in SPANS:
        parts = [cube.sel(time=slice(*span.split("/"))) for cube in cubes]
        found = screen_dates(*parts, min_valid=MIN_VALID, tolerance=TOLERANCE)
        for name, part, one in zip(("S2", "L8"), parts, found):
            days = part["time"].values.astype("datetime64[D]").astype(str)
            ok = one.clear_fraction >= MIN_VALID
            score = pd.Series(one.outlier_score[ok], [f"{name} {day}" for day in days[ok]])
            columns[span] = pd.concat([columns.get(span, pd.Series(dtype=float)), score])
            print(f"{span} {name}: {int(ok.sum())} clear, {int((score > LIMIT).sum())} dropped")
    table = pd.concat({k: v.groupby(level=0).first() for k, v in columns.items()}, axis=1)
    print(table.round(1).to_string())
    return table


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Print both rates, or the scores of the real dates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13])
    parser.add_argument("--from", dest="first", default="2022-03-01")
    parser.add_argument("--to", dest="last", default="2022-10-31")
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args(argv)
    if given.real:
        folder = os.environ.get("XHARMONIZE_DATA", Path(__file__).parents[2] / "shared" / "data")
        return real(Path(folder) / "flanders-2018" / "catalog.json")
    table = pd.concat([rates(seed, given.first, given.last) for seed in given.seeds])
    is_out = table["score"] > LIMIT
    for name, part in (("hazy", table["haze"] > HAZY), ("haze-free", table["haze"] < HAZE_FREE)):
        print(f"{name}: {int(part.sum())} dates, {int(is_out[part].sum())} left out")
    return table


if __name__ == "__main__":
    main()
