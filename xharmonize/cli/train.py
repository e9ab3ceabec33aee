"""``xharmonize train``: a configuration file, pairs, a training, and what it brought."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr

import xharmonize as xh
from xharmonize._optional import require_installed
from xharmonize.cli import console
from xharmonize.cli.arguments import client_of
from xharmonize.cli.inputs import DEFAULT_BANDS, Query, check, open_cube
from xharmonize.cli.places import Options, Storage, parse_storage
from xharmonize.cube.dates import duration_in_days
from xharmonize.errors import OptionError, suggest
from xharmonize.training import toml
from xharmonize.training.config import Closed, Config
from xharmonize.training.judge import OBSERVED

PAIRS: dict[str, type | tuple[type, ...]] = {
    "items": str,
    "source": str,
    "target": str,
    "source_bands": list,
    "target_bands": list,
    "datetime": str,
    "bbox": list,
    "tolerance": (str, int, float),
    "platform": str,
    "resolution": (int, float),
    "mask": str,
    "register": bool,
}
"""Keys of ``[pairs]``, and what their values are."""

_FORMS = {
    "items": 'items = "catalog.json", or the URL of a STAC API',
    "source": 'source = "sentinel-2-l2a", the id of a collection',
    "target": 'target = "landsat-c2-l2", the id of a collection',
    "source_bands": 'source_bands = ["red", "nir08"]',
    "target_bands": 'target_bands = ["red", "nir08"]',
    "datetime": 'datetime = "2018-06/2018-08", in quotes',
    "bbox": "bbox = [4.90, 52.00, 4.95, 52.03]",
    "tolerance": 'tolerance = "2D", or a number of days',
    "platform": 'platform = "infer", or the name of one',
    "resolution": "resolution = 10.0",
    "mask": 'mask = "clear"',
    "register": "register = true, to fit the shifts of dates first",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What the file says beside the configuration of the training."""

    items: str
    source: str
    target: str
    source_bands: tuple[str, ...] = DEFAULT_BANDS
    target_bands: tuple[str, ...] = DEFAULT_BANDS
    datetime: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    tolerance: str | float = "4D"
    platform: str | None = None
    resolution: float | None = None
    mask: str = "clear"
    register: bool = False


def read_pairs(tables: Mapping[str, Any], where: str) -> Job:
    """Read the table ``[pairs]``.

    Raises
    ------
    OptionError
        If a key is missing or unknown, with the nearest name, or a value is of a wrong type.
    """
    values = tables.get("pairs")
    if not isinstance(values, Mapping):
        raise OptionError(
            f"{where} has no table [pairs]",
            cure="write where the items are: items, source and target (two collections)",
        )
    for key, value in values.items():
        if key not in PAIRS:
            raise OptionError(
                f"{where}: [pairs] has no {key!r}",
                cure=f"{suggest(key, PAIRS)}it has {', '.join(PAIRS)}",
            )
        if not isinstance(value, PAIRS[key]) or isinstance(value, bool) != (PAIRS[key] is bool):
            raise OptionError(f"{where}: [pairs] {key} is {value!r}", cure=f"write {_FORMS[key]}")
    lacking = [name for name in ("items", "source", "target") if name not in values]
    if lacking:
        raise OptionError(
            f"{where}: [pairs] lacks {lacking[0]!r}", cure=f"write {_FORMS[lacking[0]]}"
        )
    tolerance: Any = values.get("tolerance", Job.tolerance)
    duration_in_days(tolerance, argument="tolerance", least=0.0)
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Job(**given)


def run(
    path: Path,
    out: str,
    *,
    storage: Options = None,
    seed: int | None,
    workers: int | None,
    scheduler: str | None,
    by_torchrun: bool,
) -> None:
    """Train as a file says, and print the scores."""
    config, job = read(path, seed)
    if by_torchrun:
        if workers is not None or scheduler is not None:
            raise OptionError("torchrun starts the processes", cure="leave out --workers")
        from xharmonize.training import torchrun

        training = torchrun.train(
            config.method.name,
            lambda: open_pairs(job, path),
            config=config,
            out=out,
            storage_options=storage,
        )
        if training is not None:
            _print(training, out)
        return
    if not isinstance(config.method, Closed):
        require_installed("torch", "safetensors", extra="train")
    pairs = open_pairs(job, path)
    console.say(f"Training {config.method.name} …")
    with client_of(workers, scheduler) as client:
        training = xh.train(
            config.method.name,
            pairs,
            config=config,
            client=client,
            out=out,
            storage_options=storage,
        )
    _print(training, out)


