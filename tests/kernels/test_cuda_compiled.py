"""CUDA kernels become machine code for each architecture, and fit a GPU's registers and memory.

No GPU or driver is needed, but NVIDIA's compiler (half a gigabyte), which the tests do not bring:
``pip install 'numba-cuda[cu12]'``. A job of the workflow runs them.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cuda_compile import ARCHITECTURES, CODES, KERNELS, find_assembler

from xharmonize.kernels import cuda as twins

SCRIPT = Path(__file__).parents[1] / "helpers" / "cuda_compile.py"
REGISTERS = 65_536
"""Of a multiprocessor, on all of these architectures."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_assembler() is None,
        reason="needs numba-cuda with NVVM and ptxas: pip install 'numba-cuda[cu12]'",
    ),
]


@pytest.fixture(scope="module")
def compiled() -> dict[str, list[dict[str, object]]]:
    environment = {name: os.environ[name] for name in os.environ if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_become_machine_code(architecture, compiled):
    if architecture not in compiled:
        pytest.skip(f"the installed ptxas does not know sm_{architecture}")
    rows = compiled[architecture]
    assert {row["kernel"] for row in rows} == set(KERNELS)
    codes = {row["types"][0] for row in rows if row["kernel"] == "_apply_dn"}
    assert codes == {f"array({dtype}, 4d, C)" for dtype in CODES}
    for row in rows:
        assert row["status"] == 0, row
        assert row["target"] == [f"sm_{architecture}"]
        assert "0 bytes spill stores, 0 bytes spill loads" in row["said"], row
        (registers,) = map(int, re.findall(r"Used (\d+) registers", row["said"]))
        # Half of the threads that a multiprocessor has room for (2048; 1024 on Turing) at least.
        assert 2 * registers * twins.THREADS <= REGISTERS, row
        assert not re.search(r"[1-9]\d* bytes smem", row["said"]), row  # all of it is asked for
