"""From a STAC source to a dense NDVI store: ``python examples/dense_ndvi.py SOURCE OUT.zarr``.

SOURCE is a STAC API or a catalogue with collections of Sentinel-2 L2A and Landsat Collection 2.
"""

from __future__ import annotations

import sys

import xharmonize as xh

BANDS = ["red", "nir08"]


def main(source: str, out: str) -> None:
    """Read both sensors, merge, and write."""
    landsat = xh.open_stac(source, collection="landsat-c2-l2", bands=BANDS)
    sentinel = xh.open_stac(source, collection="sentinel-2-l2a", bands=BANDS)
    print(xh.check_radiometry(sentinel)["verdict"].value_counts().to_string())

    like_landsat = sentinel.harmonize.to_landsat("hls-v2", like=landsat)
    ndvi = landsat.harmonize.densify(like_landsat).harmonize.index("ndvi")
    ndvi.harmonize.to_zarr(out)
    print(xh.open_series(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
