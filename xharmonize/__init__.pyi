# The public names: read by type checkers, and at run time to load each name when first used.
from . import cluster as cluster
from . import metrics as metrics, models as models, plot as plot
from .accessor import HarmonizeAccessor as HarmonizeAccessor
from .cube.angles.read import read_angles as read_angles
from .cube.check import check_radiometry as check_radiometry
from .cube.cog.read import open_cogs as open_cogs
from .cube.cog.write import to_cogs as to_cogs
from .cube.describe import describe as describe
from .cube.encode import decode as decode
from .cube.grid import regrid as regrid
from .cube.indices import index as index, list_indices as list_indices
from .cube.masks import Mask as Mask, mask as mask
from .cube.pairs import match_pairs as match_pairs
from .cube.stac import open_stac as open_stac
from .cube.store.zarr import open_series as open_series, to_zarr as to_zarr
from .errors import (
    AssetReadError as AssetReadError,
    BandError as BandError,
    CatalogConnectionError as CatalogConnectionError,
    CatalogError as CatalogError,
    ClusterError as ClusterError,
    ContractError as ContractError,
    EmptyQueryError as EmptyQueryError,
    FitError as FitError,
    GridError as GridError,
    GridWarning as GridWarning,
    MaskError as MaskError,
    MetricError as MetricError,
    MissingDependencyError as MissingDependencyError,
    ModelError as ModelError,
    OptionError as OptionError,
    RadiometryError as RadiometryError,
    RadiometryWarning as RadiometryWarning,
    SensorError as SensorError,
    StoreError as StoreError,
    TimeAxisError as TimeAxisError,
    UnknownMetricError as UnknownMetricError,
    UnknownModelError as UnknownModelError,
    UnknownSensorError as UnknownSensorError,
    XHarmonizeError as XHarmonizeError,
)
from .harmonizers import (
    angles_from_items as angles_from_items,
    fit_histogram as fit_histogram,
    fit_linear as fit_linear,
    fit_lut as fit_lut,
    fit_pixelwise as fit_pixelwise,
    fit_tables as fit_tables,
    list_models as list_models,
    load_model as load_model,
    nbar as nbar,
    save_model as save_model,
    to_landsat as to_landsat,
    to_sensor as to_sensor,
    to_sentinel2 as to_sentinel2,
)
from .metrics import (
    accuracy as accuracy,
    confusion_matrix as confusion_matrix,
    list_metrics as list_metrics,
    merge_statistics as merge_statistics,
    score as score,
    score_statistics as score_statistics,
    statistics as statistics,
)
from .models.refs import Runtime as Runtime
from .report import write_report as write_report
from .sensors import (
    Band as Band,
    Flag as Flag,
    Instrument as Instrument,
    QALayer as QALayer,
    Radiometry as Radiometry,
    Sensor as Sensor,
    get_sensor as get_sensor,
    list_sensors as list_sensors,
    register_sensor as register_sensor,
)
from .series import (
    Harmonic as Harmonic,
    RadialBasis as RadialBasis,
    SavitzkyGolay as SavitzkyGolay,
    Whittaker as Whittaker,
    compare_tiles as compare_tiles,
    composite as composite,
    densify as densify,
    frequency as frequency,
    phenology as phenology,
    screen_outliers as screen_outliers,
    sensor_offsets as sensor_offsets,
    smooth as smooth,
    to_table as to_table,
)
from .series.crops import (
    CropClassifier as CropClassifier,
    classify as classify,
    cross_classify as cross_classify,
    fit_classifier as fit_classifier,
)
from .series.features import to_features as to_features

__version__: str
