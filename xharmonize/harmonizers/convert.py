"""Convert a cube to the bandpass, and optionally the grid, of another sensor.

Tables that models of histograms do it by can be fitted beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    on_reflectance,
    read_contract,
    read_coordinate,
    require_contract,
    with_history,
)
from xharmonize.cube.dates import require_any_date
from xharmonize.cube.door import at_door
from xharmonize.cube.encode import decode
from xharmonize.cube.platforms import MEAN_PLATFORM, settle_platform, worded_choice
from xharmonize.cube.regrid import geobox_of, regrid
from xharmonize.errors import ModelError, RadiometryError
from xharmonize.harmonizers.protocol import Harmonizer, Model, Regridder, TableMaker
from xharmonize.harmonizers.registry import as_harmonizer, resolve
from xharmonize.models.refs import Runtime
from xharmonize.options import with_options_of
from xharmonize.sensors import Names, Sensor, get_sensor
from xharmonize.sensors.spec import UNKNOWN

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
P = ParamSpec("P")
LANDSAT, SENTINEL2 = "landsat-c2-l2", "sentinel-2-l2a"


class _Converter(Protocol[P]):
    """A converter to one sensor, to type checkers: the options are those of `to_sensor`."""

    def __call__(
        self, cube: Cube, model: Model = "hls-v2", *args: P.args, **options: P.kwargs
    ) -> Cube: ...


def _converter(
    whole: Callable[Concatenate[Any, str, Model, P], Any],
) -> Callable[[Callable[..., Any]], _Converter[P]]:
    decorate: Any = with_options_of(whole)
    typed: Callable[[Callable[..., Any]], _Converter[P]] = decorate
    return typed


def to_sensor(
    cube: Cube,
    sensor: str,
    model: Model,
    *,
    like: xr.DataArray | xr.Dataset | None = None,
    resolution: float | None = None,
    platform: str | Mapping[str, str] | None = None,
    tables: xr.Dataset | None = None,
    flags: bool = False,
    uncertainty: bool = False,
    runtime: Runtime | None = None,
) -> Cube:
    """Convert a cube to the bandpass of another sensor, lazily.

    As in HLS, the cube is first regridded to the target grid, by an area-weighted mean with the
    model's minimum valid fraction (1.0 for ``hls-v2``), then the model is applied. The grid is kept
    if neither `like` nor `resolution` is given. Encoded cubes are accepted: linear models and
    look-up tables decode in the same pass. A generator is applied first, on the cube's own pixels;
    its result is on the grid of its lattice and is then regridded to `like` by area.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset
        Reflectance [1] or digital numbers with their contract; NaN where missing. Time steps may
        come from several sensors: each uses the coefficients of its platform, and steps that
        already have the target's bandpass are unchanged.
    sensor : str
        Product with the target bandpass: a name in `xharmonize.sensors.list_sensors`.
    model : str, path, Dataset or callable
        A name in `list_models`, the path of a saved fit, a fit, or a function from cube to cube.
    like : cube, optional
        Cube that defines the grid of the result. Fits of `xharmonize.harmonizers.fit_auto` need it
        to be applied as their pairs were made: with their point spread and shifts. Without it they
        refuse a cube with other pixels, and warn for one with theirs.
    resolution : float, optional
        Pixel size of the result [unit of the CRS]; pixel edges are at its multiples.
    platform : str or mapping, optional
        Platform of time steps for which it is unknown: a name; ``"infer"``, from the phase of the
        orbit, with a warning; ``"sentinel-2"``, the mean of 2A and 2B, with a warning and with half
        of their difference added to an ``uncertainty`` companion in quadrature; or a mapping by
        item id or date. If the target is Sentinel-2, the target platform.
    tables : Dataset, optional
        Look-up tables from `fit_tables`, for models that use them. By default they are made from
        the cube in the same graph; where a tile extends beyond the cube, they depend on its extent.
    flags : bool
        Whether to return a Dataset with the ``flag`` companion: out of the training domain,
        saturated, partial context, near missing data. Its ``comment`` lists the bits that the model
        can set; models without per-pixel information, such as linear ones, set none.
    uncertainty : bool
        Whether to return a Dataset with the companion ``uncertainty``, one standard deviation of
        the result [1], for models that know their own: fits of
        `xharmonize.harmonizers.fit_auto`.
    runtime : Runtime, optional
        Device, precision and batch size of networks.

    Returns
    -------
    DataArray or Dataset
        float32 reflectance [1] in the target's bands, NaN where missing; the same type as `cube`,
        or a Dataset with `flags` or `uncertainty`. `sensor`, `platform` and `level` still describe
        the observation; `bandpass` is the target's. Bands that the model does not cover are dropped
        and named in ``history``. An existing ``uncertainty`` is propagated to first order.

    Raises
    ------
    RadiometryError
        If a platform is unknown, or the bandpass, sensor or level of a date is unknown or not one
        the model was made for.
    BandError
        If the model starts from B8A (``nir08``) and the cube only has B08 (``nir``).
    ModelError
        If the model has another target bandpass, does not support an option, or needs further
        cubes.
    GridError
        If the grids do not match.
    TimeAxisError
        If the cube has no dates.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> etm = example_cube("landsat-c2-l2", platform="landsat-7")
    >>> oli = to_sensor(etm, "landsat-c2-l2", "roy-2016")
    >>> str(etm.bandpass.values[0]), str(oli.bandpass.values[0])
    ('etm+', 'oli')
    """
    cube = at_door(cube)
    require_contract(cube)
    require_any_date(cube)
    product = get_sensor(sensor)
    named = _named_target(product, platform)
    harmonizer = resolve(model, product.bandpass_of(named or UNKNOWN))
    options: dict[str, Any] = {
        "tables": tables,
        "flags": flags,
        "uncertainty": uncertainty,
        "runtime": runtime,
    }
    if harmonizer.target_platforms:
        options["target_platform"] = _target_platform(harmonizer, product, platform)
    elif platform is not None and named is None:
        cube = with_platform(cube, platform)
    return apply_model(cube, harmonizer.configured(**options), like=like, resolution=resolution)


def apply_model(
    cube: Cube,
    harmonizer: Harmonizer,
    *,
    like: xr.DataArray | xr.Dataset | None = None,
    resolution: float | None = None,
) -> Cube:
    """Apply a configured model, regridding before it or after, as the model asks."""
    # Check the dates once, before regridding pixels that would be refused.
    apply = partial(harmonizer, checked=harmonizer.check(cube))
    on_grid = partial(_on_grid, harmonizer=harmonizer, like=like, resolution=resolution)
    result: Cube = on_grid(apply(cube)) if harmonizer.changes_grid else apply(on_grid(cube))
    return result


@_converter(to_sensor)
def to_landsat(cube: Cube, model: Model = "hls-v2", **options: Any) -> Cube:
    """Convert a cube to the bandpass of Landsat-8/9 OLI, lazily; see `to_sensor` for how.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> cube = example_cube(platform="sentinel-2b")
    >>> result = to_landsat(cube, "hls-v2")
    >>> str(result.bandpass.values[0])
    'oli'
    >>> round(float(result.sel(band="swir22").mean() / cube.sel(band="swir22").mean()), 3)
    0.988
    """
    return to_sensor(cube, LANDSAT, model, **options)


@_converter(to_sensor)
def to_sentinel2(cube: Cube, model: Model = "hls-v2", **options: Any) -> Cube:
    """Convert a cube to the bandpass of Sentinel-2 MSI, lazily; see `to_sensor` for how.

    `platform` selects the target MSI, by default ``"sentinel-2a"``. Published coefficients are
    inverted (slope 1/s, offset -o/s). Fits cannot be inverted, except those of Deming regression.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> landsat = example_cube("landsat-c2-l2", platform="landsat-8")
    >>> result = to_sentinel2(landsat, platform="sentinel-2b")
    >>> str(landsat.bandpass.values[0]), str(result.bandpass.values[0])
    ('oli', 'msi')
    """
    return to_sensor(cube, SENTINEL2, model, **options)


def for_platforms_of(harmonizer: Harmonizer, target: xr.DataArray | xr.Dataset) -> Harmonizer:
    """Configure a model for the platform of a target cube, if it tells platforms apart."""
    platform = str(Names.of(read_coordinate(target, "platform")))
    if platform in harmonizer.target_platforms:
        return harmonizer.configured(target_platform=platform)
    return harmonizer


def _named_target(product: Sensor, platform: Any) -> str | None:
    """The target platform, if `platform` names one; otherwise it is about the cube's time steps."""
    return platform if isinstance(platform, str) and platform in product.platforms else None


