"""Networks of several cubes on real observations: trained on one place or period, judged elsewhere.

``python benchmarks/fusion_learned.py [--steps N] fill|sharpen``; it needs the real observations
(``XHARMONIZE_DATA``, or ``../shared/data``).

fill: trained on the clear dates of flanders-2018, each rebuilt from the nearest clear date before
or after it and Sentinel-1 of both; judged on those of flanders-2019. sharpen: Landsat of
flanders-2018 until June, all averaged to pixels three times as large; judged on the original pixels
of later dates against Sentinel-2 of the same or next day, the reference being an earlier date.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize.cube.screening import screen_alone
from xharmonize.cube.whole import days_of
from xharmonize.fusion.references import find_references, take_references
from xharmonize.training import Config, Data, Run, collect_sources
from xharmonize.training import config as configs

FILL_BANDS = ("blue", "green", "red", "nir")
SHARP_BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
SMALL = {"width": 16, "discriminator_width": 16, "batch": 8, "evaluate": 25, "patience": 0}
FILLERS: dict[str, Any] = {
    "mccgan": configs.MccGan(**SMALL),
    "mtcgan": configs.MtcGan(**SMALL),
    "dcstfn-os": configs.DcstfnOs(**SMALL),
    "rdcstfn-os": configs.RdcstfnOs(**SMALL),
    "pix2pix": configs.Pix2pix(**SMALL),
    "s-cyclegan": configs.SCycleGan(**SMALL),
    "cyclegan": configs.CycleGan(**SMALL),
}
SHARPENERS: dict[str, Any] = {"esrcnn": configs.Esrcnn(), "dstfn": configs.Dstfn()}


def data_folder() -> Path:
    named = os.environ.get("XHARMONIZE_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


def clear_dates(name: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Clear dates of Sentinel-2 that no haze was found in, and Sentinel-1."""
    catalog = data_folder() / name / "catalog.json"
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=FILL_BANDS, mask="clear")
    cube = cube.compute()
    radar = xh.open_stac(catalog, collection="sentinel-1-grd", mask=None).compute()
    share = cube.notnull().all("band").mean(["y", "x"]).values
    kept = (share > 0.9) & ~(screen_alone(cube, min_valid=0.8).outlier_score > 2)
    return cube.isel(time=np.flatnonzero(kept)), radar


def beside(clear: xr.DataArray, radar: xr.DataArray) -> dict[str, xr.DataArray]:
    """The nearest other clear date of each, and Sentinel-1 of both."""
    from xharmonize.fusion.passes import nearest_passes, read_radar

    found = find_references(clear, min_valid=0.0, max_score=None, tolerance="60D")
    radar = read_radar(radar, what="training")
    moments = found["reference_time"].values
    at = np.where(np.isnat(moments), clear["time"].values, moments)
    then = days_of(clear.assign_coords(time=at))
    return {
        "reference": take_references(clear, found),
        "sentinel1": nearest_passes(
            radar, clear, clear["time"].values, days_of(clear), tolerance=6.0
        ),
        "sentinel1_reference": nearest_passes(radar, clear, at, then, tolerance=6.0),
    }


def train(method: Any, samples: xr.DataTree, data: Data, folder: Path) -> tuple[Path, float]:
    out, start = folder / method.name, time.process_time()
    xh.train(
        method,
        samples,
        config=Config(method=method, data=data, run=Run(tensorboard=False)),
        out=out,
        progress=False,
    )
    return out, time.process_time() - start


def table(
    made: dict[str, xr.DataArray], truth: xr.DataArray, took: dict[str, float]
) -> pd.DataFrame:
    """RMSE [1], bias [1] and r, means over bands, of the pixels that all methods give."""
    found = {
        name: one.sel(band=truth["band"].values).transpose(*truth.dims).values
        for name, one in made.items()
    }
    there = np.isfinite(truth.values).all(axis=1)
    for values in found.values():
        there &= np.isfinite(values).all(axis=1)
    rows = {}
    observed = np.moveaxis(truth.values, 1, 0)[:, there]
    for name, values in found.items():
        own = np.moveaxis(values, 1, 0)[:, there]
        rows[name] = {
            "rmse": np.sqrt(((own - observed) ** 2).mean(axis=1)).mean(),
            "bias": (own - observed).mean(),
            "r": np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(own, observed)]),
            "CPU seconds": took.get(name, 0.0),
        }
    print(f"{int(there.sum())} pixels of {len(truth)} dates")
    return pd.DataFrame(rows).T


def fill(steps: int, folder: Path, names: list[str]) -> pd.DataFrame:
    """Judged on another place: every clear date hidden by itself and rebuilt."""
    clear, radar = clear_dates("flanders-2018")
    samples = collect_sources(clear, **beside(clear, radar))
    other, other_radar = clear_dates("flanders-2019")
    sources = beside(other, other_radar)
    temporal = xh.fill_clouds(other, model="temporal", whole=True)["reflectance"]
    made, took = {"reference as it is": sources["reference"], "temporal": temporal}, {}
    data = Data(patch=32, stride=16, min_valid=0.5)
    for name in names or list(FILLERS):
        method = FILLERS[name]
        mine = Data(patch=32, stride=16, min_valid=0.5, sources=("sentinel1",))
        own = mine if name == "pix2pix" else data
        bundle, took[name] = train(replace(method, steps=steps), samples, own, folder)
        filled = xh.fill_clouds(other, other_radar, model=bundle, whole=True)
        made[name] = filled["reflectance"]
    return table(made, other, took)


def sharpen(steps: int, folder: Path, names: list[str]) -> pd.DataFrame:
    """Judged on later dates, against Sentinel-2 of the same or next day."""
    catalog = data_folder() / "flanders-2018" / "catalog.json"
    whole: dict[str, Any] = {"datetime": "2018-01/2018-11", "platform": "infer"}
    landsat = xh.open_stac(
        catalog,
        collection="landsat-8-c1-sr",
        bands=SHARP_BANDS,
        mosaic="solar_day",
        datetime=whole["datetime"],
    ).compute()
    landsat = xh.to_sentinel2(landsat)  # bandpass first, for all methods alike
    sentinel = xh.open_stac(
        catalog, collection="sentinel-2-l2a", bands=SHARP_BANDS, resolution=10, **whole
    ).compute()
    early = landsat.sel(time=slice(None, "2018-06-15"))
    fine = take_references(sentinel, find_references(early, sentinel, tolerance="20D"))
    samples = collect_sources(early, degrade=3, fine=fine)
    late = landsat.sel(time=slice("2018-06-16", None))
    pairs = xh.collect_pairs(late, sentinel, tolerance="1D")
    wanted = pairs["time_target"].values
    judged = late.sel(time=pairs["time_source"].values)
    truth = sentinel.sel(time=wanted)
    others = sentinel.isel(time=~np.isin(sentinel["time"].values, wanted))
    made, took = {}, {}
    for name in ["bilinear", *(names or SHARPENERS)]:
        model: Any = name
        if name in SHARPENERS:
            method = replace(SHARPENERS[name], steps=steps)
            data = Data(patch=12, stride=3, min_valid=0.5, max_cloud=0.9)
            model, took[name] = train(method, samples, data, folder)
        sharp = xh.sharpen(judged, others, model=model)["reflectance"]
        made[name] = sharp.assign_coords(time=truth["time"].values)
    return table(made, truth, took)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("fill", "sharpen"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=300)
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        function = fill if told.what == "fill" else sharpen
        print(function(told.steps, Path(folder), told.names).round(4).to_string())


if __name__ == "__main__":
    main()