def read(path: Path, seed: int | None) -> tuple[Config, Job]:
    """Read the file."""
    tables = toml.read_toml(path)
    unknown = [name for name in tables if name not in ("method", "data", "run", "pairs")]
    if unknown:
        raise OptionError(
            f"{path} has no table {unknown[0]!r}",
            cure=f"{suggest(unknown[0], ['method', 'data', 'run', 'pairs'])}it has [method], "
            "[data], [run] and [pairs]",
        )
    config = toml.from_tables(tables, str(path))
    if seed is not None:
        method: Any = config.method
        if isinstance(method, Closed):
            raise OptionError(f"{method.name} draws nothing at random", cure="leave --seed out")
        config = dataclasses.replace(config, method=dataclasses.replace(method, seed=seed))
    return config, read_pairs(tables, str(path))


def open_pairs(job: Job, path: Path) -> xr.DataTree:
    """Open both cubes, and take the pairs of dates."""
    source, target = (
        open_cube(
            Query(
                source=_beside(job.items, path), bbox=job.bbox, datetime=job.datetime, mask=job.mask
            ),
            collection,
            bands=bands,
            resolution=resolution,
            platform=platform,
        )
        for collection, bands, resolution, platform in (
            (job.source, job.source_bands, job.resolution, job.platform),
            (job.target, job.target_bands, None, None),
        )
    )
    for cube in (source, target):
        check(cube, refuse=True)
    with console.progress("Choosing pairs"):
        pairs = xh.collect_pairs(
            source, target, tolerance=job.tolerance, register=job.register, progress=False
        )
    within = job.tolerance if isinstance(job.tolerance, str) else f"{job.tolerance:g} days"
    console.say(f"Pairs of dates within {within}: {pairs.sizes['pair']}")
    return pairs


def _beside(items: str, path: Path) -> str:
    """A catalogue as named in a file: relative paths are from the file's folder."""
    beside = path.parent / items
    return str(beside) if "://" not in items and beside.exists() else items


def _print(training: Any, out: str) -> None:
    scores = training.scores
    if len(scores):
        names = [m if r == OBSERVED else f"{m} ({r})" for m, r in scores.index]
        columns = dict(zip(names, scores.round(4).to_dict("records")))
        rows = [
            {"score": score, **{name: float(row[score]) for name, row in columns.items()}}
            for score in scores.columns
        ]
        console.print_table(rows, title="Scores of what was held out")
    for note in training.notes:
        console.say(note)
    console.say(f"Kept in {out}; apply it with: xharmonize harmonize … --model {out}")


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="TOML file with the tables method (its name and options) and pairs (items, "
            "source, target, bands, tolerance), and where wanted data and run."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(help="Bundle of a network (a folder), or file of a fit (fit.zarr); or a URL."),
    ],
    seed: Annotated[
        int | None, typer.Option(help="Seed of the method, instead of the file's.", min=0)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Train a network on so many processes of this machine, one thread each.", min=1
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Train a network on the workers of this Dask scheduler."
        ),
    ] = None,
    torchrun: Annotated[
        bool,
        typer.Option(
            "--torchrun",
            help="Train a network on the processes that torchrun has started with this command.",
        ),
    ] = False,
    storage_options: Storage = None,
) -> None:
    """Train a model as a file says, and score it on what it has not seen.

    Example: xharmonize train small-conv.toml --out models/small

    A training that was interrupted goes on where it stopped if the command is run again.
    """
    run(
        config,
        out,
        storage=parse_storage(storage_options),
        seed=seed,
        workers=workers,
        scheduler=scheduler,
        by_torchrun=torchrun,
    )
