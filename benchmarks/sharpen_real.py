"""Sharpening on real observations, judged on images that no method has seen.

Run ``python benchmarks/sharpen_real.py [--picture FILE] [--min-gap DAYS] [--days DAY …] [FOLDER]``.

``flanders-2018``: Landsat-8 to 10 m, judged against Sentinel-2 of the same or a near day. For each
scored date all Sentinel-2 dates within ``--min-gap`` days of Landsat's (default 5) are taken away
before a reference is chosen; lines and shifts are fitted on pairs of other dates. Bands of 20 m are
compared at 20 m. ``starfm`` takes the nearest clear pair, however far it is. ``landsat_c2``: the
30 m bands (Level 2) seen at 60 m are brought back to 30 m with the panchromatic band (Level 1) seen
at 30 m; the truth is what was observed.

Prints ERGAS (ratio of fine to coarse), RMSE [1], SAM [degree], CC and SSIM, the mean over dates of
equal weight; ERGAS with the mean difference of each date and band removed, which nobody can know
beforehand; and the share of flagged values. Needs the real observations (``XHARMONIZE_DATA``, or
``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize import fusion
from xharmonize.metrics.registry import Ergas, Sam

TEN, TWENTY = ["blue", "green", "red"], ["nir08", "swir16", "swir22"]
BANDS = [*TEN, *TWENTY]
PAIRS = {
    "2018-02-07": "2018-02-08",
    "2018-02-23": "2018-02-25",
    "2018-07-01": "2018-06-30",
    "2018-07-17": "2018-07-15",
    "2018-07-24": "2018-07-23",
    "2018-10-05": "2018-10-06",
}
"""Clear Landsat dates, and the Sentinel-2 date that each is judged by."""

COLUMNS = ("ergas", "rmse", "sam", "cc", "ssim", "ergas without bias", "flagged")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scored date.

    Attributes
    ----------
    coarse : DataArray
        The coarse cube, all its dates; lazy, as one of them is scored.
    day : str
        The date that is scored.
    fine : DataArray or None
        Where references are looked for, without those that are too near.
    truth : DataArray
        What the result is compared with.
    options : dict
        Of `sharpen`.
    compare : callable
        Brings a result to the pixels that it is compared at.
    """

    coarse: xr.DataArray
    day: str
    fine: xr.DataArray | None
    truth: xr.DataArray
    options: dict[str, Any]
    ratio: float
    compare: Callable[[xr.DataArray], xr.DataArray]


def flanders(catalog: Path, min_gap: float, days: Sequence[str]) -> Iterator[tuple[str, Case]]:
    """Yield the dates of Flanders."""
    whole: dict[str, Any] = {"datetime": "2018-01/2018-11"}
    landsat = xh.open_stac(
        catalog, collection="landsat-8-c1-sr", bands=BANDS, mosaic="solar_day", **whole
    ).load()
    sentinel = xh.open_stac(
        catalog,
        collection="sentinel-2-l2a",
        bands=[*TEN, "nir", *TWENTY],
        resolution=10,
        platform="infer",
        **whole,
    ).load()
    for day in days:
        other = PAIRS[day]
        coarse = landsat.sel(time=day)
        apart = abs(sentinel["time"] - coarse["time"].values[0]) / np.timedelta64(1, "D")
        fine = sentinel.isel(time=(apart > min_gap).values)
        rest = landsat.drop_sel(time=coarse["time"])
        # A pair whose Sentinel-2 date judges another Landsat date is one of these.
        pairs = xh.match_pairs(rest, xh.regrid(fine, like=rest), tolerance="3D")
        options = {
            "bandpass": xh.fit_linear(_clear(pairs)),
            "shifts": xh.fit_shifts(rest, reference=fine),
        }
        truth = at_own_pixels(sentinel.sel(time=other, band=BANDS).isel(time=[0]))
        yield (
            day,
            Case(
                coarse=landsat.chunk(time=1),
                day=day,
                fine=fine,
                truth=truth,
                options=options,
                ratio=1 / 3,
                compare=at_own_pixels,
            ),
        )


def _clear(pairs: xr.Dataset) -> xr.Dataset:
    """Pairs of which half the pixels are valid."""
    valid = (pairs["source"] + pairs["target"]).notnull().mean(["band", "y", "x"])
    return pairs.isel(pair=(valid > 0.5).values)


def at_own_pixels(cube: xr.DataArray) -> xr.DataArray:
    """Bands that Sentinel-2 observes at 20 m, at 20 m on the 10 m grid."""
    held = [name for name in TWENTY if name in cube["band"].values]
    coarse = xh.regrid(cube.sel(band=held), resolution=20, min_valid=1)
    own = xh.regrid(coarse, like=cube, method="nearest")
    return cube.copy(
        data=xr.where(cube["band"].isin(held), own.reindex(band=cube.band), cube)
        .transpose(*cube.dims)
        .values
    )


