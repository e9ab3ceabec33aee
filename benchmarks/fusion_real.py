"""Fusion on real images.

``python benchmarks/fusion_real.py [--picture FILE]`` reads the folder of real data that
``XHARMONIZE_DATA`` names (or ``../shared/data``).

Shenzhen: Landsat-7 and MOD09 of 2000-11-01 and 2002-11-07, three bands of 500 x 500 pixels of 30 m.
Each Landsat image is predicted from the MODIS image of its date and what is known of the other one,
and scored against the observed one, per band: r and RMSE. Nothing was chosen on it: all options are
the defaults. The MODIS files state an origin about 165 m away from where their pixels lie: averages
of Landsat over 480 m go best with them pixel by pixel (r .974 to .989), so that is how they are
taken.

- nothing: the Landsat image of the other date; mean change: with the mean change of MODIS added.
- MODIS: the MODIS image itself, interpolated.
- STARFM: Landsat and MODIS of the other date. STARFM-SI: Landsat of the other date only.
- ATPRK: the same two images, MODIS averaged to 480 m, which it keeps.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xharmonize.kernels.kriging import Support, fit_length, krige, kriging_of, lag_sums
from xharmonize.kernels.regression import apply_matrix, joint_moments, solve_multiband
from xharmonize.kernels.regrid import AxisMap, regrid_mean
from xharmonize.kernels.starfm import spread_of, starfm

DATES = ("2000306", "2002311")
BANDS = ("nir", "red", "green")
COARSE = 16
"""Side of a MODIS pixel of 480 m [Landsat pixel]: the bands were seen at 250 and 500 m."""


def read(folder: Path, name: str) -> np.ndarray:
    """Reflectance (band, y, x), NaN where missing."""
    import rasterio

    with rasterio.open(folder / f"{name}.tif") as file:
        values = file.read(out_dtype=np.float32)
        return np.where(values == file.nodata, np.nan, values * np.float32(1e-4))


def degrade(fine: np.ndarray) -> tuple[np.ndarray, AxisMap]:
    """Averages over coarse pixels, as far as whole ones go, and how these lie on the fine ones."""
    n = fine.shape[-1] // COARSE
    along = AxisMap(first=0, step=COARSE, n_source=fine.shape[-1])
    weights = along.weights(0, n, "area")
    return regrid_mean(fine, weights, weights, min_valid=1.0)[0], along


def interpolate(coarse: np.ndarray, size: int) -> np.ndarray:
    """Coarse pixels interpolated bilinearly to fine ones."""
    along = AxisMap(first=0, step=1 / COARSE, n_source=coarse.shape[-1])
    weights = along.weights(0, size, "bilinear")
    return regrid_mean(coarse, weights, weights, min_valid=0.0)[0]


def atprk(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """ATPRK of coarse pixels (band, y, x) with all bands of a fine image; NaN beyond them."""
    seen, along = degrade(fine)
    bands = len(fine)
    moments = joint_moments(seen.reshape(bands, -1), coarse.reshape(len(coarse), -1))
    matrix, intercept, _, _ = solve_multiband(moments, bands)
    residual = coarse - apply_matrix(seen[None], matrix, intercept)[0]
    support = Support.of(along)
    lengths = fit_length(lag_sums(residual), support, support)[:, 0]
    detail = krige(residual, [kriging_of(float(one), support, support) for one in lengths])
    result = apply_matrix(fine[None], matrix, intercept)[0]
    n = detail.shape[-1]
    result[:, :n, :n] += detail
    result[:, n:], result[:, :, n:] = np.nan, np.nan
    return result


def predictions(images: dict[str, np.ndarray], wanted: str, other: str) -> dict[str, np.ndarray]:
    """Predictions (band, y, x) of the Landsat image of one date with that of the other."""
    fine, coarse = images[f"L7{other}"], images[f"MOD09{wanted}"]
    partner, spread = images[f"MOD09{other}"], spread_of(fine)[None]
    change = (coarse - partner).mean(axis=(1, 2), keepdims=True)
    simulated = interpolate(degrade(fine)[0], fine.shape[-1])
    return {
        "nothing": fine,
        "mean change": fine + change,
        "MODIS": coarse,
        "STARFM": starfm(coarse, fine[None], partner[None], spread),
        "STARFM-SI": starfm(coarse, fine[None], simulated[None], spread),
        "ATPRK": atprk(degrade(coarse)[0], fine),
    }


def shenzhen(folder: Path, picture: str | None = None) -> pd.DataFrame:
    """Scores by date, method and band."""
    place = folder / "fusion" / "stf_landsat7_mod09_shenzhen"
    images = {f"L7{date}": read(place, f"L7{date}_SZ_B432_30m") for date in DATES}
    images |= {f"MOD09{date}": read(place, f"MOD09_{date}_SZ_B214_250m") for date in DATES}
    rows, drawn = {}, {}
    for wanted, other in (DATES[::-1], DATES):
        truth, made = images[f"L7{wanted}"], predictions(images, wanted, other)
        drawn[wanted] = {"observed": truth, **made}
        for method, image in made.items():
            n = COARSE * (truth.shape[-1] // COARSE)
            pairs = zip(image[:, :n, :n], truth[:, :n, :n])
            scores = [(np.corrcoef(a.ravel(), b.ravel())[0, 1], rms(a - b)) for a, b in pairs]
            names = [(score, band) for band in BANDS for score in ("r", "rmse")]
            rows[f"20{wanted[2:4]}", method] = dict(zip(names, np.ravel(scores)))
    if picture:
        draw(drawn, picture)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["predicted", "method"])
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table.sort_index(axis=1, level=0, sort_remaining=False)


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.nanmean(np.square(values, dtype=np.float64))))


def draw(images: dict[str, dict[str, np.ndarray]], path: str) -> None:
    """Draw all images in near infrared, red and green, and their details."""
    import matplotlib.pyplot as plt

    names = list(next(iter(images.values())))
    figure, axes = plt.subplots(2 * len(images), len(names), figsize=(3 * len(names), 12))
    for row, (date, of_date) in enumerate(images.items()):
        for column, name in enumerate(names):
            scaled = np.clip(of_date[name] / np.array([0.4, 0.2, 0.2])[:, None, None], 0, 1)
            for part, axis in zip((slice(None), slice(200, 300)), axes[2 * row :, column]):
                axis.imshow(np.moveaxis(scaled[:, part, part], 0, -1), interpolation="nearest")
                axis.set_title(f"{name}, {date[:4]}")
                axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Print the scores."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    near = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("XHARMONIZE_DATA", near))
    picture = given[given.index("--picture") + 1] if "--picture" in given else None
    table = shenzhen(folder, picture)
    print("Shenzhen, Landsat-7 from MOD09")
    print(table.to_string(float_format=lambda value: f"{value:.4f}"))
    return table


if __name__ == "__main__":
    main()
