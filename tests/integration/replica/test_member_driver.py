"""Members drive consensus over real chains and real logs: commits, restarts, floods, catch-up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus import wire
from consensus.types import Digest, Height, NodeId, Proposal, Status, View, Vote, VoteKind
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import sign_transaction
from pyrsia_node.replica.frames import FrameKind, frame_kind
from pyrsia_node.replica.wal import StoreAnchor
from tests.fakes.member_network import MemberNetwork, MemberNode
from tests.strategies.build_bodies import request
from tests.strategies.identities import GENESIS_TIME_MS


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


def transaction(network: MemberNetwork, number: int, *, sponsor: int = 0) -> bytes:
    author = network.members[sponsor]
    body = request(
        author.id,
        purl=Purl.pypi("six", f"1.{number}"),
        until=GENESIS_TIME_MS + 12 * 3_600_000,
        nonce=number,
    )
    signed = sign_transaction(body, network_id=network.genesis.network_id, sign=author.sign["tx"])
    return signed.encoded


@asynccontextmanager
async def running(*nodes: MemberNode) -> AsyncIterator[None]:
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.run)
            yield
            nursery.cancel_scope.cancel()


def started(folder: Path, n: int) -> tuple[MemberNetwork, list[MemberNode]]:
    network = MemberNetwork(folder, n)
    return network, [network.node(index) for index in range(n)]


@pytest.mark.parametrize("n", [1, 2, 4])
async def test_members_commit_what_one_of_them_submits(
    n: int, tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, n)
    async with running(*nodes):
        for height in (1, 2):
            await nodes[0].pending.submit(transaction(network, height))
            for node in nodes:
                await node.until(height)
    assert len({node.chain.tip.root for node in nodes}) == 1
    assert [node.mempool.ids() for node in nodes] == [[]] * n
    assert [node.refusals for node in nodes] == [[]] * n


async def test_a_lone_member_orders_after_a_restart_what_it_had_promised(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, (node,) = started(tmp_path, 1)
    await node.pending.submit(transaction(network, 1))  # durable, and the process is killed
    node.wal.close()
    again = network.node(0)
    async with running(again):
        await again.until(1)


async def test_a_member_that_was_away_catches_up_and_votes_again(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    away = nodes[3]
    network.down.add(away.me)
    async with running(*nodes):
        for height in range(1, 9):
            await nodes[0].pending.submit(transaction(network, height))
            await nodes[0].until(height)
        network.down.clear()
        await away.until(8)
        # With another one down every vote of the one that was away is needed.
        network.down.add(nodes[1].me)
        await nodes[0].pending.submit(transaction(network, 9))
        await away.until(9)
        await nodes[0].until(9)
    assert away.chain.tip.root == nodes[0].chain.tip.root


async def test_all_members_killed_together_go_on_from_their_logs(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    async with running(*nodes):
        await nodes[0].pending.submit(transaction(network, 1))
        await nodes[0].pending.submit(transaction(network, 2))
        await nodes[2].until(1)
    for index in range(4):
        network.node(index)
    async with running(*network.nodes.values()):
        await network.nodes[nodes[0].me].pending.submit(transaction(network, 3))
        for node in network.nodes.values():
            while node.mempool.ids() or node.chain.tip.height < 2:
                await trio.sleep(0.1)
    chains = [Chain.open(store, network.genesis) for store in network.stores]
    assert len({chain.tip.root for chain in chains}) == 1


async def test_what_leaves_is_durable_first(tmp_path: Path, fast_clock: MockClock) -> None:
    """Every vote and proposal that was sent stands in the sender's log, or is committed."""
    network, nodes = started(tmp_path, 4)
    async with running(*nodes):
        for node in nodes:
            while node.gate.words:
                await trio.sleep(0.1)
        network.down.update(node.me for node in nodes[2:])  # no quorum: nothing is committed
        for node in nodes:
            await node.pending.submit(transaction(network, 1 + nodes.index(node)))
        await trio.sleep(30)
    for index, node in enumerate(nodes):
        spoken = {frame[1:] for _, frame in node.sent if frame_kind(frame) is FrameKind.VOTE}
        records, _ = type(node.wal)(
            tmp_path / f"wal-{index}", StoreAnchor(network.stores[index])
        ).read()
        assert spoken
        assert spoken <= {record.payload for record in records}


