"""Do the jobs of tiles: here, one after the other, or each as one task of a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from xharmonize._urls import Remote
from xharmonize.errors import EmptyQueryError
from xharmonize.io.zarr.missing import add_missing
from xharmonize.recipe import Recipe, run
from xharmonize.region.outcomes import reason_of, write_outcome
from xharmonize.region.squares import Tile


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done with each tile, where it goes, and what URLs are given (`storage_options`)."""

    job: Any
    out: Path | Remote
    options: Mapping[str, Any] | None = field(default=None, repr=False)


def here(work: Work, tiles: Sequence[Tile], tell: Callable[[str], None]) -> None:
    """Do the tiles one after the other, by the current scheduler."""
    for tile in tiles:
        tell(do_tile(work, tile))


def on_workers(client: Any, work: Work, tiles: Sequence[Tile], tell: Callable[[str], None]) -> None:
    """Do each tile as one task of the workers of a client."""
    ended: SimpleQueue[Any] = SimpleQueue()
    running = {}
    for tile in tiles:
        future = client.submit(_in_one_thread, work, tile, key=_key(tile), pure=False)
        running[future] = tile
        future.add_done_callback(ended.put)
    try:
        while running:
            future = ended.get()
            tell(_told(future, running.pop(future), work.out))
    finally:
        client.cancel(list(running))


def _key(tile: Tile) -> str:
    return f"tile-{tile.name}-{time.time_ns():x}"


def _told(future: Any, tile: Tile, out: Path | Remote) -> str:
    """What a task says, or what became of it where its worker cannot say any more."""
    error = future.exception()
    if error is None:
        return str(future.result())
    write_outcome(out, tile.name, "failed", reason=reason_of(error))
    return f"{tile.name}: failed, {reason_of(error)}"


def _in_one_thread(work: Work, tile: Tile) -> str:
    with _synchronous():
        return do_tile(work, tile)


def do_tile(work: Work, tile: Tile) -> str:
    """Do one tile; what goes wrong is written beside its store, and said."""
    start, out = time.perf_counter(), work.out
    write_outcome(out, tile.name, "begun")
    try:
        n_written = _write(work, tile)
    except EmptyQueryError as error:
        write_outcome(out, tile.name, "empty", reason=reason_of(error))
        return f"{tile.name}: empty"
    except Exception as error:  # whatever it is, the other tiles go on
        write_outcome(out, tile.name, "failed", reason=reason_of(error))
        return f"{tile.name}: failed, {reason_of(error)}"
    seconds = round(time.perf_counter() - start, 3)
    write_outcome(out, tile.name, "whole", written=n_written, seconds=seconds)
    return f"{tile.name}: {n_written} dates written"


def _write(work: Work, tile: Tile) -> int:
    """Write the dates that the tile's store lacks; return how many."""
    if not isinstance(work.job, Recipe):
        return add_missing(work.job(tile), work.out / f"{tile.name}.zarr")
    recipe = recipe_of(work.job, tile, work.out)
    return run(recipe, mode="upsert", storage_options=work.options).n_dates


def recipe_of(recipe: Recipe, tile: Tile, out: Path | Remote) -> Recipe:
    """Return the recipe of a tile."""
    area = recipe.area.model_copy(update={"bbox": None, "bounds": tile.bounds, "crs": tile.crs})
    output = recipe.output.model_copy(update={"folder": str(out / tile.name)})
    return recipe.model_copy(update={"area": area, "output": output})


_LOCK = threading.Lock()
_HELD: list[Any] = []


@contextmanager
def _synchronous() -> Iterator[None]:
    """Let Dask compute in the thread that asks, while any task of this process is in the block.

    Dask's settings are those of a process: the first task in sets the scheduler, and the last one
    out takes it back.
    """
    import dask

    with _LOCK:
        if not _HELD:
            setting = dask.config.set(scheduler="synchronous")
            setting.__enter__()
            _HELD.append(setting)
        _HELD.append(None)
    try:
        yield
    finally:
        with _LOCK:
            _HELD.pop()
            if len(_HELD) == 1:
                _HELD.pop().__exit__(None, None, None)
