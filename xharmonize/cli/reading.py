"""What commands read: a query to a source, its cubes, and what pixels say against metadata."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import typer
import xarray as xr

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.cli.report import print_check
from xharmonize.cube.check import conclude_check, count_contradictions
from xharmonize.errors import BandError, GridError, MaskError, ModelError, RadiometryError
from xharmonize.types import Engine

Cube: TypeAlias = xr.DataArray | xr.Dataset


WHERE = "What to read"
Drivers: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="GDAL drivers that may read assets, separated by commas. Default: those of GeoTIFF "
        "and JPEG 2000.",
        rich_help_panel=WHERE,
    ),
]
Schemes: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Kinds of addresses that assets may have, separated by commas: https, s3, file. "
        "Default: those of the web; and file, where items do not come from the web.",
        rich_help_panel=WHERE,
    ),
]


class Contradiction(RadiometryError):
    """Pixels contradict the metadata, and the user did not say to go on."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Where a command reads from, and what it leaves out; the fields are options."""

    source: str
    bbox: tuple[float, float, float, float] | None = None
    datetime: str | None = None
    engine: Engine | None = None
    modifier: str | None = None
    mask: str = "clear"
    dilate: float = 0.0
    qa: bool = False
    skip_unreadable: bool = False
    drivers: str | None = None
    schemes: str | None = None


def open_cube(
    query: Query,
    collection: str | None,
    *,
    bands: Sequence[str],
    resolution: float | None = None,
    platform: str | None = None,
    pad: Any = None,
) -> Cube:
    """Open a collection lazily, and print what it is.

    Parameters
    ----------
    pad : Harmonizer, optional
        The model whose tiles are to be wholly supplied.
    """
    options = {} if pad is None else {"pad": pad}
    with _collection_named(collection):
        cube: Cube = xh.open_stac(
            query.source,
            collection=collection,
            datetime=query.datetime,
            bbox=query.bbox,
            bands=list(bands),
            resolution=resolution,
            engine=query.engine,
            mask=_mask(query),
            qa=query.qa,
            on_error="skip" if query.skip_unreadable else "raise",
            platform=platform,
            modifier=_import_function(query.modifier) if query.modifier else None,
            drivers=optional_names(query.drivers),
            schemes=optional_names(query.schemes),
            **options,
        )
    sizes = cube.sizes
    pixel = abs(float(cube["x"][1] - cube["x"][0])) if sizes["x"] > 1 else float("nan")
    name = collection or "source"
    console.say(f"{name}: {sizes['time']} dates, {sizes['y']} x {sizes['x']} pixels of {pixel:g}")
    return cube


def check(cube: Cube, *, refuse: bool) -> None:
    """Compare pixels with the metadata, print the findings, and refuse contradictions.

    Raises
    ------
    Contradiction
        If there is one and `refuse` is True.
    """
    with console.progress("Comparing pixels with metadata"):
        table = xh.check_radiometry(cube)
    print_check(table)
    if count_contradictions(table) and refuse:
        raise Contradiction(
            f"{conclude_check(table)} and nothing was written; read another collection, or go on "
            "with --force"
        )


def split_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def optional_names(text: str | None) -> tuple[str, ...] | None:
    """Read names separated by commas; None stays None."""
    return None if text is None else split_names(text)


@contextmanager
def _collection_named(collection: str | None) -> Iterator[None]:
    """Add to an error that comes of reading all collections of a source together."""
    try:
        yield
    except (BandError, GridError) as error:
        if collection is not None:
            raise
        hint = "if SOURCE holds several collections, name one with --source-collection"
        raise type(error)(f"{error.args[0]}; {hint}") from error


def _mask(query: Query) -> Any:
    if query.mask == "none":
        if query.dilate:
            raise MaskError("--dilate widens a mask, and --mask none removes nothing; drop one")
        return None
    names = split_names(query.mask)
    if not names:
        raise MaskError("--mask names no flag; write none to remove nothing")
    return xh.Mask(names=names, dilate=query.dilate, dilate_unit="metres")


def _import_function(path: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names."""
    module, _, name = path.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"cannot import {path!r} ({error}); write module:function") from error
    return function
