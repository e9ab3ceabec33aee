"""Harmonisers: cube → cube callables that give a cube another sensor's bandpass."""

from xharmonize.harmonizers.angles import angles_from_items
from xharmonize.harmonizers.convert import to_landsat, to_sensor, to_sentinel2
from xharmonize.harmonizers.linear import LinearHarmonizer, fit_linear
from xharmonize.harmonizers.lut.harmonizers import (
    GlobalLutHarmonizer,
    HistogramHarmonizer,
    TileLutHarmonizer,
)
from xharmonize.harmonizers.lut.least_squares import fit_lut
from xharmonize.harmonizers.lut.network import LutHarmonizer
from xharmonize.harmonizers.lut.tables import fit_tables
from xharmonize.harmonizers.matching import fit_histogram
from xharmonize.harmonizers.nadir import nbar
from xharmonize.harmonizers.pixelwise import PixelwiseHarmonizer, fit_pixelwise
from xharmonize.harmonizers.protocol import Harmonizer, Model
from xharmonize.harmonizers.published import BandpassHarmonizer
from xharmonize.harmonizers.registry import list_models, load_model, save_model

__all__ = [
    "BandpassHarmonizer",
    "Harmonizer",
    "GlobalLutHarmonizer",
    "HistogramHarmonizer",
    "LinearHarmonizer",
    "LutHarmonizer",
    "Model",
    "PixelwiseHarmonizer",
    "TileLutHarmonizer",
    "angles_from_items",
    "fit_histogram",
    "fit_linear",
    "fit_lut",
    "fit_pixelwise",
    "fit_tables",
    "list_models",
    "load_model",
    "nbar",
    "save_model",
    "to_landsat",
    "to_sensor",
    "to_sentinel2",
]
