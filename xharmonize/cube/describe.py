"""Add the radiometric contract to cubes from other libraries (stackstac, odc-stac, rioxarray).

What other libraries leave open is settled by these rules:

- Dimensions are known by their usual names, in upper or lower case: ``t``, ``bands``, ``latitude``,
  ``lat``, ``longitude``, ``lon`` and some more become ``time``, ``band``, ``y`` and ``x``.
- Variables of a Dataset become bands. Quality layers among the bands become ``qa``.
- A cube without ``time`` dimension gets one of length one from its ``time`` coordinate; so does one
  without ``band`` from its ``band``. Other dimensions of length one are dropped.
- Bands that have numbers only are called by their descriptions in the file (``long_name``), as in
  exports of Earth Engine.
- stackstac writes the coordinates of pixel *corners* unless told otherwise; its ``transform``
  attribute tells, and the coordinates are moved to the centres.
- Numbers are brought to types that kernels take: native byte order, float32 or float64.
- Coordinates and attributes that are not ours are dropped: many hold objects no store can keep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.claims import Claims, PerBand, blank_missing, settle_steps
from xharmonize.cube.contract import REFLECTANCE, plain_numbers, with_history, write_contract
from xharmonize.cube.dates import NAMES, require_dates
from xharmonize.cube.geobox import crs_name, geobox_of, is_same_crs, read_crs, write_grid
from xharmonize.cube.platforms import PlatformChoice, worded_choice
from xharmonize.cube.quality import pack_qa
from xharmonize.cube.radar import orbits_stated
from xharmonize.cube.stated import Stated, pick, read_statements
from xharmonize.errors import (
    BandError,
    ContractError,
    GridError,
    MaskError,
    TimeAxisError,
    suggest,
)
from xharmonize.sensors import QALayer, Sensor, get_sensor
from xharmonize.sensors.registry import band_spellings
from xharmonize.types import AnyArray

_DIMS = {
    "time": NAMES,
    "band": ("band", "bands", "variable"),
    "y": ("y", "latitude", "lat", "northing"),
    "x": ("x", "longitude", "lon", "long", "lng", "easting"),
}
_KEPT_ATTRS = ("long_name", "history", "units", "standard_name")


def as_array(cube: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, list[Stated]]:
    """Return one (time, band, y, x) DataArray, and what each band states about its numbers.

    Variables of a Dataset become bands.
    """
    cube = _with_our_dims(cube)
    if isinstance(cube, xr.Dataset):
        names = _bands_of(cube)
        stated = [said for name in names for said in _stated_by(cube[name], cube.attrs, [name])]
        array = cube[names].to_dataarray(dim="band")
        array.attrs = dict(cube.attrs)
        array.encoding = _grid_mapping_of(cube[names[0]])
    else:
        array = _with_dim(cube, "band")
        labels = array["band"].values.tolist() if "band" in array.dims else []
        stated = read_statements(array, labels)
    array = _with_dim(array, "time")
    _require_dims(array)
    array = array.transpose("time", "band", "y", "x")
    array = array.assign_coords(band=_labels(array))
    return plain_numbers(array), stated


def _with_our_dims(cube: xr.DataArray | xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Rename dimensions, and scalar coordinates left by a selection, to the names used here."""
    for new, known in _DIMS.items():
        dims = [str(name) for name in cube.dims if str(name).lower() in known]
        if not dims and new in ("time", "band"):
            scalars = (str(n) for n, c in cube.coords.items() if c.ndim == 0)
            dims = [name for name in scalars if name.lower() in known]
        if len(dims) != 1 or dims == [new]:
            continue
        old = dims[0]
        if new not in cube.coords:
            cube = cube.rename({old: new})
        elif cube.coords[new].dims == (old,):
            cube = cube.swap_dims({old: new})
    if isinstance(cube, xr.Dataset):
        mappings = [n for n, v in cube.data_vars.items() if v.ndim == 0 and _names_crs(v.attrs)]
        cube = cube.set_coords(mappings)
    return cube


