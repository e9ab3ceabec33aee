"""Cubes of other libraries (stackstac, odc-stac, rioxarray) brought to our dimensions and names.

What other libraries leave open is settled by these rules:

- Dimensions ``t``, ``bands``, ``latitude``, ``lat``, ``longitude`` and ``lon`` become
  ``time``, ``band``, ``y`` and ``x``.
- Variables of a Dataset become bands. Quality layers among the bands become ``qa``.
- A cube without ``time`` dimension gets one of length one from its ``time`` coordinate.
- stackstac writes the coordinates of pixel *corners* unless told otherwise; its ``transform``
  attribute tells, and the coordinates are moved to the centres.
- Coordinates and attributes that are not ours are dropped: many hold objects no store can keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.dates import require_dates
from xharmonize.cube.geobox import geobox_of, is_same_crs, read_crs, write_grid
from xharmonize.cube.stated import Stated, read_statements
from xharmonize.errors import BandError, ContractError, GridError, MaskError, TimeAxisError
from xharmonize.sensors import QALayer, Sensor
from xharmonize.types import AnyArray

_DIMS = {
    "t": "time",
    "bands": "band",
    "latitude": "y",
    "lat": "y",
    "longitude": "x",
    "lon": "x",
}
_KEPT_ATTRS = ("long_name", "history", "units", "standard_name")


def as_array(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return one (time, band, y, x) DataArray; variables of a Dataset become bands."""
    if isinstance(cube, xr.Dataset):
        names = [str(name) for name in cube.data_vars if cube[name].ndim >= 2]
        if not names:
            raise BandError(f"the Dataset has no band; it has {sorted(map(str, cube.data_vars))}")
        array = cube[names].to_dataarray(dim="band")
        array.attrs = dict(cube.attrs)
    else:
        array = cube
    present = {str(name) for name in (*array.dims, *array.coords)}
    array = array.rename({o: n for o, n in _DIMS.items() if o in present and n not in present})
    array = _native(array)
    if "time" not in array.dims:
        array = _with_time(array)
    if "band" not in array.dims:
        raise BandError(f"the cube has no dimension 'band'; it has {array.dims}")
    if {"y", "x"} - set(array.dims):
        raise GridError(f"the cube has no dimensions 'y' and 'x'; it has {array.dims}")
    extra = [str(dim) for dim in array.dims if dim not in ("time", "band", "y", "x")]
    if extra:
        raise ContractError(
            f"the cube has the dimensions {extra} beside time, band, y and x; select one of each, "
            f"such as cube.isel({extra[0]}=0, drop=True)"
        )
    return array.transpose("time", "band", "y", "x")


def _native(array: xr.DataArray) -> xr.DataArray:
    """Return the pixels in a number type that kernels take; labels of bytes become text."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    if dtype != array.dtype:
        array = array.astype(dtype)
    texts = {n: c for n, c in array.coords.items() if c.dtype.kind in "ST"}
    return array.assign_coords(
        {n: (c.dims, np.array(_texts(c.values)).reshape(c.shape)) for n, c in texts.items()}
    )


def _texts(values: AnyArray) -> list[str]:
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(values).tolist()]


def statements_of(cube: xr.DataArray | xr.Dataset, array: xr.DataArray) -> list[Stated]:
    """Return what each band of `array` states, from the attributes that the cube came with."""
    labels = array["band"].values.tolist()
    if isinstance(cube, xr.Dataset) and len(labels) > 0 and "reflectance" not in cube:
        found = []
        for label in labels:
            own = cube[label]
            common = {k: v for k, v in cube.attrs.items() if k not in own.attrs}
            found += read_statements(own.assign_attrs({**common, **own.attrs}), [label])
        return found
    source = cube["reflectance"] if isinstance(cube, xr.Dataset) else cube
    return read_statements(source, labels)


def _with_time(array: xr.DataArray) -> xr.DataArray:
    if "time" in array.coords and array.coords["time"].ndim == 0:
        return array.expand_dims("time")
    raise TimeAxisError(
        f"the cube has no time, only {array.dims}; write it with "
        "cube.expand_dims(time=[np.datetime64('2018-07-01T10:50', 'ns')])"
    )


def tidy_time(array: xr.DataArray) -> xr.DataArray:
    """Return the cube with time in ns [UTC], without time zone."""
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
        Those in the cube: ``SR_B4`` is red on Landsat-8 and near infrared on Landsat-7.
    bands : sequence or mapping, optional
        Names in the order of the cube, or by label; they go before the labels.

    Raises
    ------
    BandError
        If a label is no band of the sensor, means different bands on two platforms, or occurs
        twice.
    """
    names = [str(label) for label in labels]
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
        raise BandError(f"bands {names} name {', '.join(twice)} more than once; select one")
    return found, layers


