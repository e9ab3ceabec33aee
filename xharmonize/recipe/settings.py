"""What a recipe says: tables of a TOML file, checked before anything is read.

Tables that stand for one function have its options: they are taken from its signature, so that an
option is declared once.
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from xharmonize.errors import OptionError, suggest
from xharmonize.options import describe_parameters
from xharmonize.series import composite, phenology, screen_outliers, smooth, to_table


class Part(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    function: ClassVar[Callable[..., Any] | None] = None

    def options(self) -> dict[str, Any]:
        """Return the options that the recipe gives, for `function`."""
        return self.model_dump(exclude_unset=True)


def _options_of(function: Callable[..., Any], *, leave_out: tuple[str, ...] = ()) -> type[Part]:
    """Make a table with the options of a function."""
    hints = get_type_hints(function, vars(inspect.getmodule(function)))
    fields: Any = {
        name: (hints[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty and name not in leave_out
    }
    made = create_model(function.__name__.title(), __base__=Part, **fields)
    made.function = function
    return made


class Source(Part):
    """Items of one sensor, and which of their pixels count."""

    items: str = Field(description="STAC API, static catalogue or item file")
    collection: str | None = Field(default=None, description="collection of the items")
    bands: tuple[str, ...] | None = Field(
        default=None, description="common names; default: all it takes"
    )
    platform: str | dict[str, str] | None = Field(
        default=None, description="platform of items that name none, or infer"
    )
    query: dict[str, Any] | None = Field(
        default=None, description="STAC query, such as cloud cover"
    )
    mask: tuple[str, ...] = Field(default=("clear",), description="flags to mask; [] masks nothing")
    dilate: float = Field(default=0.0, ge=0, description="dilate the mask [m]")
    modifier: str | None = Field(
        default=None, description="function that signs items, module:function"
    )
    skip_unreadable: bool = Field(default=False, description="treat unreadable files as missing")


class Area(Part):
    """Where and when. Without bbox and geometry: all that the items cover."""

    datetime: str | None = Field(default=None, description="2018, 2018-06/2018-08, 2018-06-01/..")
    bbox: tuple[float, float, float, float] | None = Field(
        default=None, description="west, south, east, north [degree]"
    )
    bounds: tuple[float, float, float, float] | None = Field(
        default=None,
        description="instead of bbox: left, bottom, right, top in crs; pixels whose centres are in",
    )
    geometry: str | None = Field(
        default=None, description="file of polygons; pixels outside are missing"
    )
    crs: str | int | None = Field(default=None, description="CRS, if the items are in several")
    resolution: float | None = Field(
        default=None, description="pixel size; default: that of the target"
    )


class Model(Part):
    """How the source is brought to the target's bandpass."""

    name: str = Field(default="hls-v2", description="a name, auto, or the path of a bundle or fit")
    to: str = Field(default="landsat-c2-l2", description="sensor, where there is no table [target]")


class Series(Part):
    """The dense series of both sensors."""

    index: str | None = Field(default="ndvi", description="index; none writes reflectance")
    check: bool = Field(
        default=True, description="compare pixels with metadata; contradictions end it"
    )

    @field_validator("index")
    @classmethod
    def _name_or_none(cls, value: str | None) -> str | None:
        return None if value == "none" else value


class Output(Part):
    """What is written into the folder."""

    folder: str = Field(description="folder of everything that is written")
    cogs: bool = Field(default=False, description="cloud-optimised GeoTIFFs with STAC items")
    figures: bool = Field(default=True, description="maps, series and timeline as PNG")
    report: bool = Field(default=True, description="a page of HTML")
    point: tuple[float, float] | None = Field(
        default=None,
        description="longitude, latitude of the series in the figure; default: the mean",
    )


if TYPE_CHECKING:
    from typing import TypeAlias

    Screen: TypeAlias = Part
    Composite: TypeAlias = Part
    Smooth: TypeAlias = Part
    Phenology: TypeAlias = Part
    OfTable: TypeAlias = Part
else:
    Screen = _options_of(screen_outliers)
    Composite = _options_of(composite)
    Smooth = _options_of(smooth)
    Phenology = _options_of(phenology)
    OfTable = _options_of(to_table, leave_out=("crs", "path", "mode", "progress"))


class Table(OfTable):
    """A table of fields: one row per field, date and band."""

    fields: str = Field(description="file of polygons (GeoJSON, or any that geopandas reads)")

    def options(self) -> dict[str, Any]:
        """Return the options of `to_table`."""
        return {name: v for name, v in super().options().items() if name != "fields"}


class Recipe(Part):
    """A whole job."""

    source: Source
    target: Source | None = None
    area: Area = Area()
    model: Model = Model()
    series: Series = Series()
    screen: Screen | None = None
    composite: Composite | None = None
    smooth: Smooth | None = None
    phenology: Phenology | None = None
    table: Table | None = None
    output: Output

    @model_validator(mode="after")
    def _require_sense(self) -> Recipe:
        if complaint := self.complaint():
            raise ValueError(complaint)
        return self

    def complaint(self) -> str:
        """Return what is wrong with the combination of tables; empty if it is valid."""
        if self.area.bbox is not None and self.area.geometry is not None:
            return "[area] has both bbox and geometry: give one"
        if self.area.bounds is not None and self.area.bbox is not None:
            return "[area] has both bbox and bounds: give one"
        if self.area.bounds is not None and self.area.crs is None:
            return "[area] has bounds and no crs: say which CRS they are in"
        if self.composite is not None and self.smooth is not None:
            return "there are [composite] and [smooth]: give one"
        if self.phenology is not None and self.series.index is None:
            return "[phenology] needs an index: give one in [series]"
        return ""


