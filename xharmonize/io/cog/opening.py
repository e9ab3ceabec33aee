"""Open an index or other layers without bands that `to_cogs` wrote, from a folder or a URL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from xharmonize._urls import Remote, find_itself, read_all
from xharmonize.cube.contract import TIME_COORDS
from xharmonize.cube.geobox import write_grid
from xharmonize.errors import AssetReadError, CatalogError, GridError
from xharmonize.io.cog.catalog import is_written_here
from xharmonize.io.stac.fields import Grid, as_mapping, crs_stated, grid_stated, malformed
from xharmonize.io.stac.files import Header, read_header, why_misplaced
from xharmonize.io.stac.items import check_item
from xharmonize.io.stac.settle import sensing_time
from xharmonize.io.stac.sources import parse, read_file
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

CHUNK = 2048  # pixels a side

Item = Mapping[str, Any]


def open_cogs(
    path: str | Path,
    *,
    collection: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray | xr.Dataset:
    """Open an index, or other layers without bands, that `to_cogs` wrote; lazy.

    Use `open_stac` for reflectance, which has bands.

    Parameters
    ----------
    path : str or Path
        Directory or URL, or its ``catalog.json``.
    collection : str, optional
        Collection to open, if there are several.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Workers get them with their tasks, and read the parts
        of files that they need.

    Returns
    -------
    DataArray or Dataset
        (time, y, x), sorted by time, with the contract along time, units and history; a Dataset
        if items have several assets. Values are decoded to float32, NaN where nodata; flags stay
        integers.

    Raises
    ------
    CatalogError
        If there is no such catalogue, it has several collections and none is named, or its items
        have bands or different assets.
    GridError
        If the items are on different grids.
    AssetReadError
        When computed, if the grid of a file differs from that of its item.

    Examples
    --------
    >>> from xharmonize.io.cog.catalog import to_cogs
    >>> from xharmonize.testing import example_cube
    >>> ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    >>> catalog = to_cogs(ndvi, "ndvi-cogs")
    >>> open_cogs("ndvi-cogs").sizes["time"]
    3
    """
    folder = find_itself(path, storage_options)
    folder = folder.parent if folder.name == "catalog.json" else folder
    group = _collection(folder, collection)
    items = sorted(_items(group), key=lambda item: (sensing_time(item), item["id"]))
    if not items:
        raise CatalogError(f"{group} holds no items", cure="write them again with to_cogs")
    _require_same(items, group)
    coords = _coords(items)
    arrays = {name: _read_layer(group, items, name, coords) for name in items[0]["assets"]}
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return xr.Dataset(arrays)


def _items(group: Path | Remote) -> list[Item]:
    """All items, those at a URL read side by side."""
    if isinstance(group, Remote):
        found = group.read_all("*/*.json")
        return [_checked(parse(text, repr(name)), name) for name, text in found.items()]
    return [_checked(read_file(str(file)), str(file)) for file in group.glob("*/*.json")]


def _collection(folder: Path | Remote, name: str | None) -> Path | Remote:
    if not is_written_here(folder):
        raise CatalogError(f"{folder} holds no catalogue written by to_cogs")
    known = sorted(file.partition("/")[0] for file in read_all(folder, "*/collection.json"))
    if name is None and len(known) == 1:
        return folder / known[0]
    if name is None or name not in known:
        raise CatalogError(
            "", cure=f"{folder} holds {known}: name one of them", argument="collection", value=name
        )
    return folder / name


def _checked(item: Any, file: str) -> Item:
    """An item that has what `to_cogs` wrote."""
    name = check_item(item)
    for field in ("proj:transform", "proj:shape"):
        if item["properties"].get(field) is None:
            raise CatalogError(f"{name} in {file!r} has no {field}", cure="write it again")
    grid_stated(item["properties"], f"{name}: properties")
    crs_stated(item["properties"], f"{name}: properties")
    for key, asset in item["assets"].items():
        own = as_mapping(asset, f"{name}: asset {key!r}")
        for field in ("href", "data_type", "unit", "title"):
            if not isinstance(own.get(field), str):
                raise malformed(f"{name}: asset {key!r}: {field}", own.get(field), "text")
    return dict(item)


def _require_same(items: Sequence[Item], group: Path | Remote) -> None:
    first = items[0]
    grid = [first["properties"].get(key) for key in ("proj:transform", "proj:shape", "proj:code")]
    for item in items:
        if any("bands" in asset for asset in item["assets"].values()):
            raise CatalogError(
                f"of {group} has bands", cure="open it with xh.open_stac", item=item["id"]
            )
        if set(item["assets"]) != set(first["assets"]):
            raise CatalogError(
                f"has assets {sorted(item['assets'])}, {first['id']!r} {sorted(first['assets'])}",
                cure="write them as collections of their own",
                item=item["id"],
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


def _read_layer(
    group: Path | Remote, items: Sequence[Item], name: str, coords: Mapping[str, Any]
) -> xr.DataArray:
    """One asset of all items."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    files = [_file_of(group, item["id"], item["assets"][name]["href"]) for item in items]
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
        name=f"open-cogs-{name}-{tokenize(list(map(str, files)), _stamps(group, files))}",
    )
    attrs: dict[str, Any] = {"units": asset["unit"], "long_name": asset["title"]}
    attrs |= {} if is_real else _flags(files[0])
    attrs |= {"history": about["processing:lineage"]} if "processing:lineage" in about else {}
    array = xr.DataArray(data, dims=("time", "y", "x"), coords=dict(coords), name=name, attrs=attrs)
    box = GeoBox((height, width), Affine(*about["proj:transform"]), crs)
    return write_grid(array, box)


