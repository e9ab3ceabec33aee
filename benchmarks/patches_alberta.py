"""One real pair of some kilometres, by spatial blocks: closed forms, networks, tables.

Run ``python benchmarks/patches_alberta.py [--seeds 0,1] [--methods small-conv] [--steps N]``.
Landsat-8 and Sentinel-2B, two days apart, on Sentinel-2's grid of 60 m: nothing here tests the step
from 10 to 30 m. Blocks of 2 km are held out with a ring of 240 m around them; a seed draws blocks
and initial weights. Everything is fitted on training blocks only, and scored on one set of pixels.
Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
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

import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize.harmonizers.auto import fit_auto
from xharmonize.harmonizers.validation import hide_target
from xharmonize.training import Config, Data, build_store, split
from xharmonize.training.config import NETWORKS
from xharmonize.training.judge import as_pairs, judge

BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
ALL_BANDS = [*BANDS[:3], "rededge1", "rededge2", "rededge3", *BANDS[3:], "coastal"]
METHODS = ("small-conv",)


def load_pairs(folder: Path) -> xr.DataTree:
    """The pair, on Sentinel-2's grid."""
    catalog = folder / "alberta-2020" / "catalog.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        sentinel = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=ALL_BANDS)
        landsat = xh.open_stac(catalog, collection="landsat-c2-l2", bands=BANDS, mask=None)
    target = landsat.harmonize.regrid(like=sentinel, min_valid=1.0)
    return xh.collect_pairs(sentinel, target, tolerance="3D").compute()


def training_only(pairs: xr.DataTree, store: Any, parts: Any) -> xr.DataTree:
    """The pair without the target of all that is not in the core of a training sample."""
    from xharmonize.cube.pairs import target_of
    from xharmonize.training.judge import cores

    return hide_target(pairs, ~cores(store, parts.training)(target_of(pairs)))


def compare(
    pairs: xr.DataTree, *, seed: int, methods: tuple[str, ...], data: Data, **options: Any
) -> pd.DataFrame:
    """Scores of all methods with the blocks of one seed held out."""
    data = replace(data, split="block", seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(pairs, Path(folder) / "samples", data)
        parts = split(store, data)
        samples = as_pairs(store, parts.training)
        six = samples.sel(source_band=BANDS)
        models: dict[str, Any] = {
            "six-band line": xh.fit_linear(six, method="multiband"),
            "ten-band line": xh.fit_linear(samples, method="multiband"),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one pair, which this is about
            models["auto"] = fit_auto(training_only(pairs, store, parts), allow_one_pair=True)
        for name in methods:
            start = time.process_time()
            config = Config(method=NETWORKS[name](seed=seed, **options), data=data)
            training = xh.train(name, pairs, config=config, out=Path(folder) / name)
            models[name] = training.model
            best = training.history.dropna(subset=["validation"])
            best = best.loc[best["validation"].idxmin(), "step"]
            spent = time.process_time() - start
            print(f"seed {seed}: {name}, best step {best:.0f}, {spent:.0f} s of processor time")
        scores, notes = judge(models, pairs, store, parts)
        for note in notes:
            print(note)
        print(f"seed {seed}: {parts.describe()[:100]} …")
    return scores


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print mean and range over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--patch", type=int, default=16)
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    pairs = load_pairs(Path(folder))
    data = Data(patch=given.patch, block=2000.0, guard=240.0)
    methods = tuple(filter(None, given.methods.split(",")))
    tables = [
        compare(pairs, seed=int(seed), methods=methods, data=data, steps=given.steps)
        for seed in given.seeds.split(",")
    ]
    names = ["ergas", "sam", "ndvi_rmse", "ergas_centred"]
    whole = pd.concat(tables, keys=range(len(tables)), names=["seed"])[names]
    grouped = whole.groupby(["method", "reference"], sort=False)
    print(grouped.mean().round(4).to_string())
    print("smallest and largest ERGAS of a seed:")
    print(grouped["ergas"].agg(["min", "max"]).round(2).to_string())
    return grouped.mean()


if __name__ == "__main__":
    main()