def _bands_of(cube: xr.Dataset) -> list[str]:
    """Names of the variables that hold pixels."""
    names = [str(name) for name in cube.data_vars if {"y", "x"} <= set(map(str, cube[name].dims))]
    if names:
        return names
    found = {str(name): cube[name].dims for name in list(cube.data_vars)[:5]}
    if any(len(dims) >= 2 for dims in found.values()):
        raise GridError(
            f"no variable of the Dataset has dimensions 'y' and 'x': {found}", cure=f"{_NAMED}"
        )
    raise BandError(f"the Dataset has no band, a variable of two or more dimensions: {found}")


_NAMED = "name them so with cube.rename({'row': 'y', 'column': 'x'})"


def _stated_by(
    variable: xr.DataArray, common: Mapping[Any, Any], labels: Sequence[str]
) -> list[Stated]:
    """What a variable states or, if it states nothing, the whole Dataset."""
    stated = read_statements(variable, labels)
    if stated[0].numbers:
        return stated
    return read_statements(variable.assign_attrs(common), labels)


def _grid_mapping_of(variable: xr.DataArray) -> dict[str, Any]:
    name = variable.encoding.get("grid_mapping", variable.attrs.get("grid_mapping"))
    return {} if name is None else {"grid_mapping": name}


def _with_dim(array: xr.DataArray, dim: str) -> xr.DataArray:
    """Expand a scalar coordinate, left by a selection, to a dimension of length one."""
    is_left = dim not in array.dims and dim in array.coords and array.coords[dim].ndim == 0
    return array.expand_dims(dim) if is_left else array


def _require_dims(array: xr.DataArray) -> None:
    """Raise unless there are just our dimensions."""
    if "time" not in array.dims:
        raise TimeAxisError(
            f"the cube has no time, only {array.dims}",
            cure="write it with "
            "cube.expand_dims(time=[np.datetime64('2018-07-01T10:50', 'ns')]) (a mean over time "
            "is of no date: cube.harmonize.composite(...) of a described cube keeps them)",
        )
    if "band" not in array.dims:
        raise BandError(
            "the cube has no dimension 'band'",
            cure=f"it has {array.dims}: name its only band with cube.expand_dims(band=['red'])",
        )
    if {"y", "x"} - set(array.dims):
        raise GridError(
            "the cube has no dimensions 'y' and 'x'", cure=f"it has {array.dims}; {_NAMED}"
        )
    for dim in map(str, array.dims):
        if dim not in ("time", "band", "y", "x"):
            raise ContractError(
                f"the cube has a dimension {dim!r} of {array.sizes[dim]} besides time, band, y and "
                "x",
                cure=f"choose one of it with cube.isel({{{dim!r}: 0}}, drop=True)",
            )


def _labels(array: xr.DataArray) -> list[Any]:
    """Labels of the bands: text, or numbers if the file has no band descriptions."""
    labels = array["band"].values.tolist()
    labels = [label.decode() if isinstance(label, bytes) else label for label in labels]
    described = array.attrs.get("long_name")
    if not isinstance(described, tuple | list) or not all(isinstance(n, int) for n in labels):
        return labels
    found = [pick(described, labels, i) for i in range(len(labels))]
    return labels if None in found else [str(name) for name in found]


def tidy_time(array: xr.DataArray) -> xr.DataArray:
    """Convert time to datetime64[ns] in UTC, without time zone."""
    if "time" not in array.coords:
        raise TimeAxisError(
            f"the cube has {array.sizes['time']} dates without a coordinate 'time'",
            cure="write it with cube.assign_coords(time=pd.to_datetime([...]))",
        )
    zoned = array.indexes.get("time")
    if isinstance(zoned, pd.DatetimeIndex) and zoned.tz is not None:
        array = array.assign_coords(time=zoned.tz_convert("UTC").tz_localize(None))
    require_dates(array, what="describe")
    return array.assign_coords(time=("time", array["time"].values.astype("datetime64[ns]")))


