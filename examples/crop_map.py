"""Crop maps from a few dates: more dates, or better ones? ``python examples/crop_map.py [FOLDER]``.

The comparison of table V of Sedona et al. (2021, doi:10.1109/JSTARS.2021.3115604): a support vector
machine on five dates of spring and autumn as a fitted model makes them, on the same as HLS makes
them, and on six, with a day of July added. The fitted model stands in for their network: least
squares from ten bands of Sentinel-2 to six of Landsat, fitted on other dates than those mapped.

Runs on simulated crops, and on two real sites if FOLDER (``../shared/data``, or what
``XHARMONIZE_DATA`` names) is there. Prints accuracies; ``--maps DIRECTORY`` draws the maps.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import rioxarray
import xarray as xr

import xharmonize as xh
from xharmonize.simulate import Cover, Simulation, truth, write_catalog

OLI = ["blue", "green", "red", "nir08", "swir16", "swir22"]
MSI = [*OLI[:3], "rededge1", "rededge2", "rededge3", "nir", *OLI[3:]]
GRASS = 6  # follows the crops of the simulator

TRAINING = {  # seed of another landscape: a day on which both sensors pass
    101: "2021-04-28",
    102: "2021-05-13",
    103: "2021-06-14",
    104: "2021-07-17",
    105: "2021-09-02",
    106: "2021-10-05",
}
SIMULATED_DATES = (
    "2022-03-29",
    "2022-04-23",
    "2022-05-08",
    "2022-09-22",
    "2022-10-07",
    "2022-07-04",
)

PAIRS = {  # of flanders-2018: Landsat's date: Sentinel-2's
    "2018-02-07": "2018-02-08",
    "2018-02-23": "2018-02-25",
    "2018-07-01": "2018-06-30",
    "2018-07-17": "2018-07-15",
    "2018-07-24": "2018-07-23",
    "2018-10-05": "2018-10-06",
}
REAL_DATES = {  # clear, none of them in a pair
    "flanders-2018": (
        *("2018-03-25", "2018-04-19", "2018-05-06", "2018-09-21", "2018-10-13"),
        "2018-07-05",
    ),
    "flanders-2019": (
        *("2019-03-22", "2019-04-16", "2019-05-11", "2019-08-24", "2019-10-13"),
        "2019-07-05",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place to be mapped.

    Attributes
    ----------
    sentinel : (time, band, y, x) DataArray
        Reflectance [1] of Sentinel-2 on the days of `dates`.
    labels : (y, x) int DataArray
        Class of each pixel, 0 where unlabelled; `names` are those of the classes.
    model : Dataset
        Fitted to other dates.
    dates : sequence of str
        Days to classify by, the added one last.
    groups : "fields" or float
        What cross-validation keeps together: fields, or blocks [m].
    """

    sentinel: xr.DataArray
    labels: xr.DataArray
    names: Mapping[int, str]
    model: xr.Dataset
    dates: Sequence[str]
    groups: str | float = "fields"

    def columns(self) -> dict[str, xr.DataArray]:
        """Return the features of the three columns of the table."""
        fitted = self.sentinel.harmonize.to_landsat(self.model)
        published = self.sentinel.harmonize.to_landsat("hls-v2").sel(band=OLI)
        return {
            "5 dates, fitted": fitted.harmonize.to_features(dates=self.dates[:-1]),
            "5 dates, HLS v2": published.harmonize.to_features(dates=self.dates[:-1]),
            "6 dates, fitted": fitted.harmonize.to_features(dates=self.dates),
        }


def compare(site: Site, *, seeds: Sequence[int] = (0,)) -> pd.DataFrame:
    """Return accuracies [%] of each column: means over seeds of folds and drawing.

    The last row is the standard deviation of OA over the seeds.
    """
    tables = {}
    for name, features in site.columns().items():
        found = [cross_map(site, features, seed=seed) for seed in seeds]
        rows = [accuracies(map_, site) for map_ in found]
        tables[name] = sum(rows[1:], rows[0]) / len(rows)
        spread = np.std([row.loc["OA", "PA"] for row in rows], ddof=min(1, len(rows) - 1))
        tables[name].loc["SD of OA"] = [spread, np.nan, np.nan]
    return pd.concat(tables, axis=1).round(1)


