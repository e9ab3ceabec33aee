"""An array in "GPU memory": as strict as cupy's about the host, computed by numpy.

Like a cupy array it has ``__cuda_array_interface__`` and ``get``, takes part in numpy's functions
with arrays of its own kind only, refuses to become a numpy array unasked, and cannot be assigned
one. What is stored in it is not on a GPU: kernels for CUDA cannot run on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

copies_to_host = 0
"""How often an array was copied to the host."""


class DeviceArray(NDArrayOperatorsMixin):
    """See the module."""

    __array_priority__ = 100

    def __init__(self, values: np.ndarray) -> None:
        self._values = np.array(values)

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    def get(self) -> np.ndarray:
        global copies_to_host
        copies_to_host += 1
        return self._values.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use .get()")

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        result = DeviceArray.__new__(DeviceArray)
        result._values = self._values[_inner(index)]  # a view, as cupy's
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        self._values[_inner(index)] = _inner(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(one, np.ndarray) and one.ndim for one in inputs):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return _outer(getattr(ufunc, method)(*map(_inner, inputs), **_inner(kwargs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.asarray:  # cupy.asarray, by like=: the copy to the device
            return DeviceArray(np.asarray(*_inner(args), **kwargs))
        if any(kind is np.ndarray for kind in types):
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return _outer(func(*_inner(args), **_inner(kwargs)))

    def __getattr__(self, name: str) -> Any:
        """Methods: those of a numpy array."""
        method = getattr(np.ndarray, name)
        return lambda *args, **kwargs: _outer(method(self._values, *_inner(args), **_inner(kwargs)))


def _inner(value: Any) -> Any:
    if isinstance(value, DeviceArray):
        return value._values
    if isinstance(value, (tuple, list)):
        return type(value)(map(_inner, value))
    if isinstance(value, dict):
        return {name: _inner(one) for name, one in value.items()}
    return value


def _outer(value: Any) -> Any:
    return DeviceArray(value) if isinstance(value, np.ndarray) else value