def _file_of(group: Path | Remote, item: str, href: str) -> str | Remote:
    if isinstance(group, Remote):
        return group / item / href.removeprefix("./")
    return str((group / item / href).resolve())


def _stamps(group: Path | Remote, files: Sequence[Any]) -> Any:
    """What changes when the files do."""
    if isinstance(group, Remote):
        found = group.stamps()
        return [found.get(file.url[len(group.url) + 1 :]) for file in files]
    return [Path(file).stat().st_mtime_ns for file in files]


@contextmanager
def _opened(file: str | Remote) -> Iterator[Any]:
    """A file opened by rasterio; at a URL by fsspec, so that both take the same options."""
    import rasterio

    if isinstance(file, str):
        with rasterio.open(file, driver="GTiff") as local:
            yield local
        return
    files, path = file.opened()
    with (
        file.reached(),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(path, driver="GTiff", opener=files) as remote,
    ):
        yield remote


def _header(file: str | Remote, opened: Any) -> Header:
    if isinstance(file, str):
        return read_header(file)
    return Header(
        grid=Grid(transform=tuple(opened.transform[:6]), shape=(opened.height, opened.width)),
        crs=opened.crs.to_wkt() if opened.crs else "",
        n_bands=opened.count,
        is_masked=False,
        nodata=opened.nodata,
        dtype=opened.dtypes[0],
    )


def _flags(file: str | Remote) -> dict[str, Any]:
    """CF attributes of flags, kept as tags of the files."""
    with _opened(file) as first:
        tags = first.tags(1)
    numbers = {n: re.findall(r"\d+", tags[n]) for n in ("flag_masks", "flag_values") if n in tags}
    found: dict[str, Any] = {name: list(map(int, values)) for name, values in numbers.items()}
    return found | {n: tags[n] for n in ("flag_meanings",) if n in tags}


def _read(
    *,
    files: Sequence[str | Remote],
    grid: Grid,
    crs: str,
    is_real: bool,
    block_info: Mapping[Any, Any] | None = None,
) -> AnyArray:
    """Read one block of one date, decoded where it holds real values."""
    from rasterio.windows import Window

    if not block_info:
        return np.empty((0, 0, 0), np.float32)
    (date, _), (top, bottom), (left, right) = block_info[None]["array-location"]
    with _opened(files[date]) as file:
        reason = why_misplaced(_header(files[date], file), grid, crs)
        if reason:
            raise AssetReadError(
                f"{files[date]} lies elsewhere than its item says: {reason}",
                cure="write it again with to_cogs",
            )
        numbers = file.read(1, window=Window(left, top, right - left, bottom - top))
        scale, offset, nodata = file.scales[0], file.offsets[0], file.nodata
    if not is_real:
        return np.asarray(numbers[None])
    values = numbers.astype(np.float64) * scale + offset
    values[numbers == nodata] = np.nan
    return np.asarray(values[None], np.float32)
