"""Run a recipe: the same steps as the Python calls, each product once, in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import xarray as xr

import xharmonize as xh
from xharmonize._optional import import_function, require, require_installed
from xharmonize._replace import GrowMode, require_mode
from xharmonize._urls import Remote, find, named, options_for
from xharmonize.cube.check import conclude_check, count_contradictions
from xharmonize.cube.contract import main_layer, with_history
from xharmonize.cube.indices import bands_for
from xharmonize.errors import GridError, OptionError, RadiometryError
from xharmonize.harmonizers.registry import as_harmonizer
from xharmonize.io.stac.grid import read_margin
from xharmonize.io.zarr.layout import CHUNK
from xharmonize.io.zarr.missing import add_missing, lacking
from xharmonize.recipe.folder import RECIPE, begin, digest_of, finished, local, make_room, mark
from xharmonize.recipe.place import box_around, crop_to
from xharmonize.recipe.settings import Recipe, Source, read_recipe

Cube: TypeAlias = xr.DataArray | xr.Dataset


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with its cubes opened; nothing has been read but metadata.

    Attributes
    ----------
    source, target, harmonized : cube
        Lazy; `target` is None without the table ``[target]``.
    series : Dataset
        The dense series: reflectance, or the index.
    """

    recipe: Recipe
    source: Cube
    target: Cube | None
    harmonized: Cube
    series: xr.Dataset

    @cached_property
    def digest(self) -> str:
        """Of the recipe, for comparison."""
        return digest_of(self.recipe)

    @property
    def products(self) -> tuple[str, ...]:
        """Names of what will be written, in this order."""
        recipe, output = self.recipe, self.recipe.output
        wanted = {
            "series.zarr": True,
            "composite.zarr": recipe.composite is not None,
            "smooth.zarr": recipe.smooth is not None,
            "seasons.zarr": recipe.phenology is not None,
            "fields.csv": recipe.table is not None,
            "cogs": output.cogs,
            "figures": output.figures,
            "report.html": output.report,
        }
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def describe(self) -> dict[str, str]:
        """Return dates, pixels, bytes and tasks, by label."""
        layer = main_layer(self.series)
        graph: Any = self.series.__dask_graph__()  # type: ignore[no-untyped-call]
        cubes = {"source": self.source, "target": self.target, "series": layer}
        told = {
            name: " × ".join(f"{n} {dim}" for dim, n in cube.sizes.items())
            for name, cube in cubes.items()
            if cube is not None
        }
        step = abs(float(layer["x"][1] - layer["x"][0])) if layer.sizes["x"] > 1 else float("nan")
        return told | {
            "pixel": f"{step:g}",
            "sensors": ", ".join(sorted(set(self.series["sensor"].values.astype(str).tolist()))),
            "size in memory": f"{layer.nbytes / 2**20:.0f} MiB",
            "tasks": str(len(graph or ())),
            "writes": ", ".join(self.products),
        }


@dataclass(frozen=True, kw_only=True)
class Done:
    """What running a recipe gave.

    Attributes
    ----------
    folder : Path or str
        Directory or URL.
    written, kept : tuple of str
        Products written now, and those that were there from an earlier run of the same recipe.
    n_dates : int
        Dates of the series that were written now.
    storage_options : mapping, optional
        What the folder's URL was given.
    """

    folder: Path | str
    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    n_dates: int = 0
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def series(self) -> xr.Dataset:
        """The dense series, opened."""
        return _opened(find(self.folder, self.storage_options) / "series.zarr")


