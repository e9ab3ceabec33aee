"""One real pair of some kilometres, by spatial blocks: closed forms, networks, tables.

Run ``python benchmarks/patches_alberta.py [--seeds 0,1,2] [--methods small-conv] [--steps N]``.
Landsat-8 and Sentinel-2B, two days apart, on Sentinel-2's grid of 60 m: nothing here tests the step
from 10 to 30 m. The southern half is kept aside: nothing is fitted on it, no training stops by it,
and it is scored beside the blocks of the northern half that were held out, with a ring of 240 m
around them. A seed draws blocks and initial weights. What has patches of another size has other
blocks: compare it with the lines on the southern half, whose pixels are the same for all.

``--across`` fits pointwise methods and tables on `flanders-2018` and scores them here, and the
other way round: grids differ, so nothing with neighbours can go.
Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from networks_flanders import load_pairs as flanders_pairs

import xharmonize as xh
from xharmonize.cube.pairs import on_target_grid, target_of
from xharmonize.harmonizers.auto import fit_auto
from xharmonize.harmonizers.validation import hide_target
from xharmonize.training import Config, Data, build_store, split
from xharmonize.training.config import NETWORKS
from xharmonize.training.judge import as_pairs, cores, judge, mean_of, score_pair

BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
ALL_BANDS = [*BANDS[:3], "rededge1", "rededge2", "rededge3", *BANDS[3:], "coastal"]
PATCHES = {"small-conv": 16, "tile-lut-conv": 16, "mgan": 32}
"""Networks, and the side of their samples [pixels]: samples of 64 leave none to train on."""
BLOCK, GUARD = 3840.0, 240.0
SHOWN = ["ergas", "sam", "ndvi_rmse", "ergas_centred", "sam_centred", "ndvi_rmse_centred"]


def load_pairs(folder: Path) -> xr.DataTree:
    """The pair, on Sentinel-2's grid."""
    catalog = folder / "alberta-2020" / "catalog.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        sentinel = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=ALL_BANDS)
        landsat = xh.open_stac(catalog, collection="landsat-c2-l2", bands=BANDS, mask=None)
    target = landsat.harmonize.regrid(like=sentinel, min_valid=1.0)
    return xh.collect_pairs(sentinel, target, tolerance="3D").compute()


