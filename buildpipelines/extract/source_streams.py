"""Bounded readers of xz and bzip2, beside the one of gzip: streams in a row, nothing after. Pure.

They hold one chunk, judge the ratio as they go, bound the memory that an archive may ask for, and
refuse what a lenient reader skips: bytes after the last stream other than zero padding.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import Final, Protocol

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import Budget

CHUNK_BYTES: Final = 256 * 1024
STREAMS_MAX: Final = 8192
"""Parallel bzip2 makes one of every 900,000 bytes; each costs a copy of the rest of a chunk."""

XZ_MEMORY_BYTES_MAX: Final = 256 * 1024 * 1024


class _Unpacker(Protocol):
    """What the two decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def xz_reader(read: Callable[[int], bytes], budget: Budget) -> StreamReader:
    """Return a reader of an xz file."""
    return StreamReader(
        read,
        budget,
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES_MAX),
        cause="not xz",
    )


def bzip2_reader(read: Callable[[int], bytes], budget: Budget) -> StreamReader:
    """Return a reader of a bzip2 file."""
    return StreamReader(read, budget, bz2.BZ2Decompressor, cause="not bzip2")


class StreamReader:
    """Reads the unpacked bytes of a file of one or more compressed streams."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        budget: Budget,
        start: Callable[[], _Unpacker],
        *,
        cause: str,
    ) -> None:
        """Read packed bytes by ``read(n)``, b"" at the end; ``cause`` names another format."""
        self._read = read
        self._budget = budget
        self._start = start
        self._cause = cause
        self._stream = start()
        self._streams = 1
        self._pending = b""
        self._buffer = bytearray()
        self._packed = 0
        self._unpacked = 0
        self._is_at_end = False

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer only at the end.

        Raises:
            ArchiveError: another format, cut, damaged, data after the end, or a bomb.
        """
        while len(self._buffer) < count and not self._is_at_end:
            self._fill()
        data = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> None:
        if self._stream.needs_input and not self._pending:
            self._pending = self._more()
            if not self._pending:
                raise ArchiveError("archive cut", "a compressed stream has no end")
        pending, self._pending = self._pending, b""
        try:
            unpacked = self._stream.decompress(pending, CHUNK_BYTES)
        except (lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
            raise ArchiveError(self._cause, str(error)) from error
        self._unpacked += len(unpacked)
        self._budget.check_ratio(unpacked=self._unpacked, packed=self._packed)
        self._buffer += unpacked
        if self._stream.eof:
            self._start_next_stream()

    def _start_next_stream(self) -> None:
        rest = self._stream.unused_data
        while not (stripped := rest.lstrip(b"\0")):
            rest = self._more()
            if not rest:
                self._is_at_end = True
                return
        self._streams += 1
        if self._streams > STREAMS_MAX:
            raise ArchiveError("too many entries", f"more than {STREAMS_MAX} compressed streams")
        self._stream = self._start()
        self._pending = stripped

    def _more(self) -> bytes:
        data = self._read(CHUNK_BYTES)
        self._packed += len(data)
        return data
