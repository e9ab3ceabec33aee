"""The job of a recipe in Python: ``python examples/whole_job.py SOURCE FIELDS.geojson FOLDER``.

The same as ``xharmonize run`` with the tables source, target, smooth, phenology, table and output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import xharmonize as xh


def main(source: str, fields: str, out: str, **query: object) -> None:
    """Read, harmonise, merge, smooth, and write stores, a table, COGs, a figure and a report."""
    query = {"bands": ["red", "nir08"], "mask": "clear", **query}
    landsat = xh.open_stac(source, collection="landsat-c2-l2", **query)
    sentinel = xh.open_stac(source, collection="sentinel-2-l2a", **query)
    like_landsat = sentinel.harmonize.to_landsat("hls-v2", like=landsat)

    folder = Path(out)
    folder.mkdir(parents=True)
    ndvi = landsat.harmonize.densify(like_landsat).harmonize.index("ndvi")
    ndvi.harmonize.to_zarr(folder / "series.zarr")
    series = xh.open_series(folder / "series.zarr")
    smooth = series.harmonize.smooth(step="10D")
    smooth.harmonize.to_zarr(folder / "smooth.zarr")
    smooth.harmonize.phenology().harmonize.to_zarr(folder / "seasons.zarr")
    polygons = json.loads(Path(fields).read_text())
    smooth.harmonize.to_table(polygons, buffer=-10, path=folder / "fields.csv")
    smooth.harmonize.to_cogs(folder / "cogs")
    series.harmonize.plot.timeline().savefig(folder / "timeline.png")
    series.harmonize.write_report(folder / "report.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
