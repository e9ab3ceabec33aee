"""``xharmonize models``: list models, and show the card of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.harmonizers.protocol import Harmonizer
from xharmonize.models import places
from xharmonize.models.bundle import HasBundle
from xharmonize.models.card import Card

models = typer.Typer(help="List models, and show what one says of itself.")


@models.callback(invoke_without_command=True)
def listed(context: typer.Context) -> None:
    """List the models that have a name, built in or in a folder of XHARMONIZE_MODELS."""
    if context.invoked_subcommand is not None:
        return
    from xharmonize.sensors.bandpass import get_table, list_tables

    table = xh.list_models()
    rows = [{"model": name, **row.to_dict()} for name, row in table.iterrows()]
    console.print_table(rows, title="Models")
    for published in map(get_table, list_tables()):
        console.say(f"{published.name}: {published.citation}, doi:{published.doi}")
    console.say("What has a name is given by it: --model hls-v2")
    console.say("A bundle or a fit is given by its path: --model models/small, --model fit.zarr")
    console.say("Folders named by XHARMONIZE_MODELS are looked through for bundles.")
    for name in filter(None, os.environ.get(places.ENVIRONMENT, "").split(os.pathsep)):
        if not Path(name).expanduser().is_dir():
            console.complain("warning", f"{places.ENVIRONMENT} names no folder {name}", "yellow")


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a model, folder of a bundle, or fit.")],
) -> None:
    """Show what a model is: bands, grid, training, scores, licence."""
    model = xh.load_model(name)
    if isinstance(model, HasBundle) and model.bundle is not None:
        _show_card(model.bundle.card, digest=model.bundle.ref.digest)
        return
    facts = dict(model.attrs) if isinstance(model, xr.Dataset) else _facts(model)
    _print_facts(facts, title=str(facts.get("title", name)))


def _show_card(card: Card, *, digest: str) -> None:
    if card.description:
        console.say(card.description)
    facts = {
        "name": card.name,
        "kind": f"{card.kind}, {card.architecture}",
        "direction": f"{card.source_bandpass or 'any'} to {card.target_bandpass}",
        "for": f"{card.source_sensor or 'any sensor'}, {' or '.join(card.levels) or 'any level'}",
        **card.facts(),
        "gives": " ".join(card.output.bands),
        **card.provenance,
        "licence": card.licence,
        "sha256": digest,
    }
    _print_facts(facts, title=card.title)
    scores = [{"score": name, "value": value} for name, value in card.scores.items()]
    if scores:
        console.print_table(scores, title="Scores")


def _facts(model: Harmonizer) -> dict[str, str]:
    """What any harmoniser says of itself."""
    return {
        "name": model.name,
        "direction": f"{model.source_bandpass or 'any'} to {model.target_bandpass}",
        "bands": " ".join(model.bands),
        "source": model.citation,
    }


def _print_facts(facts: dict[str, Any], *, title: str) -> None:
    rows = [{"field": name, "value": value} for name, value in facts.items()]
    console.print_table(rows, title=title)