def junk_vote(network: MemberNetwork, number: int, *, voter: int) -> bytes:
    name = Digest(number.to_bytes(32, "big"))
    view = View(number % 16)
    vote = Vote(VoteKind.NOTARIZE, Height(1), view, name, voter, bytes(64))
    return wire.encode_message(vote, n=len(network.members))


async def test_a_member_that_floods_costs_no_more_than_its_share_of_checks(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    target, liar = nodes[0], network.members[3].id
    async with running(*nodes[:3]):
        fast_clock.rate = 0.0  # all within one instant
        for number in range(1, 1_001):
            await target.hear(liar, junk_vote(network, number, voter=3))
        await trio.testing.wait_all_tasks_blocked()
        assert 200 <= len(target.refusals) <= 260
        assert target.driver.refused_frames >= 700
        fast_clock.rate = 25.0
        await nodes[1].pending.submit(transaction(network, 1))
        await target.until(1)  # the others are heard as ever


async def test_malformed_frames_of_a_member_never_end_the_driver(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    target, liar = nodes[0], network.members[3].id
    async with running(*nodes):
        for kind in (1, 2, 3, 4, 5):
            for payload in (b"", b"\x00", b"\xff" * 40, bytes(300), b"\xff" * 3000):
                await target.hear(liar, bytes((kind,)) + payload)
        await nodes[1].pending.submit(transaction(network, 1))
        await target.until(1)
    assert target.refusals


async def test_decisions_are_handed_out_four_at_a_time_once_a_second(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    helper, behind = nodes[0], network.members[3].id
    async with running(*nodes[:3]):
        for height in range(1, 7):
            await helper.pending.submit(transaction(network, height))
            await helper.until(height)
        await trio.sleep(5)
        helper.sent.clear()
        frame = wire.encode_message(Status(Height(1), View(0), (), ()), n=4)
        for _ in range(20):
            await helper.hear(behind, frame)
        await trio.sleep(0.5)
    sent = [to for to, each in helper.sent if frame_kind(each) is FrameKind.DECISION]
    assert sent == [behind] * 4


async def test_a_decision_that_does_not_hold_is_the_callers_error_and_no_more(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    async with running(*nodes):
        await nodes[0].pending.submit(transaction(network, 1))
        await nodes[0].until(1)
        found = nodes[0].chain.decision(1)
        assert found is not None
        block, certificate = found
        held = wire.decode_certificate(certificate, n=4)
        forged = wire.encode_certificate(
            type(held)(
                held.kind, Height(2), held.view, held.block_hash, held.signers, held.signatures
            ),
            n=4,
        )
        with pytest.raises(VerificationError):
            await nodes[0].driver.apply_decision(wire.join_decision(block, forged))
        await nodes[0].pending.submit(transaction(network, 2))
        await nodes[0].until(2)


async def test_a_member_that_proposes_out_of_turn_does_not_slow_the_views(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network, nodes = started(tmp_path, 4)
    node = nodes[0]
    outsider = next(m.id for m in network.members if m.id != node.replica.leader(View(0)))
    proposal = _proposal(node)
    node.driver._note_proposal(outsider, proposal)
    assert node.driver._proposed_at == {}
    node.driver._note_proposal(NodeId(node.replica.leader(View(0))), proposal)
    assert list(node.driver._proposed_at) == [View(0)]


def _proposal(node: MemberNode) -> Proposal:
    return Proposal(Height(1), View(0), b"", None, (), bytes(64))