def _band_name(label: str, sensor: Sensor, platforms: Sequence[str]) -> str:
    """Common name of a band, the same on all platforms of the cube."""
    wanted = label.lower()
    meanings = {}
    known = set(platforms) & set(sensor.platforms) or set(sensor.platforms)
    for platform in sorted(known):
        for band in sensor.instrument(platform).bands:
            keys = (band.name, band.source, *band.assets)
            # Common names go first: they mean one band on every platform.
            if label == band.name or wanted in {key.lower().removesuffix(".tif") for key in keys}:
                meanings[platform] = band.name
    if label in meanings.values():
        return label
    if not meanings:
        raise BandError(
            f"{sensor.name} has no band {label!r}; it has {', '.join(sensor.band_names)}: "
            "select those with cube.sel(band=[...]), or name yours with bands="
        )
    if len(set(meanings.values())) > 1:
        different = ", ".join(f"{name} on {platform}" for platform, name in meanings.items())
        raise BandError(f"band {label!r} is {different}; say which with platform= or bands=")
    return next(iter(meanings.values()))


def quality_values(values: xr.DataArray, layer: QALayer) -> xr.DataArray:
    """Return a quality layer as integers; float ones must hold whole numbers, NaN becomes fill.

    Raises
    ------
    MaskError
        When computed, if a value is not whole: it was averaged, and means nothing.
    """
    if np.issubdtype(values.dtype, np.integer):
        return values
    settings: dict[str, Any] = {
        "layer_dtype": layer.dtype,
        "fill": layer.fill,
        "layer_name": layer.name,
    }
    if values.chunks is None:
        return values.copy(data=_whole(np.asarray(values.data), **settings))
    meta = np.empty((0,) * values.ndim, layer.dtype)
    data = values.data.map_blocks(
        _whole, **settings, dtype=layer.dtype, meta=meta, token="quality-values"
    )
    return values.copy(data=data)


def _whole(values: AnyArray, *, layer_dtype: str, fill: int, layer_name: str) -> AnyArray:
    filled = np.where(np.isnan(values), fill, values)
    if (filled % 1 != 0).any():
        raise MaskError(
            f"quality layer {layer_name!r} holds fractions: it was averaged; load it by nearest"
        )
    return filled.astype(layer_dtype)


def settle_grid(array: xr.DataArray, crs: Any) -> xr.DataArray:
    """Return the cube with pixel-centre coordinates and ``spatial_ref``, other coordinates gone.

    Raises
    ------
    GridError
        If no CRS is given or found, or the one given contradicts the one found.
    """
    from odc.geo.crs import CRS

    found = _found_crs(array)
    crs = None if crs is None else read_crs(crs)
    if found is None and crs is None:
        raise GridError("the cube has no CRS; pass crs='EPSG:...'")
    if found is not None and crs is not None and not is_same_crs(CRS(found), crs):
        raise GridError(
            f"the cube is in {_crs_name(CRS(found))}, crs= says {_crs_name(crs)}; leave crs= "
            "out, or put it on another grid with cube.harmonize.regrid(crs=...)"
        )
    centred = _centred(array)
    kept = centred.drop_vars([n for n in centred.coords if n not in (*centred.dims, "spatial_ref")])
    wkt = CRS(found if found is not None else crs).to_wkt()
    reference = dict(kept.coords["spatial_ref"].attrs) if "spatial_ref" in kept.coords else {}
    reference["crs_wkt"] = wkt
    kept = kept.assign_coords(spatial_ref=xr.Variable((), 0, reference))
    kept.attrs = {name: array.attrs[name] for name in _KEPT_ATTRS if name in array.attrs}
    kept.encoding = {}
    return write_grid(kept, geobox_of(kept))


def _crs_name(crs: Any) -> str:
    return f"EPSG:{crs.epsg}" if crs.epsg else str(crs)[:40]


def latitude_of(array: xr.DataArray) -> float:
    """Latitude of the centre of a cube [degrees]."""
    return float(geobox_of(array).geographic_extent.centroid.points[0][1])


def _found_crs(array: xr.DataArray) -> Any:
    """CRS as the cube states it: grid mapping, stackstac's ``epsg``, or the attribute ``crs``."""
    for name in ("spatial_ref", "crs"):
        if name in array.coords:
            attrs = array.coords[name].attrs
            text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
            if text:
                return str(text)
    if "epsg" in array.coords and array.coords["epsg"].ndim == 0:
        return f"EPSG:{int(array.coords['epsg'].values)}"
    return array.attrs.get("crs")


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
        pixels = (values[0] - origin) / step
        if abs(pixels - round(pixels)) < 1e-3:
            array = array.assign_coords({dim: values + step / 2})
    return array
