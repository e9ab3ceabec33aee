"""Dense series: several sensors on one time axis."""

from xharmonize.series.densify import densify

__all__ = ["densify"]
