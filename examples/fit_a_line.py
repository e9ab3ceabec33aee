"""Fit lines on pairs of your own, and compare with the published ones.

``python examples/fit_a_line.py SOURCE FIT.zarr``, SOURCE as for ``dense_ndvi.py``. The fit is an
ordinary Dataset: look at it, plot it, keep it, pass it back.
"""

from __future__ import annotations

import sys

import xharmonize as xh

BANDS = ["blue", "green", "red", "nir08"]


def main(source: str, path: str) -> None:
    """Fit, save, apply."""
    landsat = xh.open_stac(source, collection="landsat-c2-l2", bands=BANDS)
    sentinel = xh.open_stac(source, collection="sentinel-2-l2a", bands=BANDS)

    pairs = xh.match_pairs(sentinel.harmonize.regrid(like=landsat), landsat, tolerance="2D")
    fit = xh.fit_linear(pairs)
    print(fit[["slope", "intercept", "rmse", "n"]].to_dataframe())

    xh.harmonizers.save_model(fit, path)
    fitted = sentinel.harmonize.to_landsat(xh.load_model(path), like=landsat)
    published = sentinel.harmonize.to_landsat("hls-v2", like=landsat)
    for name, cube in {"fitted": fitted, "hls-v2": published}.items():
        both = xh.match_pairs(cube, landsat, tolerance="2D")
        error = ((both["source"] - both["target"]) ** 2).mean(["pair", "y", "x"]) ** 0.5
        print(name, dict(zip(BANDS, error.values.round(4).tolist())))


if __name__ == "__main__":
    main(*sys.argv[1:])
