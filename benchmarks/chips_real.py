"""Sentinel-2 from Sentinel-1 of one date, on five real chips: leave one chip out.

``python benchmarks/chips_real.py FOLDER [--steps N --only METHOD,... --without CHIP --picture
FILE]``; FOLDER keeps trained bundles, so that a run that was stopped goes on. It needs the real
observations (``XHARMONIZE_DATA``, or ``../shared/data``).

Chips of 224 x 224 pixels of 10 m: coast of Brazil, Tanzania, Chile, Hudson Bay under snow, Denmark;
blue, green, red and near infrared from VV and VH [dB]. Each chip is left out once. Closed forms
are fitted on the pixels of the four others; networks train on three and stop by the fourth. The
chips' dates are not known, and their grids are put on one lattice: a time and a place of our own
stand in for them, which no method looks at. Nothing was chosen on these scores.

- mean: the mean of the other chips.
- line: VV and VH of the pixel; line, 5 x 5: with the means of VV and VH around it too.
- networks: as small as in ``paper_004.py``, patches of 64 pixels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from paper_004 import AT_ONE_TIME, BANDS, NETWORKS
from paper_parts import make_study
from scipy.ndimage import uniform_filter

import xharmonize as xh
from xharmonize.training import collect_sources

PLACES = {
    "282D_485L_3_3": "Brazil",
    "38D_378R_2_3": "Tanzania",
    "433D_629L_3_1": "Chile",
    "609U_541L_3_0": "Hudson Bay",
    "637U_59R_1_3": "Denmark",
}
NAMES = ("pix2pix", "s-cyclegan")
POLARISATIONS = ["vv", "vh"]
METRICS = ("rmse", "r2", "kge", "ssim", "psnr")


def read(folder: Path, chip: str, number: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Reflectance and backscatter (time, band, y, x) of a chip."""
    import rasterio

    with rasterio.open(folder / f"{chip}_S2L2A.tif") as file:
        numbers = [file.descriptions.index(b) + 1 for b in ("B02", "B03", "B04", "B08")]
        optical = file.read(numbers).astype(np.float32) * np.float32(1e-4)
    with rasterio.open(folder / f"{chip}_S1RTC.tif") as file:
        radar = file.read()
    moment = [np.datetime64("2020-07-01T11:00", "ns") + np.timedelta64(number, "D")]
    along = 10.0 * np.arange(optical.shape[-1]) + 5

    def cube(values: np.ndarray, bands: list[str], sensor: str, platform: str) -> Any:
        array = xr.DataArray(
            values[None],
            dims=("time", "band", "y", "x"),
            coords={"time": moment, "band": bands, "y": 6e6 - along, "x": 5e5 + along},
            attrs={"units": "1" if len(bands) == 4 else "dB"},
        )
        return xh.describe(array, sensor=sensor, platform=platform, is_decoded=True,
                           crs="EPSG:32631", item_id=chip)  # fmt: skip

    return (
        cube(optical, list(BANDS), "sentinel-2-l2a", "sentinel-2a"),
        cube(radar, POLARISATIONS, "sentinel-1-rtc", "sentinel-1a"),
    )


def features(radar: xr.DataArray, *, wide: bool) -> np.ndarray:
    """What a line is a function of: (pixel, term)."""
    layers = list(radar.values[0].astype(float))
    if wide:
        layers += [uniform_filter(layer, 5, mode="nearest") for layer in layers]
    return np.stack([np.ones(layers[0].size), *(layer.ravel() for layer in layers)], axis=1)


def line(chips: dict[str, Any], left: str, *, wide: bool) -> np.ndarray:
    """The chip left out (band, y, x) by least squares over the pixels of the others."""
    known = [features(r, wide=wide) for name, (_, r) in chips.items() if name != left]
    wanted = [c.values[0].reshape(4, -1).T for name, (c, _) in chips.items() if name != left]
    solved = np.linalg.lstsq(np.concatenate(known), np.concatenate(wanted), rcond=None)[0]
    cube, radar = chips[left]
    return (features(radar, wide=wide) @ solved).T.reshape(cube.shape[1:])


