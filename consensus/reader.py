"""Reads a hostile byte string from front to back: every length is checked before it is used.

It knows no format; ``wire`` does. It raises nothing but ``DecodeError``.
"""

from __future__ import annotations

import struct
from typing import Final

from consensus.errors import DecodeError

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")


class Reader:
    """A position in ``data``; ``what`` names it in errors. Raises ``DecodeError`` throughout."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        """Say whether every byte has been read."""
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        if size > len(self._data) - self._at:
            raise DecodeError(f"{self._what} of {len(self._data)} bytes is cut short")
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def prefixed(self, size_max: int) -> bytes:
        """Return the next part behind its u32 length, which is at most ``size_max``."""
        (size,) = _U32.unpack(self.take(_U32.size))
        if size > size_max:
            raise DecodeError(f"{self._what} with a part of {size} bytes, {size_max} allowed")
        return self.take(size)

    def count(self, count_max: int) -> int:
        """Return the next u16, which is at most ``count_max``."""
        (count,) = _U16.unpack(self.take(_U16.size))
        if count > count_max:
            raise DecodeError(f"{self._what} with {count} items, {count_max} allowed")
        return int(count)

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse bytes that are left."""
        if not self.is_at_end:
            raise DecodeError(f"{self._what} with {len(self._data) - self._at} trailing bytes")