def _target_platform(harmonizer: Harmonizer, product: Sensor, platform: Any) -> str:
    """The target platform, for a table that distinguishes platforms."""
    if platform is None:
        return product.platforms[0]
    known = [*harmonizer.target_platforms]
    if {"sentinel-2a", "sentinel-2b"} <= set(known):
        known.append(MEAN_PLATFORM)
    if not isinstance(platform, str) or platform not in known:
        raise RadiometryError(
            "does not say whose bandpass is wanted",
            cure=f"choose one of {', '.join(known)}",
            argument="platform",
            value=platform,
        )
    return platform


def with_platform(cube: Cube, platform: Any) -> Cube:
    """Return the cube with unknown platforms resolved; see `settle_platform`."""
    steps = read_contract(cube)
    names = settle_platform(
        platform,
        platforms=[step.platform for step in steps],
        sensors=[step.sensor for step in steps],
        times=cube["time"].values,
        item_ids=[step.item_id for step in steps],
        latitudes=_latitude(cube) if platform == "infer" else np.nan,
    )
    n_new = sum(step.platform != name for step, name in zip(steps, names))
    if n_new:
        line = f"{worded_choice(platform)}: {n_new} dates"
        cube = on_reflectance(
            cube, lambda array: array.assign_attrs(with_history(array.attrs, line))
        )
    return cube.assign_coords(platform=("time", np.array(names, dtype=str)))