def networks(chips: dict[str, Any], given: argparse.Namespace) -> dict[tuple[str, str], np.ndarray]:
    """Each chip (band, y, x) as each network rebuilds it, which was trained on the others."""
    found = {}
    trees = {name: collect_sources(c, sentinel1=r) for name, (c, r) in chips.items()}
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(trees, AT_ONE_TIME, Path(folder), given.folder)
        of_place = {p.place: f"{p.place}/{p.date}" for p in study.store.pairs}
        for left, (cube, radar) in chips.items():
            drawn = study.split_by(replace(study.data, holdout=(of_place[left],)))
            for name in given.only:
                method = replace(NETWORKS[name][0], steps=given.steps, evaluate=25)
                label = f"chips-{name}-{len(chips)}-{given.steps}-{left.replace(' ', '-')}"
                model = drawn.train(label, method)
                filled = xh.fill_clouds(cube, radar, model, whole=True)["reflectance"]
                found[left, name] = filled.sel(band=list(BANDS)).values[0]
    return found


def scores(image: np.ndarray, cube: xr.DataArray) -> dict[str, float]:
    """Means over bands, the mean angle between spectra [degree], and RMSE of NDVI."""
    made = cube.copy(data=image[None].astype(np.float32))
    by_band = xh.score(made, cube, list(METRICS))
    row = {name: float(by_band[name].mean()) for name in METRICS}
    pooled = xh.score(made, cube, ["sam", "ndvi_rmse"], per_band=False)
    return row | {"SAM [deg]": float(np.degrees(pooled["sam"])), "NDVI": float(pooled["ndvi_rmse"])}


def draw(chips: dict[str, Any], found: dict[tuple[str, str], np.ndarray], path: Path) -> None:
    """Draw all chips in near infrared, red and green, each row one chip."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(name for _, name in found))
    figure, axes = plt.subplots(len(chips), len(methods) + 2, figsize=(2.1 * len(methods) + 4, 11))
    for (chip, (cube, radar)), row in zip(chips.items(), axes):
        shown = {"observed": cube.values[0]} | {m: found[chip, m] for m in methods}
        top = np.percentile(cube.values[0], 99, axis=(1, 2))[[3, 2, 1], None, None]
        row[0].imshow(radar.values[0, 0], vmin=-22, vmax=-4, cmap="gray")
        row[0].set_title(f"{chip}, VV", fontsize=8)
        for (name, image), axis in zip(shown.items(), row[1:]):
            axis.imshow(np.clip(np.moveaxis(image[[3, 2, 1]] / top, 0, -1), 0, 1))
            axis.set_title(name, fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=90, bbox_inches="tight")


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print scores by chip and method, and their means over chips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--only", type=lambda t: [n for n in t.split(",") if n], default=NAMES)
    parser.add_argument("--without", default="", help="a chip to do without")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    near = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("XHARMONIZE_DATA", near)) / "fusion" / "s1_s2_pairs_terramesh"
    chips = {name: read(data, chip, n) for n, (chip, name) in enumerate(PLACES.items())}
    chips.pop(given.without, None)
    found: dict[tuple[str, str], np.ndarray] = {}
    for left, (cube, _) in chips.items():
        others = [c.values[0].mean((1, 2)) for name, (c, _) in chips.items() if name != left]
        found[left, "mean"] = np.broadcast_to(np.mean(others, 0)[:, None, None], cube.shape[1:])
        found[left, "line"] = line(chips, left, wide=False)
        found[left, "line, 5 x 5"] = line(chips, left, wide=True)
    if given.only:
        found |= networks(chips, given)
    rows = {key: scores(image, chips[key[0]][0]) for key, image in found.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["chip", "method"])
    print(table.round(4).to_string())
    means = table.groupby("method", sort=False).mean()
    print(f"\nmeans over chips; networks {given.steps} steps\n{means.round(4).to_string()}")
    if given.picture is not None:
        draw(chips, found, given.picture)
    return table


if __name__ == "__main__":
    main()
