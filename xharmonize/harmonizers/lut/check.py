"""Whether a bundle is for a step of a cube, and tables are what they are taken for."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xharmonize.cube.contract import Step
from xharmonize.errors import ModelError, RadiometryError
from xharmonize.models.card import Card
from xharmonize.sensors import Names


def require_card(card: Card, step: Step) -> None:
    """Raise `RadiometryError` unless sensor and level of a step are those of the card."""
    if not Names.of(step.sensor).fit(Names.of(card.source_sensor)):
        raise RadiometryError(
            f"model {card.name!r} is for {card.source_sensor}, item {step.item_id!r} is "
            f"{step.sensor}; leave it out or choose another model"
        )
    if not Names.of(step.level).fit(Names.of(card.levels)):
        raise RadiometryError(
            f"model {card.name!r} is for {Names.of(card.levels)} reflectance, item "
            f"{step.item_id!r} is {step.level}; choose a model for that level"
        )


def require_tables(tables: Any, digest: str | None = None) -> None:
    """Raise `ModelError` unless these are tables of `fit_tables`, of the model of that digest."""
    if not isinstance(tables, xr.Dataset) or tables.attrs.get("model") != "tables":
        raise ModelError(
            "tables= is no Dataset of fit_tables; make one: xh.fit_tables(cube, model)"
        )
    if digest is not None and tables.attrs.get("predictor_digest") != digest:
        raise ModelError(
            f"the tables were made by another model ({tables.attrs.get('predictor')!r}, or another "
            "version of it); make them anew: xh.fit_tables(cube, model)"
        )


def require_self_sufficient(tables: xr.Dataset) -> None:
    """Raise `ModelError` where a network's convolution has to follow the tables."""
    if tables.attrs.get("is_refined"):
        raise ModelError(
            f"after these tables {tables.attrs['predictor']!r} runs a 3x3 convolution; pass the "
            "model too: to_landsat(model, tables=tables)"
        )
