"""What one member can make another send, and keep on disk, is bounded (CONSENSUS 3.12).

Its share of signature checks and of decisions a second: ``test_member_driver``. What the core
keeps: ``tests/unit/consensus/test_bounds.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus import wire
from consensus.types import Digest, Height, NodeId, Status, View, Vote, VoteKind
from pyrsia_node.replica import driver
from pyrsia_node.replica.frames import FrameKind, frame_kind
from tests.fakes.member_network import MemberNetwork, MemberNode
from tests.integration.replica.story import Story

N = VoteKind.NOTARIZE


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


def sent_to(node: MemberNode, to: NodeId, kind: FrameKind) -> list[bytes]:
    return [frame for other, frame in node.sent if other == to and frame_kind(frame) is kind]


def signed_vote(network: MemberNetwork, *, height: int, view: int, name: bytes) -> Vote:
    signed = wire.vote_bytes(
        N,
        Height(height),
        View(view),
        Digest(name),
        chain_id=Digest(network.genesis.network_id),
        set_hash=network.genesis.set_leaf().to_consensus().set_hash,
    )
    signature = network.members[3].sign["vote"](signed)
    return Vote(N, Height(height), View(view), Digest(name), 3, signature)


async def test_a_member_is_asked_how_far_it_is_twice_at_once_and_then_once_a_second(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    liar = story.network.members[3].id
    async with story.life(0) as (node,):
        fast_clock.rate = 0.0  # all within one instant
        node.sent.clear()
        for height in range(3, 203):
            ahead = signed_vote(story.network, height=height, view=0, name=b"a" * 32)
            await node.hear(liar, wire.encode_message(ahead, n=4))
        await trio.testing.wait_all_tasks_blocked()
        assert 0 < len(sent_to(node, liar, FrameKind.STATUS)) <= 2
        fast_clock.rate = 25.0


async def test_decisions_handed_out_to_all_together_keep_within_their_bytes(
    tmp_path: Path, fast_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "DECISION_BYTES_PER_S", 1)
    story = Story(tmp_path)
    behind = [story.network.members[index].id for index in (2, 3)]
    async with story.life(0, 1, 2) as nodes:
        await story.commit(nodes, 6)
        await trio.sleep(5)
        helper = nodes[0]
        helper.sent.clear()
        frame = wire.encode_message(Status(Height(1), View(0), (), ()), n=4)
        for _ in range(10):
            for member in behind:
                await helper.hear(member, frame)
        await trio.sleep(5)
        handed = [to for to, each in helper.sent if frame_kind(each) is FrameKind.DECISION]
        assert handed == behind[:1], "the last one may overdraw, and is paid back before the next"


async def test_what_a_retry_pushes_keeps_within_its_bytes(
    tmp_path: Path, fast_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path)
    node = story.network.node(0)
    large = [(str(number), bytes((number,)) * 48_000) for number in range(16)]
    monkeypatch.setattr(node.mempool, "in_turns", lambda: iter(large))
    node.driver._push_some()
    for member in story.network.members[1:]:
        pushed = sent_to(node, member.id, FrameKind.TRANSACTION)
        assert 0 < sum(map(len, pushed)) <= driver.PUSHED_BYTES_MAX
    node.wal.close()


def crimes(story: Story, count: int) -> Iterator[bytes]:
    for view in range(count):
        for name in (b"a" * 32, b"b" * 32):
            vote = signed_vote(story.network, height=1, view=view, name=name)
            yield wire.encode_message(vote, n=4)


async def test_a_traitor_cannot_fill_the_disk_with_its_crimes(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    traitor = story.network.members[3].id
    async with story.life(0) as (node,):
        for frame in crimes(story, 16):
            await node.hear(traitor, frame)
        while not node.locker.all():
            await trio.sleep(0.1)
        await trio.sleep(20)
        assert len(node.locker.all()) == 1
        assert len(node.mempool) == 1