def halves(pairs: xr.DataTree) -> tuple[xr.DataTree, xr.DataTree]:
    """The northern and the southern half, a guard ring apart."""
    n, ring = pairs["target"].sizes["y"], round(GUARD / 60)

    def cut(rows: slice) -> xr.DataTree:
        nodes = {node.path: node.to_dataset() for node in pairs.subtree}
        return xr.DataTree.from_dict(
            {path: ds.isel(y=rows) if "y" in ds.dims else ds for path, ds in nodes.items()}
        )

    return cut(slice(0, n // 2)), cut(slice(n // 2 + ring, None))


def training_only(pairs: xr.DataTree, store: Any, parts: Any) -> xr.DataTree:
    """The pair without the target of all that is not in the core of a training sample."""
    return hide_target(pairs, ~cores(store, parts.training)(target_of(pairs)))


def closed_forms(pairs: xr.DataTree, store: Any, parts: Any) -> dict[str, Any]:
    """Lines and `auto` on the training samples."""
    samples = as_pairs(store, parts.training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one pair, which this is about
        auto = fit_auto(training_only(pairs, store, parts), allow_one_pair=True)
    return {
        "six-band line": xh.fit_linear(samples.sel(source_band=BANDS), method="multiband"),
        "ten-band line": xh.fit_linear(samples, method="multiband"),
        "auto": auto,
    }


def network(name: str, pairs: xr.DataTree, data: Data, folder: Path, method: Any) -> Any:
    """Train one network; say what it took."""
    start = time.process_time()
    training = xh.train(name, pairs, config=Config(method=method, data=data), out=folder / name)
    told = training.history.dropna(subset=["validation"])
    best = told.loc[told["validation"].idxmin(), "step"]
    spent = time.process_time() - start
    print(f"seed {data.seed}: {name}, patches of {data.patch}, best step {best:.0f} of "
          f"{method.steps}, {spent:.0f} s of processor time", flush=True)  # fmt: skip
    return training.model


def compare(
    pairs: xr.DataTree, *, seed: int, methods: Sequence[str], steps: int = 400, block: float = BLOCK
) -> pd.DataFrame:
    """Scores (part, method, reference): blocks held out in the north, and the south."""
    north, south = halves(pairs)
    models: dict[str, Any] = {}
    tables = {}
    for patch in sorted({PATCHES[name] for name in methods} or {16}):
        data = Data(patch=patch, split="block", block=block, guard=GUARD, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            store = build_store(north, Path(folder) / "samples", data)
            parts = split(store, data)
            print(f"seed {seed}, patches of {patch}: {len(parts.training)} samples to train on, "
                  f"{len(parts.validation)} to stop by, {len(parts.test)} to test")  # fmt: skip
            own = {} if models else closed_forms(north, store, parts)
            if not models:
                own["line per band"] = xh.fit_linear(as_pairs(store, parts.training))
            for name in (name for name in methods if PATCHES[name] == patch):
                method = NETWORKS[name](seed=seed, steps=steps)
                own[name] = keep(network(name, north, data, Path(folder), method), seed)
            tables[f"blocks, patches of {patch}"], _ = judge(own, north, store, parts)
        models |= own
    rows = score_pair({"identity": None, "hls-v2": "hls-v2"} | models, south, 0, None, BANDS, {})
    tables["southern half"] = mean_of(rows)
    return pd.concat(tables, names=["part"])


def keep(model: Any, seed: int) -> Any:
    """Copy a bundle to where it outlives its training."""
    kept = Path(tempfile.mkdtemp(prefix="alberta-")) / f"model-{seed}"
    shutil.copytree(model.bundle.ref.location, kept)
    return xh.load_model(kept)


def across(folder: Path, pairs: xr.DataTree) -> pd.DataFrame:
    """Scores of what was fitted at the other place, and of what was not fitted at all."""
    bands = [band for band in ALL_BANDS if band != "coastal"]
    trees = {"flanders-2018": flanders_pairs(folder), "alberta-2020": pairs}
    tables = {}
    for fitted, scored in (("flanders-2018", "alberta-2020"), ("alberta-2020", "flanders-2018")):
        there, tree = on_target_grid(trees[fitted]).compute(), trees[scored]
        six = there.sel(source_band=BANDS)
        models = {
            "identity": None,
            "HLS v2": "hls-v2",
            "line per band": xh.fit_linear(there),
            "six-band line": xh.fit_linear(six, method="multiband"),
            "nine-band line": xh.fit_linear(there.sel(source_band=bands), method="multiband"),
            "table per band": xh.fit_lut(there),
        }
        rows: list[dict[str, Any]] = []
        for number in range(tree["target"].sizes["pair"]):
            rows += score_pair(models, tree, number, None, BANDS, {})
        tables[f"fitted on {fitted}, scored on {scored}"] = mean_of(rows)
    return pd.concat(tables, names=["places"])[SHOWN]


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print mean and range over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(PATCHES))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--across", action="store_true")
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    pairs = load_pairs(Path(folder))
    if given.across:
        found = across(Path(folder), pairs)
        print(found.round(3).to_string())
        return found
    methods = tuple(filter(None, given.methods.split(",")))
    seeds = [int(seed) for seed in given.seeds.split(",")]
    tables = [compare(pairs, seed=seed, methods=methods, steps=given.steps) for seed in seeds]
    whole = pd.concat(tables, keys=seeds, names=["seed"])[SHOWN]
    grouped = whole.groupby(["part", "method"], sort=False)
    print(grouped.mean().round(4).to_string())
    print("smallest and largest ERGAS of a seed:")
    print(grouped["ergas"].agg(["min", "max"]).round(2).to_string())
    return grouped.mean()


if __name__ == "__main__":
    main()
