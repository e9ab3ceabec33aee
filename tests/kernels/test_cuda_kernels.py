"""GPU twins equal the kernels, in numba's CUDA simulator: arithmetic is tested, no GPU is needed.

The simulator has to be chosen before numba is imported: one process of its own runs everything.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.testing import example_cube

SCRIPT = Path(__file__).parents[1] / "helpers" / "cuda_simulation.py"
CASES = (
    "float",
    "dn",
    "affine",
    "blend",
    "flags",
    "fill",
    "histogram",
    "histogram of dn",
    "histogram of many planes and bins",
)


@pytest.fixture(scope="module")
def simulated() -> str:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_a_twin_equals_its_kernel(case: str, simulated: str) -> None:
    assert f"{case}: equal\n" in simulated


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_a_twin_equals_its_kernel_on_a_gpu(case: str) -> None:
    cupy = pytest.importorskip("cupy", reason="needs a CUDA device and cupy")
    if not cupy.cuda.is_available():
        pytest.skip("needs a CUDA device")
    from helpers import cuda_simulation

    cuda_simulation.CASES[case](cupy.asarray, cupy.asnumpy)


@pytest.mark.gpu
@pytest.mark.parametrize("is_decoded", [True, False])
@pytest.mark.parametrize("interpolate", [True, False])
def test_cupy_cubes_give_cupy_cubes(is_decoded: bool, interpolate: bool) -> None:
    cupy = pytest.importorskip("cupy", reason="needs a CUDA device and cupy")
    if not cupy.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cube = example_cube(bands=("red", "nir08"), shape=(36, 48), is_decoded=is_decoded)
    model = xh.harmonizers.fit_histogram(
        example_cube("landsat-c2-l2", platform="landsat-8"), bins=100
    )
    options = {"tile": 120, "interpolate": interpolate}
    expected = xh.to_landsat(cube, xh.harmonizers.fit_tables(cube, model, **options), flags=True)
    on_gpu = cube.chunk(y=20).copy(data=cube.chunk(y=20).data.map_blocks(cupy.asarray))
    tables = xh.harmonizers.fit_tables(on_gpu, model, **options)
    result = xh.to_landsat(on_gpu, tables, flags=True)
    for name in ("reflectance", "flag"):
        actual = result[name].data.compute()
        assert isinstance(actual, cupy.ndarray)
        np.testing.assert_allclose(cupy.asnumpy(actual), expected[name], atol=1e-6)
