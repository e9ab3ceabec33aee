"""Catalogues of an index or of other layers without bands, opened as the cube they were."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.catalog.documents import read_file
from xharmonize.cube.catalog.fields import as_mapping, malformed
from xharmonize.cube.catalog.items import check_item
from xharmonize.cube.catalog.projection import crs_stated, grid_stated
from xharmonize.cube.catalog.scene import Grid
from xharmonize.cube.catalog.settle import sensing_time
from xharmonize.cube.cog.write import is_written_here
from xharmonize.cube.contract import TIME_COORDS
from xharmonize.cube.geobox import write_grid
from xharmonize.cube.load.files import read_header, why_misplaced
from xharmonize.errors import AssetReadError, CatalogError, GridError
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

CHUNK = 2048  # pixels a side

Item = Mapping[str, Any]


def open_cogs(path: str | Path, *, collection: str | None = None) -> xr.DataArray | xr.Dataset:
    """Open COGs that `to_cogs` wrote of an index (or other layers without bands), lazily.

    Reflectance has bands, and is opened by `open_stac`.

    Parameters
    ----------
    path : str or Path
        Directory, or its ``catalog.json``.
    collection : str, optional
        Which, where there are several.

    Returns
    -------
    DataArray or Dataset
        (time, y, x), sorted by time, with the contract along time, units and history; a Dataset
        where items have several assets. Numbers are decoded to float32, NaN where nodata; flags
        stay integers.

    Raises
    ------
    CatalogError
        If there is no such catalogue, it holds several collections and none is named, or its items
        have bands or different assets.
    GridError
        If the items lie on different grids.
    AssetReadError
        When computed, if a file lies elsewhere than its item says.

    Examples
    --------
    >>> from xharmonize.cube.cog.write import to_cogs
    >>> from xharmonize.testing import example_cube
    >>> ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    >>> catalog = to_cogs(ndvi, "ndvi-cogs")
    >>> open_cogs("ndvi-cogs").sizes["time"]
    3
    """
    folder = Path(path).expanduser().resolve()
    folder = folder.parent if folder.name == "catalog.json" else folder
    group = _collection(folder, collection)
    items = sorted(
        map(_read_item, group.glob("*/*.json")),
        key=lambda item: (sensing_time(item), item["id"]),
    )
    if not items:
        raise CatalogError(f"{group} holds no items; write them again with to_cogs")
    _require_same(items, group)
    coords = _coords(items)
    arrays = {name: _layer(group, items, name, coords) for name in items[0]["assets"]}
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return xr.Dataset(arrays)


def _collection(folder: Path, name: str | None) -> Path:
    if not is_written_here(folder):
        raise CatalogError(f"{folder} holds no catalogue written by to_cogs")
    known = sorted(file.parent.name for file in folder.glob("*/collection.json"))
    if name is None and len(known) == 1:
        return folder / known[0]
    if name is None or name not in known:
        raise CatalogError(f"collection={name!r}; {folder} holds {known}: name one of them")
    return folder / name


def _read_item(file: Path) -> Item:
    """An item that has what `to_cogs` wrote."""
    item = read_file(str(file))
    name = check_item(item)
    for field in ("proj:transform", "proj:shape"):
        if item["properties"].get(field) is None:
            raise CatalogError(f"{name} in {str(file)!r} has no {field}; write it again")
    grid_stated(item["properties"], f"{name}: properties")
    crs_stated(item["properties"], f"{name}: properties")
    for key, asset in item["assets"].items():
        own = as_mapping(asset, f"{name}: asset {key!r}")
        for field in ("href", "data_type", "unit", "title"):
            if not isinstance(own.get(field), str):
                raise malformed(f"{name}: asset {key!r}: {field}", own.get(field), "text")
    return dict(item)


def _require_same(items: Sequence[Item], group: Path) -> None:
    first = items[0]
    grid = [first["properties"].get(key) for key in ("proj:transform", "proj:shape", "proj:code")]
    for item in items:
        if any("bands" in asset for asset in item["assets"].values()):
            raise CatalogError(
                f"item {item['id']!r} of {group} has bands; open it with xh.open_stac"
            )
        if set(item["assets"]) != set(first["assets"]):
            raise CatalogError(
                f"item {item['id']!r} has assets {sorted(item['assets'])}, {first['id']!r} "
                f"{sorted(first['assets'])}; write them as collections of their own"
            )
        own = [item["properties"].get(key) for key in ("proj:transform", "proj:shape", "proj:code")]
        if own != grid:
            raise GridError(f"items {first['id']!r} and {item['id']!r} lie on different grids")


def _coords(items: Sequence[Item]) -> dict[str, Any]:
    """Time and the contract along it."""
    times = pd.to_datetime([item["properties"]["datetime"] for item in items], utc=True)
    standard = {"platform": "platform", "processing_baseline": "processing:version"}
    coords: dict[str, Any] = {"time": times.tz_localize(None).to_numpy("datetime64[ns]")}
    for name in TIME_COORDS:
        key = standard.get(name, f"xharmonize:{name}")
        values = [str(item["properties"].get(key, UNKNOWN)) for item in items]
        coords[name] = ("time", np.array(values))
    return coords


def _layer(
    group: Path, items: Sequence[Item], name: str, coords: Mapping[str, Any]
) -> xr.DataArray:
    """One asset of all items."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    files = [str((group / item["id"] / item["assets"][name]["href"]).resolve()) for item in items]
    about = items[0]["properties"]
    asset = items[0]["assets"][name]
    is_real = asset["data_type"].startswith("float") or "nodata" in asset
    dtype = np.dtype(np.float32 if is_real else asset["data_type"])
    height, width = about["proj:shape"]
    chunks = da.core.normalize_chunks((1, CHUNK, CHUNK), (len(items), height, width), dtype=dtype)
    crs = about.get("proj:code") or about["proj:wkt2"]
    grid = Grid(transform=tuple(about["proj:transform"][:6]), shape=(height, width))
    data = da.map_blocks(
        _read,
        files=files,
        grid=grid,
        crs=crs,
        is_real=is_real,
        dtype=dtype,
        chunks=chunks,
        meta=np.empty((0, 0, 0), dtype),
        name=f"open-cogs-{name}-{tokenize(files, [Path(f).stat().st_mtime_ns for f in files])}",
    )
    attrs: dict[str, Any] = {"units": asset["unit"], "long_name": asset["title"]}
    attrs |= {} if is_real else _flags(files[0])
    attrs |= {"history": about["processing:lineage"]} if "processing:lineage" in about else {}
    array = xr.DataArray(data, dims=("time", "y", "x"), coords=dict(coords), name=name, attrs=attrs)
    box = GeoBox((height, width), Affine(*about["proj:transform"]), crs)
    return write_grid(array, box)


