"""A disk that is full or fails under a member's log of votes: it stops, and nobody votes twice.

Real files, chains and replicas. What could not be made durable never leaves the node; the next life
reads what the disk has, asks the others as at every start, and goes on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from consensus.effects import RecordKind
from pyrsia_node.model.errors import DiskError
from pyrsia_node.replica.frames import FrameKind, frame_kind
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog
from tests.fakes.member_network import MemberNode
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.integration.replica.orders import order
from tests.integration.replica.story import OWN, Story, heights_voted


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


def failing(door: str, folder: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a call of the operating system fail for every file in ``folder``."""
    real: Callable[..., Any] = getattr(os, door)

    def call(descriptor: int, *others: object) -> object:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(folder):
            raise OSError(error, os.strerror(error))
        return real(descriptor, *others)

    monkeypatch.setattr(os, door, call)


@pytest.mark.parametrize(
    ("door", "error"),
    [
        pytest.param("pwrite", errno.ENOSPC, id="full-disk"),
        pytest.param("fdatasync", errno.EIO, id="fsync-error"),
        pytest.param("fdatasync", errno.ENOSPC, id="full-disk-told-late"),
    ],
)
async def test_member_whose_disk_fails_stops_before_it_speaks_and_comes_back(
    door: str,
    error: int,
    tmp_path: Path,
    fast_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2) as nodes:
        own = story.network.node(OWN)
        story.lives.append(own)
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            nursery.start_soon(runs_until_the_disk_fails, own, ended)
            await story.commit([*nodes, own], 1)
            with monkeypatch.context() as patch:
                failing(door, story.wal, error, patch)
                await nodes[0].pending.submit(order(story.network, 50))
                for node in nodes:
                    await node.until(2)
                await ended.wait()
        assert_all_that_left_is_in_the_log(own, story.wal)
        # The disk works again, and a supervisor starts the process anew.
        async with story.life(OWN) as (again,):
            await story.commit([*nodes, again], 2)
            # Its vote is needed, so it has one.
            story.network.down.add(nodes[1].me)
            await story.commit([nodes[0], nodes[2], again], 1)
            assert heights_voted(again)
            assert not again.damage
    story.assert_nobody_contradicted_itself()


async def runs_until_the_disk_fails(node: MemberNode, ended: trio.Event) -> None:
    with pytest.RaisesGroup(DiskError, flatten_subgroups=True):
        await node.run()
    ended.set()


def assert_all_that_left_is_in_the_log(node: MemberNode, folder: Path) -> None:
    records, damage = WriteAheadLog(folder, StoreAnchor(MemoryKeyValueStore())).read()
    assert damage == ""
    kept = {record.payload for record in records if record.kind is RecordKind.VOTE}
    sent = {frame[1:] for _, frame in node.sent if frame_kind(frame) is FrameKind.VOTE}
    assert sent
    assert sent <= kept
