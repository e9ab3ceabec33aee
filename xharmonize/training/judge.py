"""Scores of what was held out, with identity, HLS v2 and least squares beside it.

Everything is applied by the calls that users have, and all are scored on the pixels where all are
valid. Of a split by blocks, those are the pixels of the blocks that were held out. Images go
through block by block: what a model makes of a pair lies on disk until it is scored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.pairs import (
    as_cube,
    beside_source,
    moved_target,
    shifts_in,
    source_groups,
    target_of,
)
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, XHarmonizeError
from xharmonize.harmonizers.convert import to_sensor
from xharmonize.harmonizers.linear import fit_linear
from xharmonize.harmonizers.validation import as_estimate, pick, score_estimates, unseen
from xharmonize.models.kinds.generator import CUBE
from xharmonize.sensors.spec import SAME_ROLE
from xharmonize.training.split import Split
from xharmonize.training.store import Store
from xharmonize.types import BoolArray, FloatArray, IntArray

IDENTITY, HLS, OLS = "identity", "hls-v2", "ols"
OBSERVED, REGISTERED, TRUTH = "observed", "observed, registered", "truth"
SHOWN = ("ergas", "sam", "ndvi_rmse", "ergas_centred", "sam_centred", "ndvi_rmse_centred")


def judge(
    models: Mapping[str, Any], pairs: Any, store: Store, split: Split
) -> tuple[pd.DataFrame, list[str]]:
    """Score models on the pairs or blocks that were held out.

    Parameters
    ----------
    models : mapping
        What to score beside identity, HLS v2 and least squares per band on the same samples.
    pairs : DataTree, or mapping of these by place
        What the store was cut from. A node ``/truth`` with ``reflectance`` on the target's grid,
        as the simulator gives it, is scored against too. Of registered pairs, so is the target
        moved to where its source lies, as in training, by shifts that rest on other dates only:
        ``"observed, registered"``. ``"observed"`` is what users have, which is not registered.

    Returns
    -------
    DataFrame
        One row per method and reference: ERGAS (ratio 1) [%], SAM [degree], RMSE of NDVI [1], the
        same with the mean difference of each pair and band removed (``_centred``), RMSE of each
        band [1], and the number of pixels. Pairs weigh the same.
    list of str
        Why a method is not among them.
    """
    rows: list[dict[str, Any]] = []
    notes: dict[str, str] = {}
    models = _beside(store, split) | dict(models)
    for tree, number, where in _held_out(pairs, store, split):
        rows += score_pair(models, tree, number, where, store.bands, notes)
    return mean_of(rows), list(notes.values())


def _beside(store: Store, split: Split) -> dict[str, Any]:
    """What stands beside a model: published and fitted lines, or each source as it is."""
    if store.sources == (CUBE,):
        return {IDENTITY: None, HLS: HLS, OLS: fit_linear(as_pairs(store, split.training))}
    found: dict[str, Any] = {}
    for role in store.sources:
        held = {band for one in store.inputs if one.source == role for band in one.bands}
        if all(held & {band, SAME_ROLE.get(band, band)} for band in store.bands):
            found[f"{role} as it is"] = AsItIs(role)
    return found


@dataclass(frozen=True)
class AsItIs:
    """A source in place of the target: no change since, or no detail."""

    role: str


def mean_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Mean over pairs of the rows of `score_pair`, one row per method and reference."""
    if not rows:
        return pd.DataFrame()
    grouped = pd.DataFrame(rows).groupby(["method", "reference"], sort=False)
    found = grouped.mean(numeric_only=True)
    if "pixels" in found:
        found["pixels"] = grouped["pixels"].sum()
    return found


def as_pairs(store: Store, samples: IntArray) -> xr.Dataset:
    """Cores of samples in the form that `fit_linear` takes: a pair each, on the target's grid.

    Lazy: a few samples are read at a time.
    """
    facts = [store.pairs[number] for number in store.pair[samples]]
    along: dict[str, Any] = {
        f"{field}_{side}": ("pair", [getattr(pair, f"{field}_{side}") for pair in facts])
        for side in ("source", "target")
        for field in ("sensor", "bandpass", "level")
    }
    along["platform_source"] = ("pair", [pair.platform_source for pair in facts])
    for side in ("source", "target"):
        times = np.array([getattr(pair, f"time_{side}") for pair in facts], "datetime64[ns]")
        along[f"time_{side}"] = ("pair", times)
    return xr.Dataset(
        {
            "source": (("pair", "source_band", "y", "x"), _lazy(store, samples, "exact")),
            "target": (("pair", "band", "y", "x"), _lazy(store, samples, "target")),
        },
        coords={"source_band": list(store.source_bands), "band": list(store.bands), **along},
    )


