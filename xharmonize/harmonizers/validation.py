"""Score models on dates, or blocks, that they were not fitted on.

The only place where a date is left out. A method gets the pairs that remain, and the source of
those left out with a target of NaN only, so that it cannot read what it is scored on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, read_coordinate
from xharmonize.cube.pairs import cube_of, on_target_grid, shifts_in, target_of, with_shifts
from xharmonize.cube.shifts import without_reference
from xharmonize.errors import FitError, OptionError
from xharmonize.metrics import Sam, score
from xharmonize.types import BoolArray, IntArray

Pairs: TypeAlias = xr.Dataset | xr.DataTree
P = TypeVar("P", xr.Dataset, xr.DataTree)
Method: TypeAlias = Callable[[Any, Any], xr.DataArray]
"""``method(rest, look)``: fitted on the pairs `rest`, the estimate (pair, band, y, x) [1] of the
target of the pairs `look`, whose own target is NaN."""
By: TypeAlias = Literal["date", "block"]

GUARD = 3
"""Pixels around a block that are neither fitted on nor scored: what neighbours and blur reach."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Pairs to fit on, and pairs to score.

    Attributes
    ----------
    rest, look : pairs
        As given, the target of `look` NaN.
    left_out : (pair,) int64 array
        Numbers of the pairs of `look`.
    inside : (y, x) bool array, optional
        Pixels to score; None: all.
    """

    rest: Any
    look: Any
    left_out: IntArray
    inside: BoolArray | None = None


def leave_out(pairs: P, *, by: By = "date") -> Iterator[Fold]:
    """Leave out one date of the target after the other, or one quarter of the area.

    Parameters
    ----------
    pairs : Dataset or DataTree
        From `xharmonize.match_pairs` or `xharmonize.collect_pairs`.
    by : {"date", "block"}
        ``date``: all pairs that share the day of the target or of the source are left out, the
        first with that target is scored. ``block``: a quarter of the target's area is left out of
        all pairs, with a guard ring.

    Raises
    ------
    FitError
        If there is one date only, for ``date``.
    """
    if by not in ("date", "block"):
        raise OptionError("is unknown", cure="choose 'date' or 'block'", argument="by", value=by)
    if by == "block":
        yield from _blocks(pairs)
        return
    source, target = (_days(pairs, side) for side in ("source", "target"))
    if np.unique(target).size < 2:
        raise FitError(
            "there is one date only, none is left to fit on", cure="leave out blocks, by='block'"
        )
    for k in range(target.size):
        away = (target == target[k]) | (source == source[k])
        if not away.all():
            rest = pick(pairs, np.flatnonzero(~away))
            look = hide_target(pick(pairs, np.array([k])))
            rest, look = (unseen(part, target[[k]]) for part in (rest, look))
            yield Fold(rest=rest, look=look, left_out=np.array([k]))


def unseen(pairs: P, days: Any) -> P:
    """Pairs registered, if they are, by shifts that do not come from the target of some days."""
    if isinstance(pairs, xr.Dataset) or (fit := shifts_in(pairs)) is None:
        return pairs
    return with_shifts(pairs, without_reference(fit, days))


def _days(pairs: Pairs, side: str) -> Any:
    return read_coordinate(_root(pairs), f"time_{side}").astype("datetime64[D]")


def _root(pairs: Pairs) -> xr.Dataset:
    return pairs.to_dataset() if isinstance(pairs, xr.DataTree) else pairs


def target_side(pairs: Pairs) -> xr.DataArray:
    """Target (pair, band, y, x) of pairs of either form."""
    return target_of(pairs) if isinstance(pairs, xr.DataTree) else pairs["target"]


def _blocks(pairs: P) -> Iterator[Fold]:
    n_y, n_x = (target_side(pairs).sizes[dim] for dim in ("y", "x"))
    pairs = unseen(pairs, _days(pairs, "target"))
    every = np.arange(target_side(pairs).sizes["pair"])
    if min(n_y, n_x) < 4 * GUARD:
        raise FitError(f"{n_y} x {n_x} pixels are too few to leave out a block", cure="add dates")
    for upper in (True, False):
        for left in (True, False):
            rows, near_rows = _half(n_y, first=upper)
            columns, near_columns = _half(n_x, first=left)
            away = near_rows[:, None] & near_columns[None, :]
            inside = rows[:, None] & columns[None, :]
            yield Fold(
                rest=hide_target(pairs, away),
                look=hide_target(pairs),
                left_out=every,
                inside=inside,
            )


def _half(n: int, *, first: bool) -> tuple[BoolArray, BoolArray]:
    """Pixels in one half, and those in it or near."""
    place: IntArray = np.arange(n)
    half = n // 2
    inner: BoolArray = np.asarray(place < half if first else place >= half)
    near: BoolArray = np.asarray(place < half + GUARD if first else place >= half - GUARD)
    return inner, near


def pick(pairs: P, index: IntArray) -> P:
    """Choose pairs by their numbers."""
    return _on_nodes(pairs, lambda _, node: node.isel(pair=index))


def hide_target(pairs: P, where: BoolArray | None = None) -> P:
    """Replace the target by NaN, everywhere or in some pixels (y, x)."""
    is_tree = isinstance(pairs, xr.DataTree)

    def hide(path: str, node: xr.Dataset) -> xr.Dataset:
        name = REFLECTANCE if path.strip("/") == "target" else "target"
        if name not in node or is_tree != (name == REFLECTANCE):
            return node
        if where is None:  # not a pixel of it is read
            return node.assign(
                {name: node[name].copy(data=np.full(node[name].shape, np.nan, "f4"))}
            )
        return node.assign({name: node[name].where(xr.DataArray(~where, dims=("y", "x")))})

    return _on_nodes(pairs, hide)


def _on_nodes(pairs: P, change: Callable[[str, xr.Dataset], xr.Dataset]) -> P:
    if isinstance(pairs, xr.Dataset):
        return change("", pairs)
    nodes = {node.path: node.to_dataset(inherit=False) for node in pairs.subtree}
    done = {
        path: change(path, node) if "pair" in node.dims else node for path, node in nodes.items()
    }
    result: P = xr.DataTree.from_dict(done)
    return result


def gridded(pairs: Pairs, **options: Any) -> xr.Dataset:
    """Pairs on the grid of the target: a Dataset as it is, a tree by `on_target_grid`."""
    return on_target_grid(pairs, **options) if isinstance(pairs, xr.DataTree) else pairs


def source_cube(pairs: xr.Dataset) -> xr.DataArray:
    """Source of pairs on one grid as a cube (time, band, y, x) with its contract."""
    return cube_of(pairs, "source")


def as_estimate(cube: xr.DataArray) -> xr.DataArray:
    """A cube (time, band, y, x) as the estimate (pair, band, y, x) of a method."""
    bare = cube.drop_vars([n for n in cube.coords if n not in ("band", "y", "x")])
    return bare.rename(time="pair")


def estimate_left_out(
    pairs: Pairs,
    methods: Mapping[str, Method],
    *,
    by: By = "date",
    tell: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Estimate each target by models that were not fitted on it; computes.

    ``tell(done, total)`` is called after each estimate.

    Returns
    -------
    Dataset
        ``estimate`` (model, pair, band, y, x) and ``target`` (pair, band, y, x) [1] in the bands
        of the target, NaN where the target or any method has no value; coordinates of the pairs.
    """
    target = target_side(pairs)
    bands = [str(band) for band in target["band"].values]
    shape = (len(methods), *target.transpose("pair", "band", "y", "x").shape)
    found = np.full(shape, np.nan, np.float32)
    given: Any = pairs
    total = len(methods) * (shape[1] if by == "date" else 4)
    for k, fold in enumerate(leave_out(given, by=by)):
        for m, method in enumerate(methods.values()):
            part = method(fold.rest, fold.look).sel(band=bands)
            values = np.asarray(part.transpose("pair", "band", "y", "x").values)
            inside = True if fold.inside is None else fold.inside
            found[m, fold.left_out] = np.where(inside, values, found[m, fold.left_out])
            if tell is not None:
                tell(k * len(methods) + m + 1, total)
    truth = np.asarray(target.transpose("pair", "band", "y", "x").values, np.float32)
    ok: BoolArray = np.asarray(np.isfinite(found).all(axis=(0, 2)) & np.isfinite(truth).all(axis=1))
    root = _root(pairs)
    coords = {n: c.variable for n, c in root.coords.items() if c.dims == ("pair",)}
    return xr.Dataset(
        {
            "estimate": (
                ("model", "pair", "band", "y", "x"),
                np.where(ok[:, None], found, np.nan),
                {"units": "1"},
            ),
            "target": (
                ("pair", "band", "y", "x"),
                np.where(ok[:, None], truth, np.nan),
                {"units": "1"},
            ),
        },
        coords={**coords, "model": list(methods), "band": bands, "y": target.y, "x": target.x},
    )


