"""A region in tiles: cut an area, do one job per tile, go on after a stop, tell what is missing."""

from xharmonize.region.jobs import Region, plan
from xharmonize.region.mgrs import mgrs_tiles
from xharmonize.region.squares import Tile, square_tiles

__all__ = ["Region", "Tile", "mgrs_tiles", "plan", "square_tiles"]
