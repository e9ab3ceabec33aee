"""``xharmonize info``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xharmonize.cli import console
from xharmonize.cli.harmonize import parse_bbox
from xharmonize.cli.reading import Drivers, Schemes, optional_names

if TYPE_CHECKING:
    from xharmonize.cube.catalog.scene import Scene


def info(
    source: Annotated[
        str,
        typer.Argument(help="STAC API URL, static catalogue, file of items, or Zarr store."),
    ],
    collection: Annotated[str | None, typer.Option(help="Look at this collection only.")] = None,
    bbox: Annotated[str | None, typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.")] = None,
    datetime: Annotated[str | None, typer.Option(help="Date or period, e.g. 2018-06.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="Where items name no platform; see `harmonize`.")
    ] = None,
    drivers: Drivers = None,
    schemes: Schemes = None,
    items: Annotated[int, typer.Option(help="List so many items one by one; 0: none.", min=0)] = 20,
) -> None:
    """Say what a catalogue or a store holds, and what its numbers mean."""
    if is_store(source):
        _describe_store(source)
        return
    from xharmonize.cube.catalog.read import read_scenes

    scenes = read_scenes(
        source,
        collection=collection,
        datetime=datetime,
        bbox=parse_bbox(bbox),
        platform=platform,
        drivers=optional_names(drivers),
        schemes=optional_names(schemes),
    )
    console.print_table(group_rows(scenes), title="What it holds")
    print_bands(scenes)
    if items:
        console.print_table([item_row(scene) for scene in scenes[:items]], title="Items")
    if 0 < items < len(scenes):
        console.say(f"… {len(scenes) - items} more: --items {len(scenes)} lists all")


def is_store(source: str) -> bool:
    """Whether a source is a Zarr store on disk."""
    return (Path(source) / "zarr.json").is_file()


def item_row(scene: Scene) -> dict[str, Any]:
    """Return the line of an item in the table."""
    step = scene.step
    return {
        "time (UTC)": str(scene.datetime)[:16],
        "item": scene.id,
        "platform": step.platform,
        "baseline": step.processing_baseline,
        "level": step.level,
        "tile": scene.tile,
        "value": _formula(scene),
    }


def group_rows(scenes: list[Scene]) -> list[dict[str, Any]]:
    """Return one line for all items whose numbers mean the same."""
    groups: dict[tuple[str, ...], list[Scene]] = defaultdict(list)
    for scene in scenes:
        row = item_row(scene)
        key = (row[name] for name in ("platform", "baseline", "level", "value"))
        groups[(scene.sensor.name, *key)].append(scene)
    rows = []
    for (sensor, *alike), members in sorted(groups.items()):
        months = sorted(str(scene.datetime)[:10] for scene in members)
        rows.append(
            {"sensor": sensor}
            | dict(zip(("platform", "baseline", "level", "value"), alike))
            | {"items": len(members), "first": months[0], "last": months[-1]}
        )
    return rows


def print_bands(scenes: list[Scene]) -> None:
    """Print the bands, quality layers and CRS of each sensor."""
    for name in sorted({scene.sensor.name for scene in scenes}):
        members = [scene for scene in scenes if scene.sensor.name == name]
        bands = {band for scene in members for band in scene.step.scale}
        layers = {key for scene in members for key in scene.assets} - bands
        order = [band for band in members[0].sensor.band_names if band in bands]
        crs = ", ".join(sorted({scene.crs or "no CRS stated" for scene in members}))
        quality = f"; quality {' '.join(sorted(layers))}" if layers else ""
        console.say(f"{name}: {' '.join(order)}{quality}; {crs}")


def _formula(scene: Scene) -> str:
    """How a digital number becomes a value, where all bands agree; else the range."""
    step = scene.step
    scale, offset, nodata = (
        _range(values.values()) for values in (step.scale, step.offset, step.nodata)
    )
    return f"{scale} DN + {offset} [{scene.units}], nodata {nodata}".replace("+ -", "- ")


def _range(values: Iterable[float]) -> str:
    """Write equal values once, different ones as (lowest … highest)."""
    # One NaN for all, since NaN differs from itself.
    distinct = sorted({math.nan if math.isnan(v) else v for v in values}, key=_nan_last)
    if not distinct:
        return "?"
    texts = [f"{value:g}" for value in (distinct[0], distinct[-1])]
    return texts[0] if len(distinct) == 1 else f"({' … '.join(texts)})"


def _n_incomplete(path: str) -> int:
    """Number of entries that a write under way, or one that was killed, has reserved."""
    import xarray as xr

    store = xr.open_zarr(path)
    return int((store["complete"].values == 0).sum()) if "complete" in store.variables else 0


def _nan_last(value: float) -> tuple[bool, float]:
    return math.isnan(value), value


def _describe_store(path: str) -> None:
    import xarray as xr

    import xharmonize as xh
    from xharmonize.cli.report import print_summary
    from xharmonize.cube.contract import main_layer
    from xharmonize.cube.results import is_result

    series = xh.open_series(path)
    if is_result(series):
        whole = series if isinstance(series, xr.Dataset) else series.to_dataset()
        _print_variables(list(whole.data_vars.values()), path)
        _print_history(series.attrs.get("history", ""))
        return
    layer = main_layer(series)
    names = [name for name in getattr(series, "data_vars", ()) if name != layer.name]
    _print_variables([layer, *(series[name] for name in names)], path)
    print_summary(series, title="Dates")
    hidden = _n_incomplete(path)
    if hidden:
        console.complain(
            "warning", f"{hidden} dates of an interrupted write are hidden; run it again", "yellow"
        )
    _print_history(series.attrs.get("history") or layer.attrs.get("history", ""))


def _print_variables(variables: list[Any], path: str) -> None:
    console.print_table(
        [
            {
                "variable": variable.name,
                "dtype": str(variable.dtype),
                "unit": variable.attrs.get("units", ""),
                "size": " x ".join(f"{name} {size}" for name, size in variable.sizes.items()),
                "meaning": variable.attrs.get("long_name", ""),
            }
            for variable in variables
        ],
        title=path,
    )


def _print_history(history: Any) -> None:
    for line in str(history).splitlines():
        console.say(f"  {line}")
