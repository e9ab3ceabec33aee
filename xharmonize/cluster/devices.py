"""Whether this machine's GPUs can serve workers, and why not."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What kind of workers a machine gets.

    Attributes
    ----------
    is_gpu : bool
        One worker per GPU, else workers on the cores.
    reason : str
        Why, in words.
    is_unexpected : bool
        There is a GPU, but it cannot be used as things are installed.
    """

    is_gpu: bool
    reason: str
    is_unexpected: bool = False


def choose(*, devices: Path = Path("/dev"), environment: Mapping[str, str] | None = None) -> Choice:
    """Look for GPUs and for what it takes to use them; starts nothing on them.

    Device files tell whether there is a GPU, since they need no package: so that a machine whose
    GPU cannot be used for want of one is told so.

    Parameters
    ----------
    devices : path
        Folder of device files.
    environment : mapping, optional
        The process's environment.
    """
    environment = os.environ if environment is None else environment
    visible = environment.get(_VISIBLE)
    if visible is not None and visible.split(",")[0].strip() in ("", "-1", "NoDevFiles"):
        return Choice(is_gpu=False, reason=f"{_VISIBLE}={visible!r} hides every GPU")
    found = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if not found and not (devices / "dxg").exists():  # dxg: the GPU of a Windows host
        return Choice(is_gpu=False, reason="no NVIDIA GPU on this machine")
    try:
        importlib.import_module("dask_cuda")
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        return _unusable(
            f"dask-cuda cannot be imported ({error}); pip install 'xharmonize[gpu]'", found
        )
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        return _unusable(f"the driver does not answer (NVML: {error})", found)
    if not count:
        return _unusable("the driver counts none (NVML): this process may not use it", found)
    return Choice(is_gpu=True, reason=f"{count} NVIDIA GPU{'s' * (count != 1)} on this machine")


def _unusable(why: str, found: list[str]) -> Choice:
    names = ", ".join(found) or "one"
    reason = f"there is a GPU ({names}), but {why}"
    return Choice(is_gpu=False, reason=reason, is_unexpected=True)
