"""Coverage fractions of fields: exactextract beside shapely's intersection with every pixel.

Run ``python benchmarks/covering.py``; prints, for fields by pixels a side, the time of both [ms]
and their largest difference [fraction of a pixel].
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from xharmonize.series.fields import Field, _fractions, place_fields

STEP, CORNER = 10.0, (600000.0, 5700000.0)


def make_field(side: int) -> shapely.Polygon:
    """Star of 30 corners at a random distance from the middle of `side`² pixels."""
    random = np.random.default_rng(side)
    angle = np.sort(random.uniform(0, 2 * np.pi, 30))
    radius = random.uniform(0.3, 0.49, 30) * side * STEP
    x = CORNER[0] + side * STEP / 2 + radius * np.cos(angle)
    return shapely.Polygon(np.c_[x, CORNER[1] - side * STEP / 2 + radius * np.sin(angle)])


def by_shapely(geometry: shapely.Polygon, grid: GeoBox) -> np.ndarray:
    """Fraction of every pixel, from the area it shares with the geometry."""
    rows, columns = np.mgrid[: grid.shape.y, : grid.shape.x]
    x, y = CORNER[0] + STEP * columns, CORNER[1] - STEP * rows
    shapely.prepare(geometry)
    pixels = shapely.box(x, y - STEP, x + STEP, y)
    return shapely.area(shapely.intersection(pixels, geometry)) / STEP**2


def _milliseconds(call: Callable[[], Any]) -> float:
    return 1e3 * min(timeit.repeat(call, number=1, repeat=3))


def main(sides: tuple[int, ...] = (10, 30, 100, 300)) -> dict[int, dict[str, float]]:
    """Print times and differences, and return them by size."""
    found = {}
    for side in sides:
        affine = Affine(STEP, 0, CORNER[0], 0, -STEP, CORNER[1])
        grid = GeoBox((side, side), affine, "EPSG:32631")
        geometry = make_field(side)
        (place,) = place_fields([Field(name=0, geometry=geometry)], grid)
        expected, actual = by_shapely(geometry, grid), np.zeros((side, side))
        window = np.s_[slice(*place.rows), slice(*place.columns)]
        actual[window] = _fractions(place, grid, "exact")
        row = {
            "shapely": _milliseconds(partial(by_shapely, geometry, grid)),
            "exactextract": _milliseconds(partial(_fractions, place, grid, "exact")),
        }
        row["difference"] = float(np.abs(actual - expected).max())
        print(
            f"{side:4} pixels a side: shapely {row['shapely']:8.2f} ms, exactextract "
            f"{row['exactextract']:6.2f} ms, difference {row['difference']:.1e}"
        )
        found[side] = row
    return found


if __name__ == "__main__":
    main()
