"""Networks on real pairs, one date left out, trained as a user would.

Run ``python benchmarks/networks_flanders.py [--methods small-conv] [--steps N] [--dates …]``.
Each date of `closed_forms_flanders.py` is left out in turn: it is neither trained on nor looked at
to stop, which one more date decides. Options are the defaults. Nothing is registered. Needs the
real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from closed_forms_flanders import NEAR, WHOLE, clear_pairs, load

import xharmonize as xh
from xharmonize.training import Config, Data
from xharmonize.training.config import NETWORKS


def load_pairs(folder: Path, when: str = WHOLE) -> xr.DataTree:
    """All clear pairs to four days within a time."""
    return clear_pairs(*load(folder / "flanders-2018" / "catalog.json", when))


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print scores of each date, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="small-conv")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--dates", help="default: those at most two days from a date of Sentinel-2")
    parser.add_argument("--when", default=WHOLE)
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    pairs, tables = load_pairs(Path(folder), given.when), []
    near = pairs["time_target"].values[np.abs(pairs["gap"].values) <= NEAR]
    dates = given.dates.split(",") if given.dates else near.astype("datetime64[D]").astype(str)
    for name in given.methods.split(","):
        for date in map(str, dates):
            start = time.process_time()
            # The mask leaves half of a clear date of snow or roofs; more is cloud.
            data = Data(holdout=(date,), max_cloud=0.5)
            config = Config(method=NETWORKS[name](steps=given.steps), data=data)
            training = xh.train(name, pairs, config=config, progress=False)
            told = training.history.dropna(subset=["validation"])
            best = int(told.loc[told["validation"].idxmin(), "step"])
            spent = time.process_time() - start
            print(f"{name}, {date} left out: best step {best}, {spent:.0f} s of processor time")
            tables.append(training.scores)
    names = ["ergas", "sam", "ndvi_rmse", "ergas_centred"]
    mean = pd.concat(tables).groupby(level=["method", "reference"], sort=False)[names].mean()
    print(mean.round(3).to_string())
    return mean


if __name__ == "__main__":
    main()
