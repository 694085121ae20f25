"""A bounded gzip reader over any ``read``: members in a row, nothing after them. Pure.

It never holds more than one chunk, judges the ratio as it goes, and refuses what a lenient
reader skips: bytes after the last member other than zero padding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import Budget

CHUNK_BYTES: Final = 256 * 1024
MEMBERS_MAX: Final = 64
"""Each member costs a copy of what follows it in the chunk, so their number is bounded too."""

_GZIP = 31  # zlib's window bits for "a gzip header and trailer, checked"


class GzipReader:
    """Reads the unpacked bytes of a gzip file."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        budget: Budget,
        *,
        members_max: int = MEMBERS_MAX,
    ) -> None:
        """Read packed bytes by ``read(n)``, which returns b"" at the end."""
        self._read = read
        self._budget = budget
        self._member = zlib.decompressobj(_GZIP)
        self._pending = b""
        self._buffer = bytearray()
        self._members = 1
        self._members_max = members_max
        self._packed = 0
        self._unpacked = 0
        self._is_at_end = False

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer only at the end.

        Raises:
            ArchiveError: not gzip, cut, a wrong checksum, data after the end, or a bomb.
        """
        while len(self._buffer) < count and not self._is_at_end:
            self._fill()
        data = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> None:
        if not self._pending:
            self._pending = self._read(CHUNK_BYTES)
            self._packed += len(self._pending)
        try:
            unpacked = self._member.decompress(self._pending, CHUNK_BYTES)
            if not self._pending and not self._member.eof and not unpacked:
                raise ArchiveError("archive cut", "a gzip member has no end")
        except zlib.error as error:
            raise ArchiveError("not gzip", str(error)) from error
        self._pending = self._member.unconsumed_tail
        self._unpacked += len(unpacked)
        self._budget.check_ratio(unpacked=self._unpacked, packed=self._packed)
        self._buffer += unpacked
        if self._member.eof:
            self._start_next_member()

    def _start_next_member(self) -> None:
        rest = self._member.unused_data
        while not (stripped := rest.lstrip(b"\0")):
            rest = self._read(CHUNK_BYTES)
            self._packed += len(rest)
            if not rest:
                self._is_at_end = True
                return
        if stripped[:1] != b"\x1f":
            raise ArchiveError("data after archive", "bytes follow the last gzip member")
        self._members += 1
        if self._members > self._members_max:
            raise ArchiveError("too many entries", f"more than {self._members_max} gzip members")
        self._member = zlib.decompressobj(_GZIP)
        self._pending = stripped
