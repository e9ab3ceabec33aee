"""Give a cube another sensor's bandpass, and its grid where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    read_contract,
    read_coordinate,
    require_contract,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.encode import decode
from xharmonize.cube.platforms import MEAN_PLATFORM, settle_platform
from xharmonize.cube.regrid import geobox_of, regrid
from xharmonize.errors import RadiometryError, TimeAxisError
from xharmonize.harmonizers.protocol import Harmonizer, Model
from xharmonize.harmonizers.registry import resolve
from xharmonize.models.refs import Runtime
from xharmonize.sensors import Sensor, get_sensor
from xharmonize.sensors.spec import UNKNOWN

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
LANDSAT, SENTINEL2 = "landsat-c2-l2", "sentinel-2-l2a"


def to_landsat(
    cube: Cube,
    model: Model = "hls-v2",
    *,
    like: xr.DataArray | xr.Dataset | None = None,
    resolution: float | None = None,
    platform: str | Mapping[str, str] | None = None,
    tables: xr.Dataset | None = None,
    flags: bool = False,
    runtime: Runtime | None = None,
) -> Cube:
    """Give a cube the bandpass of Landsat-8/9 OLI; see `to_sensor`.

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
    cube = at_door(cube)
    return to_sensor(
        cube,
        LANDSAT,
        model,
        like=like,
        resolution=resolution,
        platform=platform,
        tables=tables,
        flags=flags,
        runtime=runtime,
    )


def to_sentinel2(
    cube: Cube,
    model: Model = "hls-v2",
    *,
    like: xr.DataArray | xr.Dataset | None = None,
    resolution: float | None = None,
    platform: str | Mapping[str, str] | None = None,
    tables: xr.Dataset | None = None,
    flags: bool = False,
    runtime: Runtime | None = None,
) -> Cube:
    """Give a cube the bandpass of Sentinel-2 MSI; see `to_sensor`.

    `platform` says whose MSI: ``"sentinel-2a"`` by default. Published lines are turned round
    (slope 1/s, offset -o/s); fitted ones refuse, but for Deming regression.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> landsat = example_cube("landsat-c2-l2", platform="landsat-8")
    >>> result = to_sentinel2(landsat, platform="sentinel-2b")
    >>> str(landsat.bandpass.values[0]), str(result.bandpass.values[0])
    ('oli', 'msi')
    """
    cube = at_door(cube)
    return to_sensor(
        cube,
        SENTINEL2,
        model,
        like=like,
        resolution=resolution,
        platform=platform,
        tables=tables,
        flags=flags,
        runtime=runtime,
    )


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
    runtime: Runtime | None = None,
) -> Cube:
    """Give a cube the bandpass of another sensor; lazy.

    The order is that of HLS: the cube is put on the target grid first, by an area-weighted mean
    with the model's minimum valid fraction (1.0 for ``hls-v2``), then the model is applied.
    Without `like` and `resolution` the grid stays. Encoded cubes are accepted: for lines and
    look-up tables, decoding and the model are one pass. A generator is applied first, on the cube's
    own pixels; its result lies on the grid of its lattice, and is put on `like` by area.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset
        Reflectance [1] or digital numbers with their contract. A mixed cube is served step by
        step: the lines are those of each step's platform, and steps in the target's bandpass pass
        through unchanged.
    sensor : str
        Product whose bandpass is wanted: a name of `xharmonize.sensors.list_sensors`.
    model : str, path, Dataset or callable
        A name of `list_models`, a saved fit, a fit, or any cube → cube callable.
    like : cube, optional
        Put the result on this cube's grid.
    resolution : float, optional
        Put the result on a grid with pixels of this side [unit of the CRS], edges at its multiples.
    platform : str or mapping, optional
        Settles unknown platforms: a name, ``"infer"`` (by the phase of the orbit, warned),
        ``"sentinel-2"`` (mean of 2A and 2B, warned; half their difference is added to an
        ``uncertainty`` companion, in quadrature), or a mapping by item id or date. Where the
        target is Sentinel-2, its platform.
    tables : Dataset, optional
        Look-up tables fitted before by `fit_tables`, for models that make some. Without, they are
        made from the cube in the same graph, and depend on the area asked for where a tile of
        theirs reaches beyond it.
    flags : bool
        Also return the ``flag`` companion, in a Dataset: out of the training domain, saturated,
        partial context, near missing data. Its ``comment`` says which bits the model can set; one
        that knows nothing of single values, as lines, sets none.
    runtime : Runtime, optional
        Device, precision and batch size of networks.

    Returns
    -------
    DataArray or Dataset
        float32 reflectance [1] in the target's bands, NaN where missing; the type of `cube`, or a
        Dataset with `flags`.
        `sensor`, `platform` and `level` still say what was observed; `bandpass` is the target's.
        Bands the model has no line for are left out, which ``history`` says. ``uncertainty`` is
        propagated to first order where there is one; no model creates one.

    Raises
    ------
    RadiometryError
        If a platform is unknown, or bandpass, sensor or level of a date are unknown or not what
        the model was made for.
    BandError
        If the model starts from B8A (``nir08``) and the cube only has B08 (``nir``).
    ModelError
        If the model leads to another bandpass, does not take an option, or needs further cubes.
    GridError
        If the grids do not fit.
    TimeAxisError
        If the cube has no date.

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
    if not cube.sizes["time"]:
        raise TimeAxisError("the cube has no date", cure="a selection before may have left none")
    product = get_sensor(sensor)
    named = _named_target(product, platform)
    harmonizer = resolve(model, product.bandpass_of(named or UNKNOWN))
    options: dict[str, Any] = {"tables": tables, "flags": flags, "runtime": runtime}
    if harmonizer.target_platforms:
        options["target_platform"] = _target_platform(harmonizer, product, platform)
    elif platform is not None and named is None:
        cube = with_platform(cube, platform)
    harmonizer = harmonizer.configured(**options)
    # The dates are checked once, before a grid is made of pixels that will be refused.
    apply = partial(harmonizer, checked=harmonizer.check(cube))
    on_grid = partial(_on_grid, harmonizer=harmonizer, like=like, resolution=resolution)
    result: Cube = on_grid(apply(cube)) if harmonizer.changes_grid else apply(on_grid(cube))
    return result


def _named_target(product: Sensor, platform: Any) -> str | None:
    """The platform of the target, where `platform` names one; else it is about the cube's steps."""
    return platform if isinstance(platform, str) and platform in product.platforms else None


def _target_platform(harmonizer: Harmonizer, product: Sensor, platform: Any) -> str:
    """The platform whose bandpass is wanted, of a table that tells them apart."""
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
    """Return the cube with unknown platforms settled; see `settle_platform`."""
    steps = read_contract(cube)
    names = settle_platform(
        platform,
        platforms=[step.platform for step in steps],
        sensors=[step.sensor for step in steps],
        times=cube["time"].values,
        item_ids=[step.item_id for step in steps],
        latitudes=_latitude(cube) if platform == "infer" else np.nan,
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
    """Put the cube on the grid asked for, with the model's minimum valid fraction."""
    if like is None and resolution is None:
        return cube
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    if not bool(read_coordinate(array, "is_decoded").all()):
        cube = decode(cube)
    share = harmonizer.min_valid_fraction
    result: Cube = regrid(cube, like=like, resolution=resolution, min_valid=share)
    return result