def read_recipe(source: str | os.PathLike[str] | Mapping[str, Any]) -> Recipe:
    """Read a recipe and check it; nothing else is read.

    Parameters
    ----------
    source : path or mapping
        A TOML file, or its tables.

    Raises
    ------
    OptionError
        If the file cannot be read, a table or key is unknown (with the nearest name), or a value is
        of a wrong type.
    """
    where, tables = "the recipe", source
    if not isinstance(source, Mapping):
        where = os.fspath(source)
        try:
            tables = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(
                f"{where} cannot be read: {error}", cure="xharmonize init writes an example"
            ) from None
    recipe: Recipe = _validated(Recipe, tables, where)
    return recipe


def part_of(name: str) -> type[Part]:
    """Return the class of a table."""
    return dict(_parts())[name]


def title_of(part: type[Part]) -> str:
    """Return what a table is for, in a sentence."""
    return ((part.__doc__ or getattr(part.function, "__doc__", "")) or "").partition("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is said of a key: meaning, names it may have, default, and whether it is required."""

    text: str
    choices: tuple[str, ...]
    default: str
    is_required: bool


def describe_part(name: str) -> dict[str, Told]:
    """Return what is said of each key of a table."""
    part = part_of(name)
    told = {} if part.function is None else describe_parameters(part.function)
    return {
        key: Told(
            text=field.description or told.get(key, ""),
            choices=tuple(_choices(field.annotation)),
            default="" if field.is_required() or field.default is None else str(field.default),
            is_required=field.is_required(),
        )
        for key, field in part.model_fields.items()
    }


def _choices(hint: Any) -> Iterator[str]:
    """Names that a type allows."""
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    else:
        for inner in get_args(hint):
            yield from _choices(inner)


def read_part(name: str, values: Mapping[str, Any], *, where: str) -> Any:
    """Check the values of one table; texts are read as what they stand for.

    Raises
    ------
    OptionError
        As `read_recipe`.
    """
    return _validated(part_of(name), values, where, name)


def _validated(kind: type[Part], values: Any, where: str, *path: str) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    raise _worded(first, [*path, *map(str, first["loc"])], where) from None


def _worded(first: Any, place: list[str], where: str) -> OptionError:
    if not place:  # of the combination of tables
        return OptionError(f"{where}: {first['ctx']['error']}")
    *path, name = place[:2] if len(place) > 1 else place
    table = f"[{path[0]}]" if path else "the file"
    if first["type"] == "extra_forbidden":
        known = list((part_of(path[0]) if path else Recipe).model_fields)
        return OptionError(
            f"{where}: {table} has no {name!r}",
            cure=f"{suggest(name, known)}it has {', '.join(known)}",
        )
    if first["type"] == "missing":
        return OptionError(f"{where}: {table} lacks {name!r}", cure="write it")
    return OptionError(
        f"{where}: {table} {name} is {first['input']!r}",
        cure=first["msg"][:1].lower() + first["msg"][1:],
    )


def _parts() -> Iterator[tuple[str, type[Part]]]:
    """Name and class of each table."""
    for name, field in Recipe.model_fields.items():
        kinds: Any = get_args(field.annotation) or (field.annotation,)
        yield name, next(kind for kind in kinds if kind is not type(None))


def write_example() -> str:
    """Return a commented recipe: each table and key, with its default."""
    lines = ["# xharmonize run recipe.toml"]
    for name, part in _parts():
        lines += ["", *_example_table(name, part)]
    return "\n".join(lines) + "\n"


_FILLED = {
    ("source", "items"): '"catalog.json"',
    ("source", "collection"): '"sentinel-2-l2a"',
    ("target", "items"): '"catalog.json"',
    ("target", "collection"): '"landsat-c2-l2"',
    ("area", "datetime"): '"2022"',
    ("table", "fields"): '"fields.geojson"',
    ("output", "folder"): '"series"',
}
_ON = {"source", "target", "area", "model", "series", "output"}


def _example_table(name: str, part: type[Part]) -> Iterator[str]:
    told = describe_part(name)
    off = "" if name in _ON else "# "
    yield f"# {title_of(part)}"
    yield f"{off}[{name}]"
    for key, field in part.model_fields.items():
        filled = _FILLED.get((name, key))
        value = filled or _toml(field.default)
        comment = "; ".join(filter(None, (told[key].text, " | ".join(told[key].choices))))
        is_off = off or (filled is None and field.default in (None, ()))
        yield f"{'# ' if is_off else ''}{key} = {value}  # {comment}".rstrip("# ").rstrip()


def _toml(value: Any) -> str:
    """A plain value as TOML, which for numbers, truths, texts and lists is JSON."""
    return '""' if value is None else json.dumps(value, ensure_ascii=False)