def score_estimates(found: xr.Dataset) -> xr.Dataset:
    """Score estimates of `estimate_left_out`, as they are and with the means of dates removed.

    Computes, block by block where the estimates are lazy.

    Returns
    -------
    Dataset
        ``ergas``, ``sam`` [degree], ``ndvi_rmse`` [1] if there are red and near infrared (method,
        pair); ``rmse``, ``bias`` (model, pair, band) [1]; with ``_centred`` those without the mean
        difference of each date and band.
    """
    estimate, target = found["estimate"], found["target"]
    bias = (estimate - target).mean(["y", "x"]).compute()
    parts = {"": estimate, "_centred": estimate - bias}
    result: dict[str, xr.DataArray] = {"bias": bias}
    for suffix, values in parts.items():
        values = values.assign_attrs(units="1")
        rows = [_scored(values.sel(model=m, drop=True), target) for m in found["model"].values]
        table = xr.concat(rows, "model")
        result |= {f"{name}{suffix}": layer for name, layer in table.data_vars.items()}
    coords = {n: c.variable for n, c in found.coords.items() if c.dims == ("pair",)}
    bare = {name: layer.drop_vars(layer.coords) for name, layer in result.items()}
    names = {n: found[n].values for n in ("model", "band")}
    return xr.Dataset(bare, coords={**coords, **names}).compute()


def robust_deviation(found: xr.Dataset) -> xr.DataArray:
    """1.4826 times the median absolute deviation of the differences (model, pair, band) [1]."""
    difference = found["estimate"] - found["target"]
    away = abs(difference - difference.median(["y", "x"]))
    spread: xr.DataArray = 1.4826 * away.median(["y", "x"])
    return spread.drop_vars(spread.coords)


def _scored(estimate: xr.DataArray, target: xr.DataArray) -> xr.Dataset:
    bands = {str(band) for band in target["band"].values}
    wanted: list[Any] = ["rmse", "ergas"] if len(bands) > 1 else ["rmse"]
    wanted += [Sam(unit="deg")] if len(bands) > 1 else []
    if "red" in bands and bands & {"nir", "nir08"}:
        wanted.append("ndvi_rmse")
    return score(estimate, target, wanted, dim=["y", "x"])


def mean_scores(scores: xr.Dataset, names: Sequence[str] = ("ergas", "sam", "ndvi_rmse")) -> Any:
    """Mean over the pairs, each with equal weight, of some scores."""
    kept = [name for name in names if name in scores]
    return scores[kept].mean("pair")
