"""Queues of frames: what a full one gives up, and whose turn it is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from pyrsia_node.p2p.members import (
    QUEUE_BYTES_MAX,
    QUEUE_FRAMES_MAX,
    BoundedFrames,
    Inbox,
)
from pyrsia_node.p2p.stats import Counters
from pyrsia_node.ports import PeerId

A, B = PeerId("a"), PeerId("b")


def test_a_queue_gives_up_its_oldest_by_number() -> None:
    queue = BoundedFrames()
    assert [queue.push(b"%d" % number) for number in range(QUEUE_FRAMES_MAX)].count(0) == len(queue)
    assert queue.push(b"last") == 1
    assert queue.pop() == b"1"


def test_a_queue_gives_up_its_oldest_by_bytes() -> None:
    queue = BoundedFrames()
    half = bytes(QUEUE_BYTES_MAX // 2)
    assert queue.push(half) == 0
    assert queue.push(half) == 0
    assert queue.push(b"x") == 1
    assert queue.push(bytes(QUEUE_BYTES_MAX)) == 2
    assert len(queue) == 1


async def test_senders_take_turns() -> None:
    inbox = Inbox(Counters())
    for number in range(3):
        inbox.put(A, b"a%d" % number)
    inbox.put(B, b"b0")
    inbox.close()
    assert [frame async for _, frame in inbox] == [b"a0", b"b0", b"a1", b"a2"]


async def test_a_waiting_reader_is_woken_and_released() -> None:
    inbox = Inbox(Counters())
    received: list[bytes] = []

    async def read() -> None:
        received.extend([frame async for _, frame in inbox])

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            inbox.put(A, b"woken")
            await trio.testing.wait_all_tasks_blocked()
            assert received == []
            inbox.close()
    assert received == [b"woken"]


async def test_a_cancelled_reader_loses_nothing() -> None:
    inbox = Inbox(Counters())
    with trio.move_on_after(0.01):
        await inbox.__anext__()
    inbox.put(A, b"kept")
    with trio.fail_after(1):
        assert await inbox.__anext__() == (A, b"kept")
    inbox.close()
    with pytest.raises(StopAsyncIteration):
        await inbox.__anext__()
