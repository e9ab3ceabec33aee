"""Confusion matrix and accuracies against scikit-learn."""

import numpy as np
import pytest
import xarray as xr
from sklearn import metrics as sklearn_metrics

import xharmonize as xh
from xharmonize.testing import no_compute

CLASSES = [30, 10, 20]


@pytest.fixture
def maps():
    random = np.random.default_rng(6)
    true = random.choice(CLASSES, (50, 60), p=[0.6, 0.3, 0.1]).astype("int16")
    mapped = np.where(random.random(true.shape) < 0.7, true, random.choice(CLASSES, true.shape))
    arrays = [xr.DataArray(a, dims=("y", "x"), name="class") for a in (mapped, true)]
    return arrays[0].astype("int16"), arrays[1]


@pytest.mark.parametrize("chunks", [None, {"y": 13, "x": 60}, {"y": 50, "x": 7}])
def test_accuracies_equal_scikit_learn(maps, chunks):
    mapped, true = maps
    if chunks:
        mapped = mapped.chunk(chunks)
    with no_compute():
        matrix = mapped.harmonize.confusion_matrix(true, CLASSES)
        found = xh.metrics.accuracy(matrix)
    a, b = true.values.ravel(), mapped.values.ravel()
    expected = sklearn_metrics.confusion_matrix(a, b, labels=CLASSES)
    np.testing.assert_array_equal(matrix, expected)
    options = {"labels": CLASSES, "average": None}
    np.testing.assert_allclose(
        found["producers_accuracy"], sklearn_metrics.recall_score(a, b, **options)
    )
    np.testing.assert_allclose(
        found["users_accuracy"], sklearn_metrics.precision_score(a, b, **options)
    )
    np.testing.assert_allclose(found["f1"], sklearn_metrics.f1_score(a, b, **options))
    assert found["overall_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(a, b))
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(a, b))
    assert found["class"].values.tolist() == CLASSES


def test_other_values_do_not_count_and_matrices_add_up(maps):
    mapped, true = maps
    partly = mapped.astype(float).where(np.arange(60) >= 20)
    right = partly.harmonize.confusion_matrix(true, CLASSES)
    left = mapped.isel(x=slice(20)).harmonize.confusion_matrix(true.isel(x=slice(20)), CLASSES)
    assert int(right.sum()) == 50 * 40
    xr.testing.assert_equal(left + right, mapped.harmonize.confusion_matrix(true, CLASSES))


def test_classes_come_from_the_maps_where_they_can(maps):
    mapped, true = maps
    matrix = mapped.harmonize.confusion_matrix(true)
    assert matrix["reference_class"].values.tolist() == sorted(CLASSES)
    listed = true.chunk().assign_attrs(flag_values=[10, 20, 30, 40])
    found = xh.metrics.accuracy(mapped.harmonize.confusion_matrix(listed)).compute()
    assert np.isnan(found["f1"].sel({"class": 40}))


def test_what_is_no_pair_of_maps(maps):
    mapped, true = maps
    with pytest.raises(xh.errors.MetricError, match="maps of one shape"):
        mapped.harmonize.confusion_matrix(true.isel(x=slice(5)))
    placed = [a.assign_coords(x=np.arange(60.0) + shift) for a, shift in zip(maps, (0, 2))]
    with pytest.raises(
        xh.errors.GridError, match=r"differ along 'x': 0.0 to 59.0, and 2.0 to 61.0"
    ):
        placed[0].harmonize.confusion_matrix(placed[1])
    with pytest.raises(xh.errors.MetricError, match=r"differ along 'time'"):
        xh.metrics.confusion_matrix(
            mapped.expand_dims(time=[2018, 2019]), true.expand_dims(time=[2018, 2020])
        )
    with pytest.raises(xh.errors.MetricError, match="pass classes="):
        mapped.chunk().harmonize.confusion_matrix(true)
    with pytest.raises(xh.errors.MetricError, match="distinct classes"):
        mapped.harmonize.confusion_matrix(true, [1, 1])
    with pytest.raises(xh.errors.MetricError, match="a confusion matrix has dimensions"):
        xh.metrics.accuracy(true)