def name_bands(
    labels: Sequence[Any],
    sensor: Sensor,
    platforms: Sequence[str],
    bands: Sequence[str] | Mapping[str, str] | None,
) -> tuple[list[str], dict[int, QALayer]]:
    """Return the common name of each band, and which labels are quality layers.

    Parameters
    ----------
    labels : sequence
        Values of the ``band`` coordinate: common names, the sensor's own, or asset keys.
    platforms : sequence of str
        Platforms in the cube: ``SR_B4`` is red on Landsat-8 and near infrared on Landsat-7.
    bands : sequence or mapping, optional
        Common names in the order of the cube, or by label; they override the labels.

    Raises
    ------
    BandError
        If a label is not a band of the sensor, means different bands on two platforms, or occurs
        twice.
    """
    names = [label.decode() if isinstance(label, bytes) else str(label) for label in labels]
    if isinstance(bands, Mapping):
        names = [bands.get(name, name) for name in names]
    elif bands is not None:
        if len(bands) != len(names):
            raise BandError(f"{len(bands)} names in bands=, the cube has {len(names)}: {names}")
        names = [str(name) for name in bands]
    layers = {
        i: layer
        for i, name in enumerate(names)
        for layer in sensor.qa
        if name.lower() in {layer.name, *(key.lower() for key in layer.assets)}
    }
    found = [
        name if i in layers else _band_name(name, sensor, platforms) for i, name in enumerate(names)
    ]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        first = [i for i, name in enumerate(found) if name not in found[:i]]
        raise BandError(
            f"bands {names} name {', '.join(twice)} more than once",
            cure=f"select one of each, for instance the first with cube.isel(band={first})",
        )
    return found, layers


def _band_name(label: str, sensor: Sensor, platforms: Sequence[str]) -> str:
    """Common name of a band, the same on all platforms of the cube."""
    meanings = {}
    known = set(platforms) & set(sensor.platforms) or set(sensor.platforms)
    for spelt in (str.lower, _plain_label):
        for platform in sorted(known):
            for band in sensor.instrument(platform).bands:
                keys = (band.name, band.source, *band.assets)
                # Try common names first: they mean the same band on every platform.
                if label == band.name or spelt(label) in {spelt(key) for key in keys}:
                    meanings[platform] = band.name
        if meanings:
            break
    if label in meanings.values():
        return label
    if not meanings:
        raise BandError(
            f"{sensor.name} has no band {label!r}",
            cure=f"{suggest(label, sensor.band_names, band_spellings(sensor.instrument()))}"
            f"it has {', '.join(sensor.band_names)}: "
            "select those with cube.sel(band=[...]), or name yours with bands=",
            value=label,
        )
    if len(set(meanings.values())) > 1:
        different = ", ".join(f"{name} on {platform}" for platform, name in meanings.items())
        raise BandError(f"band {label!r} is {different}", cure="say which with platform= or bands=")
    return next(iter(meanings.values()))


def _plain_label(label: str) -> str:
    """Strip what catalogues and exports add to labels: ``B04_10m``, ``b04.tif``, ``Red``."""
    bare = re.sub(r"(_\d\dm)?(\.(tiff?|jp2))?$", "", label.strip().lower())
    return re.sub(r"^(sr)?b(and)?0*(?=\d)", r"\1b", re.sub(r"[\s_\-]", "", bare))


def quality_values(values: xr.DataArray, layer: QALayer) -> xr.DataArray:
    """Convert a quality layer to integers; floats must be whole numbers, and NaN becomes fill.

    Raises
    ------
    MaskError
        When computed, if a value is not whole: flags that were averaged mean nothing.
    """
    if np.issubdtype(values.dtype, np.integer):
        return values
    whole = partial(_whole, layer_dtype=layer.dtype, fill=layer.fill, layer_name=layer.name)
    data = map_blocks(whole, "...->...", values.data, dtype=layer.dtype, name="quality-values")
    return values.copy(data=data)


def _whole(values: AnyArray, *, layer_dtype: str, fill: int, layer_name: str) -> AnyArray:
    filled = np.where(np.isnan(values), fill, values)
    if (filled % 1 != 0).any():
        raise MaskError(
            f"quality layer {layer_name!r} holds fractions: it was averaged",
            cure="load it by nearest",
        )
    return filled.astype(layer_dtype)


