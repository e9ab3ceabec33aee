"""A bounded cache of loaded models, one per worker process; knows nothing of torch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
MAX_ENTRIES = 8
MAX_BYTES = 8 << 30


@dataclass(kw_only=True)
class _Entry(Generic[T]):
    """One key: its own lock, so that loading one model does not hold up another."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    loaded: list[T] = field(default_factory=list)
    n_bytes: int = 0


class ModelCache(Generic[T]):
    """Keep the models used last, within a number of entries and of bytes.

    However many threads ask at once, a key is loaded once; a load that fails is not kept. A model
    that alone exceeds the bytes is kept until another is loaded, since it is in use.

    Parameters
    ----------
    max_entries : int
        Models kept at most.
    max_bytes : int
        Bytes kept at most.

    Attributes
    ----------
    loads : int
        Loads that succeeded since the process began.
    """

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self.loads = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the model of `key`, loaded by `load` where it is not kept.

        Parameters
        ----------
        key : hashable
            What the model is and how it is to run.
        load : callable
            Gives the model; its errors reach the caller, and the next caller tries again.
        size : callable
            Bytes of a loaded model.
        """
        while True:
            with self._lock:
                entry = self._entries.setdefault(key, _Entry())
                self._entries.move_to_end(key)
            with entry.lock:
                if entry.loaded:
                    return entry.loaded[0]
                if self._entries.get(key) is entry:
                    return self._fill(key, entry, load, size)
            # The load that was waited for failed, or was cleared: ask anew.

    def _fill(
        self, key: Hashable, entry: _Entry[T], load: Callable[[], T], size: Callable[[T], int]
    ) -> T:
        try:
            value = load()
            n_bytes = size(value)
        except BaseException:
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            raise
        with self._lock:
            entry.loaded.append(value)
            entry.n_bytes = n_bytes
            self.loads += 1
            self._evict(key)
        return value

    def _evict(self, newest: Hashable) -> None:
        """Drop what was used longest ago; entries still loading have no bytes and stay."""
        loaded = [key for key, entry in self._entries.items() if entry.loaded]
        n_bytes = sum(self._entries[key].n_bytes for key in loaded)
        n_entries = len(loaded)
        for key in loaded:
            if n_entries <= self._max_entries and n_bytes <= self._max_bytes:
                return
            if key != newest:
                n_bytes -= self._entries.pop(key).n_bytes
                n_entries -= 1

    def __len__(self) -> int:
        with self._lock:
            return sum(bool(entry.loaded) for entry in self._entries.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of the models kept."""
        with self._lock:
            return sum(entry.n_bytes for entry in self._entries.values())

    def clear(self) -> None:
        """Forget all models; those still in use live until their users are done."""
        with self._lock:
            self._entries.clear()
