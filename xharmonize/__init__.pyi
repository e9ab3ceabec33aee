# The public names: read by type checkers, and at run time to load each name when first used.
# The verbs stand here; errors, sensors, metrics, models and the rest in modules of their own.
from . import cluster as cluster, crops as crops, errors as errors, fusion as fusion
from . import harmonizers as harmonizers, metrics as metrics
from . import models as models, plot as plot, sensors as sensors, series as series
from . import training as training
from ._settings import set_options as set_options
from .cube.clip import clip as clip
from .cube.check import check_radiometry as check_radiometry
from .cube.describe import describe as describe
from .cube.encode import decode as decode
from .cube.indices import index as index
from .cube.masks import Mask as Mask, mask as mask
from .cube.pairs import collect_pairs as collect_pairs, match_pairs as match_pairs
from .cube.regrid import regrid as regrid
from .cube.shifts import fit_shifts as fit_shifts, shift as shift
from .fusion import fill_clouds as fill_clouds, sharpen as sharpen
from .harmonizers import (
    fit_linear as fit_linear,
    fit_lut as fit_lut,
    fit_pixelwise as fit_pixelwise,
    load_model as load_model,
    nbar as nbar,
    to_landsat as to_landsat,
    to_sensor as to_sensor,
    to_sentinel2 as to_sentinel2,
)
from .recipe import run as run
from .io.angles.angles import read_angles as read_angles
from .io.cog.catalog import to_cogs as to_cogs
from .io.cog.opening import open_cogs as open_cogs
from .io.stac.cube import open_stac as open_stac
from .io.zarr.store import open_series as open_series, to_zarr as to_zarr
from .metrics import score as score
from .report import write_report as write_report
from .series import densify as densify
from .training.train import train as train

__version__: str
