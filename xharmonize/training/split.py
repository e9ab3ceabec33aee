"""Which samples are trained on, which decide when to stop, and which are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xharmonize.errors import FitError, OptionError, suggest
from xharmonize.training.config import Data
from xharmonize.training.config import Split as Kind
from xharmonize.training.store import Store
from xharmonize.types import AnyArray, BoolArray, IntArray

PURPOSES = {"date": 0, "block": 1, "scene": 2, "random": 3}


@dataclass(frozen=True, kw_only=True)
class Split:
    """Numbers of samples by purpose.

    Attributes
    ----------
    kind : {"date", "block", "scene", "random"}
        What is held out as a whole.
    training, validation, test : (n,) int64 array
        Numbers of the samples in the store. Those of the ring around held-out blocks are nowhere.
    groups : dict of str to tuple of str
        Names of the groups of each purpose.
    block : float
        Side of a block [m].
    """

    kind: Kind
    training: IntArray
    validation: IntArray
    test: IntArray
    groups: dict[str, tuple[str, ...]]
    block: float

    def describe(self) -> str:
        """Say in one line what was held out."""
        parts = ", ".join(
            f"{len(self.groups[name])} {name}" for name in ("training", "validation", "test")
        )
        return f"by {self.kind}: {parts}; tested on {', '.join(self.groups['test'])}"


def split(store: Store, data: Data) -> Split:
    """Split the samples of a store as asked for.

    Raises
    ------
    FitError
        If there are fewer than three groups: one each to train, stop and test on.
    OptionError
        If a group to hold out is not there.
    """
    kept = np.flatnonzero(store.kept)
    kind: Kind = data.split or _kind(store, kept)
    groups = _groups(store, kept, kind, data)
    names = sorted(set(groups.tolist()))
    _require_known(data.holdout, names, kind)
    if len(names) < 3:
        raise FitError(
            f"{_counted(len(names), kind)} cannot be split into groups to train on, to stop by and "
            f"to test on ({', '.join(names)})",
            cure=_cure(kind, data),
        )
    random = np.random.default_rng([data.seed, PURPOSES[kind]])
    test = list(data.holdout) or _draw(names, data.test, random)
    rest = [name for name in names if name not in test]
    if len(rest) < 2:
        raise FitError(
            f"holding out {', '.join(test)} leaves {_counted(len(rest), kind)}",
            cure="hold out fewer: training and stopping need one each",
        )
    validation = _draw(rest, data.validation, random)
    of = {"test": test, "validation": validation}
    of["training"] = [name for name in rest if name not in validation]
    numbers: dict[str, IntArray] = {
        purpose: kept[np.isin(groups, chosen)] for purpose, chosen in of.items()
    }
    if kind == "block":
        numbers = _guarded(store, numbers, of, data)
    elif kind != "random":
        numbers = _unseen(store, numbers, kind)
    for purpose, found in numbers.items():
        if not found.size:
            raise FitError(
                f"no sample is left for {purpose}",
                cure="give a smaller Data(patch=...), guard or block",
            )
    return Split(
        kind=kind,
        groups={purpose: tuple(chosen) for purpose, chosen in of.items()},
        block=data.block,
        **numbers,
    )


def _kind(store: Store, kept: IntArray) -> Kind:
    """Dates, where there is one for each purpose; blocks where there are fewer."""
    dates = {store.pairs[number].date for number in store.pair[kept]}
    return "date" if len(dates) > 2 else "block"


def _groups(store: Store, kept: IntArray, kind: Kind, data: Data) -> AnyArray:
    """Name of each kept sample's group."""
    pairs = [store.pairs[number] for number in store.pair[kept]]
    if kind == "date":
        return np.array([pair.date for pair in pairs], dtype=object)
    if kind == "scene":
        return np.array([f"{pair.place}/{pair.date}" for pair in pairs], dtype=object)
    if kind == "random":
        return np.array([f"sample {number}" for number in kept], dtype=object)
    rows, columns = _blocks(store, kept, data.block)
    prefix = [f"{pair.place}/" if pair.place else "" for pair in pairs]
    return np.array([f"{p}{r}/{c}" for p, r, c in zip(prefix, rows, columns)], dtype=object)


