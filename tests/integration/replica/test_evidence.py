"""Traitors are found, named in the log, and a fork stops every honest node and convicts its makers.

Real chains, logs and signatures; the traitors' keys are in the test's hands.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus import wire
from consensus.quorum import faults
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from pyrsia_node.ledger.convictions import convictions
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.replica.transcripts import encode_question
from tests.fakes.member_network import MemberNetwork, MemberNode
from tests.integration.replica.orders import order

A, B = Digest(b"a" * 32), Digest(b"b" * 32)
N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


@asynccontextmanager
async def running(*nodes: MemberNode) -> AsyncIterator[None]:
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.run)
            yield
            nursery.cancel_scope.cancel()


def vote(
    network: MemberNetwork, voter: int, kind: VoteKind, name: Digest, *, height: int = 1, view: int
) -> Vote:
    signed = wire.vote_bytes(
        kind,
        Height(height),
        View(view),
        name,
        chain_id=Digest(network.genesis.network_id),
        set_hash=network.genesis.set_leaf().to_consensus().set_hash,
    )
    signature = network.members[voter].sign["vote"](signed)
    return Vote(kind, Height(height), View(view), name, voter, signature)


def certificate(
    network: MemberNetwork,
    kind: VoteKind,
    name: Digest,
    *,
    signers: Iterable[int],
    height: int = 1,
    view: int,
) -> Certificate:
    votes = [vote(network, one, kind, name, height=height, view=view) for one in signers]
    return Certificate(
        kind,
        Height(height),
        View(view),
        name,
        tuple(one.voter for one in votes),
        tuple(one.signature for one in votes),
    )


def proposal(network: MemberNetwork, leader: NodeId, block: bytes, view: int) -> Proposal:
    index = [member.id for member in network.members].index(leader)
    signed = wire.proposal_bytes(
        Height(1),
        View(view),
        wire.block_hash(block),
        chain_id=Digest(network.genesis.network_id),
        set_hash=network.genesis.set_leaf().to_consensus().set_hash,
    )
    signature = network.members[index].sign["vote"](signed)
    return Proposal(Height(1), View(view), block, None, (), signature)


async def until_convicted(nodes: list[MemberNode], network: MemberNetwork, crime: str) -> None:
    for node in nodes:
        index = [member.id for member in network.members].index(node.me)
        while crime not in {
            one.proof.crime.value for one in convictions(network.stores[index], node.chain)
        }:
            await trio.sleep(0.1)


@pytest.mark.parametrize(
    ("crime", "one", "two"),
    [
        ("two_notarizations", (N, A), (N, B)),
        ("two_finalizations", (F, A), (F, B)),
        ("notarized_another", (N, A), (F, B)),
        ("skipped_and_finalized", (X, ZERO_DIGEST), (F, A)),
    ],
)
async def test_contradicting_votes_that_reach_one_member_stand_in_the_log_of_all(
    crime: str,
    one: tuple[VoteKind, Digest],
    two: tuple[VoteKind, Digest],
    tmp_path: Path,
    fast_clock: MockClock,
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(3)]
    traitor = network.members[3].id
    async with running(*nodes):
        for kind, name in (one, two, one, two):
            said = vote(network, 3, kind, name, view=9)
            await nodes[0].hear(traitor, wire.encode_message(said, n=4))
        await until_convicted(nodes, network, crime)
    for node, store in zip(nodes, network.stores, strict=False):
        (found,) = convictions(store, node.chain)
        assert found.proof.culprit == traitor
        assert found.by == nodes[0].me


async def test_two_proposals_of_a_leader_stand_in_the_log(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(3)]
    traitor = network.members[3].id
    view = next(view for view in range(1, 9) if nodes[0].replica.leader(View(view)) == traitor)
    blocks = [wire.encode_block(b"header %d" % number, b"", [b"tx"]) for number in (1, 2)]
    async with running(*nodes):
        for block in blocks:
            said = proposal(network, traitor, block, view)
            await nodes[0].hear(traitor, wire.encode_message(said, n=4))
        await until_convicted(nodes, network, "two_proposals")


async def test_evidence_outlives_the_process_that_found_it(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    alone = network.node(0)
    traitor = network.members[3].id
    async with running(alone):
        for name in (A, B):
            said = vote(network, 3, N, name, view=9)
            await alone.hear(traitor, wire.encode_message(said, n=4))
        while not alone.locker.all():
            await trio.sleep(0.1)
    nodes = [network.node(index) for index in range(3)]
    async with running(*nodes):
        await until_convicted(nodes, network, "two_notarizations")


# -- forks ---------------------------------------------------------------------------------------


async def decided(network: MemberNetwork, nodes: list[MemberNode]) -> tuple[bytes, Certificate]:
    """Have height 1 decided; return its block and certificate."""
    await nodes[0].pending.submit(order(network, 1))
    for node in nodes:
        await node.until(1)
    found = nodes[0].chain.decision(1)
    assert found is not None
    return found[0], wire.decode_certificate(found[1], n=4)


def other_block(block: bytes) -> bytes:
    parts = wire.split_block(block)
    return wire.encode_block(parts.header + b" ", parts.parent_certificate, parts.transactions)


def assert_stopped(node: MemberNode, *, culprits: int) -> None:
    assert node.replica.is_halted
    assert node.forks.forks == (1,)
    assert "FORK: two blocks of height 1 are final" in node.forks.words
    named = node.forks.verdict(1).culprits
    assert len(named) >= culprits
    assert {proof.culprit for proof in node.locker.all()} == set(named)


async def test_second_final_block_of_a_committed_height_stops_the_node_and_convicts(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(4)]
    victim = nodes[0]
    async with running(*nodes):
        block, final = await decided(network, nodes)
        fork = other_block(block)
        signers = sorted({*range(4)} - {0})  # member 0 is honest
        bad = certificate(network, F, wire.block_hash(fork), signers=signers, view=final.view)
        await victim.hear(nodes[1].me, wire.encode_message(Decision(fork, bad), n=4))
        while not victim.forks.forks:
            await trio.sleep(0.1)
        assert_stopped(victim, culprits=faults(4) + 1)
        assert victim.me not in victim.forks.verdict(1).culprits
        with pytest.raises(UnavailableError, match="halted"):
            await victim.driver.apply_decision(b"whatever follows")
    again = network.node(0)  # and no start forgets it
    assert again.replica.is_halted
    assert_stopped(again, culprits=2)
    again.wal.close()


async def test_block_on_the_other_branch_shows_the_fork(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """After a partition heals, no certificate of the other branch comes alone: blocks do."""
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(4)]
    victim = nodes[0]
    async with running(*nodes):
        block, final = await decided(network, nodes)
        fork = other_block(block)
        bad = certificate(network, F, wire.block_hash(fork), signers=(1, 2, 3), view=final.view)
        child = wire.encode_block(b"{}", wire.encode_certificate(bad, n=4), [b"tx"])
        leader = victim.replica.leader(View(0))
        index = [member.id for member in network.members].index(leader)
        signed = wire.proposal_bytes(
            Height(2),
            View(0),
            wire.block_hash(child),
            chain_id=Digest(network.genesis.network_id),
            set_hash=network.genesis.set_leaf().to_consensus().set_hash,
        )
        said = Proposal(
            Height(2), View(0), child, None, (), network.members[index].sign["vote"](signed)
        )
        if leader == victim.me:
            victim.forks.look_at_block(child)
        else:
            await victim.hear(leader, wire.encode_message(said, n=4))
        while not victim.forks.forks:
            await trio.sleep(0.1)
        assert_stopped(victim, culprits=2)


async def test_fork_over_two_views_is_solved_by_the_others_transcripts(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(4)]
    victim, witness = nodes[0], nodes[1]
    async with running(*nodes):
        block, final = await decided(network, nodes)
        fork = other_block(block)
        traitors = final.signers[1:]
        later = final.view + 1
        # What allowed the second block: only the witness has it.
        three = tuple(sorted({*traitors, next(i for i in range(4) if i not in traitors)}))
        skipped = certificate(network, X, ZERO_DIGEST, signers=three, view=final.view)
        witness.transcripts.keep(1, [skipped])
        bad = certificate(network, F, wire.block_hash(fork), signers=three, view=later)
        await victim.hear(witness.me, wire.encode_message(bad, n=4))
        while len(victim.forks.verdict(1).culprits) < 2:
            await trio.sleep(0.1)
        culprits = {network.members[index].id for index in set(three) & set(final.signers)}
        assert set(victim.forks.verdict(1).culprits) == culprits


async def test_certificates_that_prove_no_fork_stop_nobody(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(4)]
    victim = nodes[0]
    async with running(*nodes):
        block, final = await decided(network, nodes)
        fork = wire.block_hash(other_block(block))
        good = certificate(network, F, fork, signers=(1, 2, 3), view=final.view)
        harmless = [
            final,
            certificate(network, X, ZERO_DIGEST, signers=(1, 2, 3), view=0),
            certificate(network, N, fork, signers=(1, 2, 3), view=0),
            Certificate(F, Height(1), View(0), fork, good.signers, (bytes(64),) * 3),
            Certificate(F, Height(1), View(7), fork, good.signers, good.signatures),
        ]
        for one in harmless:
            frame = wire.encode_message(one, n=4)
            victim.forks.look_at_frame(frame)
            victim.forks.look_at_frame(frame[:-1])
        for nonsense in (b"", b"\x04", b"\x02" + bytes(45), b"\xff" * 99):
            victim.forks.look_at_frame(nonsense)
            victim.forks.look_at_block(nonsense)
        assert victim.forks.forks == ()
        await nodes[1].pending.submit(order(network, 2))
        await victim.until(2)


async def test_transcript_is_kept_beside_a_block_that_took_more_than_one_view(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    network = MemberNetwork(tmp_path, 4)
    nodes = [network.node(index) for index in range(4)]
    leader = next(node for node in nodes if node.me == nodes[0].replica.leader(View(0)))
    others = [node for node in nodes if node is not leader]
    network.down.add(leader.me)
    async with running(*others):
        await others[0].pending.submit(order(network, 1))
        for node in others:
            await node.until(1)
    for node in others:
        found = node.transcripts.certificates(1)
        assert {one.kind for one in found} >= {F, X}
        verdict = node.forks.verdict(1)
        assert not verdict.is_fork
        assert verdict.culprits == ()
        for nonsense in (b"", bytes(7), bytes(9)):
            with pytest.raises(InvalidInputError):
                node.transcripts.answer(nonsense)
        for unknown in (0, 3, 2**63):
            with pytest.raises(NotFoundError):
                node.transcripts.answer(encode_question(unknown))
    leader.wal.close()
