"""Time of `import xharmonize` beside `import xarray`, each in a fresh interpreter.

As an asv suite, or alone: ``python benchmarks/importing.py``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

N_RUNS = 7
_CODE = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """Time one import takes in a fresh interpreter [s]."""
    command = [sys.executable, "-c", _CODE.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def medians(n_runs: int = N_RUNS) -> dict[str, float]:
    """Median over runs that alternate between the two modules [s]."""
    modules = ("xarray", "xharmonize")
    runs = [{name: seconds(name) for name in modules} for _ in range(n_runs + 1)]
    return {name: statistics.median(run[name] for run in runs[1:]) for name in modules}


class Importing:
    """asv: the two imports."""

    params = ("xarray", "xharmonize")
    param_names = ("module",)

    def track_seconds(self, module: str) -> float:
        return seconds(module)


def main(n_runs: int = N_RUNS) -> dict[str, float]:
    """Print the comparison and return it."""
    took = medians(n_runs)
    for name, value in took.items():
        print(f"import {name:<11} {value * 1e3:6.0f} ms")
    print(f"ratio              {took['xharmonize'] / took['xarray']:6.2f}")
    return took


if __name__ == "__main__":
    main()
