"""Metrics: formulas on statistics that are computed in one pass over the pixels."""

from xharmonize.metrics.blocks import merge_statistics
from xharmonize.metrics.classification import accuracy, confusion_matrix
from xharmonize.metrics.formulas import Moments
from xharmonize.metrics.registry import (
    Ergas,
    Metric,
    MetricLike,
    Psnr,
    Sam,
    Skill,
    Ssim,
    Uiqi,
    get_metric,
    list_metrics,
    register_metric,
)
from xharmonize.metrics.scores import score, score_statistics, statistics

__all__ = [
    "Ergas",
    "Metric",
    "MetricLike",
    "Moments",
    "Psnr",
    "Sam",
    "Skill",
    "Ssim",
    "Uiqi",
    "accuracy",
    "confusion_matrix",
    "get_metric",
    "list_metrics",
    "merge_statistics",
    "register_metric",
    "score",
    "score_statistics",
    "statistics",
]