def _blocks(store: Store, numbers: IntArray, block: float) -> tuple[IntArray, IntArray]:
    """Row and column of the block in which the middle of each sample lies."""
    half, side = store.lattice.tile / 2, store.lattice.resolution
    return (
        np.floor((store.row[numbers] + half) * side / block).astype(np.int64),
        np.floor((store.column[numbers] + half) * side / block).astype(np.int64),
    )


def _require_known(holdout: Sequence[str], names: Sequence[str], kind: str) -> None:
    for name in holdout:
        if name not in names:
            shown = ", ".join(names[:12])
            raise OptionError(
                f"is no {kind} of the samples",
                argument="holdout",
                value=name,
                cure=f"{suggest(name, names)}there are {shown}",
            )


def _counted(n: int, kind: str) -> str:
    return f"{n} {kind}" if n == 1 else f"{n} {kind}s"


def _cure(kind: Kind, data: Data) -> str:
    if kind == "block":
        return f"give Data(block=...) less than {data.block:g} m, or collect more pairs"
    return "collect more pairs, with collect_pairs(tolerance=...), or give Data(split='block')"


def _draw(names: Sequence[str], fraction: float, random: Any) -> list[str]:
    """At least one group, and no more than leave two."""
    n = min(max(1, round(fraction * len(names))), max(1, len(names) - 2))
    return sorted(str(name) for name in random.choice(list(names), n, replace=False))


def _unseen(store: Store, numbers: dict[str, IntArray], kind: Kind) -> dict[str, IntArray]:
    """Leave out samples whose source is of a day of the source that another purpose holds.

    One day of the source may stand in pairs with several days of the target. As
    `xharmonize.harmonizers.validation` leaves out both, so does this.
    """
    places = [f"{pair.place}/" if kind == "scene" else "" for pair in store.pairs]
    days = np.array(
        [f"{place}{pair.time_source[:10]}" for place, pair in zip(places, store.pairs)], object
    )
    of = {purpose: days[store.pair[found]] for purpose, found in numbers.items()}
    held = np.concatenate([of["test"], of["validation"]])
    return numbers | {
        "training": numbers["training"][~np.isin(of["training"], held)],
        "validation": numbers["validation"][~np.isin(of["validation"], of["test"])],
    }


def _guarded(
    store: Store, numbers: dict[str, IntArray], of: dict[str, list[str]], data: Data
) -> dict[str, IntArray]:
    """Leave out samples whose window comes nearer than the guard to what another purpose holds."""
    test, validation = set(of["test"]), set(of["validation"])
    held = np.concatenate([numbers["test"], numbers["validation"]])
    found = dict(numbers)
    found["training"] = _clear_of(store, numbers["training"], held, test | validation, data)
    found["validation"] = _clear_of(store, numbers["validation"], numbers["test"], test, data)
    return found


def _clear_of(
    store: Store, numbers: IntArray, held: IntArray, blocks: set[str], data: Data
) -> IntArray:
    """Samples whose window, with the guard around it, touches no block and no core held out.

    A sample belongs to the block in which its middle lies, so that its core, which is scored, may
    reach beyond the block.
    """
    side = store.lattice.resolution
    keep: BoolArray = np.ones(numbers.size, np.bool_)
    places = np.array([store.pairs[pair].place for pair in store.pair[held]], dtype=object)
    cores = np.stack([store.row[held], store.column[held]], 1) + store.lattice.buffer
    for k, number in enumerate(numbers):
        pair = store.pairs[store.pair[number]]
        prefix = f"{pair.place}/" if pair.place else ""
        window = np.array([store.row[number], store.column[number]])
        low = window * side - data.guard
        high = (window + store.lattice.tile) * side + data.guard
        first, last = np.floor(low / data.block), np.ceil(high / data.block)
        spans = [range(int(a), int(b)) for a, b in zip(first, last)]
        near = {f"{prefix}{r}/{c}" for r in spans[0] for c in spans[1]}
        meets = (cores * side < high) & ((cores + store.lattice.stride) * side > low)
        keep[k] = not near & blocks and not (meets.all(axis=1) & (places == pair.place)).any()
    return np.asarray(numbers[keep])
