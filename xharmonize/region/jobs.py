"""A region as jobs: one per tile, each with a store of its own that grows until nothing lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from xharmonize._urls import Remote, find, find_itself, options_for
from xharmonize.errors import OptionError
from xharmonize.recipe import Recipe, read_recipe
from xharmonize.recipe.steps import read_polygons_file
from xharmonize.region.mgrs import mgrs_tiles
from xharmonize.region.outcomes import read_outcomes
from xharmonize.region.squares import Area, Tile
from xharmonize.region.work import Work, here, on_workers, recipe_of

Job: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Recipe | Callable[[Tile], Any]"
"""A recipe, or a function from a tile to the lazy cube that its store shall hold."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Tiles, and what is done with each; made by `plan`.

    Attributes
    ----------
    job : Recipe or callable
    tiles : tuple of Tile
    out : Path or str
        Folder of all tiles, or its URL: ``<tile>/`` with the products of a recipe, or
        ``<tile>.zarr`` of a function; beside each, ``<tile>.json`` says how its last run ended.
    storage_options : mapping, optional
        What the URL is given; tasks take them to the workers.
    """

    job: Any
    tiles: tuple[Tile, ...]
    out: Path | str
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def _folder(self) -> Path | Remote:
        return find(self.out, options_for(self.out, self.storage_options))

    def recipe(self, tile: Tile | str) -> Recipe:
        """Return the recipe of one tile, which ``xharmonize run`` takes as it is.

        Raises
        ------
        OptionError
            If the job is a function, or there is no such tile.
        """
        if not isinstance(self.job, Recipe):
            raise OptionError("the job of this region is a function, no recipe")
        return recipe_of(self.job, self.tile(tile), self._folder)

    def tile(self, name: Tile | str) -> Tile:
        """Return the tile of a name."""
        if isinstance(name, Tile):
            return name
        for tile in self.tiles:
            if tile.name == name:
                return tile
        raise OptionError(
            f"has {len(self.tiles)} tiles, from {self.tiles[0].name} to {self.tiles[-1].name}",
            argument="tile",
            value=name,
        )

    def path(self, tile: Tile | str) -> Path | str:
        """Return where the series of a tile is or will be, for `xharmonize.open_series`."""
        place = self._store(self.tile(tile))
        return place.url if isinstance(place, Remote) else place

    def _store(self, tile: Tile) -> Path | Remote:
        if isinstance(self.job, Recipe):
            return self._folder / tile.name / "series.zarr"
        return self._folder / f"{tile.name}.zarr"

    def run(
        self,
        client: Any = None,
        *,
        tiles: Iterable[Tile | str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> pd.DataFrame:
        """Run the jobs; write what stores lack, and nothing that they have.

        A tile that fails does not stop the others: its error is kept beside its store. Run it
        again after a stop, or when there are new dates: only what is missing is done.

        Parameters
        ----------
        client : distributed.Client, optional
            Each tile is one task, which a worker does from beginning to end in one thread: pixels
            pass neither scheduler nor client, and a worker that dies costs its tiles what they had
            not committed. Without it, tiles are done one after the other by the current scheduler,
            which may be a client's: workers then share the blocks of a tile.
        tiles : iterable of Tile or str, optional
            Only these.
        progress : callable, optional
            Is told the end of each tile.

        Returns
        -------
        DataFrame
            As `status`.
        """
        chosen = [self.tile(one) for one in (self.tiles if tiles is None else tiles)]
        tell = progress or (lambda _: None)
        folder = self._folder
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        work = Work(job=self.job, out=folder, options=self.storage_options)
        if client is None:
            here(work, chosen, tell)
        else:
            on_workers(client, work, chosen, tell)
        return self.status()

    def status(self) -> pd.DataFrame:
        """Return what is there and what is missing, by tile, as the last runs left it.

        Returns
        -------
        DataFrame
            Index ``tile``. ``state``: ``whole``, ``missing`` (never begun, or its store is gone),
            ``begun`` (running, or killed), ``empty`` (no item), ``failed``; ``dates`` in the store,
            of those ``written`` by the last run; ``seconds``; ``reason`` of a failure.
        """
        rows = read_outcomes(self._folder, {tile.name: self._store(tile) for tile in self.tiles})
        table = pd.DataFrame(rows, index=pd.Index([t.name for t in self.tiles], name="tile"))
        return table[["state", "dates", "written", "seconds", "reason"]]


def plan(
    job: Job,
    area: Area | None = None,
    *,
    tiles: Literal["mgrs"] | Sequence[Tile] = "mgrs",
    out: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Region:
    """Cut an area into tiles and make a job of each; nothing is read but files that are named.

    Parameters
    ----------
    job : recipe, or callable
        A recipe (path, tables or `Recipe`), run on each tile with the tile's bounds and CRS; or a
        function that takes a `Tile` and returns a lazy cube (time, ..., y, x) to be stored. With
        workers, the function is pickled.
    area : (west, south, east, north), BoundingBox, or polygons, optional
        As in `mgrs_tiles`. Default: ``bbox`` or ``geometry`` of the recipe; with a geometry,
        pixels outside are missing. Not used where `tiles` are given.
    tiles : {"mgrs"} or sequence of Tile
        ``"mgrs"``: tiles of Sentinel-2's products (`mgrs_tiles`). Otherwise those of
        `square_tiles` or `mgrs_tiles`, or your own.
    out : path or URL, optional
        Folder of all tiles, which all workers see under this path; or its URL in an object store
        (``"s3://bucket/flanders"``). Default: that of the recipe.
    storage_options : mapping, optional
        For URLs, of a model too: what fsspec's plugin takes.

    Returns
    -------
    Region
        `Region.run` does the work, `Region.status` says what is missing.

    Raises
    ------
    OptionError
        If the recipe cannot be run in tiles without seams, or `area` or `out` is missing.
    GridError
        If the area is none.

    Examples
    --------
    >>> from xharmonize import region
    >>> def job(tile):
    ...     return xh.open_stac("catalog.json", bbox=tile.box)
    >>> jobs = region.plan(job, (3.0, 50.8, 3.2, 50.9), out="flanders")
    >>> jobs.status()["state"].to_dict()
    {'31UDS': 'missing', '31UES': 'missing'}
    """
    if not callable(job):
        job = job if isinstance(job, Recipe) else read_recipe(job)
        _require_no_seams(job)
        out = job.output.folder if out is None else out
        area = area_of(job) if area is None and isinstance(tiles, str) else area
    if out is None:
        raise OptionError("is missing", cure="name the folder of all tiles", argument="out")
    cut = tiles if not isinstance(tiles, str) else _named_tiles(tiles, area)
    names = [tile.name for tile in cut]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise OptionError(
            f"has {twice[0]!r} twice" if twice else "is empty",
            cure="each tile needs a name of its own",
            argument="tiles",
        )
    place = find_itself(out, options_for(out, storage_options))
    where = place.url if isinstance(place, Remote) else place
    return Region(job=job, tiles=tuple(cut), out=where, storage_options=storage_options)


def _named_tiles(name: str, area: Any) -> tuple[Tile, ...]:
    if name != "mgrs":
        raise OptionError(
            "is unknown", cure="'mgrs', or tiles of square_tiles", argument="tiles", value=name
        )
    if area is None:
        raise OptionError("is missing", cure="say what to cut into tiles", argument="area")
    return mgrs_tiles(area)


def area_of(recipe: Recipe) -> Any:
    """Return what a recipe says of where: polygons, or a box in degrees.

    Raises
    ------
    OptionError
        If it says nothing.
    """
    area = recipe.area
    if area.geometry is not None:
        return read_polygons_file(area.geometry)
    if area.bbox is None:
        raise OptionError("[area] says not what to cut into tiles", cure="write bbox or geometry")
    return area.bbox


def _require_no_seams(recipe: Recipe) -> None:
    """Refuse what would differ between tiles, or be cut by their edges."""
    if recipe.model.name == "auto":
        raise OptionError(
            "[model] auto learns from the pairs of each tile, so that neighbours would differ",
            cure="fit it once, save it with xh.harmonizers.save_model, and name its path",
        )
    if recipe.table is not None:
        raise OptionError(
            "[table] would cut fields at the edges of tiles",
            cure="leave it out, and make tables of the stores afterwards",
        )
    if recipe.area.bounds is not None:
        raise OptionError("[area] bounds are those of one tile", cure="give bbox or geometry")
