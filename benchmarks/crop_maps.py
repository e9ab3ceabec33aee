"""Crop maps from harmonised series: the comparison of table V of Sedona et al. (2021).

Run ``python benchmarks/crop_maps.py real [--seeds 5]`` and ``python benchmarks/crop_maps.py
simulated FOLDER [--places 60 --tested 16 --seeds 3]``. One table each: overall accuracy, kappa and
mean F1 [%] of a support vector machine (`xharmonize.crops`), means over seeds of folds and drawing.

- *real*: the 15 fields of three classes of ``flanders-2018``, on Landsat's grid, every model fitted
  on the pairs of the site (it reads no label). *5* and *6 dates*: of Sentinel-2 alone, as in the
  paper, the sixth in July. *season*: April to October, Sentinel-2 and Landsat in one series,
  smoothed, one value a month; this is where the two have to agree. What is classified are pixels
  of 10 m, with the value of the 30 m pixel that they lie in. Fields are left out whole, or blocks
  of 160 m, which cut through fields.
- *simulated*: models trained by `xharmonize.train` on single days of other places (FOLDER is the
  cache of these and of the bundles) map five and six dates of ``--tested`` places of another
  variant of the physics and another year, which are left out whole when their crops are classified.
  Lines are fitted on the same training places. *truth* has neither air nor noise.

Published (OA): five dates of MGAN 87.8, five of HLS 81.7, six of MGAN 91.5.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import rioxarray
import xarray as xr
from closed_forms_flanders import BANDS, clear_pairs, common, histogram, load, near, whole
from crop_samples import on_grid

import xharmonize as xh
from xharmonize.cube.pairs import on_target_grid
from xharmonize.harmonizers.auto import fit_auto
from xharmonize.simulate import Cover, Simulation, truth, write_catalog
from xharmonize.testing.places import draw_places, simulate_pairs
from xharmonize.training import Config, Data
from xharmonize.training.config import Mgan, SmallConv

LANDSAT, SENTINEL = "landsat-c2-l2", "sentinel-2-l2a"
DATES = ("2018-03-25", "2018-04-19", "2018-05-06", "2018-09-21", "2018-10-13", "2018-07-05")
"""Clear dates of ``flanders-2018``, none of them in a pair; the added one last."""
SEASON = slice("2018-04", "2018-10")
CODES = (1200, 7900, 9120)
"""Crop codes of more than one field."""
GRASS, PURE = 6, 0.8
MONTHS = ("03-29", "04-23", "05-08", "09-22", "10-07", "07-04")
"""Of the simulated places: the passes nearest to these days."""
FIRST_SEED = 7000


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Features of some sets of dates and models, and what is known of the same pixels.

    Attributes
    ----------
    features : dict
        (feature, y, x) DataArray by set of dates and method.
    labels : (y, x) int DataArray
        0 where unlabelled.
    groups : mapping
        By name: what is left out together.
    """

    features: Mapping[tuple[str, str], xr.DataArray]
    labels: xr.DataArray
    groups: Mapping[str, Any]


def table(site: Labelled, *, seeds: int, max_per_class: int) -> pd.DataFrame:
    """Return accuracies [%] by groups, dates and method; pixels that any method lacks are out."""
    ok = np.logical_and.reduce([np.isfinite(f.values).all(0) for f in site.features.values()])
    labels = site.labels.where(ok, 0).astype(np.int32)
    classes = [int(code) for code in np.unique(labels) if code]
    rows = []
    for by, groups in site.groups.items():
        for (dates, method), features in site.features.items():
            each = []
            for seed in range(seeds):
                found = xh.crops.cross_classify(
                    features, labels, groups=groups, max_per_class=max_per_class, seed=seed
                )
                matrix = xh.metrics.confusion_matrix(found, labels, classes=classes)
                score = 100 * xh.metrics.accuracy(matrix)
                f1 = dict(zip(classes, score["f1"].fillna(0).values.tolist()))
                each.append({"OA": float(score["overall_accuracy"]), "kappa": float(score["kappa"]),
                             "mean F1": np.mean([*f1.values()]), **f1})  # fmt: skip
            scores = pd.DataFrame(each)
            rows.append({"by": by, "dates": dates, "method": method, **scores.mean(),
                         "SD of OA": scores["OA"].std(ddof=min(1, seeds - 1))})  # fmt: skip
            print(f"{by}, {dates}, {method}: OA {rows[-1]['OA']:.1f}", flush=True)
    counts = {code: int((labels.values == code).sum()) for code in classes}
    print(f"\n{sum(counts.values())} labelled pixels: {counts}, {seeds} seeds")
    return pd.DataFrame(rows).set_index(["by", "dates", "method"]).round(1)


# --- real ------------------------------------------------------------------------------------


