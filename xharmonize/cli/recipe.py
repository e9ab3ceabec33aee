"""``xharmonize run`` and ``init``: the whole job from one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xharmonize._replace import require_new
from xharmonize.cli import console
from xharmonize.cli.arguments import mode_of


def run(
    recipe: Annotated[Path, typer.Argument(help="TOML file; `xharmonize init` writes an example.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read and written, and stop.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the products of another recipe.")
    ] = False,
) -> None:
    """Run a recipe: open, mask, harmonise, merge, index, smooth, and write what it asks for.

    Run it again after an interruption: products that are whole are kept.
    """
    from xharmonize import recipe as recipes

    settings = recipes.read_recipe(recipe)
    if dry_run:
        told = recipes.plan(settings).describe()
        rows = [{"what": name, "value": value} for name, value in told.items()]
        console.print_table(rows, title=str(recipe))
        return
    done = recipes.run(settings, mode=mode_of(overwrite), progress=console.say)
    for name in done.kept:
        console.say(f"kept {name}")
    console.say(f"{done.folder}: {', '.join((*done.kept, *done.written))}")


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("recipe.toml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write an example recipe with every table and key, and what each means."""
    from xharmonize.recipe import write_example

    require_new(path, mode_of(overwrite), cure="--overwrite replaces it")
    path.write_text(write_example(), encoding="utf-8")
    console.say(f"{path}: fill it in, then xharmonize run {path}")
