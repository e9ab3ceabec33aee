"""Write cubes as STAC catalogues of cloud-optimised GeoTIFFs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._optional import require
from xharmonize._progress import computing
from xharmonize._replace import GrowMode, require_mode, require_new, written_aside
from xharmonize._urls import Held, Remote, find_itself, one_writer, read_all
from xharmonize.cube.contract import REFLECTANCE, TIME_COORDS
from xharmonize.cube.door import as_series, at_door, is_result
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import RadiometryError, StoreError
from xharmonize.io.cog.geotiffs import (
    INT16_NODATA,
    INT16_SCALE,
    Layer,
    make_item,
    write_catalog,
    write_cog,
    write_json,
    write_root,
    write_styles,
)
from xharmonize.io.zarr.parts import as_dataset, require_coords
from xharmonize.sensors.spec import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence


CogDtype = Literal["float32", "int16"]
MODES = ("w-", "w", "upsert")
CURE = "mode='w' replaces it, mode='upsert' adds to it"


def to_cogs(
    cube: xr.DataArray | xr.Dataset,
    path: str | Path,
    *,
    collection: str | None = None,
    dtype: CogDtype | None = None,
    styles: bool = True,
    mode: GrowMode = "w-",
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | str:
    """Write one COG per date and band, one STAC item per date, and a static catalogue.

    ``<path>/catalog.json`` links to ``<collection>/collection.json``, which links to
    ``<item>/<item>.json`` next to ``<item>_<band>.tif``. Dates are computed one at a time.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) DataArray, or Dataset of such variables
        Cube with its contract and CRS. Companions (`qa`, `origin`, …) become separate assets. A
        result without dates, such as seasons by year or a fit, gets one item per label of its
        other dimensions; date values become days since 1970-01-01.
    path : str or Path
        Directory, or URL of one in an object store (``"s3://bucket/cogs"``), where one writer is
        let in at a time and ``"w"`` replaces nothing. What holds files from elsewhere is never
        touched.
    collection : str, optional
        STAC collection id. Default: the name of the directory.
    dtype : {"float32", "int16"}, optional
        Type of floating-point variables: unscaled (default float32), or integers in steps of 1e-4
        with nodata -32768; values beyond ±3.2767 become nodata. Encoded digital numbers keep their
        integer type, scale, offset and nodata.
    styles : bool
        Whether to write a QGIS style next to each file of reflectance or an index and, if there
        are red, green and blue, a true-colour composite ``<item>_rgb.vrt`` of them.
    mode : {"w-", "w", "upsert"}
        ``"w-"`` creates a catalogue and fails if the directory is not empty. ``"w"`` replaces a
        catalogue written by this function once the new one is complete. ``"upsert"`` adds to it:
        items of the same name are replaced, others kept.
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Files are put by this process.

    Returns
    -------
    Path or str
        Path or URL of ``catalog.json``, which is written last.

    Raises
    ------
    StoreError
        If the directory is not empty (``"w-"``) or has other contents, or if two dates would get
        the same item name; if another process writes to the URL, or it cannot be reached.
    RadiometryError
        If `dtype` is given for encoded digital numbers.
    ContractError, GridError
        If the cube lacks contract coordinates or a grid.

    Examples
    --------
    >>> from xharmonize.io.cog.opening import open_cogs
    >>> from xharmonize.testing import example_cube
    >>> ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    >>> catalog = to_cogs(ndvi, "ndvi-cogs")
    >>> open_cogs("ndvi-cogs").sizes["time"]
    3
    """
    require("pystac", extra="stac")
    require_mode(mode, MODES)
    folder = find_itself(path, storage_options)
    if isinstance(folder, Path):
        _require_writable(folder, mode)
    cube = at_door(cube)
    dataset = as_dataset(cube)
    if is_result(cube):
        dataset = _entries(dataset, _slug(collection or folder.name), dtype)
    else:
        require_coords(dataset)
    _check_dtype(dataset, dtype)
    dataset = _north_up(dataset)
    names = _item_names(dataset)
    files = Counter(layer.name for layer in _layers(dataset.isel(time=0), dtype))
    if max(files.values()) > 1:
        raise StoreError(
            f"two layers would be written as {files.most_common(1)[0][0]!r}",
            cure="rename one of them",
        )
    write = partial(
        _write_dates, dataset, names, dtype=dtype, styles=styles, history=_history(cube, dataset)
    )
    group = _slug(collection or folder.name)
    with computing(f"Writing {folder.name}", progress):
        if isinstance(folder, Remote):
            with one_writer(folder) as held:
                require_addable(folder, mode)
                return str(write(folder, group, held=held))
        if mode == "upsert":
            write(folder, group)
        else:
            with written_aside(folder, mode, cure=CURE) as new:
                write(new, group)
        return folder / "catalog.json"


def _write_dates(
    dataset: xr.Dataset,
    names: Sequence[str],
    folder: Path | Remote,
    group: str,
    *,
    dtype: CogDtype | None,
    styles: bool,
    history: str,
    held: Held | None = None,
) -> Path | Remote:
    """Write the dates to a folder, and a catalogue of them while the lock is still held."""
    geobox = geobox_of(dataset)
    # Write an empty catalogue first, so that an incomplete folder is recognised as ours.
    write_root(folder)
    for i, name in enumerate(names):
        date = dataset.isel(time=i).compute()
        target = folder / group / name
        layers = _write_date(date, target, dtype=dtype, geobox=geobox, group=group, history=history)
        if styles:
            write_styles(target, name, layers, geobox)
    if held is not None:
        held.require()
    return write_catalog(folder, collection=group, description=_description(dataset))


def _entries(result: xr.Dataset, name: str, dtype: CogDtype | None) -> xr.Dataset:
    if dtype == "int16":
        raise StoreError(
            "dtype='int16' holds reflectance and indices, a result has days and other units too",
            cure="leave dtype out",
        )
    return as_series(result, name)


def _write_date(
    date: xr.Dataset,
    folder: Path | Remote,
    *,
    dtype: CogDtype | None,
    geobox: Any,
    group: str,
    history: str,
) -> list[Layer]:
    """Write the files of one date, then its item, and return what the files hold."""
    step = {name: str(date[name].values) for name in TIME_COORDS}
    time = pd.Timestamp(date["time"].item())
    tags = {"TIFFTAG_DATETIME": time.strftime("%Y:%m:%d %H:%M:%S"), **step}
    layers = _layers(date, dtype)
    for layer in layers:
        array = date[layer.variable]
        pixels = array if layer.band is None else array.sel(band=layer.band)
        write_cog(
            folder,
            f"{folder.name}_{layer.name}.tif",
            pixels.transpose("y", "x").values,
            layer,
            crs=geobox.crs.to_wkt(),
            transform=geobox.transform,
            tags=tags,
        )
    item = make_item(
        folder.name, step, layers, time=time, geobox=geobox, collection=group, history=history
    )
    write_json(folder, f"{folder.name}.json", item)
    return layers


def _layers(date: xr.Dataset, dtype: CogDtype | None) -> list[Layer]:
    return [
        _layer(date, str(name), band, dtype)
        for name, array in date.data_vars.items()
        for band in (map(str, array["band"].values) if "band" in array.dims else [None])
    ]


def _layer(date: xr.Dataset, name: str, band: str | None, dtype: CogDtype | None) -> Layer:
    array = date[name]
    is_main = band is not None and (name == REFLECTANCE or len(date.data_vars) == 1)
    is_float = array.dtype.kind == "f"
    scale, offset, nodata = 1.0, 0.0, float("nan") if is_float else None
    if is_float and dtype == "int16":
        scale, nodata = INT16_SCALE, float(INT16_NODATA)
    elif band is not None and not is_float and is_main and "scale" in date.coords:
        at = date.sel(band=band)
        scale, offset, nodata = (float(at[key]) for key in ("scale", "offset", "nodata"))
    label = name if band is None else band if is_main else f"{name}_{band}"
    flags = {
        key: str(array.attrs[key])
        for key in ("flag_masks", "flag_values", "flag_meanings")
        if key in array.attrs
    }
    return Layer(
        name=_slug(label),
        variable=name,
        band=band,
        dtype=(dtype or "float32") if is_float else _integer_dtype(array.dtype),
        scale=scale,
        offset=offset,
        nodata=nodata,
        unit=str(array.attrs.get("units", "1")),
        description=" ".join(filter(None, [str(array.attrs.get("long_name", name)), band])),
        resampling="average" if is_float or is_main else "nearest",
        tags=flags,
    )


def _integer_dtype(dtype: np.dtype[Any]) -> str:
    return "uint8" if dtype.kind == "b" else str(dtype)


def _check_dtype(dataset: xr.Dataset, dtype: CogDtype | None) -> None:
    if dtype not in (None, "float32", "int16"):
        raise StoreError(f"dtype is {dtype!r}", cure="it is 'float32' or 'int16'")
    is_encoded = "is_decoded" in dataset.coords and not bool(dataset["is_decoded"].values.all())
    if dtype is not None and is_encoded:
        raise RadiometryError(
            "is for reflectance, the cube holds digital numbers",
            cure="call cube.harmonize.decode() first, or leave dtype out to keep them",
            argument="dtype",
            value=dtype,
        )


def _north_up(dataset: xr.Dataset) -> xr.Dataset:
    y = dataset["y"].values
    is_ascending = y.size > 1 and y[-1] > y[0]
    return dataset.isel(y=slice(None, None, -1)) if is_ascending else dataset


def _item_names(dataset: xr.Dataset) -> list[str]:
    """Name each date after its item, or by sensor and time if that is unknown or not unique."""
    ids = [str(value) for value in dataset["item_id"].values]
    count = Counter(ids)
    stamps = [pd.Timestamp(t).strftime("%Y%m%dT%H%M%S") for t in dataset["time"].values]
    names = []
    for name, stamp, sensor in zip(ids, stamps, dataset["sensor"].values):
        stem = str(sensor) if name == UNKNOWN else name
        is_unique = name != UNKNOWN and count[name] == 1
        names.append(_slug(stem if is_unique else f"{stem}_{stamp}"))
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise StoreError(
            f"two dates would be written as item {twice[0]!r}", cure="merge them or drop one"
        )
    return names


def _slug(name: str) -> str:
    return re.sub(r"[^\w.\-]+", "_", name)[:180].strip(".") or "cube"


def _history(cube: xr.DataArray | xr.Dataset, dataset: xr.Dataset) -> str:
    sources: Sequence[Any] = [cube, *dataset.data_vars.values()]
    lines = [line for s in sources for line in str(s.attrs.get("history", "")).splitlines()]
    return "\n".join(dict.fromkeys(lines))


def _description(dataset: xr.Dataset) -> str:
    names = ", ".join(str(v.attrs.get("long_name", n)) for n, v in dataset.data_vars.items())
    sensors = ", ".join(dict.fromkeys(str(s) for s in dataset["sensor"].values))
    return f"{names} from {sensors}, written by xharmonize"


def _require_writable(folder: Path, mode: GrowMode) -> None:
    if folder.is_file():
        raise StoreError(f"{folder} is a file", cure="give a directory")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not is_written_here(folder):
        raise StoreError(
            f"{folder} is not empty and holds no catalogue written by xharmonize",
            cure="choose another directory",
        )
    require_new(folder, mode, cure=CURE)


def require_addable(folder: Remote, mode: GrowMode) -> None:
    """Refuse a URL that holds other things or, unless adding, more than a killed writer left."""
    if folder.is_occupied() and not is_written_here(folder):
        raise StoreError(
            f"{folder} is not empty and holds no catalogue written by xharmonize",
            cure="choose another URL",
        )
    if mode != "upsert" and folder.read_all("*/collection.json"):
        raise StoreError(
            f"{folder} exists, and object stores cannot exchange a folder for another in one step",
            cure="mode='upsert' adds to it; to replace it name another URL",
        )


def is_written_here(folder: Path | Remote) -> bool:
    """Whether the contents of a folder were written by `to_cogs`."""
    found = read_all(folder, "catalog.json").get("catalog.json", b"")
    try:
        catalog = json.loads(found)
    except ValueError:
        return False
    return isinstance(catalog, dict) and bool(catalog.get("xharmonize:catalog"))
