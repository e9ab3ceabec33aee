"""Crop maps: a support vector machine on the features of a time series.

The task of table V of Sedona et al. (2021), A high-performance multispectral adaptation GAN for
harmonizing dense time series of Landsat-8 and Sentinel-2 images, IEEE JSTARS 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._optional import require, require_installed
from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import main_layer, read_coordinate, with_history
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import require_same_grid
from xharmonize.errors import ContractError, FitError, ModelError, RadiometryError, TimeAxisError
from xharmonize.types import AnyArray, FloatArray, IntArray

__all__ = ["CropClassifier", "classify", "cross_classify", "fit_classifier", "to_features"]


def to_features(
    cube: xr.DataArray | xr.Dataset, *, dates: Sequence[str | np.datetime64] | None = None
) -> xr.DataArray:
    """Stack the dates and bands of a series along one feature dimension, lazily.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) DataArray, or Dataset of one quantity
        Reflectance or an index [1]; NaN where missing. Companions of a Dataset are left out.
    dates : sequence of str or datetime64, optional
        Days (UTC) to use, in this order; all dates by default.

    Returns
    -------
    (feature, y, x) DataArray
        float32, NaN where missing, in one chunk along ``feature``. Coordinates: `feature`
        (``"2018-07-01 red"``, with the time of day if a day has several observations), `date` and
        `feature_band` (the name of the index if there are no bands).

    Raises
    ------
    TimeAxisError
        If a requested date is missing, or the cube has no dates.
    ContractError
        If a Dataset holds no quantity or several, or the cube has no pixels.
    RadiometryError
        If the cube holds digital numbers, whose gaps would count as values.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> features = to_features(example_cube(bands=("red", "nir08")), dates=["2018-07-01"])
    >>> [str(name) for name in features["feature"].values]
    ['2018-07-01 red', '2018-07-01 nir08']
    """
    cube = at_door(cube)
    array = main_layer(cube, what="to_features")
    if "time" not in array.dims:
        raise TimeAxisError(
            "features need dates", cure=f"the cube has dimensions {tuple(array.dims)}"
        )
    if not {"y", "x"} <= set(array.dims):
        raise ContractError("features need pixels (y, x)", cure=f"the cube has {tuple(array.dims)}")
    decoded = "is_decoded" not in array.coords or read_coordinate(array, "is_decoded").all()
    if not np.issubdtype(array.dtype, np.floating) or not decoded:
        raise RadiometryError(
            f"features need real values, the cube holds {array.dtype}",
            cure="call cube.harmonize.decode() first",
        )
    require_dates(array, what="to_features")
    if dates is not None:
        array = array.isel(time=_positions(array, dates))
    if not array.sizes["time"]:
        raise TimeAxisError("the series has no date: there is nothing to make features of")
    days = _labels(array["time"].values)
    if "band" not in array.dims:
        array = array.expand_dims(band=[str(array.name or "value")])
    bands = [str(name) for name in array["band"].values]
    array = array.transpose("time", "band", "y", "x")
    data = array.data.astype(np.float32).reshape((-1, *array.shape[2:]))
    coords: dict[Any, Any] = {
        name: coord
        for name, coord in array.coords.items()
        if not {"time", "band"} & {str(dim) for dim in coord.dims} and name not in ("time", "band")
    }
    coords["feature"] = [f"{day} {band}" for day in days for band in bands]
    coords["date"] = ("feature", np.repeat(array["time"].values, len(bands)))
    coords["feature_band"] = ("feature", np.tile(np.array(bands), len(days)))
    result = xr.DataArray(
        data, coords=coords, dims=("feature", "y", "x"), name="features", attrs=array.attrs
    )
    return result if result.chunks is None else result.chunk(feature=-1)


def _positions(array: xr.DataArray, dates: Sequence[str | np.datetime64]) -> list[int]:
    """Positions of the requested days; a day with several observations gives all of them."""
    days = array["time"].values.astype("datetime64[D]")
    found: list[int] = []
    for date in dates:
        day = np.datetime64(pd.Timestamp(date), "D")
        matches = np.flatnonzero(days == day)
        if not matches.size:
            nearest = days[np.argmin(np.abs(days - day))] if days.size else "none"
            raise TimeAxisError(
                f"the series has no date on {day}", cure=f"the nearest is {nearest}"
            )
        found += matches.tolist()
    return found


def _labels(times: Any) -> list[str]:
    """Days as text; to the second where a day occurs twice."""
    days = [str(time) for time in times.astype("datetime64[D]")]
    if len(set(days)) == len(days):
        return days
    exact = [str(time) for time in times.astype("datetime64[s]")]
    return [second if days.count(day) > 1 else day for day, second in zip(days, exact)]


Groups: TypeAlias = "xr.DataArray | float | Literal['fields']"
"""Groups never split by cross-validation: labelled areas, blocks [m], or connected fields."""

_C = (0.1, 1.0, 10.0, 100.0, 1000.0)
_GAMMA = (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class CropClassifier:
    """A fitted classifier.

    Attributes
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Standardisation followed by the support vector machine.
    features : tuple of str
        Names of the features, in the order the pipeline expects.
    classes : tuple of int
        Class codes it can predict.
    parameters : dict
        The selected C and gamma.
    n_samples : int
        Number of pixels used for fitting.
    accuracy : float
        Mean overall accuracy [1] over the folds of the parameter search. The parameters were
        selected by it, so it is optimistic; use `cross_classify` for an independent estimate.
    """

    pipeline: Any
    features: tuple[str, ...]
    classes: tuple[int, ...]
    parameters: dict[str, float]
    n_samples: int
    accuracy: float


def fit_classifier(
    features: xr.DataArray,
    labels: xr.DataArray,
    *,
    groups: Groups = "fields",
    folds: int = 5,
    max_per_class: int | None = 500,
    seed: int = 0,
) -> CropClassifier:
    """Fit a support vector machine with an RBF kernel; computes.

    C and gamma are selected by cross-validation over spatial groups. All pixels of a group go to
    the same side of a split, because neighbouring pixels of a field are nearly identical.

    Parameters
    ----------
    features : (feature, y, x) DataArray
        From `to_features`; pixels with a missing feature are ignored.
    labels : (y, x) integer DataArray
        Class of each pixel on the same grid; 0 means unlabelled.
    groups : (y, x) integer DataArray, float or "fields"
        Areas that cross-validation never splits: an array of group numbers, the side of square
        blocks [m], or ``"fields"`` for connected pixels of one class (including diagonals). A block
        edge can cut a field and put it on both sides of a split, which makes scores optimistic.
    folds : int
        Number of folds; reduced if a class has fewer groups.
    max_per_class : int, optional
        Maximum number of pixels per class, drawn at random; None uses all.
    seed : int
        Random seed for drawing pixels and making folds.

    Returns
    -------
    CropClassifier
        Pass it to `classify`.

    Raises
    ------
    FitError
        If fewer than two classes are labelled, a class lies in a single group, or labels or groups
        are not integers.
    GridError
        If the grids differ.

    References
    ----------
    Cortes, C., & Vapnik, V. (1995). Support-vector networks. Machine Learning, 20, 273-297.
    doi:10.1007/BF00994018
    """
    features, labels = at_door(features), at_door(labels)
    samples = _samples(features, labels, groups)
    _require_groups(samples, folds)
    return _fit(samples, samples.every, folds=folds, max_per_class=max_per_class, seed=seed)


def cross_classify(
    features: xr.DataArray,
    labels: xr.DataArray,
    *,
    groups: Groups = "fields",
    folds: int = 5,
    max_per_class: int | None = 500,
    seed: int = 0,
) -> xr.DataArray:
    """Classify each labelled pixel with a classifier that never saw its group; computes.

    Each fold selects its own parameters from its training groups and draws pixels only from them.
    The accuracy of the result (`confusion_matrix`, `accuracy`) is therefore that of unseen groups.
    A class with two groups is learned from one of them. Takes the arguments of `fit_classifier`
    and raises the same errors.

    Returns
    -------
    (y, x) int32 DataArray
        Class; 0 where unlabelled or where a feature is missing.
    """
    features, labels = at_door(features), at_door(labels)
    samples = _samples(features, labels, groups)
    _require_groups(samples, folds)
    found = np.zeros(labels.shape, np.int32)
    flat = found.reshape(-1)
    for train, test in _folds(samples, samples.every, folds, seed):
        fitted = _fit(samples, train, folds=folds, max_per_class=max_per_class, seed=seed)
        flat[samples.place[test]] = fitted.pipeline.predict(samples.values[test])
    return xr.DataArray(
        found, coords=labels.coords, dims=labels.dims, name="class", attrs=dict(labels.attrs)
    )


def classify(features: xr.DataArray, classifier: CropClassifier) -> xr.DataArray:
    """Apply a fitted classifier to features, lazily.

    Parameters
    ----------
    features : (feature, y, x) DataArray
        Contains the features used for fitting, in any order.
    classifier : CropClassifier
        From `fit_classifier`.

    Returns
    -------
    (y, x) int32 DataArray
        Class; 0 where a feature is missing.

    Raises
    ------
    ModelError
        If a feature is missing.
    """
    features = at_door(features)
    present = [str(name) for name in features["feature"].values]
    lacking = [name for name in classifier.features if name not in present]
    if lacking:
        raise ModelError(
            f"the classifier needs features {lacking[:3]} ({len(lacking)} lacking)",
            cure=f"there are {present[:3]} …",
        )
    chosen = features
    if present != list(classifier.features):
        chosen = features.sel(feature=list(classifier.features))
    chosen = chosen.transpose("feature", ...)
    predict = partial(_predict, pipeline=classifier.pipeline)
    data = map_blocks(predict, "f...->...", chosen.data, dtype=np.int32, name="classify")
    result = chosen.isel(feature=0, drop=True).copy(data=data).drop_attrs(deep=False)
    note = f"classify: {len(classifier.features)} features, classes {classifier.classes}"
    history = with_history(features.attrs, note)["history"]
    return result.rename("class").assign_attrs(long_name="crop class", history=history)


def _predict(values: FloatArray, *, pipeline: Any) -> IntArray:
    """Class of each pixel of (feature, y, x) values."""
    values = np.moveaxis(values, 0, -1)
    known = np.isfinite(values).all(axis=-1)
    found = np.zeros(values.shape[:-1], np.int32)
    if known.any():
        found[known] = pipeline.predict(values[known])
    return found


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Labelled pixels: features, class, group and position in the flattened image."""

    values: FloatArray
    label: IntArray
    group: IntArray
    place: IntArray
    features: tuple[str, ...]

    @property
    def every(self) -> IntArray:
        """Numbers of all samples."""
        return np.arange(self.label.size)