def settle_grid(array: xr.DataArray, crs: Any) -> xr.DataArray:
    """Set pixel-centre coordinates and ``spatial_ref``, and drop all other coordinates.

    Raises
    ------
    GridError
        If no CRS is given or found, or the one given contradicts the one found.
    """
    stated, reference = _found_crs(array)
    found = None if stated is None else read_crs(stated)
    crs = None if crs is None else read_crs(crs)
    if found is None and crs is None:
        raise GridError("the cube has no CRS", cure="pass crs='EPSG:...'")
    if found is not None and crs is not None and not is_same_crs(found, crs):
        raise GridError(
            f"the cube is in {crs_name(found)}, crs= says {crs_name(crs)}",
            cure="leave crs= out, or put it on another grid with cube.harmonize.regrid(crs=...)",
        )
    centred = _centred(array)
    kept = centred.drop_vars([n for n in centred.coords if n not in (*centred.dims, "spatial_ref")])
    reference["crs_wkt"] = (crs if found is None else found).to_wkt()
    kept = kept.assign_coords(spatial_ref=xr.Variable((), 0, reference))
    kept.attrs = {name: array.attrs[name] for name in _KEPT_ATTRS if name in array.attrs}
    kept.encoding = {}
    return write_grid(kept, geobox_of(kept))


def latitude_of(array: xr.DataArray) -> float:
    """Latitude of the centre of a cube [degrees]."""
    return float(geobox_of(array).geographic_extent.centroid.points[0][1])


def _found_crs(array: xr.DataArray) -> tuple[Any, dict[str, Any]]:
    """CRS as stated by the cube, and the attributes of its grid mapping."""
    named = [p.get("grid_mapping") for p in (array.encoding, array.attrs)]
    scalars = [str(name) for name, value in array.coords.items() if value.ndim == 0]
    for name in [*named, "spatial_ref", "crs", *scalars]:
        if name in array.coords and _names_crs(array.coords[name].attrs):
            return _crs_of_mapping(array.coords[name].attrs), dict(array.coords[name].attrs)
    for key in ("proj:code", "proj:epsg", "epsg", "crs_wkt", "crs"):
        value = array.attrs.get(key)
        if key in array.coords and array.coords[key].ndim == 0:
            value = array.coords[key].values.item()
        if value not in (None, "", "None") and value == value:
            return (f"EPSG:{int(value)}" if isinstance(value, int | float) else value), {}
    return None, {}


def _names_crs(attrs: Mapping[Any, Any]) -> bool:
    """Tell whether these are the attributes of a grid mapping that defines a CRS."""
    return any(attrs.get(key) for key in ("crs_wkt", "spatial_ref", "grid_mapping_name"))


def _crs_of_mapping(attrs: Mapping[Any, Any]) -> Any:
    """CRS of a grid mapping: as WKT, or by the parameters of the CF conventions."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if text:
        return str(text)
    try:
        return CRS.from_cf({str(key): value for key, value in attrs.items()})
    except (CRSError, KeyError, TypeError, ValueError) as error:
        raise GridError(
            f"grid mapping {attrs['grid_mapping_name']!r} names no CRS ({str(error)[:80]})",
            cure="drop its variable and pass crs='EPSG:...'",
        ) from None


def _centred(array: xr.DataArray) -> xr.DataArray:
    """Move stackstac's corner coordinates, known by its ``transform``, to the pixel centres."""
    transform = array.attrs.get("transform")
    numbers = tuple(float(value) for value in tuple(transform or ())[:6])
    if (
        len(numbers) != 6
        or "spec" not in array.attrs
        or not array.sizes["x"]
        or not array.sizes["y"]
    ):
        return array
    for dim, step, origin in (("x", numbers[0], numbers[2]), ("y", numbers[4], numbers[5])):
        values = np.asarray(array.coords[dim].values, np.float64)
        if values.size > 1 and abs(values[1] - values[0] - step) > 1e-3 * abs(step):
            raise GridError(
                f"the attribute 'transform' says pixels of {step:g} along {dim!r}, its coordinates "
                f"are {values[1] - values[0]:g} apart: the cube was changed, and it cannot be told "
                "whether they are corners or centres",
                cure="put centres there with "
                f"cube.assign_coords({dim}=...), and remove the attribute with "
                "cube.drop_attrs(deep=False)",
            )
        pixels = (values[0] - origin) / step
        if abs(pixels - round(pixels)) < 1e-3:
            array = array.assign_coords({dim: values + step / 2})
    return array