def real(folder: Path) -> Labelled:
    """The fields of ``flanders-2018``."""
    catalog = folder / "flanders-2018" / "catalog.json"
    sentinel, landsat = load(catalog)
    features: dict[tuple[str, str], xr.DataArray] = {}
    labels = rioxarray.open_rasterio(catalog.with_name("labels_CT.tif")).isel(band=0, drop=True)
    labels = labels.where(labels.isin(CODES), 0).astype(np.int32)
    own = _season(xh.regrid(sentinel.sel(band=BANDS), like=landsat, min_valid=0.5))
    features["season", "Sentinel-2 alone"] = own
    for name, model in real_models(sentinel, landsat).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
            mapped = xh.to_sensor(_days(sentinel, DATES), "landsat-c1-sr", model, like=landsat)
            merged = xh.densify(landsat, sentinel, model=model)
        mapped = mapped.sel(band=BANDS).compute()
        features["5 dates", name] = mapped.harmonize.to_features(dates=DATES[:-1])
        features["6 dates", name] = mapped.harmonize.to_features(dates=DATES)
        features["season", name] = _season(merged)
    order = sorted(features, key=lambda key: ("5 dates", "6 dates", "season").index(key[0]))
    held = {key: xh.regrid(features[key], like=labels, method="nearest") for key in order}
    return Labelled(features=held, labels=labels, groups={"fields": "fields", "blocks": 160.0})