def plan(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Plan:
    """Open the cubes of a recipe and build its graph; reads metadata only, but for ``auto``.

    Parameters
    ----------
    recipe : path, mapping or Recipe
    storage_options : mapping, optional
        For a model at a URL: what fsspec's plugin takes.

    Raises
    ------
    OptionError
        If the recipe is not valid; see `read_recipe`.
    XHarmonizeError
        As the functions that the tables stand for.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    _require_extras(recipe)
    model: Any = recipe.model.name
    if model != "auto":  # never a Dataset, whose == compares values
        options = options_for(model, storage_options)
        model = as_harmonizer(xh.load_model(model, storage_options=options))
    target = None if recipe.target is None else _open(recipe, recipe.target, model=None)
    source = _open(recipe, recipe.source, model=model)
    harmonized, series = _harmonize(recipe, model, source, target)
    if recipe.screen is not None:
        series = xh.series.screen_outliers(series, **recipe.screen.options())
    if recipe.series.index is not None:
        series = xh.index(series, recipe.series.index)
    return Plan(recipe=recipe, source=source, target=target, harmonized=harmonized, series=series)


def run(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    mode: GrowMode = "w-",
    progress: Callable[[str], None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Done:
    """Run a recipe: open, mask, harmonise, merge, and write all that it asks for.

    Parameters
    ----------
    recipe : path, mapping or Recipe
        A TOML file or its tables; ``xharmonize init`` writes an example with every key.
    mode : {"w-", "w", "upsert"}
        What to do with a folder that holds another recipe's products: refuse, or replace them.
        Products of the same recipe that are whole are kept: a run that was interrupted goes on.
        ``"upsert"`` also looks for dates that the series lacks, adds them (a few per commit), and
        then makes anew what follows from the series; the recipe may differ in ``datetime``.
    progress : callable, optional
        Is told each step.
    storage_options : mapping, optional
        Where the folder or the model is a URL: what fsspec's plugin takes. They are kept nowhere.
        At a URL nothing of another recipe is replaced; what follows from a series that has grown
        is removed, and then made anew.

    Returns
    -------
    Done
        What was written, and the folder: the series as Zarr, and the other products that the
        recipe asks for. Each store keeps the recipe in its attributes, and ``recipe.json`` lies
        beside them.

    Raises
    ------
    OptionError
        If the recipe is not valid.
    StoreError
        If the folder holds something else.
    RadiometryError
        If pixels contradict the metadata and ``[series] check`` is not false.

    Examples
    --------
    >>> import xharmonize as xh
    >>> done = xh.run("recipe.toml")  # doctest: +SKIP
    >>> done.series  # doctest: +SKIP
    """
    require_mode(mode, ("w-", "w", "upsert"))
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    tell = progress or (lambda _: None)
    name = recipe.output.folder
    folder = find(name, options_for(name, storage_options))
    done = finished(folder, recipe, mode, products=_WRITERS)
    tell("opening")
    job = plan(recipe, storage_options=storage_options)
    n_dates = _n_due(job, folder, done, mode)
    if n_dates and done:  # all follows from the series
        done = set()
        mark(folder, done)
    kept = tuple(name for name in job.products if name in done)
    left = [name for name in job.products if name not in done]
    if left and recipe.series.check and "series.zarr" in left:
        tell("comparing pixels with metadata")
        _require_agreement(job)
    begin(folder, recipe)
    for name in left:
        tell(f"writing {name}")
        grows = name == "series.zarr" and mode == "upsert"
        (_grow_series if grows else _WRITERS[name])(job, folder, name)
        done.add(name)
        mark(folder, sorted(done))
    where = folder.url if isinstance(folder, Remote) else folder
    return Done(
        folder=where,
        written=tuple(left),
        kept=kept,
        n_dates=n_dates,
        storage_options=folder.options if isinstance(folder, Remote) else None,
    )


def _n_due(job: Plan, folder: Path | Remote, finished: set[str], mode: GrowMode) -> int:
    """Count the dates to write: what the series lacks where it may grow, else all or none."""
    n_all = int(job.series.sizes["time"])
    if mode != "upsert":
        return 0 if "series.zarr" in finished else n_all
    n_missing = lacking(job.series, folder / "series.zarr").size
    return n_missing if _grows(job.recipe) or not n_missing else n_all


def _require_extras(recipe: Recipe) -> None:
    """Raise before anything is read where a product needs what is not installed."""
    require_installed("pystac", extra="stac")
    if recipe.output.figures or recipe.output.report:
        require_installed("matplotlib", extra="plot")


def _open(recipe: Recipe, source: Source, *, model: Any) -> Cube:
    area = recipe.area
    takes_native = model is not None and getattr(model, "changes_grid", False)
    polygons = None if area.geometry is None else read_polygons_file(area.geometry)
    box = box_around(area, source)
    options: dict[str, Any] = {
        "collection": source.collection,
        "datetime": area.datetime,
        "bbox": area.bbox if box is None else box,
        "geometry": polygons if box is None else None,
        "pad": model if box is not None and _looks_around(model) else None,
        "bands": source.bands or _bands_of(recipe, model),
        "crs": area.crs,
        "resolution": None if takes_native else _resolution(recipe, source),
        "mask": xh.Mask(names=source.mask, dilate=source.dilate, dilate_unit="metres")
        if source.mask
        else None,
        "platform": source.platform,
        "query": source.query,
        "modifier": None if source.modifier is None else import_function(source.modifier),
        "on_error": "skip" if source.skip_unreadable else "raise",
    }
    cube: Any = xh.open_stac(source.items, **options)
    if box is not None and polygons is not None:
        cube = xh.clip(cube, polygons, crop=False)
    if box is not None and source is recipe.target:
        cube = crop_to(cube, area)
    opened: Cube = cube
    return opened


def _looks_around(model: Any) -> bool:
    """Whether a model looks at more than a pixel, so that borders need what lies around them."""
    if model is None or model == "auto":
        return False
    try:
        read_margin(model)
    except GridError:
        return False
    return True


def _resolution(recipe: Recipe, source: Source) -> float | None:
    """Pixel size at which a cube is opened: the source keeps its own, and is averaged later."""
    return None if source is recipe.source else recipe.area.resolution


def _bands_of(recipe: Recipe, model: Any) -> tuple[str, ...] | None:
    """Bands that the model needs or, where it maps bands one by one, those of the index."""
    if model == "auto":
        return None
    if model is not None and model.needs_all_bands:
        return tuple(model.bands)
    index = recipe.series.index
    if index is None:
        return None if model is None else tuple(model.bands)
    return bands_for(index)


def _harmonize(recipe: Recipe, model: Any, source: Any, target: Any) -> tuple[Any, Any]:
    """The source in the target's bandpass, and the dense series."""
    if model == "auto":
        if target is None:
            raise OptionError(
                "[model] auto learns from pairs, and there is no [target]", cure="write one"
            )
        series = xh.densify(target, source, model="auto")
        fit = xh.load_model(series)
        return xh.to_sensor(source, str(target["sensor"].values[0]), fit, like=target), series
    if target is None:
        harmonized = xh.to_sensor(source, recipe.model.to, model, resolution=recipe.area.resolution)
        harmonized = crop_to(harmonized, recipe.area)
        return harmonized, xh.densify(harmonized)
    sensor = str(target["sensor"].values[0])
    harmonized = xh.to_sensor(source, sensor, model, like=target)
    bands = [b for b in target["band"].values.tolist() if b in harmonized["band"].values.tolist()]
    return harmonized, xh.densify(target.sel(band=bands), harmonized.sel(band=bands))


def _require_agreement(job: Plan) -> None:
    for cube in (job.source, job.target):
        if cube is None:
            continue
        table = xh.check_radiometry(cube)
        if count_contradictions(table):
            raise RadiometryError(
                f"{conclude_check(table)} and nothing was written",
                cure="read another collection, or write check = false in [series]",
            )


def _stored(job: Plan, cube: Any, place: Path | Remote) -> None:
    """Write a cube with the recipe in its attributes."""
    make_room(place)
    xh.to_zarr(_signed(job, cube), mode="w", **named(place))


def _signed(job: Plan, cube: Any) -> Any:
    text = json.dumps(job.recipe.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    attrs = with_history(dict(cube.attrs), f"recipe {job.digest[:12]}")
    return cube.assign_attrs(attrs | {RECIPE: text})


def _opened(place: Path | Remote, *, chunks: Mapping[str, int] | None = None) -> xr.Dataset:
    series: Any = xh.open_series(chunks=chunks, **named(place))
    return series if isinstance(series, xr.Dataset) else series.to_dataset()


def _along_time(recipe: Recipe) -> dict[str, int]:
    """Blocks of all dates and one chunk of the store, for what works along time.

    Blocks of whole shards would all be held until the last date is read: a series of years would
    not fit into a worker.
    """
    bands = {} if recipe.series.index is not None else {"band": 1}
    return {"time": -1, **bands, "y": CHUNK, "x": CHUNK}


def _whole_series(job: Plan, folder: Path | Remote) -> xr.Dataset:
    return _opened(folder / "series.zarr", chunks=_along_time(job.recipe))


def _best_of(
    job: Plan, folder: Path | Remote, *, chunks: Mapping[str, int] | None = None
) -> xr.Dataset:
    """The last stage of the series that the recipe asks for: smooth, composite, or as it is."""
    stages = ("smooth.zarr", "composite.zarr", "series.zarr")
    name = next(name for name in stages if name in job.products)
    return _opened(folder / name, chunks=chunks)


def _write_series(job: Plan, folder: Path | Remote, name: str) -> None:
    _stored(job, job.series, folder / name)


def _grow_series(job: Plan, folder: Path | Remote, name: str) -> None:
    """Add the dates that the store lacks; all anew where a date depends on the others."""
    if _grows(job.recipe):
        add_missing(_signed(job, job.series), folder / name)
    else:
        _write_series(job, folder, name)


def _grows(recipe: Recipe) -> bool:
    """Whether dates can be added one by one: none is judged, and no model learnt, by the others."""
    return recipe.screen is None and recipe.model.name != "auto"


def _write_composite(job: Plan, folder: Path | Remote, name: str) -> None:
    made = xh.series.composite(_whole_series(job, folder), **_given(job.recipe.composite))
    _stored(job, made, folder / name)


def _write_smooth(job: Plan, folder: Path | Remote, name: str) -> None:
    made = xh.series.smooth(_whole_series(job, folder), **_given(job.recipe.smooth))
    _stored(job, made, folder / name)


def _write_seasons(job: Plan, folder: Path | Remote, name: str) -> None:
    whole = _best_of(job, folder, chunks=_along_time(job.recipe))
    seasons = xh.series.phenology(whole, **_given(job.recipe.phenology))
    _stored(job, seasons, folder / name)


def _write_table(job: Plan, folder: Path | Remote, name: str) -> None:
    table = job.recipe.table
    if table is not None:
        polygons = read_polygons_file(table.fields)
        with local(folder / name) as path:
            best = _best_of(job, folder)
            xh.series.to_table(best, polygons, path=path, mode="w", **table.options())


def _write_cogs(job: Plan, folder: Path | Remote, name: str) -> None:
    # At a URL items are replaced one by one: no date is away meanwhile.
    mode: GrowMode = "upsert" if isinstance(folder, Remote) else "w"
    xh.to_cogs(_best_of(job, folder), mode=mode, **named(folder / name))


def _write_figures(job: Plan, folder: Path | Remote, name: str) -> None:
    from xharmonize.plot.overview import draw

    smoothed = _best_of(job, folder) if job.recipe.smooth is not None else None
    with local(folder / name) as path:
        draw(
            path,
            source=job.source,
            harmonized=job.harmonized,
            target=job.target,
            series=_opened(folder / "series.zarr"),
            point=job.recipe.output.point,
            smoothed=smoothed,
        )


def _write_report(_: Plan, folder: Path | Remote, name: str) -> None:
    with local(folder / name) as path:
        xh.write_report(_opened(folder / "series.zarr"), path, title="Dense series", mode="w")


def _given(part: Any) -> dict[str, Any]:
    options: dict[str, Any] = part.options()
    return options


_WRITERS: dict[str, Callable[[Plan, Path | Remote, str], None]] = {
    "series.zarr": _write_series,
    "composite.zarr": _write_composite,
    "smooth.zarr": _write_smooth,
    "seasons.zarr": _write_seasons,
    "fields.csv": _write_table,
    "cogs": _write_cogs,
    "figures": _write_figures,
    "report.html": _write_report,
}


def read_polygons_file(path: str | os.PathLike[str]) -> Any:
    """Read polygons: GeoJSON, or any file that geopandas reads.

    Raises
    ------
    OptionError
        If the file cannot be read.
    """
    try:
        if Path(path).suffix.lower() in (".json", ".geojson"):
            return json.loads(Path(path).read_text(encoding="utf-8"))
        return require("geopandas", extra="all").read_file(path)
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {error}", cure="give GeoJSON") from error