def _flags(file: str) -> dict[str, Any]:
    """CF attributes of flags, kept as tags of the files."""
    import rasterio

    with rasterio.open(file, driver="GTiff") as first:
        tags = first.tags(1)
    numbers = {n: re.findall(r"\d+", tags[n]) for n in ("flag_masks", "flag_values") if n in tags}
    found: dict[str, Any] = {name: list(map(int, values)) for name, values in numbers.items()}
    return found | {n: tags[n] for n in ("flag_meanings",) if n in tags}


def _read(
    *,
    files: Sequence[str],
    grid: Grid,
    crs: str,
    is_real: bool,
    block_info: Mapping[Any, Any] | None = None,
) -> AnyArray:
    """Read one block of one date, decoded where it holds real values."""
    import rasterio
    from rasterio.windows import Window

    if not block_info:
        return np.empty((0, 0, 0), np.float32)
    (date, _), (top, bottom), (left, right) = block_info[None]["array-location"]
    reason = why_misplaced(read_header(files[date]), grid, crs)
    if reason:
        raise AssetReadError(
            f"{files[date]} lies elsewhere than its item says: {reason}; write it again with "
            "to_cogs"
        )
    with rasterio.open(files[date], driver="GTiff") as file:
        numbers = file.read(1, window=Window(left, top, right - left, bottom - top))
        scale, offset, nodata = file.scales[0], file.offsets[0], file.nodata
    if not is_real:
        return np.asarray(numbers[None])
    values = numbers.astype(np.float64) * scale + offset
    values[numbers == nodata] = np.nan
    return np.asarray(values[None], np.float32)
