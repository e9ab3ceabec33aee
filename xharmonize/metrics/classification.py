"""Agreement of class maps: confusion matrix and accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.door import at_door
from xharmonize.errors import MetricError
from xharmonize.kernels.statistics import count_classes
from xharmonize.metrics.inputs import positions, positions_of, require_same_place, spread, unify
from xharmonize.types import AnyArray

REFERENCE, PREDICTED = "reference_class", "predicted_class"


def confusion_matrix(
    cube: xr.DataArray, reference: xr.DataArray, classes: Sequence[Any] | None = None
) -> xr.DataArray:
    """Compute the confusion matrix of a class map and a reference, lazily.

    Parameters
    ----------
    cube, reference : (y, x) or other DataArray of integers, floats or strings
        Mapped and true classes, on one grid. Pixels with a value outside `classes` (nodata, NaN) in
        either map are ignored.
    classes : sequence, optional
        Classes to count, in the order of the matrix. By default those in the attribute
        ``flag_values`` of the reference or the map, or all values if both are in memory.

    Returns
    -------
    (reference_class, predicted_class) int64 DataArray
        Number of pixels; lazy if a map is.

    Raises
    ------
    GridError
        If the maps are on different grids.
    MetricError
        If dimensions or their labels differ, or classes are not given for a lazy map.
    """
    cube, reference = at_door(cube), at_door(reference)
    if set(cube.dims) != set(reference.dims) or dict(cube.sizes) != dict(reference.sizes):
        raise MetricError(
            f"maps of one shape are needed: {dict(cube.sizes)}, {dict(reference.sizes)}"
        )
    _require_same_labels(cube, reference)
    labels = _classes(cube, reference, classes)
    pred, other = unify(cube, spread(reference, cube))
    letters = ascii_lowercase[: pred.ndim]
    parts = map_blocks(
        partial(_count_block, labels=labels),
        f"{letters},{letters}->{letters}RP",
        pred.data,
        other.data,
        new={"R": len(labels), "P": len(labels)},
        sizes=dict.fromkeys(letters, 1),
        dtype=np.int64,
        name="confusion-matrix",
    )
    counts = parts.sum(axis=tuple(range(pred.ndim)))
    return xr.DataArray(
        counts,
        dims=(REFERENCE, PREDICTED),
        coords={REFERENCE: labels, PREDICTED: labels},
        name="confusion_matrix",
        attrs={"long_name": "number of pixels", "units": "1"},
    )


def _require_same_labels(cube: xr.DataArray, reference: xr.DataArray) -> None:
    """Raise if the labels that both maps have show different places or dates."""
    require_same_place(cube, reference, what="confusion_matrix")
    for dim in (d for d in cube.dims if d in cube.indexes and d in reference.indexes):
        one, other = cube.indexes[dim], reference.indexes[dim]
        if (positions_of(one, other) == np.arange(len(one))).all() or dim in ("y", "x"):
            continue
        raise MetricError(
            f"the maps differ along {str(dim)!r}: {one[0]} to {one[-1]}, and {other[0]} to "
            f"{other[-1]}",
            cure="select what both have",
        )


def accuracy(matrix: xr.DataArray) -> xr.Dataset:
    """Compute accuracies from a confusion matrix.

    Parameters
    ----------
    matrix : (reference_class, predicted_class) DataArray
        From `confusion_matrix`; other dimensions are kept. Matrices of parts can be summed first.

    Returns
    -------
    Dataset
        ``overall_accuracy``: fraction of correctly mapped pixels. ``producers_accuracy`` (class):
        fraction of a class's true pixels that are mapped correctly (recall). ``users_accuracy``
        (class): fraction of the pixels mapped as a class that are correct (precision). ``f1``
        (class): harmonic mean of the two. ``kappa``: Cohen's kappa, agreement beyond chance. All
        [1], NaN where no pixel was counted.

    Raises
    ------
    MetricError
        If `matrix` is not a confusion matrix.

    References
    ----------
    Congalton, R. G. (1991). A review of assessing the accuracy of classifications of remotely
    sensed data. Remote Sensing of Environment 37(1), 35-46. doi:10.1016/0034-4257(91)90048-B

    Cohen, J. (1960). A coefficient of agreement for nominal scales. Educational and Psychological
    Measurement 20(1), 37-46. doi:10.1177/001316446002000104
    """
    if not {REFERENCE, PREDICTED} <= set(matrix.dims) or (
        matrix.sizes[REFERENCE] != matrix.sizes[PREDICTED]
    ):
        raise MetricError(
            f"a confusion matrix has dimensions {REFERENCE!r} and {PREDICTED!r} of one length",
            cure=f"this has {dict(matrix.sizes)}",
        )
    labels = matrix[REFERENCE].values
    counts = matrix.astype("float64").drop_vars([REFERENCE, PREDICTED])
    right = (counts * xr.DataArray(np.eye(labels.size), dims=(REFERENCE, PREDICTED))).sum(PREDICTED)
    right = right.rename({REFERENCE: "class"})
    true = counts.sum(PREDICTED).rename({REFERENCE: "class"})
    mapped = counts.sum(REFERENCE).rename({PREDICTED: "class"})
    total = true.sum("class")
    overall = right.sum("class") / total.where(total > 0)
    chance = (true * mapped).sum("class") / (total * total).where(total > 0)
    either = true + mapped
    found = {
        "overall_accuracy": overall,
        "producers_accuracy": right / true.where(true > 0),
        "users_accuracy": right / mapped.where(mapped > 0),
        "f1": 2 * right / either.where(either > 0),
        "kappa": (overall - chance) / (1 - chance).where(chance < 1),
    }
    names = {
        "overall_accuracy": "overall accuracy",
        "producers_accuracy": "producer's accuracy (recall)",
        "users_accuracy": "user's accuracy (precision)",
        "f1": "F1 score",
        "kappa": "Cohen's kappa",
    }
    described = {
        key: value.assign_attrs(long_name=names[key], units="1") for key, value in found.items()
    }
    return xr.Dataset(described).assign_coords({"class": labels})


def _classes(
    cube: xr.DataArray, reference: xr.DataArray, classes: Sequence[Any] | None
) -> AnyArray:
    if classes is None:
        flags = reference.attrs.get("flag_values", cube.attrs.get("flag_values"))
        if flags is None and (cube.chunks is not None or reference.chunks is not None):
            raise MetricError(
                "the maps are lazy and do not list their classes, and nothing is computed while "
                "the matrix is set up",
                cure="pass classes=",
            )
        if flags is None:
            flags = np.union1d(np.asarray(cube.data), np.asarray(reference.data))
            flags = flags[flags == flags]
        classes = flags
    labels = np.asarray(classes)
    if labels.ndim != 1 or not labels.size or np.unique(labels).size != labels.size:
        raise MetricError(
            "is no list of distinct classes", argument="classes", value=labels.tolist()
        )
    return labels


def _count_block(pred: AnyArray, reference: AnyArray, *, labels: AnyArray) -> AnyArray:
    """Matrix (class, class) of a block, with an axis of length one for each of its own."""
    order = np.argsort(labels)
    place = [
        np.ascontiguousarray(positions(a, labels[order]).reshape(-1)) for a in (pred, reference)
    ]
    sorted_counts = count_classes(place[0], place[1], len(labels))
    back = np.argsort(order)
    return np.asarray(sorted_counts[np.ix_(back, back)])[(None,) * pred.ndim]
