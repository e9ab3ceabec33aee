"""Metrics: statistics in one pass over the pixels, formulas on statistics."""

from xharmonize.metrics.classification import accuracy, confusion_matrix
from xharmonize.metrics.entries import Ergas, Metric, Psnr, Sam, Skill, Ssim, Uiqi
from xharmonize.metrics.formulas import Moments
from xharmonize.metrics.merging import merge_statistics
from xharmonize.metrics.registry import MetricLike, get_metric, list_metrics
from xharmonize.metrics.scores import score, score_statistics
from xharmonize.metrics.statistics import statistics

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
    "score",
    "score_statistics",
    "statistics",
]
