"""Dense series: several sensors on one time axis, made whole, judged and summarised."""

from xharmonize.series.composite import composite
from xharmonize.series.densify import densify
from xharmonize.series.frequency import frequency
from xharmonize.series.offsets import sensor_offsets
from xharmonize.series.phenology import phenology
from xharmonize.series.screen import screen_outliers
from xharmonize.series.smooth import smooth
from xharmonize.series.smoothers import Harmonic, RadialBasis, SavitzkyGolay, Whittaker
from xharmonize.series.tables import to_table
from xharmonize.series.tiles import compare_tiles

__all__ = [
    "Harmonic",
    "RadialBasis",
    "SavitzkyGolay",
    "Whittaker",
    "compare_tiles",
    "composite",
    "densify",
    "frequency",
    "phenology",
    "screen_outliers",
    "sensor_offsets",
    "smooth",
    "to_table",
]