def _lazy(store: Store, samples: IntArray, name: Literal["exact", "target"], n: int = 256) -> Any:
    """Cores of samples (sample, band, y, x), in chunks of `n`."""
    from dask.array import map_blocks

    rows, columns = store.core
    bands = store.source_bands if name == "exact" else store.bands
    chunks = tuple(len(samples[at : at + n]) for at in range(0, len(samples), n))

    def read(block_info: Any = None) -> FloatArray:
        first, end = block_info[None]["array-location"][0]
        values: FloatArray = store.read_layer(name, samples[first:end])[..., rows, columns]
        return values

    side = store.lattice.stride
    return map_blocks(
        read, chunks=(chunks, (len(bands),), (side,), (side,)), dtype=np.float32, name=None
    )


def _held_out(
    pairs: Any, store: Store, split: Split
) -> Iterator[tuple[xr.DataTree, int, Callable[[xr.DataArray], BoolArray] | None]]:
    """Each held-out pair, its number in its tree, and what tells its pixels."""
    trees = {"": pairs} if isinstance(pairs, xr.DataTree) else pairs
    first: dict[str, int] = {}
    for number, pair in enumerate(store.pairs):
        first.setdefault(pair.place, number)
    for number in sorted(set(store.pair[split.test].tolist())):
        place = store.pairs[number].place
        where = None
        if split.kind in ("block", "random"):
            tested = split.test[store.pair[split.test] == number]
            where = cores(store, tested)
        yield trees[place], number - first[place], where


def cores(store: Store, samples: Any) -> Callable[[xr.DataArray], BoolArray]:
    """Tells the pixels of a cube on the target's grid that lie in the cores of some samples."""
    lattice, side = store.lattice, store.lattice.resolution

    def where(target: xr.DataArray) -> BoolArray:
        box = geobox_of(target)
        x0, y0 = float(box.affine.c), float(box.affine.f)
        found = np.zeros(target.shape[-2:], np.bool_)
        for number in samples:
            row = round((y0 - lattice.phase[1]) / side) + int(store.row[number]) + lattice.buffer
            column = int(store.column[number]) + lattice.buffer
            column -= round((x0 - lattice.phase[0]) / side)
            found[
                max(0, row) : max(0, row + lattice.stride),
                max(0, column) : max(0, column + lattice.stride),
            ] = True
        return found

    return where


def source_cubes(tree: xr.DataTree, number: int) -> dict[str, xr.DataArray]:
    """The cubes of one pair: what a model is applied to, and its further sources by role.

    Where no pixel of the cube is an input, it gives date and extent and is missing throughout.
    """
    beside = beside_source(tree)
    others = {role: as_cube(side.isel(pair=[number])) for role, side in beside.items()}
    if "source" in tree.children:
        return {CUBE: source_cube(tree, number), **others}
    return {CUBE: as_cube(target_of(tree).isel(pair=[number])).where(False), **others}


def source_cube(tree: xr.DataTree, number: int) -> xr.DataArray:
    """The source of one pair as a cube; groups of coarser pixels are held at the finest."""
    cubes = [as_cube(side.isel(pair=[number])) for side in source_groups(tree).values()]
    fine = min(cubes, key=lambda cube: abs(geobox_of(cube).affine.a))
    if len(cubes) == 1:
        return fine
    held = [one if one is fine else regrid(one, like=fine, method="nearest") for one in cubes]
    whole: xr.DataArray = xr.concat(held, "band", coords="minimal", compat="override")
    return whole


def score_pair(
    models: Mapping[str, Any],
    tree: xr.DataTree,
    number: int,
    where: Callable[[xr.DataArray], BoolArray] | None,
    bands: Iterable[str],
    notes: dict[str, str],
) -> list[dict[str, Any]]:
    """Score models on one pair: a row per method and reference.

    Parameters
    ----------
    models : mapping
        Models by name; None for identity.
    tree : DataTree
        Collected pairs.
    number : int
        Of the pair.
    where : callable, optional
        Tells the pixels (y, x) of the target that count; by default all.
    bands : iterable of str
        Target bands that count.
    notes : dict
        Gets why a model is not among the rows.
    """
    names = list(bands)
    one = pick(tree, np.array([number]))
    with tempfile.TemporaryDirectory(prefix="xharmonize-judge-") as folder:
        keep = _Shelf(Path(folder))
        target = keep(as_cube(target_of(one)).sel(band=names))
        sources = {role: keep(cube) for role, cube in source_cubes(one, 0).items()}
        found = {}
        for name, model in models.items():
            try:
                found[name] = keep(applied(model, sources, target, names))
            except XHarmonizeError as error:
                notes[name] = f"{name} is not scored: {error}"
        references = {OBSERVED: target}
        if (moved := _registered(one, notes)) is not None:
            references[REGISTERED] = keep(moved.sel(band=names))
        if TRUTH in one.children:
            ideal = as_cube(one.children[TRUTH].to_dataset()[REFLECTANCE]).sel(band=names)
            references[TRUTH] = target.copy(data=ideal.transpose(*target.dims).data)
        valid = _valid([*found.values(), *references.values()])
        if where is not None:
            valid &= where(target)
        if not valid.any():
            return []
        rows = []
        for kind, reference in references.items():
            # How far the observed target itself is from the truth: no method can see that.
            scored = {**found, "observed target": target} if kind == TRUTH else found
            scores = score_estimates(_together(scored, reference, valid))
            rows += rows_of(scores, kind, int(valid.sum()))
        return rows


