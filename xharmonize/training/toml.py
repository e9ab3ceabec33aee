"""Configurations as TOML: a mirror of the dataclasses of `training.config`."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from xharmonize.errors import OptionError, suggest
from xharmonize.training.config import CLOSED, NETWORKS, Config, Data, Run, settle


def from_toml(path: str | os.PathLike[str]) -> Config:
    """Read a configuration from a TOML file with ``[method]``, ``[data]`` and ``[run]``.

    ``[method]`` has the method's ``name`` and its options. Other tables are left to others.

    Raises
    ------
    OptionError
        If a key is unknown, with the nearest name, or a value is of a wrong type or out of bounds.
    UnknownModelError
        If no method has that name.
    """
    return from_tables(read_toml(path), os.fspath(path))


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    OptionError
        If it cannot be read.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        where, folder = Path(path), Path(path).absolute().parent
        there = [one.name for one in folder.glob("*.toml")] if folder.is_dir() else []
        raise OptionError(
            f"there is no file {where}",
            cure=f"{suggest(where.name, there)}name a TOML file with a table [method]",
        ) from None
    except (OSError, ValueError) as error:
        raise OptionError(f"{os.fspath(path)} cannot be read: {error}") from error


def from_tables(tables: Mapping[str, Any], where: str) -> Config:
    """Return the configuration of tables as `from_toml` reads them."""
    own = dict(_table(tables, "method", where))
    if "name" not in own:
        raise OptionError(
            f"{where}: [method] has no name",
            cure=f"write name = one of {', '.join([*CLOSED, *NETWORKS])}",
        )
    name = own.pop("name")
    kind = type(settle(name, None).method)
    return Config(
        method=_made(kind, own, f"{where}: [method]"),
        data=_made(Data, _table(tables, "data", where), f"{where}: [data]"),
        run=_made(Run, _table(tables, "run", where), f"{where}: [run]"),
    )


def _table(tables: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, Mapping):
        raise OptionError(f"{where}: {name} is {found!r}", cure=f"write it as a table, [{name}]")
    return found


def _made(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of plain values; unknown keys are refused."""
    known = [one.name for one in fields(kind)]
    for key in values:
        if key not in known:
            raise OptionError(
                f"{where} has no {key!r}",
                cure=f"{suggest(key, known)}it has {', '.join(known)}",
            )
    try:
        return kind(**values)
    except OptionError as error:
        what = error.what.removeprefix(f"{kind.__name__}: ")
        raise OptionError(f"{where}: {what}", cure=error.cure) from None


def to_toml(config: Config) -> str:
    """Return a configuration as TOML; `from_toml` reads the same back."""
    lines = []
    for name in ("method", "data", "run"):
        part = getattr(config, name)
        lines.append(f"[{name}]")
        if name == "method":
            lines.append(f"name = {_toml(part.name)}")
        lines += [f"{key} = {_toml(v)}" for key, v in asdict(part).items() if v is not None]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # of numbers, truths and texts: the same in both
