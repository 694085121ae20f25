"""Reading stored bytes without stopping the event loop.

Pages that the kernel has in memory are read at once; only what must come from the disk goes
through a thread. So a hot artifact costs no thread switch, and a cold one never stalls the other
clients of the loop.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Final, Protocol

from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.ports import BlobStore

CHUNK_BYTES: Final = 256 * 1024
"""How much is read and sent at a time (measured: faster than 64 KiB and than 1 MiB)."""


class Reader(Protocol):
    """An artifact that is being served: every byte it returns was verified."""

    size: int
    """Bytes of the whole artifact."""

    async def read(self, position: int, length: int) -> bytes | bytearray:
        """Return 1 to ``length`` bytes from ``position``; waits until they are there.

        Raises:
            UnavailableError: They cannot be had now.
        """
        ...

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        """Return a descriptor and how many bytes from ``position`` may be sent from it now.

        Waits until there is at least one; raises as :meth:`read`. The descriptor stays open until
        :meth:`close`.
        """
        ...

    def close(self) -> None:
        """Release what the reader holds. A second call does nothing."""
        ...


class BlobReader:
    """Reads a stored blob; it is leased until :meth:`close`."""

    def __init__(self, store: BlobStore, sha256: str) -> None:
        """Open the blob; raises NotFoundError."""
        self._stack = ExitStack()
        path = self._stack.enter_context(store.lease(sha256))
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(os.close, self._handle)
        self.size = os.fstat(self._handle).st_size

    async def read(self, position: int, length: int) -> bytes | bytearray:
        """Return 1 to ``length`` bytes from ``position``."""
        data = await read_file(self._handle, position, length)
        if not data:
            raise CorruptStateError(f"blob ends at {position} instead of {self.size}: run fsck")
        return data

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        """Return the descriptor, and ``length``: all of a stored blob is there."""
        del position
        return self._handle, length

    def close(self) -> None:
        """Close the file and give back the lease."""
        self._stack.close()


async def read_file(handle: int, position: int, length: int) -> bytes | bytearray:
    """Return up to ``length`` bytes of a file from ``position``; fewer at its end."""
    buffer = bytearray(length)
    try:
        count = os.preadv(handle, [buffer], position, os.RWF_NOWAIT)
    except OSError:
        # Not in memory, or a file system that cannot tell.
        return await asyncio.get_running_loop().run_in_executor(
            None, os.pread, handle, length, position
        )
    if count < length:
        del buffer[count:]
    return buffer
