"""Every benchmark runs, at a tiny size, and says what it should."""

from __future__ import annotations

import numpy as np
from helpers.benchmarks import import_benchmark


def test_loading(tmp_path):
    loading = import_benchmark("loading")
    (tmp_path / "warm-up").mkdir()
    loading.write_items(tmp_path / "warm-up", n_dates=1, size=64)
    items = loading.write_items(tmp_path, n_dates=2, size=64)
    for case in loading.CASES:
        assert loading.run_case(case, items)["seconds"] > 0
    suite = loading.Loading()
    assert suite.params == loading.CASES
    found, bare = loading._ours(items, "stackstac"), loading._bare_stackstac(items)
    expected = (bare[:, :-1].values - 1000.0) / 1e4
    is_clear = np.broadcast_to(bare[:, -1:] == 4, expected.shape)
    np.testing.assert_allclose(found.values[is_clear], expected[is_clear], atol=1e-7)
    assert np.isnan(found.values[~is_clear]).all()


def test_regridding():
    regridding = import_benchmark("regridding")
    results = regridding.main(["--small"])
    assert set(results) == set(regridding.CASES)
    assert all(took["xharmonize"] > 0 for took in results.values())


def test_storing_ten_times_the_dates_needs_hardly_more_memory(capsys):
    ratios = import_benchmark("storing").compare(
        short=2, long=20, size=768
    )  # 28 and 283 MB of pixels
    assert ratios["memory"] <= 1.3
    assert "limit 1.3x" in capsys.readouterr().out


def test_importing():
    seconds = import_benchmark("importing").main(n_runs=1)
    assert seconds["xharmonize"] > 0
