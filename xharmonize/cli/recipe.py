"""``xharmonize run``, ``plan`` and ``init``: the whole job from one file, whole or in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import xharmonize as xh
from xharmonize._replace import require_new
from xharmonize.cli import console
from xharmonize.cli.arguments import client_of, mode_of
from xharmonize.cli.places import Options, Storage, parse_storage
from xharmonize.errors import OptionError, XHarmonizeError

RecipeFile = Annotated[Path, typer.Argument(help="TOML file; `xharmonize init` writes an example.")]
TILES = (
    "Work in tiles: mgrs (those of Sentinel-2's products), squares (of MGRS, without overlap), or "
    "pixels a side, in the recipe's crs and resolution."
)


def run(
    recipe: RecipeFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read and written, and stop.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the products of another recipe.")
    ] = False,
    tiles: Annotated[str | None, typer.Option(metavar="NAME|PIXELS", help=TILES)] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Do tiles on so many processes of this machine, one each.", min=1),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Do tiles on the workers of this Dask scheduler."),
    ] = None,
    storage_options: Storage = None,
) -> None:
    """Run a recipe: open, mask, harmonise, merge, index, smooth, and write what it asks for.

    Run it again after an interruption: products that are whole are kept. With --tiles each tile
    has a folder of its own, one that fails stops no other, and dates are added that stores lack.
    """
    from xharmonize import recipe as recipes

    settings, storage = recipes.read_recipe(recipe), parse_storage(storage_options)
    if tiles is not None:
        region = _region(settings, tiles, storage)
        _run_tiles(region, dry_run, overwrite, workers, scheduler)
        return
    if workers is not None or scheduler is not None:
        raise OptionError("workers do tiles", cure="give --tiles, such as --tiles mgrs")
    if dry_run:
        told = recipes.plan(settings, storage_options=storage).describe()
        rows = [{"what": name, "value": value} for name, value in told.items()]
        console.print_table(rows, title=str(recipe))
        return
    # The functions that write draw the bars; on a terminal only.
    with xh.set_options(progress=False if console.STYLE.is_quiet else None):
        done = recipes.run(
            settings, mode=mode_of(overwrite), progress=console.say, storage_options=storage
        )
    for name in done.kept:
        console.say(f"kept {name}")
    console.say(f"{done.folder}: {', '.join((*done.kept, *done.written))}")


def plan(
    recipe: RecipeFile,
    tiles: Annotated[str, typer.Option(metavar="NAME|PIXELS", help=TILES)] = "mgrs",
    recipes: Annotated[
        Path | None,
        typer.Option(help="Also write the recipe of each tile into this folder, as JSON."),
    ] = None,
    storage_options: Storage = None,
) -> None:
    """Cut the area of a recipe into tiles, and say of each what is there and what is missing.

    Nothing is read but the stores that are there. Run it while `run --tiles` is at work, or after.
    """
    from xharmonize.recipe import read_recipe

    region = _region(read_recipe(recipe), tiles, parse_storage(storage_options))
    _print(region.status(), title=f"{len(region.tiles)} tiles in {region.out}")
    if recipes is not None:
        recipes.mkdir(parents=True, exist_ok=True)
        for tile in region.tiles:
            text = region.recipe(tile).model_dump_json(exclude_unset=True, indent=2)
            (recipes / f"{tile.name}.json").write_text(text, encoding="utf-8")


def _run_tiles(
    region: Any,
    dry_run: bool,
    overwrite: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    if overwrite:
        raise OptionError(
            "tiles are never replaced", cure="leave out --overwrite, or name another folder"
        )
    if not dry_run:
        with client_of(workers, scheduler) as client:
            region.run(client, progress=console.say)
    status = region.status()
    _print(status, title=f"{len(region.tiles)} tiles in {region.out}")
    n_failed = int((status["state"] == "failed").sum())
    if n_failed and not dry_run:
        raise XHarmonizeError(
            f"{n_failed} of {len(status)} tiles failed", cure="run it again to do these alone"
        )


def _region(settings: Any, tiles: str, storage: Options) -> Any:
    from xharmonize import region
    from xharmonize.region.jobs import area_of

    if tiles == "mgrs":
        return region.plan(settings, storage_options=storage)
    area = area_of(settings)
    if tiles == "squares":
        cut = region.mgrs_tiles(area, overlap=False)
        return region.plan(settings, tiles=cut, storage_options=storage)
    if not tiles.isdecimal():
        raise OptionError(
            "are unknown", cure="mgrs, squares, or a number of pixels", argument="tiles",
            value=tiles,
        )  # fmt: skip
    crs, resolution = settings.area.crs, settings.area.resolution
    if crs is None or resolution is None:
        raise OptionError("tiles of pixels need a grid", cure="write crs and resolution in [area]")
    cut = region.square_tiles(area, crs=crs, resolution=resolution, pixels=int(tiles))
    return region.plan(settings, tiles=cut, storage_options=storage)


def _print(status: Any, *, title: str) -> None:
    rows = [
        {"tile": name, **{column: console.as_plain(row[column]) for column in status.columns}}
        for name, row in status.iterrows()
    ]
    console.print_table(rows, title=title)


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("recipe.toml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write an example recipe with every table and key, and what each means."""
    from xharmonize.recipe import write_example

    require_new(path, mode_of(overwrite), cure="--overwrite replaces it")
    path.write_text(write_example(), encoding="utf-8")
    console.say(f"{path}: fill it in, then xharmonize run {path}")