def _samples(features: xr.DataArray, labels: xr.DataArray, groups: Groups) -> _Samples:
    require_installed("sklearn", extra="crops")
    require_same_grid(features, labels, what="fitting a classifier")
    codes = np.asarray(labels.transpose("y", "x").values)
    if not np.issubdtype(codes.dtype, np.integer):
        raise FitError(f"labels are {codes.dtype}", cure="give integer classes, 0 where unlabelled")
    values = features.transpose("feature", "y", "x").values.reshape(features.sizes["feature"], -1)
    place = np.flatnonzero((codes.reshape(-1) > 0) & np.isfinite(values).all(axis=0))
    samples = _Samples(
        values=np.ascontiguousarray(values[:, place].T),
        label=codes.reshape(-1)[place],
        group=_group_numbers(labels, codes, groups).reshape(-1)[place],
        place=place,
        features=tuple(map(str, features["feature"].values)),
    )
    classes = np.unique(samples.label)
    if classes.size < 2:
        raise FitError(
            f"{place.size} labelled pixels have all features, of classes {classes.tolist()}",
            cure="a "
            "classifier needs two classes: fill gaps first (composite, smooth), or add labels",
        )
    return samples


def _group_numbers(labels: xr.DataArray, codes: IntArray, groups: Groups) -> IntArray:
    """Number of the group of each pixel (y, x)."""
    if isinstance(groups, xr.DataArray):
        require_same_grid(groups, labels, what="groups of labels")
        numbers = np.asarray(groups.transpose("y", "x").values)
        if not np.issubdtype(numbers.dtype, np.integer):
            raise FitError(
                f"groups are {numbers.dtype}", cure="give the integer number of each area"
            )
        return numbers
    if isinstance(groups, str) and groups == "fields":
        return _fields(codes)
    if isinstance(groups, bool) or not isinstance(groups, int | float) or not groups > 0:
        raise FitError(
            ": give 'fields', a block's side [m], or a DataArray", argument="groups", value=groups
        )
    rows = np.floor(labels["y"].values / groups).astype(np.int64)
    columns = np.floor(labels["x"].values / groups).astype(np.int64)
    pairs = np.stack(np.broadcast_arrays(rows[:, None], columns), axis=-1).reshape(-1, 2)
    blocks = np.unique(pairs, axis=0, return_inverse=True)[1]
    return np.asarray(blocks.reshape(codes.shape))