SIDE = 512
"""Of blocks that lie on disk [pixel]."""


class _Shelf:
    """Keeps what is lazy on disk, written block by block; what is in memory stays there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, cube: xr.DataArray) -> xr.DataArray:
        """Return the cube (time, band, y, x), lazy still, but read from disk."""
        if cube.chunks is None:
            return cube
        import zarr
        from dask.array import from_array

        data: Any = cube.data.rechunk((1, -1, SIDE, SIDE))
        held = zarr.create_array(
            self.folder / str(len(list(self.folder.iterdir()))),
            shape=data.shape,
            chunks=data.chunksize,
            dtype=data.dtype,
        )
        data.store(held, lock=False)
        return cube.copy(data=from_array(held, chunks=data.chunksize))


def _registered(one: xr.DataTree, notes: dict[str, str]) -> xr.DataArray | None:
    """The target of a pair, moved to its source by shifts that do not come from this target."""
    if shifts_in(one) is None:
        return None
    apart = unseen(one, target_of(one)["time"].values.astype("datetime64[D]"))
    if shifts_in(apart) is None:
        notes[REGISTERED] = "not scored as registered: the shifts rest on the scored date alone"
        return None
    return as_cube(moved_target(apart))


def _valid(cubes: Iterable[xr.DataArray]) -> BoolArray:
    """Pixels (y, x) where all bands of all cubes (time, band, y, x) are valid."""
    every = [(abs(cube) < np.inf).all(["time", "band"]).data for cube in cubes]
    found: BoolArray = np.asarray(np.logical_and.reduce(every))
    return found


def _together(
    found: Mapping[str, xr.DataArray], reference: xr.DataArray, valid: BoolArray
) -> xr.Dataset:
    """Estimates and target of a pair in the form that `score_estimates` takes."""
    masked = {name: as_estimate(cube.where(valid)) for name, cube in found.items()}
    models = pd.Index(list(masked), name="model")
    estimate = xr.concat(list(masked.values()), models)
    target = as_estimate(reference.where(valid))
    return xr.Dataset({"estimate": estimate, "target": target})


def rows_of(scores: xr.Dataset, reference: str, pixels: int | None = None) -> list[dict[str, Any]]:
    """One row per model and pair of scores from `score_estimates`."""
    counted = {} if pixels is None else {"pixels": pixels}
    rows = []
    for model in scores["model"].values.tolist():
        for number in range(scores.sizes["pair"]):
            own = scores.sel(model=model).isel(pair=number)
            row = {name: float(own[name]) for name in SHOWN if name in own}
            row |= {
                f"rmse_{band}": float(own["rmse"].sel(band=band))
                for band in scores["band"].values.tolist()
            }
            rows.append({"method": model, "reference": reference, **row, **counted})
    return rows


def applied(
    model: Any,
    source: xr.DataArray | Mapping[str, xr.DataArray],
    target: xr.DataArray,
    bands: list[str],
) -> xr.DataArray:
    """Source as the target's sensor sees it, by one model, on the target's grid.

    Parameters
    ----------
    model : Harmonizer, name, fit, `AsItIs` or None
        None: the cube as it is.
    source : DataArray or mapping
        The cube, or cubes by role from `source_cubes`.
    """
    sources = {CUBE: source} if isinstance(source, xr.DataArray) else source
    if model is None or isinstance(model, AsItIs):
        result = _as_it_is(sources[CUBE if model is None else model.role], target, bands)
    elif len(sources) > 1:
        others = {role: sources[role] for role in model.sources[1:]}
        result = model(sources[CUBE], **others)
        result = regrid(result, like=target, min_valid=1.0).sel(band=bands)
    else:
        product = str(target["sensor"].values[0])
        result = to_sensor(sources[CUBE], product, model, like=target).sel(band=bands)
    values: xr.DataArray = target.copy(data=result.transpose(*target.dims).data)
    return values


def _as_it_is(source: xr.DataArray, target: xr.DataArray, bands: list[str]) -> xr.DataArray:
    held = source["band"].values.tolist()
    named = [band if band in held else SAME_ROLE.get(band, band) for band in bands]
    lacking = [band for band in named if band not in held]
    if lacking:
        raise BandError(f"the source has no {lacking[0]!r}")
    result: xr.DataArray = regrid(source, like=target, min_valid=1.0).sel(band=named)
    return result.assign_coords(band=bands)