def cross_map(site: Site, features: xr.DataArray, *, seed: int) -> xr.DataArray:
    """Classify each labelled pixel by a classifier that never saw its group."""
    return xh.crops.cross_classify(
        features, site.labels, groups=site.groups, max_per_class=200, seed=seed
    )


def accuracies(found: xr.DataArray, site: Site) -> pd.DataFrame:
    """PA, UA and F1 [%] of each class, and OA in a row of its own."""
    matrix = xh.metrics.confusion_matrix(found, site.labels, classes=list(site.names))
    scores = xh.metrics.accuracy(matrix)
    columns = {"PA": "producers_accuracy", "UA": "users_accuracy", "F1": "f1"}
    table = pd.DataFrame(
        {short: scores[long].values for short, long in columns.items()},
        index=list(site.names.values()),
    )
    table.loc["OA"] = [float(scores["overall_accuracy"]), np.nan, np.nan]
    return 100 * table


def simulated_site(*, seed: int = 5, size: float = 2400.0) -> Site:
    """One place of 2022 on Landsat's grid, and a model of six other places in 2021.

    The model has seen other physics, too: variant a of point spread, atmosphere and mixing.
    """
    options = {"seed": seed, "size": (size, size), "variant": "b", "cloudiness": 0.0}
    place = Simulation(start="2022-07-04", end="2022-07-04", **options)
    known = truth(place, "2022-07-04T10:40").compute()
    observations = [observation(day, "sentinel-2-l2a", MSI, **options) for day in SIMULATED_DATES]
    sentinel = xr.concat(observations, "time", coords="minimal", compat="override").sortby("time")
    labels = known["crop"].where(known["cover"] != Cover.GRASS, GRASS)
    words = known["crop"].attrs["flag_meanings"].split()[1:]
    return Site(
        sentinel=sentinel.harmonize.regrid(like=known["reflectance"]).compute(),
        labels=labels.where(known["purity"] > 0.8, 0).astype("int32"),
        names=dict(enumerate([*words, "grass"], start=1)),
        model=simulated_model(),
        dates=SIMULATED_DATES,
    )


def simulated_model() -> xr.Dataset:
    """Fit ten bands to six on cloudless pairs of `TRAINING`."""
    sentinel, landsat = [], []
    for seed, day in TRAINING.items():
        options = {"seed": seed, "size": (900.0, 900.0), "cloudiness": 0.0}
        target = observation(day, "landsat-c2-l2", OLI, **options)
        source = observation(day, "sentinel-2-l2a", MSI, **options).harmonize.regrid(like=target)
        sentinel.append(source)
        landsat.append(target)
    joined = [
        xr.concat(part, "time", coords="minimal", compat="override") for part in (sentinel, landsat)
    ]
    pairs = xh.match_pairs(*joined, tolerance="1h")
    return xh.fit_linear(pairs, method="multiband", predictors=joined[0])


def observation(day: str, sensor: str, bands: Sequence[str], **options: object) -> xr.DataArray:
    """Simulate and read the one observation of a sensor on a day."""
    with TemporaryDirectory() as folder:
        place = Simulation(start=day, end=day, sensors=(sensor,), **options)
        catalog = write_catalog(place, Path(folder) / "scenes")
        # Without clouds, all that a mask would find are false alarms over bright roofs.
        cube = xh.open_stac(
            catalog, collection=sensor, bands=list(bands), resolution=None, mask=None
        )
        return cube.isel(time=[0]).compute()


def real_site(folder: Path, name: str, *, groups: str | float) -> Site:
    """One of the real sites at 10 m, with the classes that at least two groups hold.

    The model is that of flanders-2018, fitted to the days of `PAIRS`, none of which is mapped:
    for one site other days, for the other another place and year.
    """
    labels = rioxarray.open_rasterio(folder / name / "labels_CT.tif").isel(band=0, drop=True)
    codes = {"flanders-2018": [1200, 7900, 9120], "flanders-2019": [1110, 1200, 9120]}[name]
    return Site(
        sentinel=read(folder, name, "sentinel-2-l2a", MSI, REAL_DATES[name]),
        labels=labels.where(labels.isin(codes), 0).astype("int32"),
        names={code: f"code {code}" for code in codes},
        model=real_model(folder),
        dates=REAL_DATES[name],
        groups=groups,
    )


