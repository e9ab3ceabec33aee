"""Whether a bundle may ship: better than HLS v2 on the real sites that its grid allows.

Run ``python benchmarks/shipping.py BUNDLE [BUNDLE ...]`` with bundles that have not seen
`flanders-2018` (those of ``benchmarks/papers.py`` lie in ``FOLDER/bundles``). The rule: lower ERGAS
and lower RMSE of NDVI than HLS v2, as it comes and with the mean difference of each date removed.
Seven pairs up to four days apart, on Landsat's grid, nothing registered; dates weigh the same.
`alberta-2020` has pixels of 60 m: no bundle of 30 m can go there. With ``--cache FOLDER`` lines are
fitted on the same simulated places, to tell what a network adds to its line.
Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from networks_flanders import load_pairs
from paper_parts import make_study

import xharmonize as xh
from xharmonize.testing.places import draw_places, simulate_pairs
from xharmonize.training import Data
from xharmonize.training.judge import mean_of, score_pair

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
RULE = ["ergas", "ndvi_rmse", "ergas_centred", "ndvi_rmse_centred"]


def simulated_lines(cache: Path, places: int) -> dict[str, Any]:
    """Lines on the training samples of paper 000's table."""
    trees = simulate_pairs(draw_places(places), cache)
    with tempfile.TemporaryDirectory() as folder:
        data = Data(patch=16, stride=8, split="scene")
        pairs = make_study(trees, data, Path(folder), Path(folder)).pairs
    return {
        "line per band, simulated": xh.fit_linear(pairs),
        "ten-band line, simulated": xh.fit_linear(pairs, method="multiband"),
    }


def compare(models: dict[str, Any], pairs: Any) -> pd.DataFrame:
    """Scores of models, and whether each is better than HLS v2 by every score of the rule."""
    notes: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for number in range(pairs["target"].sizes["pair"]):
        rows += score_pair({"identity": None, "HLS v2": "hls-v2"} | models, pairs, number, None,
                           BANDS, notes)  # fmt: skip
    for note in notes.values():
        print(note)
    found = mean_of(rows).droplevel("reference")[RULE]
    return found.assign(ships=(found < found.loc["HLS v2"]).all(axis=1))


def main(argv: list[str] | None = None) -> pd.DataFrame:
    """Print the scores and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--cache", type=Path, help="pairs of benchmarks/papers.py")
    parser.add_argument("--places", type=int, default=60)
    given = parser.parse_args(argv)
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    models = {path.name: xh.load_model(path) for path in given.bundles}
    if given.cache:
        models = simulated_lines(given.cache, given.places) | models
    found = compare(models, load_pairs(Path(folder)))
    print(found.round(4).to_string())
    return found


if __name__ == "__main__":
    main()
