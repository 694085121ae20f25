"""A fixed number of piece buffers: the bound on memory of all downloads together."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyrsia_node.ports import PIECE_SIZE_BYTES


class BufferPool:
    """Lends buffers of one piece each, in the order of asking.

    They are anonymous mappings, not ``bytes``: given back to the system at once when nobody
    downloads, and never a cause of fragmentation.
    """

    def __init__(self, count: int) -> None:
        """Make a pool of ``count`` buffers; memory is taken when they are first used."""
        self._free = asyncio.Semaphore(count)
        self._count = count
        self._idle: list[mmap.mmap] = []

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[memoryview]:
        """Wait for a buffer; nobody may use the memory after the context was left."""
        async with self._free:
            buffer = self._idle.pop() if self._idle else mmap.mmap(-1, PIECE_SIZE_BYTES)
            try:
                yield memoryview(buffer)
            finally:
                self._idle.append(buffer)

    def release_memory(self) -> None:
        """Give the memory of idle buffers back to the system."""
        for buffer in self._idle:
            buffer.madvise(mmap.MADV_DONTNEED)