def panchromatic(folder: Path) -> Iterator[tuple[str, Case]]:
    """Yield the dates of ``landsat_c2``."""
    for path in sorted((folder / "L8").glob("*.tif")):
        day = path.name.split("_")[3]
        truth = _read(path)
        truth = xh.describe(
            truth.assign_coords(band=[*BANDS, "lwir11"]).sel(band=BANDS),
            is_decoded=False,
            sensor="landsat-c2-l2",
            platform="landsat-8",
        ).harmonize.decode()
        (near,) = (folder / "L8_pan").glob(f"*_{day}_*.tif")
        pan = xh.regrid(_read(near).astype("float32"), like=truth)
        yield (
            day,
            Case(
                coarse=xh.regrid(truth, resolution=60),
                day=day,
                fine=None,
                truth=truth,
                options={"pan": pan},
                ratio=1 / 2,
                compare=lambda cube: cube,
            ),
        )


def _read(path: Path) -> xr.DataArray:
    import rioxarray

    day = pd.Timestamp(path.name.split("_")[3] + "T05:00")
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    array.attrs = {}
    return array.expand_dims(time=[day.to_datetime64()])


def methods(*, with_pan: bool) -> dict[str, Callable[[Case], xr.Dataset]]:
    """Methods by name: functions of a case."""

    def by(model: str, **more: Any) -> Callable[[Case], xr.Dataset]:
        def run(case: Case) -> xr.Dataset:
            options = dict(case.options)
            if model == "bilinear":
                options.pop("pan", None)
                like = case.truth if case.fine is None else case.fine
                return xh.sharpen(case.coarse, like, model, **options, **more)
            return xh.sharpen(case.coarse, case.fine, model, **options, **more)

        return run

    def reference(case: Case) -> xr.Dataset:
        assert case.fine is not None
        found = fusion.find_references(case.coarse, case.fine)
        return (
            fusion.take_references(case.fine, found).sel(band=BANDS).to_dataset(name="reflectance")
        )

    names = [name for name in METHODS if name in fusion.METHODS]
    if with_pan:
        names = [name for name in names if not name.startswith("starfm")]
    found = {} if with_pan else {"the reference as it is": reference}
    for name in names:
        more = {"tolerance": "200D"} if name == "starfm" else {}
        found[name] = by(name, **more)
        found[f"{name}, corrected"] = by(name, correct=True, **more)
    return found


METHODS = ("bilinear", "atprk", "starfm-si", "starfm")


def judge(result: xr.Dataset, case: Case) -> dict[str, float]:
    """Score one result."""
    given = result["reflectance"]
    found = case.compare(given.copy(data=given.values)).drop_attrs()
    truth = case.truth.sel(band=found["band"].values)
    found = truth.copy(data=np.where(np.isfinite(truth.values), found.values, np.nan))
    kinds = [Ergas(ratio=case.ratio), "rmse", Sam(unit="deg"), "cc", "ssim"]
    scores = xh.score(found, truth, kinds, data_range=1.0, per_band=False)
    bias = (found - truth).mean(["y", "x"])
    level = xh.score(found - bias, truth, [Ergas(ratio=case.ratio)])
    flagged = float((result["flag"] != 0).mean()) if "flag" in result else np.nan
    return {
        **{name: float(scores[name].mean()) for name in ("ergas", "rmse", "sam", "cc", "ssim")},
        "ergas without bias": float(level["ergas"].mean()),
        "flagged": flagged,
    }


def table(cases: dict[str, Case], *, with_pan: bool) -> pd.DataFrame:
    """Scores by method, the mean over dates."""
    rows = {}
    for name, run in methods(with_pan=with_pan).items():
        scores = [judge(run(case).sel(time=case.day).compute(), case) for case in cases.values()]
        rows[name] = pd.DataFrame(scores).mean()
    return pd.DataFrame(rows).T[list(COLUMNS)]


def main(arguments: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", default=os.environ.get("XHARMONIZE_DATA", "../shared/data")
    )
    parser.add_argument("--min-gap", type=float, default=5.0)
    parser.add_argument("--days", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args(arguments)
    folder = Path(chosen.folder)
    warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
    places = {
        "flanders-2018": dict(
            flanders(folder / "flanders-2018" / "catalog.json", chosen.min_gap, chosen.days)
        ),
        "landsat_c2": dict(panchromatic(folder / "landsat_c2")),
    }
    found = {}
    for place, cases in places.items():
        found[place] = table(cases, with_pan=place == "landsat_c2")
        print(f"\n{place}, {len(cases)} dates")
        print(found[place].to_string(float_format=lambda value: f"{value:.4f}"))
    if chosen.picture is not None:
        draw(places["flanders-2018"][chosen.days[len(chosen.days) // 2]], chosen.picture)
    return found


def draw(case: Case, path: Path) -> None:
    """Draw one date by each method, near infrared, red and green."""
    import matplotlib.pyplot as plt

    images = {"Landsat": case.coarse.sel(time=case.day)}
    images |= {
        name: run(case)["reflectance"].sel(time=case.day)
        for name, run in methods(with_pan=False).items()
    }
    images["Sentinel-2, not seen"] = case.truth
    figure, axes = plt.subplots(2, -(-len(images) // 2), figsize=(3 * -(-len(images) // 2), 6.4))
    for ax, (name, image) in zip(axes.flat, images.items()):
        shown = image.sel(band=["nir08", "red", "green"]).isel(time=0).transpose("y", "x", "band")
        ax.imshow(np.clip(shown.values / [0.5, 0.2, 0.2], 0, 1), interpolation="nearest")
        ax.set_title(name, fontsize=8)
    for ax in axes.flat:
        ax.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
