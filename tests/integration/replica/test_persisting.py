"""A sync that is quick runs at once; a slow disk is waited for aside, and both are durable."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from consensus.effects import Record, RecordKind
from pyrsia_node.replica.persisting import RecordWriter
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog
from tests.fakes.memory_store import MemoryKeyValueStore


class SeenLog(WriteAheadLog):
    """Notes in which thread each batch was written."""

    threads: list[bool]

    def append(self, records: tuple[Record, ...], *, height: int) -> None:  # type: ignore[override]  # what callers give
        self.threads.append(threading.current_thread() is threading.main_thread())
        super().append(records, height=height)


async def test_what_the_last_sync_took_decides_where_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = SeenLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.threads = []
    wal.read()
    writer = RecordWriter(wal)
    batches = [(Record(RecordKind.BODY, bytes((number,)) * 9),) for number in range(4)]
    now_s = iter([0.0, 0.001, 1.0, 1.009, 2.0, 2.7, 3.0, 3.001])
    monkeypatch.setattr("pyrsia_node.replica.persisting.time.perf_counter", lambda: next(now_s))
    for batch in batches:
        await writer.append(batch, height=1)
    assert wal.threads == [False, True, True, False]
    assert writer.is_quick
    wal.close()
    again = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    assert again.read() == ([record for batch in batches for record in batch], "")
