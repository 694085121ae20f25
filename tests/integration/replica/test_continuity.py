"""What a machine remembers of a log holds through crashes, copies put back, and threads."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from consensus.effects import Record, RecordKind
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import DiskError
from pyrsia_node.replica.boot_mark import BootMark
from pyrsia_node.replica.continuity import read_log
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.integration.replica.story import Story

KEY = bytes(32)


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(rate=25)


def note(number: int) -> list[Record]:
    return [Record(RecordKind.BODY, b"batch %d" % number)]


@pytest.mark.parametrize("n", [1, 2, 3])
async def test_a_crash_between_a_logs_sync_and_the_commit_of_its_step_is_no_older_copy(
    tmp_path: Path, autojump_clock: MockClock, n: int
) -> None:
    story = Story(tmp_path, n)
    victim = story.network.node(0)
    commit = victim.chain.commit

    def full_disk(*arguments: Any, **options: Any) -> object:
        if victim.chain.tip.height == 2:
            raise DiskError("the disk refuses")
        return commit(*arguments, **options)

    victim.chain.commit = full_disk  # type: ignore[method-assign, assignment] # the disk's part
    with pytest.RaisesGroup(DiskError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            nodes = [victim, *(story.network.node(index) for index in range(1, n))]
            for node in nodes:
                nursery.start_soon(node.run)
            with trio.fail_after(600):
                await story.commit(nodes, 3)
    assert story.network.node(0).damage == ""
    async with story.life(*range(n)) as nodes:
        await story.commit(nodes, 2)


class Copied:
    """A log, a chain of which only the height counts, and an image of both."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.memory = folder / "memory"
        self.image = folder / "image"
        for path in (self.root / "wal", self.memory):
            path.mkdir(parents=True)
        self.height = 0
        self.store = MemoryKeyValueStore()

    def start(self, *, batches: int) -> str:
        """Live until so many batches were written, as one who may vote; return what was wrong."""
        wal = WriteAheadLog(self.root / "wal", StoreAnchor(self.store))
        tip = SimpleNamespace(tip=SimpleNamespace(height=self.height))
        mark = BootMark(self.root, KEY, folder=self.memory)
        _, damage, continuity = read_log(wal, mark, cast("Chain", tip))
        if damage:
            wal.set_aside()
        continuity.begin()
        for number in range(batches):
            wal.append(note(number), height=self.height + 1)
            self.height += 1
            tip.tip.height = self.height
        wal.close()
        return damage

    def take_image(self) -> None:
        shutil.copytree(self.root / "wal", self.image)
        self.then = self.height, self.store.get(b"replica/newest-log-file")

    def put_back(self) -> None:
        shutil.rmtree(self.root / "wal")
        shutil.copytree(self.image, self.root / "wal")
        self.height, anchor = self.then
        self.store.write([(b"replica/newest-log-file", anchor)], sync=True)


def test_the_same_older_copy_is_found_out_each_time_that_it_is_put_back(tmp_path: Path) -> None:
    machine = Copied(tmp_path)
    assert machine.start(batches=40) == ""
    machine.take_image()
    assert machine.start(batches=10) == ""
    for batches in (0, 3, 0, 30):
        machine.put_back()
        assert "an older copy was put back" in machine.start(batches=batches)
    for _ in range(3):  # the last one has gone on, beyond what was known
        machine.height = max(machine.height, 60)
        assert machine.start(batches=1) == ""


@pytest.mark.parametrize("is_hurt", [False, True])
def test_files_are_set_aside_while_the_first_batch_is_in_its_thread(
    tmp_path: Path, *, is_hurt: bool
) -> None:
    store = MemoryKeyValueStore()

    class Slow(StoreAnchor):
        """Lets the thread come in where the number is noted."""

        def moved(self, first_batch: int) -> None:
            if threading.current_thread() is threading.main_thread() and not thread.is_alive():
                thread.start()
                thread.join(timeout=0.2)
            super().moved(first_batch)

    wal = WriteAheadLog(tmp_path, StoreAnchor(store))
    wal.read()
    for number in range(2):
        wal.append(note(number), height=1)
    wal.close()
    if is_hurt:
        (path,) = tmp_path.glob("*.wal")
        path.write_bytes(path.read_bytes()[:4096])
    again = WriteAheadLog(tmp_path, Slow(store))
    thread = threading.Thread(target=lambda: again.append(note(2), height=2))
    assert bool(again.read()[1]) == is_hurt
    again.set_aside()
    thread.join()
    for number in (3, 4):
        again.append(note(number), height=3)
    again.close()
    records, damage = WriteAheadLog(tmp_path, StoreAnchor(store)).read()
    assert ([record.payload for record in records], damage) == (
        [b"batch 2", b"batch 3", b"batch 4"],
        "",
    )
