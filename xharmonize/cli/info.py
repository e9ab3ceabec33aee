"""``xharmonize info`` and ``models``: describe a catalogue, a store or a model."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import xarray as xr

import xharmonize as xh
from xharmonize._urls import Remote
from xharmonize.cli import console
from xharmonize.cli.arguments import parse_bbox, split_names
from xharmonize.cli.inputs import DRIVERS, SCHEMES
from xharmonize.cli.places import Options, Storage, load, open_store, parse_storage, place_of
from xharmonize.io.zarr.remote import as_zarr
from xharmonize.models import places
from xharmonize.models.bundle import HasBundle
from xharmonize.models.card import Card

if TYPE_CHECKING:
    from xharmonize.io.stac.fields import Scene


def info(
    source: Annotated[
        str,
        typer.Argument(help="STAC API URL, static catalogue, item file, or Zarr store or its URL."),
    ],
    collection: Annotated[str | None, typer.Option(help="Show only this collection.")] = None,
    bbox: Annotated[str | None, typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.")] = None,
    datetime: Annotated[str | None, typer.Option(help="Date or date range: 2018-06.")] = None,
    platform: Annotated[
        str | None, typer.Option(help="Platform of items that don't name one; see `harmonize`.")
    ] = None,
    drivers: Annotated[str | None, DRIVERS] = None,
    schemes: Annotated[str | None, SCHEMES] = None,
    items: Annotated[int, typer.Option(help="Number of items to list; 0 for none.", min=0)] = 20,
    storage_options: Storage = None,
) -> None:
    """Describe a catalogue or store: its contents, and what its values mean."""
    storage = parse_storage(storage_options)
    if is_store(source, storage):
        _describe_store(source, storage)
        return
    from xharmonize.io.stac.scenes import read_scenes

    scenes = read_scenes(
        source,
        collection=collection,
        datetime=datetime,
        bbox=None if bbox is None else parse_bbox(bbox),
        platform=platform,
        drivers=None if drivers is None else split_names(drivers),
        schemes=None if schemes is None else split_names(schemes),
    )
    console.print_table(group_rows(scenes), title="What it holds")
    print_bands(scenes)
    if items:
        console.print_table([item_row(scene) for scene in scenes[:items]], title="Items")
    if 0 < items < len(scenes):
        console.say(f"… {len(scenes) - items} more: --items {len(scenes)} lists all")


def is_store(source: str, options: Options = None) -> bool:
    """Whether a source is a Zarr store, and no catalogue; of web pages those named ``.zarr``."""
    place = place_of(source, options)
    if not isinstance(place, Remote):
        return (place / "zarr.json").is_file()
    is_page = place.protocol in ("http", "https") and not place.name.endswith(".zarr")
    return not is_page and place.has("zarr.json")


def item_row(scene: Scene) -> dict[str, Any]:
    """Return the table row of an item."""
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
    """Return one row per group of items whose values mean the same."""
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
    """Conversion from digital number to value; ranges where bands differ."""
    step = scene.step
    scale, offset, nodata = (
        _range(values.values()) for values in (step.scale, step.offset, step.nodata)
    )
    return f"{scale} DN + {offset} [{scene.units}], nodata {nodata}".replace("+ -", "- ")


def _range(values: Iterable[float]) -> str:
    """Format equal values once, different ones as (lowest … highest)."""
    # Map every NaN to one object: NaN differs from itself, so a set would keep each.
    distinct = sorted({math.nan if math.isnan(v) else v for v in values}, key=_nan_last)
    if not distinct:
        return "?"
    texts = [f"{value:g}" for value in (distinct[0], distinct[-1])]
    return texts[0] if len(distinct) == 1 else f"({' … '.join(texts)})"


def n_incomplete(path: str, options: Options = None) -> int:
    """Number of entries reserved by a write that is in progress or was interrupted."""
    store = xr.open_zarr(as_zarr(place_of(path, options)))
    return int((store["complete"].values == 0).sum()) if "complete" in store.variables else 0


def _nan_last(value: float) -> tuple[bool, float]:
    return math.isnan(value), value


def _describe_store(path: str, options: Options) -> None:
    from xharmonize.cli.inputs import print_summary
    from xharmonize.cube.contract import main_layer
    from xharmonize.cube.door import is_result

    series = open_store(path, options)
    if is_result(series):
        whole = series if isinstance(series, xr.Dataset) else series.to_dataset()
        _print_variables(list(whole.data_vars.values()), path)
        _print_history(series.attrs.get("history", ""))
        return
    layer = main_layer(series)
    names = [name for name in getattr(series, "data_vars", ()) if name != layer.name]
    _print_variables([layer, *(series[name] for name in names)], path)
    print_summary(series, title="Dates")
    hidden = n_incomplete(path, options)
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


models = typer.Typer(help="List models, or show the details of one.")


@models.callback(invoke_without_command=True)
def listed(context: typer.Context) -> None:
    """List named models: built-in ones and those in folders of XHARMONIZE_MODELS."""
    if context.invoked_subcommand is not None:
        return
    from xharmonize.sensors.bandpass import get_table, list_tables

    table = xh.harmonizers.list_models()
    rows = [
        {"model": name, **{str(key): value for key, value in row.items()}}
        for name, row in table.iterrows()
    ]
    console.print_table(rows, title="Models")
    for published in map(get_table, list_tables()):
        console.say(f"{published.name}: {published.citation}, doi:{published.doi}")
    console.say("What has a name is given by it: --model hls-v2")
    console.say("A bundle or a fit is given by its path: --model models/small, --model fit.zarr")
    console.say("Folders named by XHARMONIZE_MODELS are looked through for bundles.")
    for name in filter(None, os.environ.get(places.ENVIRONMENT, "").split(os.pathsep)):
        if not Path(name).expanduser().is_dir():
            console.complain("warning", f"{places.ENVIRONMENT} names no folder {name}", "yellow")


@models.command(cls=console.Command)
def show(
    name: Annotated[str, typer.Argument(help="Model name, or path or URL of a bundle or fit.")],
    storage_options: Storage = None,
) -> None:
    """Show the details of a model: bands, grid, training, scores and licence."""
    model = load(name, parse_storage(storage_options))
    if isinstance(model, HasBundle) and model.bundle is not None:
        _show_card(model.bundle.card, digest=model.bundle.ref.digest)
        return
    facts: Mapping[str, Any] = (
        dict(model.attrs) if isinstance(model, xr.Dataset) else model.summary()
    )
    _print_facts(facts, title=str(facts.get("title", name)))


def _show_card(card: Card, *, digest: str) -> None:
    if card.description:
        console.say(card.description)
    facts = {**card.summary(), **card.provenance, "sha256": digest}
    _print_facts(facts, title=card.title)
    if card.scores:
        console.print_table(_score_rows(card.scores), title="Scores")


def _score_rows(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per score, one column per method where scores are named ``method: score``."""
    parts = {name: name.rpartition(": ") for name in scores}
    columns = {name: m.removesuffix(", observed") or "value" for name, (m, _, _) in parts.items()}
    blank = dict.fromkeys(columns.values(), math.nan)
    rows: dict[str, dict[str, Any]] = {}
    for name, (_, _, score) in parts.items():
        rows.setdefault(score, {"score": score, **blank})[columns[name]] = scores[name]
    return list(rows.values())


def _print_facts(facts: Mapping[str, Any], *, title: str) -> None:
    rows = [{"field": name, "value": value} for name, value in facts.items()]
    console.print_table(rows, title=title)