def _fields(codes: IntArray) -> IntArray:
    """Connected pixels of one class, numbered through all classes."""
    from scipy import ndimage

    numbers = np.zeros(codes.shape, np.int64)
    for code in np.unique(codes[codes > 0]):
        found = ndimage.label(codes == code, structure=np.ones((3, 3)))[0]
        numbers += np.where(found > 0, found + numbers.max(), 0)
    return numbers


def _require_groups(samples: _Samples, folds: int) -> None:
    """Raise `FitError` unless each class can be both learned and held out."""
    single = [code for code, n in _group_counts(samples, samples.every).items() if n < 2]
    if single or folds < 2:
        raise FitError(
            f"classes {single} lie in a single group each and cannot be held out (folds={folds})",
            cure="leave them out of the labels, or give smaller groups: groups=100.0 for 100 m",
        )


def _group_counts(samples: _Samples, chosen: IntArray) -> dict[int, int]:
    """Number of groups of each class."""
    label, group = samples.label[chosen], samples.group[chosen]
    return {int(code): np.unique(group[label == code]).size for code in np.unique(label)}


def _folds(
    samples: _Samples, chosen: IntArray, folds: int, seed: int
) -> list[tuple[AnyArray, AnyArray]]:
    """Training and test samples of each fold, among the samples `chosen`.

    Folds whose training samples all have one class are dropped: they cannot train a classifier.
    """
    selection = require("sklearn.model_selection", extra="crops")
    label, group = samples.label[chosen], samples.group[chosen]
    # A class may have only one group left inside a fold; it is then held out without being learned.
    n_splits = max(2, min(folds, *_group_counts(samples, chosen).values()))
    splits = []
    if np.unique(group).size >= n_splits:
        splitter = selection.StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        splits = list(splitter.split(label, label, group))
    usable = [(chosen[a], chosen[b]) for a, b in splits if np.unique(label[a]).size > 1]
    if not usable:
        raise FitError(
            f"{np.unique(group).size} groups of classes {np.unique(label).tolist()} are too few to "
            "learn from some and test on the others",
            cure="give smaller groups, or more labels",
        )
    return usable