def real_models(sentinel: xr.DataArray, landsat: xr.DataArray) -> dict[str, Any]:
    """What the pairs of the site give; the recipe of `auto` takes them to four days apart."""
    pairs = clear_pairs(sentinel, landsat)
    together = whole(near(pairs)).compute()
    line = xh.fit_linear(common(together))
    nothing = line.assign(
        slope=xr.ones_like(line["slope"]), intercept=xr.zeros_like(line["intercept"])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        auto = fit_auto(pairs, series=sentinel)
    return {
        "raw": nothing,
        "HLS v2": "hls-v2",
        "line per band": line,
        "ten-band line": xh.fit_linear(together, method="multiband"),
        "table per band": xh.fit_lut(common(together)),
        "histogram matching": histogram(together),
        "auto": auto,
    }


def _days(cube: xr.DataArray, days: Sequence[str]) -> xr.DataArray:
    is_asked = np.isin(cube["time"].values.astype("datetime64[D]").astype(str), list(days))
    return cube.isel(time=np.flatnonzero(is_asked))


def _season(series: Any) -> xr.DataArray:
    """Features of one smoothed value a month."""
    if isinstance(series, xr.DataArray):
        series = series.to_dataset(name="reflectance")
    smooth = series[["reflectance"]].compute().harmonize.smooth(step="month", max_gap="90D")
    monthly = smooth["reflectance"].sel(time=SEASON)
    return monthly.compute().harmonize.to_features()


# --- simulated -------------------------------------------------------------------------------


def simulated(folder: Path, *, places: int, tested: int, steps: int) -> Labelled:
    """Crops of simulated places, the value of each pixel of 30 m in one long column."""
    models = trained(folder, places, steps)
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    codes: list[np.ndarray] = []
    for place in tested_places(tested):
        ground = _ground(place)
        codes.append(_crops(ground).ravel())
        images: dict[str, list[np.ndarray]] = {}
        for look, cube in observations(place):
            for name, image in mapped(models, cube, ground).items():
                images.setdefault(name, []).append(image)
            known = truth(place, look.time, like=ground, point_spread=True)["reflectance"]
            images.setdefault("truth", []).append(known.sel(band=BANDS).values)
        for name, stack in images.items():
            for title, n in (("5 dates", -1), ("6 dates", None)):
                flat = np.concatenate(stack[:n]).reshape(-1, ground["x"].size * ground["y"].size)
                parts.setdefault((title, name), []).append(flat.astype(np.float32))
    numbers = np.repeat(np.arange(tested, dtype=np.int32) + 1, [own.size for own in codes])
    columns = {key: on_grid(np.concatenate(part, axis=1)) for key, part in parts.items()}
    features = {
        k: f.assign_coords(feature=np.arange(len(f)).astype(str)) for k, f in columns.items()
    }
    flat = np.concatenate(codes).astype(np.int32)
    alone = [c for c in np.unique(flat) if np.unique(numbers[flat == c]).size < 2]
    labels = on_grid(np.where(np.isin(flat, alone), 0, flat))  # none could be left out
    order = sorted(features, key=lambda key: key[0])
    return Labelled(features={k: features[k] for k in order}, labels=labels,
                    groups={"places": on_grid(numbers)})  # fmt: skip


def trained(folder: Path, n: int, steps: int) -> dict[str, Any]:
    """Lines and networks of the training places among the first `n`."""
    trees = simulate_pairs([p for p in draw_places(n) if p.name.startswith("train")], folder)
    pairs = _joined(trees)
    data = Data(patch=16, stride=8, split="scene")
    networks = {
        "small-conv": SmallConv(steps=steps),
        "mgan": Mgan(steps=steps, width=16, discriminator_width=16),
    }
    found: dict[str, Any] = {
        "raw": None,
        "HLS v2": "hls-v2",
        "line per band": xh.fit_linear(pairs.sel(source_band=BANDS)),
        "ten-band line": xh.fit_linear(pairs, method="multiband"),
    }
    for name, method in networks.items():
        out = folder / "bundles" / f"crops-{name.replace(', ', '-').replace(' ', '-')}-{n}-{steps}"
        if not out.exists():
            config = Config(method=method, data=data)
            made = xh.train(method.name, trees, config=config, out=out, progress=False)
            print(f"{name}\n{made.scores.round(3).to_string()}", flush=True)
        found[name] = xh.load_model(out)
    return found


def _joined(trees: Mapping[str, xr.DataTree]) -> xr.Dataset:
    """Pairs of all places on the target's grid, pixels in rows of one width, NaN beyond."""
    each = [on_target_grid(tree, min_valid=1.0).compute() for tree in trees.values()]
    n_y, n_x = (max(pairs.sizes[dim] for pairs in each) for dim in ("y", "x"))
    bare = [
        pairs.drop_vars(["y", "x", "spatial_ref"], errors="ignore").pad(
            y=(0, n_y - pairs.sizes["y"]), x=(0, n_x - pairs.sizes["x"])
        )
        for pairs in each
    ]
    return xr.concat(bare, "pair", coords="minimal", compat="override", combine_attrs="override")


def tested_places(n: int) -> Iterator[Simulation]:
    """Cloudless places of variant b in 2023."""
    for place in draw_places(4 * n, first_seed=FIRST_SEED, tiles=1):
        if place.name.startswith("test"):
            yield replace(place.simulation, start="2023-03-01", end="2023-10-31", cloudiness=0.0)


def observations(place: Simulation) -> Iterator[tuple[Any, xr.DataArray]]:
    """Passes of Sentinel-2 nearest to the wanted days, and what they saw: ten bands at 10 m."""
    looks = [look for look in place.passes() if look.orbit.sensor == SENTINEL]
    for day in MONTHS:
        wanted = np.datetime64(f"2023-{day}T11:00")
        look = min(looks, key=lambda one: abs(one.time - wanted))
        date = str(look.time)[:10]
        one = replace(place, start=date, end=date, sensors=(SENTINEL,))
        with TemporaryDirectory() as folder:
            catalog = write_catalog(one, Path(folder) / "scenes")
            # Without clouds, all that a mask would find are false alarms over bright roofs.
            cube = xh.open_stac(catalog, collection=SENTINEL, bands=[*BANDS, *ADDED],
                                resolution=10, mask=None)  # fmt: skip
            yield look, cube.isel(time=[0]).compute()


ADDED = ("rededge1", "rededge2", "rededge3", "nir")


def _ground(place: Simulation) -> xr.Dataset:
    """Truth of the summer on the place's own grid of Landsat."""
    return truth(place, "2023-07-04T10:40", resolution=30.0).compute()


def _crops(ground: xr.Dataset) -> np.ndarray:
    """Crop of each pixel (y, x), or grass; 0 where it is mixed, or something else."""
    labels = ground["crop"].where(ground["cover"] != Cover.GRASS, GRASS)
    return labels.where(ground["purity"] > PURE, 0).values.astype(np.int32)


def mapped(models: Mapping[str, Any], cube: xr.DataArray, ground: xr.Dataset) -> dict[str, Any]:
    """Six bands (band, y, x) of one date by each model, on the ground's grid."""
    like = ground["reflectance"]
    found = {}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
            if model is None:
                image = xh.regrid(cube, like=like, min_valid=0.5)
            else:
                image = xh.to_sensor(cube, LANDSAT, model, like=like)
        found[name] = image.sel(band=BANDS).values[0]
    return found


# --- command ---------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="site", required=True)
    beside = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    on_fields = commands.add_parser("real")
    on_fields.add_argument("folder", nargs="?", type=Path, default=Path(beside))
    on_fields.add_argument("--seeds", type=int, default=5)
    on_places = commands.add_parser("simulated")
    on_places.add_argument("folder", type=Path)
    on_places.add_argument("--places", type=int, default=60)
    on_places.add_argument("--tested", type=int, default=16)
    on_places.add_argument("--steps", type=int, default=400)
    on_places.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    sites = {
        "real": partial(real, given.folder),
        "simulated": lambda: simulated(
            given.folder, places=given.places, tested=given.tested, steps=given.steps
        ),
    }
    most = {"real": 200, "simulated": 100}[given.site]
    found = table(sites[given.site](), seeds=given.seeds, max_per_class=most)
    print(found.to_string())
    return found


if __name__ == "__main__":
    main()
