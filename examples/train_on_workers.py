"""Train a network on two worker processes, see where the time went, map with the same workers.

``python examples/train_on_workers.py CATALOG OUT`` takes a STAC catalogue of Sentinel-2 L2A and
Landsat C2 L2 (``xharmonize simulate`` writes one), and writes the bundle OUT and the store
OUT.zarr. On a cluster of several machines only the line that starts the workers changes:
docs/how-to/train-on-a-cluster.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xharmonize as xh
from xharmonize.training import Config, Data, Run, SmallConv

BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
CONFIG = Config(
    method=SmallConv(width=16, steps=200, batch=8),
    data=Data(patch=16),
    run=Run(save=50, max_restarts=3),
)


def main(catalog: str, out: str, config: Config = CONFIG) -> None:
    """Open, pair, train, map, write."""
    fine = [*BANDS[:3], "nir", *BANDS[3:]]
    s2 = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=fine)
    l8 = xh.open_stac(catalog, collection="landsat-c2-l2", bands=BANDS)
    pairs = xh.collect_pairs(s2, l8, tolerance="2D").compute()
    with xh.cluster.local(n_workers=2, threads_per_worker=1, dashboard=False) as client:
        training = xh.train("small-conv", pairs, config=config, client=client, out=out)
        print(training)
        parts = ["seconds", "seconds_data", "seconds_ranks"]
        print(training.history[parts].median().rename("seconds of a step, median"))
        s2_as_l8 = s2.harmonize.to_landsat(training.model, like=l8)
        s2_as_l8.harmonize.to_zarr(Path(out).with_suffix(".zarr"))


if __name__ == "__main__":  # workers import this script
    main(*sys.argv[1:3])
