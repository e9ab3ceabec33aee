"""Dense time series: merge sensors, fill gaps, check agreement and summarise."""

from xharmonize.cube.indices import list_indices
from xharmonize.series.agreement import compare_tiles, sensor_offsets
from xharmonize.series.composite import composite
from xharmonize.series.densify import densify
from xharmonize.series.observations import frequency, screen_outliers
from xharmonize.series.phenology import phenology
from xharmonize.series.smooth import smooth
from xharmonize.series.smoothers import Harmonic, RadialBasis, SavitzkyGolay, Whittaker
from xharmonize.series.tables import to_table

__all__ = [
    "Harmonic",
    "RadialBasis",
    "SavitzkyGolay",
    "Whittaker",
    "compare_tiles",
    "composite",
    "densify",
    "frequency",
    "list_indices",
    "phenology",
    "screen_outliers",
    "sensor_offsets",
    "smooth",
    "to_table",
]
