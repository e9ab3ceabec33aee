"""The fingerprint benchmark runs, and spectra keep the measured line between the sensors."""

from __future__ import annotations

import pytest
from helpers.benchmarks import import_benchmark


@pytest.fixture(scope="module")
def fingerprint():
    return import_benchmark("simulator_fingerprint")


@pytest.mark.slow
def test_the_benchmark_runs(fingerprint, capsys):
    assert fingerprint.main(["--variants", "a", "--places", "1", "--days", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| correlation") for line in lines) == 6
    assert sum(line.startswith("| same day") for line in lines) == 12


@pytest.mark.parametrize("variant", ["a", "b", "c"])
def test_lines_between_the_sensors_are_those_of_measured_spectra(fingerprint, data, variant):
    x, y = fingerprint.simulated_spectra(variant, n_days=6, size=120)
    msi, _ = fingerprint.real_spectra()
    weight = fingerprint.stratum_weights(x, msi)
    expected = {  # matched spectra, Sentinel-2A to OLI
        "blue": (1.0022, -0.0028), "green": (1.0023, -0.0009), "red": (0.9890, 0.0006),
        "nir08": (0.9995, 0.0), "swir16": (0.9988, -0.0009), "swir22": (1.0010, -0.0008),
    }  # fmt: skip
    for i, (slope, offset) in enumerate(expected.values()):
        assert fingerprint.line(x[:, i], y[:, i], weight) == (
            pytest.approx(slope, abs=0.005),
            pytest.approx(offset, abs=0.001),
        )
