"""GPU twins of kernels: the same arithmetic, a thread for each pixel, on cupy's current stream.

A twin takes what its namesake in `xharmonize.kernels` takes, with cupy arrays (or anything with
``__cuda_array_interface__``) for the pixels, and gives cupy arrays back; tables and limits may be
numpy. Block functions ask `lut_kernels` and `histogram_kernels` for the module that fits their
block: nowhere else do the two differ. Compiled on first use; the twins are not imported where no
block is on a GPU.
"""

from __future__ import annotations

from typing import Any


def is_on_gpu(array: Any) -> bool:
    """Tell whether an array lies in GPU memory."""
    return hasattr(array, "__cuda_array_interface__")


def lut_kernels(block: Any) -> Any:
    """`xharmonize.kernels.lut`, or its twin for a block on a GPU."""
    if is_on_gpu(block):
        from xharmonize.kernels.cuda import lut as twin

        return twin
    from xharmonize.kernels import lut

    return lut


def histogram_kernels(block: Any) -> Any:
    """`xharmonize.kernels.histogram`, or its twin for a block on a GPU."""
    if is_on_gpu(block):
        from xharmonize.kernels.cuda import histogram as twin

        return twin
    from xharmonize.kernels import histogram

    return histogram