def describe(
    cube: xr.DataArray | xr.Dataset,
    *,
    sensor: str,
    platform: PlatformChoice | None = None,
    processing_baseline: str | Sequence[str] | None = None,
    level: str | None = None,
    scale: PerBand | None = None,
    offset: PerBand | None = None,
    nodata: PerBand | None = None,
    is_decoded: bool | None = None,
    bands: Sequence[str] | Mapping[str, str] | None = None,
    crs: Any = None,
    item_id: str | Sequence[str] | None = None,
) -> xr.DataArray | xr.Dataset:
    """Add the radiometric contract to a cube, so that all functions here can use it.

    Use it for cubes of stackstac, odc-stac or rioxarray, and for cubes that lost their contract
    in arithmetic. Pixels are not read. Arguments override the coordinates of the cube, which
    override the sensor registry. Attributes or encoding (``_FillValue``, ``missing_value``,
    ``nodata``, ``scale_factor``, ``add_offset``) also override the registry, and are sufficient;
    an argument that contradicts them is an error, unless both `scale` and `offset` are given. A
    scale of 1 and an offset of 0 count as not stated. Level, product, platform and baseline are
    read from names, coordinates and attributes as from STAC items. The sensing date never decides
    anything.

    Parameters
    ----------
    cube : DataArray or Dataset
        DataArray with bands along ``band``, Dataset with one variable per band, or Dataset with
        ``reflectance`` and companions. `xharmonize.cube.describe` lists the names it recognises.
    sensor : str
        Product of the cube: one of `xharmonize.sensors.list_sensors`.
    platform : str or mapping, optional
        Platform of all dates that don't name one, ``"infer"``, ``"sentinel-2"`` (the mean of 2A
        and 2B), or a mapping by item id or date.
    processing_baseline : str or sequence of str, optional
        Baseline of all dates, or one per date; it determines Sentinel-2's offset.
    level : {"TOA", "SR", "NBAR"}, optional
        Processing level. Default: that of the product.
    scale, offset, nodata : float or mapping of str to float, optional
        Reflectance is ``DN * scale + offset``; DN equal to nodata is missing. Default: as stated
        by the cube, else by the product, with Sentinel-2's offset from the baseline. In
        reflectance, a value equal to nodata is missing.
    is_decoded : bool, optional
        Whether the pixels are already reflectance. Integers are digital numbers; floats may be
        either, so it is required for them unless `scale` or `offset` is given, or xarray applied
        both when it read them.
    bands : sequence or mapping, optional
        Common names, in the order of the cube or by band label.
    crs : CRS, str or int, optional
        CRS, if the cube does not state one.
    item_id : str or sequence of str, optional
        Names of the dates, for messages and stores.

    Returns
    -------
    DataArray or Dataset
        ``(time, band, y, x)`` with the contract; a Dataset with ``reflectance`` and ``qa`` if the
        cube has companions, or a quality layer among its bands. In floats, missing pixels are
        NaN.

    Raises
    ------
    UnknownSensorError, BandError, GridError, TimeAxisError
        If a name, a band, the CRS or time is missing or unknown.
    ContractError
        If there are dimensions other than time, band, y and x.
    RadiometryError
        If the arguments contradict the dtype, the cube, its metadata or each other, or leave
        scale or offset open; if the cube is of another level or product, or in percent.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import example_cube
    >>> bare = example_cube(is_decoded=False).reset_coords(drop=True)
    >>> cube = xh.describe(
    ...     bare,
    ...     sensor="sentinel-2-l2a",
    ...     platform="sentinel-2a",
    ...     processing_baseline="05.00",
    ...     crs="EPSG:32631",
    ... )
    >>> float(cube.offset[0, 0])
    -0.1
    """
    spec = get_sensor(sensor)
    pixels, stated, companions = _split(cube)
    settled = settle_grid(pixels, crs)
    claims = Claims(
        platform=platform,
        processing_baseline=processing_baseline,
        level=level,
        scale=scale,
        offset=offset,
        nodata=nodata,
        is_decoded=is_decoded,
        item_id=item_id,
    )
    latitude = latitude_of(settled) if platform == "infer" else 0.0
    metadata = claims.metadata(pixels, spec)
    platforms = claims.platforms(pixels, spec, metadata, latitude=latitude)
    labels = pixels["band"].values.tolist()
    names, layers = name_bands(labels, spec, platforms, bands)
    spectral = [i for i in range(len(names)) if i not in layers]
    own, common = [stated[i] for i in spectral], [names[i] for i in spectral]
    chosen = _own_type(pixels.isel(band=spectral), own)
    steps = settle_steps(chosen, common, spec, claims, metadata, platforms, own)
    reflectance = _own_type(settled.isel(band=spectral), own).assign_coords(band=common)
    reflectance, steps = blank_missing(reflectance, steps, claims, own)
    reflectance = write_contract(reflectance, steps).rename(REFLECTANCE)
    if spec.radiometry.is_power:
        reflectance = reflectance.assign_coords(orbits_stated(pixels))
    told = "" if platform is None else f", {worded_choice(platform)}"
    line = f"describe: {sensor}{told}"
    reflectance.attrs = with_history({"units": "1", **reflectance.attrs}, line)
    found = {layer: settled.isel(band=i, drop=True) for i, layer in layers.items()}
    return _with_companions(reflectance, _packed(found, reflectance, spec), companions)


