"""A bounded cache for all threads of a process."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(kw_only=True)
class _Entry(Generic[T]):
    """One key: its own lock, so that making one value does not hold up another."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: list[T] = field(default_factory=list)
    n_bytes: int = 0


class Cache(Generic[T]):
    """Keep the values used last, within a number of entries and of bytes.

    However many threads ask at once, a value is made once; one whose making fails is not kept. A
    value that alone exceeds the bytes is kept until another is made, since it is in use.

    Parameters
    ----------
    max_entries : int
        Values kept at most.
    max_bytes : int
        Bytes kept at most.

    Attributes
    ----------
    loads : int
        Values made since the process began.
    n_bytes : int
        Bytes of the values kept.
    """

    def __init__(self, *, max_entries: int = sys.maxsize, max_bytes: int = sys.maxsize) -> None:
        self.loads = 0
        self.n_bytes = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        """Used longest ago first; those still being made are in it with no bytes."""

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return the value of `key`, made where it is not kept.

        Parameters
        ----------
        key : hashable
            All that the value depends on.
        make : callable
            Gives the value; its errors reach the caller, and the next caller tries again.
        size : callable
            Bytes of a value.
        """
        while True:
            with self._lock:
                entry = self._entries.setdefault(key, _Entry())
                self._entries.move_to_end(key)
            with entry.lock:
                if entry.made:
                    return entry.made[0]
                if self._entries.get(key) is entry:
                    return self._fill(key, entry, make, size)
            # The one that was waited for failed, or was cleared: ask anew.

    def _fill(
        self, key: Hashable, entry: _Entry[T], make: Callable[[], T], size: Callable[[T], int]
    ) -> T:
        try:
            value = make()
            entry.n_bytes = size(value)
        except BaseException:
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            raise
        with self._lock:
            entry.made.append(value)
            self.loads += 1
            if self._entries.get(key) is entry:  # else it was cleared meanwhile
                self.n_bytes += entry.n_bytes
                self._evict(entry)
        return value

    @property
    def _is_over(self) -> bool:
        return len(self._entries) > self._max_entries or self.n_bytes > self._max_bytes

    def _evict(self, newest: _Entry[T]) -> None:
        """Drop what was used longest ago, but not what is being made."""
        for key in list(self._entries) if self._is_over else ():
            entry = self._entries[key]
            if self._is_over and entry.made and entry is not newest:
                self.n_bytes -= self._entries.pop(key).n_bytes

    def __len__(self) -> int:
        with self._lock:
            return sum(bool(entry.made) for entry in self._entries.values())

    def clear(self) -> None:
        """Forget all values; those still in use live until their users are done."""
        with self._lock:
            self._entries.clear()
            self.n_bytes = 0
