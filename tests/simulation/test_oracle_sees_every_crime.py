"""The oracle on hand-made statements: each rule has a crime that it sees, and honest twins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.effects import Record, RecordKind, ReportEvidence
from consensus.sim import accountability, keys, oracle, platter
from consensus.sim.machine import GENESIS
from consensus.sim.oracle import LINK_BYTES_PER_SECOND_MAX, Fork, Oracle, Violation
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Message,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import (
    block_hash,
    encode_block,
    encode_certificate,
    encode_message,
    encode_proposal,
    encode_vote,
    proposal_bytes,
    vote_bytes,
)

NODES = tuple(NodeId(f"n{number}") for number in range(4))
HONEST = frozenset(NODES[:3])
CHAIN = Digest(b"c" * 32)
KEYS = keys.keyed(NODES, seed=1)
SET = keys.member_set(NODES, KEYS, epoch=0)
BLOCK = encode_block(b"header one", b"", [b"transaction"])
OTHER = encode_block(b"header two", b"", [b"transaction"])
NAME, OTHER_NAME = block_hash(BLOCK), block_hash(OTHER)
H, V0, V1, V2 = Height(1), View(0), View(1), View(2)


def vote(voter: int, kind: VoteKind, view: View, name: Digest = NAME) -> Vote:
    name = ZERO_DIGEST if kind is VoteKind.NULLIFY else name
    text = vote_bytes(kind, H, view, name, chain_id=CHAIN, set_hash=SET.set_hash)
    return Vote(kind, H, view, name, voter, KEYS.sign[NODES[voter]](text))


def certificate(
    kind: VoteKind, view: View, name: Digest = NAME, signers: tuple[int, ...] = (0, 1, 2)
) -> Certificate:
    votes = [vote(signer, kind, view, name) for signer in signers]
    signatures = tuple(one.signature for one in votes)
    return Certificate(kind, H, view, votes[0].block_hash, signers, signatures)


def proposal(leader: int, view: View, block: bytes = BLOCK) -> Proposal:
    text = proposal_bytes(H, view, block_hash(block), chain_id=CHAIN, set_hash=SET.set_hash)
    return Proposal(H, view, block, None, (), KEYS.sign[NODES[leader]](text))


class Court:
    """An oracle, and honest nodes that write everything down before they say it."""

    def __init__(self, *, sees_disks: bool = True) -> None:
        self.oracle = Oracle(
            chain_id=CHAIN,
            genesis_set=SET,
            honest=HONEST,
            verify=KEYS.verify,
            sees_disks=sees_disks,
        )

    def write(self, node: int, *messages: Message | bytes) -> None:
        self.oracle.became_durable(NODES[node], tuple(_record(one) for one in messages))

    def say(self, node: int, message: Message, *, written: bool = True) -> None:
        if written:
            self.write(node, message)
        self.oracle.frame_left(NODES[node], encode_message(message, n=4), members=4)

    def notarize(self, node: int, view: View, block: bytes = BLOCK) -> None:
        self.write(node, block)
        if view:
            self.write(node, certificate(VoteKind.NULLIFY, View(view - 1)))
        self.say(node, vote(node, VoteKind.NOTARIZE, view, block_hash(block)))

    def finalize(self, node: int, view: View, block: bytes = BLOCK) -> None:
        name = block_hash(block)
        self.write(node, block, certificate(VoteKind.NOTARIZE, view, name, (0, 1, 3)))
        self.say(node, vote(node, VoteKind.FINALIZE, view, name))

    def commit(self, node: int, *, block: bytes = BLOCK, signers: tuple[int, ...]) -> None:
        self.oracle.committed(
            NODES[node],
            Decision(block, certificate(VoteKind.FINALIZE, V0, block_hash(block), signers)),
            parent=GENESIS,
            next_set=SET,
        )


def _record(message: Message | bytes) -> Record:
    match message:
        case bytes():
            return Record(RecordKind.BODY, message)
        case Vote():
            return Record(RecordKind.VOTE, encode_vote(message))
        case Certificate():
            return Record(RecordKind.CERTIFICATE, encode_certificate(message, n=4))
        case Proposal():
            return Record(RecordKind.PROPOSAL, encode_proposal(message, n=4))
        case _:
            raise AssertionError(message)


def test_an_honest_height_is_no_crime() -> None:
    court = Court()
    court.say(0, proposal(0, V0))
    for node in range(3):
        court.notarize(node, V0)
    for node in range(3):
        court.finalize(node, V0)
        court.say(node, certificate(VoteKind.NOTARIZE, V0))
    for node in range(3):
        court.commit(node, signers=(0, 1, 2))


def test_to_nullify_after_a_notarization_is_no_crime() -> None:
    court = Court()
    court.notarize(0, V0)
    court.say(0, vote(0, VoteKind.NULLIFY, V0))


def test_to_repeat_a_vote_is_no_crime() -> None:
    court = Court()
    court.notarize(0, V0)
    court.notarize(0, V0)


def test_two_notarizations_in_one_view() -> None:
    court = Court()
    court.notarize(0, V0)
    with pytest.raises(Violation, match="two notarize votes: n0 at 1/0"):
        court.notarize(0, V0, OTHER)


def test_two_notarizations_in_one_view_across_a_restart() -> None:
    court = Court()
    court.notarize(0, V0)
    kept = (_record(BLOCK), _record(vote(0, VoteKind.NOTARIZE, V0)))
    court.oracle.restarted(NODES[0], [], kept)
    with pytest.raises(Violation, match="two notarize votes"):
        court.notarize(0, V0, OTHER)


def test_nullify_after_finalize() -> None:
    court = Court()
    court.finalize(0, V0)
    with pytest.raises(Violation, match="nullify and finalize"):
        court.say(0, vote(0, VoteKind.NULLIFY, V0))


def test_finalize_after_nullify() -> None:
    court = Court()
    court.say(0, vote(0, VoteKind.NULLIFY, V0))
    with pytest.raises(Violation, match="nullify and finalize"):
        court.finalize(0, V0)


def test_two_finalizations_in_one_view() -> None:
    court = Court()
    court.finalize(0, V0)
    with pytest.raises(Violation, match="two finalize votes"):
        court.finalize(0, V0, OTHER)


def test_to_notarize_one_block_and_finalize_another() -> None:
    court = Court()
    court.notarize(0, V0)
    with pytest.raises(Violation, match="notarize one block, finalize another"):
        court.finalize(0, V0, OTHER)


def test_a_vote_hidden_inside_a_certificate_counts_too() -> None:
    court = Court()
    court.finalize(0, V0)
    with pytest.raises(Violation, match="nullify and finalize: n0 at 1/0"):
        court.say(1, certificate(VoteKind.NULLIFY, V0, signers=(0, 1, 3)))


def test_a_traitor_may_contradict_itself() -> None:
    court = Court(sees_disks=False)
    court.say(0, certificate(VoteKind.NULLIFY, V0, signers=(1, 2, 3)))
    court.say(0, certificate(VoteKind.NOTARIZE, V0, NAME, signers=(1, 2, 3)))


def test_to_notarize_another_block_after_one_could_be_final() -> None:
    court = Court()
    court.finalize(0, V0)
    court.finalize(1, V0)  # with the traitor's, a quorum
    with pytest.raises(Violation, match="notarized against a decision"):
        court.notarize(2, V1, OTHER)


def test_the_same_seen_in_the_other_order() -> None:
    court = Court()
    court.notarize(2, V2, OTHER)
    court.finalize(0, V0)
    with pytest.raises(Violation, match="notarized against a decision"):
        court.finalize(1, V0)


def test_a_minority_may_notarize_another_block_in_the_same_view() -> None:
    court = Court()
    court.finalize(0, V0)
    court.finalize(1, V0)
    court.notarize(2, V0, OTHER)


def test_a_certificate_below_the_quorum() -> None:
    thin = certificate(VoteKind.NOTARIZE, V0, signers=(0, 1))
    with pytest.raises(Violation, match="certificate without a quorum"):
        Court().oracle._check_message(NODES[0], thin)


def test_a_certificate_with_a_signature_of_somebody_else() -> None:
    good = certificate(VoteKind.NOTARIZE, V0)
    forged = replace(good, signatures=(good.signatures[1], *good.signatures[1:]))
    with pytest.raises(Violation, match="forged certificate"):
        Court().say(0, forged)


def test_two_notarizations_of_one_view_by_certificate() -> None:
    court = Court(sees_disks=False)
    court.say(0, certificate(VoteKind.NOTARIZE, V0, NAME, signers=(0, 1, 3)))
    # One of the two quorums must contain an honest node twice; the oracle names that crime.
    with pytest.raises(Violation, match="two notarize votes"):
        court.say(1, certificate(VoteKind.NOTARIZE, V0, OTHER_NAME, signers=(0, 2, 3)))


def test_a_vote_in_the_name_of_another_node() -> None:
    with pytest.raises(Violation, match="foreign vote"):
        Court().say(0, vote(1, VoteKind.NULLIFY, V0))


def test_a_vote_with_a_bad_signature() -> None:
    with pytest.raises(Violation, match="bad signature"):
        Court().say(0, replace(vote(0, VoteKind.NULLIFY, V0), signature=bytes(64)))


def test_two_proposals_of_one_view() -> None:
    court = Court()
    court.say(0, proposal(0, V0))
    with pytest.raises(Violation, match="two proposals"):
        court.say(0, proposal(0, V0, OTHER))


def test_a_proposal_signed_by_somebody_else() -> None:
    with pytest.raises(Violation, match="foreign proposal"):
        Court().say(1, proposal(0, V0))


def test_a_vote_that_leaves_before_it_is_durable() -> None:
    with pytest.raises(Violation, match="vote not durable"):
        Court().say(0, vote(0, VoteKind.NULLIFY, V0), written=False)


def test_a_notarization_that_leaves_before_the_body_is_durable() -> None:
    with pytest.raises(Violation, match="body not durable"):
        Court().say(0, vote(0, VoteKind.NOTARIZE, V0))


def test_a_vote_that_leaves_before_the_certificate_of_the_view_before() -> None:
    with pytest.raises(Violation, match="certificate not durable"):
        Court().say(0, vote(0, VoteKind.NULLIFY, V1))


def test_a_finalization_that_leaves_before_the_notarization_is_durable() -> None:
    with pytest.raises(Violation, match="notarization not durable"):
        Court().say(0, vote(0, VoteKind.FINALIZE, V0))


def test_a_proposal_that_leaves_before_it_is_durable() -> None:
    with pytest.raises(Violation, match="proposal not durable"):
        Court().say(0, proposal(0, V0), written=False)


def test_a_blind_oracle_looks_at_no_disk() -> None:
    court = Court(sees_disks=False)
    court.say(0, vote(0, VoteKind.NOTARIZE, V2), written=False)
    court.say(0, proposal(0, V0), written=False)


def test_a_durable_vote_that_a_restart_does_not_find() -> None:
    court = Court()
    court.notarize(0, V0)
    with pytest.raises(Violation, match="durable record lost"):
        court.oracle.restarted(NODES[0], [], (_record(BLOCK),))


def test_an_acknowledged_block_that_a_restart_does_not_find() -> None:
    court = Court(sees_disks=False)
    court.commit(0, signers=(0, 1, 2))
    with pytest.raises(Violation, match="acknowledged entry lost"):
        court.oracle.restarted(NODES[0], [], ())


def _two_traitors(*, may_fork: bool) -> Oracle:
    """Return an oracle of a world in which n2 and n3 sign everything."""
    return Oracle(
        chain_id=CHAIN,
        genesis_set=SET,
        honest=frozenset(NODES[:2]),
        verify=KEYS.verify,
        sees_disks=False,
        may_fork=may_fork,
    )


def _decide(oracle: Oracle, node: int, block: bytes, signers: tuple[int, ...]) -> None:
    decided = certificate(VoteKind.FINALIZE, V0, block_hash(block), signers)
    oracle.committed(
        NODES[node], Decision(block, decided), parent=GENESIS, next_set=SET, transcript=()
    )


def test_two_blocks_at_one_height() -> None:
    oracle = _two_traitors(may_fork=False)
    _decide(oracle, 0, BLOCK, (0, 2, 3))
    with pytest.raises(Violation, match="two certificates of a kind"):
        _decide(oracle, 1, OTHER, (1, 2, 3))


def test_a_fork_by_too_many_traitors_names_them_and_nobody_else() -> None:
    oracle = _two_traitors(may_fork=True)
    _decide(oracle, 0, BLOCK, (0, 2, 3))
    assert oracle.culprits(H) == ()
    with pytest.raises(Fork, match="height 1 was decided twice"):
        _decide(oracle, 1, OTHER, (1, 2, 3))
    assert oracle.culprits(H) == (NODES[2], NODES[3])


def test_a_commit_on_a_notarization() -> None:
    early = certificate(VoteKind.NOTARIZE, V0)
    with pytest.raises(Violation, match="commit without its certificate"):
        Court().oracle.committed(NODES[0], Decision(BLOCK, early), parent=GENESIS, next_set=SET)


def test_a_commit_of_a_height_twice() -> None:
    court = Court(sees_disks=False)
    court.commit(0, signers=(0, 1, 2))
    with pytest.raises(Violation, match="commit out of order"):
        court.commit(0, signers=(0, 1, 2))


def test_two_nodes_with_different_next_sets() -> None:
    court = Court(sees_disks=False)
    court.commit(0, signers=(0, 1, 2))
    with pytest.raises(Violation, match="member sets differ"):
        court.oracle.committed(
            NODES[1],
            Decision(BLOCK, certificate(VoteKind.FINALIZE, V0)),
            parent=GENESIS,
            next_set=keys.member_set(NODES, KEYS, epoch=1),
        )


def test_an_honest_node_accused() -> None:
    one, two = vote(1, VoteKind.NOTARIZE, V0), vote(1, VoteKind.NULLIFY, V0)
    with pytest.raises(Violation, match="honest node accused: n1 by n0"):
        Court().oracle.evidence(NODES[0], ReportEvidence(NODES[1], one, two))


def test_evidence_that_proves_nothing() -> None:
    one = vote(3, VoteKind.NOTARIZE, V0)
    with pytest.raises(Violation, match="evidence of nothing"):
        Court().oracle.evidence(NODES[0], ReportEvidence(NODES[3], one, one))


def test_a_certificate_that_a_node_takes_no_notice_of() -> None:
    court = Court()
    frame = encode_message(certificate(VoteKind.NULLIFY, V2), n=4)
    court.oracle.certificate_arrived(NODES[0], NODES[3], frame, height=H, view=View(3))
    with pytest.raises(Violation, match="certificate ignored"):
        court.oracle.certificate_arrived(NODES[0], NODES[3], frame, height=H, view=V2)


def test_a_forged_certificate_may_be_ignored() -> None:
    forged = replace(certificate(VoteKind.NULLIFY, V2), signatures=(bytes(64),) * 3)
    frame = encode_message(forged, n=4)
    Court().oracle.certificate_arrived(NODES[0], NODES[3], frame, height=H, view=V0)


def test_more_bytes_than_a_link_may_carry() -> None:
    court = Court()
    court.oracle.bytes_left(NODES[0], NODES[1], LINK_BYTES_PER_SECOND_MAX, second=1)
    court.oracle.bytes_left(NODES[0], NODES[1], 1, second=2)
    with pytest.raises(Violation, match="egress"):
        court.oracle.bytes_left(NODES[0], NODES[1], LINK_BYTES_PER_SECOND_MAX, second=2)


def test_the_oracle_knows_none_of_the_rules() -> None:
    source = {**vars(oracle), **vars(platter), **vars(accountability)}
    for module in ("rules", "replica", "quorum", "signer", "ingress", "state", "tally"):
        assert not any(
            f"consensus.{module}"
            in {getattr(value, "__module__", ""), getattr(value, "__name__", "")}
            for value in source.values()
        ), module
