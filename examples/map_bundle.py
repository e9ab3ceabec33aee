"""Map a trained model over a catalogue: ``python examples/map_bundle.py SOURCE MODEL OUT.zarr``.

SOURCE is a STAC API or a catalogue with Sentinel-2 L2A, MODEL the folder of a bundle, such as the
one that ``make_small_bundle.py`` writes.
"""

from __future__ import annotations

import sys

import numpy as np

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag


def main(source: str, path: str, out: str) -> None:
    """Open, map, write, and say what the flags say."""
    model = xh.load_model(path)
    print(f"{model.name}: {model.card.title}; bands {', '.join(model.bands)}")

    # pad= loads the margin that tiles at the border of the area want to see.
    sentinel = xh.open_stac(source, collection="sentinel-2-l2a", bands=model.bands, pad=model)
    like_landsat = sentinel.harmonize.to_landsat(model, flags=True)
    like_landsat.harmonize.to_zarr(out)

    stored = xh.open_series(out)
    print(stored)
    for flag in ResultFlag:
        share = float(((stored["flag"].astype(np.uint8) & int(flag)) > 0).mean())
        print(f"{str(flag.name).lower():16} {share:6.1%} of the pixels")


if __name__ == "__main__":
    main(*sys.argv[1:])
