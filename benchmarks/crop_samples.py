"""The crop classifier alone, on labelled monthly series of Sentinel-1 and Sentinel-2.

Run ``python benchmarks/crop_samples.py [--seeds 3]``: 472 of the 500 samples of
``crop_samples_s1_s2.parquet`` (East Africa, 2017), of the five classes that at least ten cells of
0.05 degrees hold. Cells are never split by cross-validation. A month without a value takes that
between its neighbours; samples that a sensor never saw are left out of its rows. No harmonisation
is involved: this says what `xharmonize.crops` is worth where labels are many and far apart, as
those of the two real sites are not.
Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh

CLASSES = ("sorghum", "maize", "trees_mixed", "other_oilseeds", "dry_pulses_legumes")
CELL, MONTHS, NODATA = 0.05, 12, 65535
SIX = ("B02", "B03", "B04", "B8A", "B11", "B12")
TEN = (*SIX, "B05", "B06", "B07", "B08")
COLUMNS = {
    "Sentinel-2, ten bands": (TEN, range(MONTHS)),
    "Sentinel-2, six bands": (SIX, range(MONTHS)),
    "Sentinel-2, six bands, every other month": (SIX, range(0, MONTHS, 2)),
    "Sentinel-1": (("VV", "VH"), range(MONTHS)),
    "both": ((*TEN, "VV", "VH"), range(MONTHS)),
}


def read_samples(folder: Path) -> pd.DataFrame:
    """Samples of the classes that are used."""
    table = pd.read_parquet(folder / "crop_samples_s1_s2.parquet")
    return table[table["sampling_label"].isin(CLASSES)].reset_index(drop=True)


def monthly(table: pd.DataFrame, band: str) -> np.ndarray:
    """Series (sample, month) of a band, gaps filled between neighbours."""
    names = [next(c for c in table.columns if f"-{band}-ts{m}-" in c) for m in range(MONTHS)]
    values = table[names].to_numpy(float)
    filled = pd.DataFrame(np.where(values == NODATA, np.nan, values).T)
    return filled.interpolate(limit_direction="both").to_numpy().T


def on_grid(values: np.ndarray) -> xr.DataArray:
    """Values (…, sample) as a column of pixels beside an empty one: a grid needs two."""
    dims = ("feature", "y", "x")[-(values.ndim + 1) :]
    axes = {"y": 100.0 * np.arange(values.shape[-1])[::-1], "x": [0.0, 100.0]}
    import rioxarray  # noqa: F401  (registers .rio)

    empty = np.zeros_like(values)
    cube = xr.DataArray(np.stack([values, empty], axis=-1), dims=dims, coords=axes)
    return cube.rio.write_crs("EPSG:32636")


def features_of(table: pd.DataFrame, bands: tuple[str, ...], months: range) -> xr.DataArray:
    series = {band: monthly(table, band) for band in bands}
    names = [f"{band} {month}" for band in bands for month in months]
    values = np.stack([series[band][:, month] for band in bands for month in months])
    return on_grid(values.astype(np.float32)).assign_coords(feature=names)


def score(table: pd.DataFrame, features: xr.DataArray, seed: int) -> dict[str, float]:
    """Accuracies [%] of samples whose cell was not trained on."""
    codes = {name: k for k, name in enumerate(CLASSES, start=1)}
    labels = on_grid(table["sampling_label"].map(codes).to_numpy(np.int32))
    column, row = (np.floor(table[n] / CELL).astype(int) for n in ("lon", "lat"))
    cells = on_grid(pd.factorize(row * 100_000 + column)[0].astype(np.int32) + 1)
    found = xh.crops.cross_classify(features, labels, groups=cells, max_per_class=200, seed=seed)
    matrix = xh.metrics.confusion_matrix(found, labels, classes=list(codes.values()))
    scores = xh.metrics.accuracy(matrix)
    each = dict(zip(CLASSES, 100 * scores["f1"].values))
    return {"OA": 100 * float(scores["overall_accuracy"]),
            "mean F1": float(np.nanmean([*each.values()])), **each}  # fmt: skip


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print means over seeds, and the standard deviation of the overall accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    table = read_samples(Path(folder))
    rows = {}
    for name, (bands, months) in COLUMNS.items():
        features = features_of(table, bands, months)
        each = pd.DataFrame([score(table, features, seed) for seed in range(given.seeds)])
        rows[name] = each.mean()
        rows[name]["SD of OA"] = each["OA"].std(ddof=min(1, given.seeds - 1))
    counts = table["sampling_label"].value_counts()
    print(f"{len(table)} samples: {counts.to_dict()}; the largest class alone has an overall "
          f"accuracy of {100 * counts.max() / len(table):.1f} %")  # fmt: skip
    found = pd.DataFrame(rows).T.round(1)
    print(found.to_string())
    return found


if __name__ == "__main__":
    main()
