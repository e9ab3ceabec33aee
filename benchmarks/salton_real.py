"""Faulty dates of a real fine and coarse series: HLS and VIIRS over the Salton Sea.

``python benchmarks/salton_real.py`` needs the real observations (``XHARMONIZE_DATA``, or
``../shared/data``).

Near infrared of HLS (22 dates, 70 m) and VIIRS (92 days, 490 m, the same origin), October to
December 2020. Four HLS dates are known to be faulty: 2020-11-01 (2 % valid), 11-26 (a cloud that
its mask missed), 12-12 (67 %) and 12-28 (27 %). Three rules, all at their defaults or with a limit
from elsewhere:

- *clear*: less than 0.8 of a date is valid, what `find_references` refuses.
- *outlier*: `screen_outliers` flags more than half of a date's valid pixels.
- *inconsistent*: `fusion.flag_inconsistent` flags more than half of what it judges, HLS beside
  VIIRS of the day less the median difference of all. The tolerance is the 95th percentile of what
  Landsat-7 and MOD09 differ by at 480 m over Shenzhen, in near infrared, of two clear dates, means
  removed.

A day is an alarm where a rule catches its HLS date, or *outlier* its VIIRS date.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from fusion_real import DATES, degrade, read

import xharmonize as xh
from xharmonize import fusion
from xharmonize.cube.companions import ResultFlag
from xharmonize.series import screen_outliers

BAD = np.array(["2020-11-01", "2020-11-26", "2020-12-12", "2020-12-28"], "datetime64[D]")
LEAST_CLEAR, MOST_FLAGGED = 0.8, 0.5


def load(folder: Path) -> tuple[xr.DataArray, xr.DataArray]:
    """HLS and VIIRS (time, band, y, x), near infrared [1]."""
    held = np.load(folder / "stf_viirs_hls_saltonsea" / "saltonsea_nir.npz")
    return _cube(held, "fine"), _cube(held, "coarse")


def _cube(held: Any, name: str) -> xr.DataArray:
    values, (side, _, left, _, _, top) = held[name], held[f"{name}_transform"]
    along = side * (np.arange(values.shape[-1]) + 0.5)
    array = xr.DataArray(
        values[:, None],
        dims=("time", "band", "y", "x"),
        coords={"time": held[f"{name}_dates"].astype("datetime64[ns]"), "band": ["nir08"],
                "y": top - along, "x": left + along},
        attrs={"units": "1"},
    )  # fmt: skip
    # The file names no platforms; nothing here asks for one.
    return xh.describe(array, sensor="landsat-c2-l2", platform="landsat-8", is_decoded=True,
                       crs="EPSG:32611")  # fmt: skip


def days_of(cube: xr.DataArray) -> np.ndarray:
    return cube["time"].values.astype("datetime64[D]")


def tolerance_of(folder: Path) -> float:
    """What two sensors over Shenzhen differ by [1]."""
    place = folder / "stf_landsat7_mod09_shenzhen"
    apart = []
    for date in DATES:
        fine = degrade(read(place, f"L7{date}_SZ_B432_30m"))[0][0]
        coarse = degrade(read(place, f"MOD09_{date}_SZ_B214_250m"))[0][0]
        apart.append(np.abs(fine - coarse - np.mean(fine - coarse)))
    return float(np.percentile(apart, 95))


def share_flagged(flagged: Any, bit: int, judged: xr.DataArray) -> np.ndarray:
    """Share of the judged pixels of each date with a flag [1]."""
    found = (flagged["flag"] & bit) > 0
    return np.asarray(found.where(judged).mean([d for d in judged.dims if d != "time"]))


def outliers(cube: xr.DataArray) -> np.ndarray:
    flagged = screen_outliers(cube, mask=False)
    return share_flagged(flagged, int(ResultFlag.OUTLIER), cube.notnull())


def main() -> pd.DataFrame:
    """Print what each rule says of each HLS date, and how many days are false alarms."""
    warnings.simplefilter("ignore")
    near = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("XHARMONIZE_DATA", near)) / "fusion"
    fine, coarse = load(folder)
    beside = coarse.sel(time=fine["time"])
    apart = beside - fusion.degrade(fine, beside)
    level, tolerance = float(apart.median()), tolerance_of(folder)
    flagged = fusion.flag_inconsistent(fine, beside - level, tolerance=tolerance)
    judged = xh.regrid(apart.notnull().astype("float32"), like=fine, method="nearest") > 0.5
    table = pd.DataFrame(
        {
            "clear": fine.notnull().mean(["band", "y", "x"]).values,
            "outlier": outliers(fine),
            "inconsistent": share_flagged(flagged, int(ResultFlag.INCONSISTENT), judged),
            "r": [_correlation(a, b) for a, b in zip(beside.values, (beside - apart).values)],
        },
        index=pd.Index(days_of(fine), name="HLS date"),
    )
    told = table.assign(
        clear=table["clear"] < LEAST_CLEAR,
        outlier=table["outlier"] > MOST_FLAGGED,
        inconsistent=table["inconsistent"] > MOST_FLAGGED,
    ).drop(columns="r")
    of_coarse = outliers(coarse)
    alarms = set(days_of(fine)[told.any(axis=1)]) | set(days_of(coarse)[of_coarse > MOST_FLAGGED])
    shown = table.round(3).assign(faulty=np.isin(days_of(fine), BAD), alarm=told.any(axis=1))
    print(f"VIIRS lies {level:+.4f} above HLS, tolerance {tolerance:.4f}")
    print(shown.to_string())
    print(f"largest share of outliers of a VIIRS date: {of_coarse.max():.2f}")
    print(f"caught {len(alarms & set(BAD))} of {len(BAD)}; false alarms: "
          f"{len(alarms - set(BAD))} of {len(coarse)} days")  # fmt: skip
    return shown


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    ok = np.isfinite(one) & np.isfinite(other)
    return float(np.corrcoef(one[ok], other[ok])[0, 1]) if ok.sum() > 9 else np.nan


if __name__ == "__main__":
    main()