def _latitude(cube: xr.DataArray | xr.Dataset) -> float:
    """Latitude of the centre of the cube [degree]."""
    box = geobox_of(cube)
    return float(box.geographic_extent.centroid.coords[0][1])


def _on_grid(
    cube: Cube,
    *,
    harmonizer: Harmonizer,
    like: xr.DataArray | xr.Dataset | None,
    resolution: float | None,
) -> Cube:
    """Regrid the cube as requested, with the model's minimum valid fraction."""
    if like is None and resolution is None:
        same: Cube = harmonizer.on_grid(cube) if isinstance(harmonizer, Regridder) else cube
        return same
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    if not bool(read_coordinate(array, "is_decoded").all()):
        cube = decode(cube)
    result: Cube
    if isinstance(harmonizer, Regridder):
        result = harmonizer.on_grid(cube, like=like, resolution=resolution)
    else:
        result = regrid(cube, like=like, resolution=resolution, min_valid=harmonizer.min_valid)
    return result


def fit_tables(
    cube: xr.DataArray | xr.Dataset,
    model: Model,
    *,
    tile: float | None = None,
    interpolate: bool = False,
    min_valid: float = 0.0,
) -> xr.Dataset:
    """Fit one look-up table per date, tile and band from the histograms of a cube, lazily.

    The valid pixels of each tile are counted exactly, whatever the chunks. A model converts each
    histogram into a table: a network (a bundle of kind ``lut``), matching to a stored target
    (`fit_histogram`), or one global table (`fit_lut`). The tables can be inspected, plotted, saved
    and applied: ``to_landsat(model, tables=tables)`` or ``to_landsat(tables)`` is a pointwise map
    that gives the same result for any part of the cube.

    Parameters
    ----------
    cube : cube
        Reflectance [1] or digital numbers with their contract, in a projected CRS; NaN where
        missing. Time steps that already have the target's bandpass get no tables.
    model : model
        A fit of `fit_histogram` or `fit_lut`, a bundle of kind ``lut``, or the path of one.
    tile : float, optional
        Side of a tile [m]. Edges lie at its multiples in the CRS; a pixel belongs to the tile that
        contains its centre. By default that of the bundle, else 100 km: the squares of the Military
        Grid Reference System, each a Sentinel-2 tile without its overlap.
    interpolate : bool
        Whether to interpolate bilinearly between the tables of the four nearest tile centres, to
        avoid visible tile edges.
    min_valid : float
        Minimum valid fraction of a tile's area [1]. A tile below it has a table of NaN; its pixels
        become missing, or use the neighbouring tiles with `interpolate`.

    Returns
    -------
    Dataset
        ``tables`` (time, tile_y, tile_x, band, knot) [1], linear between the knots ``knot_value``
        (band, knot) [1] and constant beyond; NaN if a tile has no valid pixel and the model needs
        some. ``histograms`` (time, tile_y, tile_x, band, bin): counts of valid pixels.
        ``tile_coverage`` (time, tile_y, tile_x): valid fraction of the tile's whole area [1], for
        the band with the fewest valid pixels. ``tile_flag`` (time, tile_y, tile_x): partial
        context, out of domain. ``tile_extent`` (tile_y, tile_x): fraction of the tile inside the
        cube [1].

    Raises
    ------
    GridError
        If the CRS is in degrees, or a tile is smaller than a pixel.
    ModelError
        If the model makes no tables, or all time steps already have the target's bandpass.
    BandError
        If the cube lacks the model's bands.
    RadiometryError
        If the level or bandpass does not match the model.

    Warns
    -----
    RadiometryWarning
        If tiles extend beyond the cube, so that their tables are based on a part of the tile.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """
    cube = at_door(cube)
    harmonizer = as_harmonizer(model)
    if not isinstance(harmonizer, TableMaker):
        raise ModelError(
            f"model {harmonizer.name!r} makes no look-up tables",
            cure="give a fit of fit_histogram or fit_lut, or a bundle of kind 'lut'",
        )
    return harmonizer.fit_tables(cube, tile=tile, interpolate=interpolate, min_valid=min_valid)