def real_model(folder: Path) -> xr.Dataset:
    """Fit ten bands to six on the clear pairs of flanders-2018."""
    site = "flanders-2018"
    target = read(folder, site, "landsat-8-c1-sr", OLI, list(PAIRS))
    source = read(folder, site, "sentinel-2-l2a", MSI, list(PAIRS.values()))
    source = source.harmonize.regrid(like=target, min_valid=1.0).compute()
    pairs = xh.match_pairs(source, target, tolerance="60h")
    return xh.fit_linear(pairs, method="multiband", predictors=source)


def read(
    folder: Path, site: str, collection: str, bands: Sequence[str], days: Sequence[str]
) -> xr.DataArray:
    """Read some days of a real site; no item names its platform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cube = xh.open_stac(
            folder / site / "catalog.json",
            collection=collection,
            bands=list(bands),
            datetime=f"{min(days)}/{max(days)}",
            platform="infer" if collection.startswith("sentinel") else None,
            resolution=10 if collection.startswith("sentinel") else None,
        )
    is_asked = np.isin(cube["time"].values.astype("datetime64[D]").astype(str), list(days))
    return cube.isel(time=np.flatnonzero(is_asked)).compute()


def draw(site: Site, path: Path) -> None:
    """Draw the labels, each column's cross-validated map, and the whole map of the last."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import BoundaryNorm, ListedColormap

    columns = site.columns()
    maps = {"labels": site.labels}
    maps |= {name: cross_map(site, features, seed=0) for name, features in columns.items()}
    features = columns["6 dates, fitted"]
    fitted = xh.crops.fit_classifier(features, site.labels, groups=site.groups, max_per_class=200)
    maps["6 dates, all pixels"] = xh.crops.classify(features, fitted)
    colours = ["white", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#999999"]
    shown = ListedColormap(colours[: 1 + len(site.names)])
    ticks = np.arange(1 + len(site.names))
    figure, axes = plt.subplots(1, len(maps), figsize=(3.2 * len(maps), 3.4), layout="constrained")
    for axis, (title, codes) in zip(axes, maps.items()):
        places = np.searchsorted([0, *site.names], codes.values)
        norm = BoundaryNorm(np.arange(len(ticks) + 1) - 0.5, len(ticks))
        image = axis.imshow(places, cmap=shown, norm=norm, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])
    bar = figure.colorbar(image, ax=axes, ticks=ticks, shrink=0.8)
    bar.set_ticklabels(["unlabelled", *site.names.values()])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the table of each site."""
    parser = argparse.ArgumentParser(description="Crop maps of five and six dates.")
    parser.add_argument("folder", nargs="?", type=Path, default=_default_folder())
    parser.add_argument("--maps", type=Path, help="directory for pictures")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions to average")
    options = parser.parse_args()
    sites = {"simulated, by fields": simulated_site()}
    for name in REAL_DATES if options.folder.is_dir() else ():
        blocks = real_site(options.folder, name, groups=160.0)
        sites |= {f"{name}, by blocks": blocks}
        sites |= {f"{name}, by fields": replace(blocks, groups="fields")}
    for title, site in sites.items():
        n_pixels = int((site.labels > 0).sum())
        print(f"\n{title}: {n_pixels} labelled pixels, [%]")
        print(compare(site, seeds=range(options.seeds)).to_string(na_rep=""), flush=True)
        if options.maps:
            options.maps.mkdir(parents=True, exist_ok=True)
            draw(site, options.maps / f"{title.replace(', ', '-').replace(' ', '-')}.png")


def _default_folder() -> Path:
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("XHARMONIZE_DATA", beside))


if __name__ == "__main__":
    main()