def _fit(
    samples: _Samples, chosen: IntArray, *, folds: int, max_per_class: int | None, seed: int
) -> CropClassifier:
    pipeline = require("sklearn.pipeline", extra="crops")
    preprocessing = require("sklearn.preprocessing", extra="crops")
    svm = require("sklearn.svm", extra="crops")
    selection = require("sklearn.model_selection", extra="crops")
    drawn = _draw(samples, chosen, max_per_class, seed)
    n_features = len(samples.features)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), svm.SVC(kernel="rbf"))
    search = selection.GridSearchCV(
        model,
        {"svc__C": list(_C), "svc__gamma": [gamma / n_features for gamma in _GAMMA]},
        cv=_folds(samples, drawn, folds, seed),
        refit=False,  # refitting would use all samples, including the held-out ones
    )
    search.fit(samples.values, samples.label)
    best = search.best_params_
    model.set_params(**best).fit(samples.values[drawn], samples.label[drawn])
    return CropClassifier(
        pipeline=model,
        features=samples.features,
        classes=tuple(int(code) for code in np.unique(samples.label[drawn])),
        parameters={"C": float(best["svc__C"]), "gamma": float(best["svc__gamma"])},
        n_samples=int(drawn.size),
        accuracy=float(search.best_score_),
    )


def _draw(samples: _Samples, chosen: IntArray, limit: int | None, seed: int) -> IntArray:
    """At most `limit` samples of each class, drawn at random."""
    if limit is None:
        return chosen
    random = np.random.default_rng(seed)
    parts = []
    for code in np.unique(samples.label[chosen]):
        own = chosen[samples.label[chosen] == code]
        parts.append(random.permutation(own)[:limit])
    return np.sort(np.concatenate(parts))
