"""A map in memory that forgets the least recently used entry once it holds too many bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_T = TypeVar("_T")


class ByteCache(Generic[_T]):
    """Keeps values by key; each counts as many bytes as was said when it came."""

    def __init__(self, bytes_max: int) -> None:
        """Hold at most ``bytes_max``."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[str, tuple[_T, int]] = OrderedDict()

    def get(self, key: str) -> _T | None:
        """Return a value, which counts as used now."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: str, value: _T, size: int) -> None:
        """Keep a value of ``size`` bytes; one that is larger than everything is not kept."""
        if size > self._bytes_max:
            return
        self._bytes += size - self._values.pop(key, (None, 0))[1]
        self._values[key] = (value, size)
        while self._bytes > self._bytes_max:
            _, (_, dropped) = self._values.popitem(last=False)
            self._bytes -= dropped
