"""The benchmark of storing runs, and memory does not grow with the length of a series."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "benchmarks" / "storing.py"


def load_benchmark():
    spec = importlib.util.spec_from_file_location("storing", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_times_the_dates_need_hardly_more_memory(capsys):
    ratios = load_benchmark().compare(short=2, long=20, size=768)  # 28 and 283 MB of pixels
    assert ratios["memory"] <= 1.3
    assert "limit 1.3x" in capsys.readouterr().out