def _split(
    cube: xr.DataArray | xr.Dataset,
) -> tuple[xr.DataArray, list[Stated], dict[str, xr.DataArray]]:
    """Split a cube into one array of pixels, what they state, and existing companions."""
    companions: dict[str, xr.DataArray] = {}
    if isinstance(cube, xr.Dataset) and REFLECTANCE in cube:
        companions = {str(name): cube[name] for name in cube.data_vars if name != REFLECTANCE}
        cube = cube[REFLECTANCE]
    pixels, stated = as_array(cube)
    return tidy_time(pixels), stated, companions


def _own_type(spectral: xr.DataArray, stated: Sequence[Stated]) -> xr.DataArray:
    """Restore the integer type if quality layers in floats promoted it."""
    types = {said.dtype for said in stated}
    if types and spectral.dtype.kind == "f" and all(dtype.kind in "iu" for dtype in types):
        return spectral.astype(np.result_type(*types))
    return spectral


def _packed(
    layers: Mapping[QALayer, xr.DataArray], reflectance: xr.DataArray, sensor: Sensor
) -> dict[str, xr.DataArray]:
    """Pack the quality layers among the bands as ``qa``."""
    if not layers:
        return {}
    values = {layer.name: quality_values(v, layer) for layer, v in layers.items()}
    if not any(layer.is_primary for layer in layers):
        raise ContractError(
            f"quality layers {', '.join(values)} without {sensor.qa[0].name}, which says where "
            "there are pixels",
            cure="add it to the bands, or leave them out",
        )
    platforms = {str(name) for name in reflectance["platform"].values}
    only = platforms.pop() if len(platforms) == 1 else None
    bands = [str(name) for name in reflectance["band"].values]
    known = only if only in sensor.platforms else None
    return {"qa": pack_qa(values, sensor, bands=bands, platform=known)}


def _with_companions(
    reflectance: xr.DataArray,
    packed: Mapping[str, xr.DataArray],
    companions: Mapping[str, xr.DataArray],
) -> xr.DataArray | xr.Dataset:
    if not packed and not companions:
        return reflectance
    bare = {
        name: array.drop_vars([n for n in array.coords if n not in array.dims])
        for name, array in {**companions, **packed}.items()
    }
    return reflectance.to_dataset(name=REFLECTANCE).assign(bare)
