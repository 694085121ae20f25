"""Makes records durable: at once where the disk is quick, in a thread where it is not.

A hop to a thread and back costs more processor than a quick sync takes (measured: 0.3 ms against
0.1 ms), and on a busy machine two waits for a processor. A slow sync must not hold up heartbeats
and answers, which share the one thread. So what the last sync took decides about the next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import trio

from consensus.effects import Record
from pyrsia_node.replica.wal import WriteAheadLog

QUICK_S: Final = 0.01
"""What a sync may take of the thread in which everything else runs."""


class RecordWriter:
    """Appends to a log, and knows how quick its disk was."""

    def __init__(self, wal: WriteAheadLog) -> None:
        """Write to ``wal``, which was read."""
        self._wal = wal
        self._last_s = QUICK_S

    @property
    def is_quick(self) -> bool:
        """Whether the next append runs at once."""
        return self._last_s < QUICK_S

    async def append(self, records: Sequence[Record], *, height: int) -> None:
        """Make records of working height ``height`` durable as one batch.

        Cannot be cancelled half-way.

        Raises:
            DiskError: the disk failed; the caller must stop the process.
        """
        if self.is_quick:
            self._append(records, height)
        else:
            await trio.to_thread.run_sync(self._append, records, height)

    def _append(self, records: Sequence[Record], height: int) -> None:
        # Without the hop: it would keep itself alive on a machine that is merely busy.
        started_s = time.perf_counter()
        self._wal.append(records, height=height)
        self._last_s = time.perf_counter() - started_s
