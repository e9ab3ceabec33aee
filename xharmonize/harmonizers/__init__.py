"""Harmonisers: callables that convert a cube to the bandpass of another sensor."""

from xharmonize.harmonizers.auto import fit_auto
from xharmonize.harmonizers.auto_harmonizer import AutoHarmonizer
from xharmonize.harmonizers.convert import fit_tables, to_landsat, to_sensor, to_sentinel2
from xharmonize.harmonizers.linear import LinearHarmonizer, fit_linear
from xharmonize.harmonizers.lut.harmonizers import (
    GlobalLutHarmonizer,
    HistogramHarmonizer,
    LutHarmonizer,
    TileLutHarmonizer,
)
from xharmonize.harmonizers.lut.references import fit_histogram, fit_lut
from xharmonize.harmonizers.nadir import angles_from_items, nbar
from xharmonize.harmonizers.pixelwise import PixelwiseHarmonizer, fit_pixelwise
from xharmonize.harmonizers.protocol import Harmonizer, Model
from xharmonize.harmonizers.published import BandpassHarmonizer
from xharmonize.harmonizers.registry import list_models, load_model, save_model

__all__ = [
    "AutoHarmonizer",
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
    "fit_auto",
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
