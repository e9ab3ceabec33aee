"""Networks on real pairs, one date left out, trained as a user would.

Run ``python benchmarks/networks_flanders.py [--methods small-conv] [--steps N] [--dates …]``.
Each date of `linear_flanders.py` is left out in turn: it is neither trained on nor looked at to
stop, which one more date decides. Options are the defaults. Nothing is registered. Needs the real
observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import pandas as pd
import xarray as xr
from linear_flanders import ALL_BANDS, BANDS, PAIRS

import xharmonize as xh
from xharmonize.training import Config, Data
from xharmonize.training.config import NETWORKS


def load_pairs(folder: Path, when: str) -> xr.DataTree:
    """All pairs to four days within a time, screened."""
    catalog = folder / "flanders-2018" / "catalog.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        sentinel = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            bands=ALL_BANDS,
            resolution=10,
            platform="infer",
            datetime=when,
        )
        landsat = xh.open_stac(catalog, collection="landsat-8-c1-sr", bands=BANDS, datetime=when)
    return xh.collect_pairs(sentinel, landsat, tolerance="4D").compute()


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print scores of each date, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default="small-conv")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--dates", default=",".join(PAIRS))
    parser.add_argument("--when", default="2018-02-01/2018-10-31")
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    pairs, tables = load_pairs(Path(folder), given.when), []
    for name in given.methods.split(","):
        for date in given.dates.split(","):
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
