"""The gate: what passes is signed by who it says, and hostile bytes cost little and end nothing."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from consensus import wire
from consensus.events import AheadSeen, Event, MessageReceived
from consensus.ingress import (
    EARLY_BYTES_MAX,
    VIEW_WINDOW,
    Ingress,
    verify_certificate,
    verify_decision,
)
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    Status,
    View,
)
from tests.unit.consensus.committee import (
    CHAIN,
    GENESIS_TIP,
    F,
    N,
    X,
    certificate_of,
    keyed_verify,
    make_block,
    member_set,
    names,
    proposal_of,
    vote_of,
)

SET = member_set(names(4))
BLOCK = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP)
NAME = wire.block_hash(BLOCK)
FROM = NodeId("m001")


class Gate:
    """An ingress at height 1 that counts the signature checks it pays for."""

    def __init__(self, members: MemberSet = SET) -> None:
        self.checks = 0
        self.refused: list[str] = []
        self.ingress = Ingress(
            CHAIN, self.verify, on_refusal=lambda _, why: self.refused.append(why)
        )
        self.ingress.enter(Height(1), members)

    def verify(self, key: bytes, message: bytes, signature: bytes) -> bool:
        self.checks += 1
        return keyed_verify(key, message, signature)

    def admit(self, message: Message, *, sender: str = FROM, n: int = 4) -> list[Event]:
        return self.frame(wire.encode_message(message, n=n), sender=sender)

    def frame(self, frame: bytes, *, sender: str = FROM) -> list[Event]:
        return self.ingress.admit(NodeId(sender), frame)


VOTE = vote_of("m001", SET, N, view=0, block_hash=NAME)
CERTIFICATE = certificate_of(SET, N, view=0, block_hash=NAME)


@pytest.mark.parametrize(
    "message",
    [
        VOTE,
        CERTIFICATE,
        proposal_of("m001", SET, BLOCK, view=0),
        proposal_of(
            "m001",
            SET,
            BLOCK,
            view=5,
            notarization=CERTIFICATE,
            nullifications=(certificate_of(SET, X, view=4),),
        ),
        Decision(BLOCK, certificate_of(SET, F, view=0, block_hash=NAME)),
        Status(Height(1), View(0), (), ()),
    ],
)
def test_signed_message_of_a_member_passes(message: Message) -> None:
    gate = Gate()
    assert gate.admit(message) == [MessageReceived(FROM, message)]
    assert gate.refused == []


# -- signatures ----------------------------------------------------------------------------------


def spoiled(certificate: Certificate) -> Certificate:
    return replace(certificate, signatures=(*certificate.signatures[:-1], bytes(64)))


@pytest.mark.parametrize(
    "message",
    [
        replace(VOTE, signature=bytes(64)),
        replace(VOTE, view=View(1)),
        replace(VOTE, kind=F),
        replace(VOTE, block_hash=Digest(b"?" * 32)),
        spoiled(CERTIFICATE),
        replace(CERTIFICATE, view=View(3)),
        replace(CERTIFICATE, kind=F),
        replace(proposal_of("m001", SET, BLOCK, view=0), signature=bytes(64)),
        replace(proposal_of("m001", SET, BLOCK, view=0), view=View(1)),
        proposal_of("m002", SET, BLOCK, view=0),
        proposal_of("m001", SET, BLOCK, view=5, notarization=spoiled(CERTIFICATE)),
        proposal_of(
            "m001", SET, BLOCK, view=5, nullifications=(spoiled(certificate_of(SET, X, view=4)),)
        ),
        Decision(BLOCK, spoiled(certificate_of(SET, F, view=0, block_hash=NAME))),
    ],
)
def test_message_with_a_signature_that_does_not_hold_is_refused(message: Message) -> None:
    gate = Gate()
    assert gate.admit(message) == []
    assert len(gate.refused) == 1


def test_vote_of_another_epoch_of_the_same_members_is_refused() -> None:
    gate = Gate()
    assert gate.admit(vote_of("m001", member_set(names(4), epoch=1), X, view=0)) == []
    assert gate.refused


def test_vote_of_another_chain_is_refused() -> None:
    gate = Gate()
    foreign = Ingress(Digest(b"x" * 32), keyed_verify)
    foreign.enter(Height(1), SET)
    assert foreign.admit(FROM, wire.encode_message(VOTE, n=4)) == []
    assert gate.admit(VOTE)


def test_signature_is_checked_once() -> None:
    gate = Gate()
    gate.admit(VOTE)
    gate.admit(VOTE)
    assert gate.checks == 1
    gate.admit(CERTIFICATE)
    assert gate.checks == 3, "m001's vote inside is known, those of m000 and m002 are not"
    gate.admit(CERTIFICATE, sender="m002")
    assert gate.checks == 3


# -- who may speak, and for whom -----------------------------------------------------------------


def test_strangers_are_not_heard() -> None:
    gate = Gate()
    assert gate.admit(VOTE, sender="stranger") == []
    assert gate.admit(CERTIFICATE, sender="stranger") == []
    assert gate.checks == 0


def test_stranger_may_ask_for_help() -> None:
    status = Status(Height(1), View(0), (), ())
    assert Gate().admit(status, sender="stranger") == [MessageReceived(NodeId("stranger"), status)]


def test_member_sends_its_own_votes_only() -> None:
    gate = Gate()
    assert gate.admit(VOTE, sender="m002") == []
    assert gate.checks == 0
    assert gate.refused == ["vote of member 1 from another sender"]


# -- CometBFT's advisories -----------------------------------------------------------------------


def test_asa_2024_011_voter_index_out_of_bounds_is_refused() -> None:
    gate = Gate()
    frame = bytearray(wire.encode_message(VOTE, n=4))
    for index in (4, 5, 511, 0xFFFF):
        struct.pack_into(">H", frame, 1 + 45, index)
        assert gate.frame(bytes(frame)) == []
    assert len(gate.refused) == 4


def test_asa_2025_003_bits_and_signatures_of_different_number_are_refused() -> None:
    gate = Gate()
    frame = wire.encode_message(CERTIFICATE, n=4)
    bitmap = 1 + 45
    for bits in (0b1111, 0b0011, 0b10111, 0b1000_0000, 0):
        assert gate.frame(frame[:bitmap] + bytes([bits]) + frame[bitmap + 1 :]) == []
    assert gate.frame(frame[:-64]) == []
    assert gate.frame(frame + bytes(64)) == []
    assert len(gate.refused) == 7
    assert gate.checks == 0


# -- positions -----------------------------------------------------------------------------------


def test_votes_and_proposals_stay_within_the_view_window() -> None:
    gate = Gate()
    edge, beyond = VIEW_WINDOW, VIEW_WINDOW + 1
    assert gate.admit(vote_of("m001", SET, X, view=edge))
    assert gate.admit(vote_of("m001", SET, X, view=beyond)) == []
    assert gate.admit(proposal_of("m001", SET, BLOCK, view=beyond)) == []
    gate.ingress.set_view(View(1))
    assert gate.admit(vote_of("m001", SET, X, view=beyond))
    assert gate.refused == [], "to be far ahead is no offence"


def test_certificates_of_any_view_pass() -> None:
    assert Gate().admit(certificate_of(SET, X, view=2**32 - 1))


def test_old_heights_are_dropped() -> None:
    gate = Gate()
    gate.ingress.enter(Height(3), SET)
    assert gate.admit(VOTE) == []
    assert gate.refused == []


def test_frames_of_the_next_height_wait_unverified_until_it_is_entered() -> None:
    gate = Gate()
    vote = vote_of("m001", SET, X, view=0, height=2)
    assert gate.admit(vote) == [AheadSeen(FROM, Height(2))]
    assert gate.checks == 0
    assert gate.ingress.enter(Height(2), SET) == [MessageReceived(FROM, vote)]
    assert gate.ingress.enter(Height(3), SET) == []


def test_frames_that_wait_are_bounded_per_peer() -> None:
    gate = Gate()
    vote = vote_of("m001", SET, X, view=0, height=2)
    fits = EARLY_BYTES_MAX // len(wire.encode_message(vote, n=4))
    for _ in range(fits + 50):
        gate.admit(vote)
    other = vote_of("m002", SET, X, view=0, height=2)
    gate.admit(other, sender="m002")
    assert len(gate.ingress.enter(Height(2), SET)) == fits + 1


def test_frames_of_heights_beyond_the_next_are_a_claim_only() -> None:
    gate = Gate()
    vote = vote_of("m001", SET, X, view=0, height=3)
    assert gate.admit(vote) == [AheadSeen(FROM, Height(3))]
    assert gate.ingress.enter(Height(2), SET) == []


def test_decisions_of_the_next_heights_wait_since_help_comes_four_at_a_time() -> None:
    gate = Gate()
    final = certificate_of(SET, F, view=0, block_hash=NAME, height=3)
    decision = Decision(BLOCK, final)
    assert gate.admit(decision) == [AheadSeen(FROM, Height(3))]
    assert gate.ingress.enter(Height(2), SET) == [AheadSeen(FROM, Height(3))]
    assert gate.ingress.enter(Height(3), SET) == [MessageReceived(FROM, decision)]


def test_late_finalization_passes_once_a_member() -> None:
    gate = Gate()
    gate.ingress.enter(Height(2), member_set(names(5)))
    late = vote_of("m003", SET, F, view=0, block_hash=NAME)
    assert gate.admit(late, sender="m003") == [MessageReceived(NodeId("m003"), late)]
    again = vote_of("m003", SET, F, view=1, block_hash=NAME)
    assert gate.admit(again, sender="m003") == []
    assert gate.admit(late, sender="m002") == []
    assert gate.admit(vote_of("m002", SET, N, view=0, block_hash=NAME), sender="m002") == []


def test_late_finalization_of_one_who_was_removed_passes_too() -> None:
    gate = Gate()
    gate.ingress.enter(Height(2), member_set(names(3)))
    late = vote_of("m003", SET, F, view=0, block_hash=NAME)
    assert gate.admit(late, sender="m003") == [MessageReceived(NodeId("m003"), late)]


# -- floods --------------------------------------------------------------------------------------


def test_third_distinct_vote_of_a_kind_and_view_costs_no_signature_check() -> None:
    gate = Gate()
    for number in range(10):
        gate.admit(vote_of("m001", SET, N, view=0, block_hash=Digest(bytes([number]) * 31 + b"x")))
    assert gate.checks == 2


def test_third_distinct_proposal_of_a_view_costs_no_signature_check() -> None:
    gate = Gate()
    for number in range(10):
        block = make_block(
            height=1,
            view=0,
            proposer="m001",
            parent=GENESIS_TIP,
            transactions=(bytes([number + 1]),),
        )
        gate.admit(proposal_of("m001", SET, block, view=0))
    assert gate.checks == 2


@pytest.mark.parametrize(
    "frame", [b"", b"\0", b"\6", b"\1", b"\2" * 60, b"\3" * 100, b"\4" * 100, b"\5", bytes(99)]
)
def test_garbage_is_refused_with_a_reason(frame: bytes) -> None:
    gate = Gate()
    assert gate.frame(frame) == []
    assert len(gate.refused) == 1


def test_oversized_frame_is_refused_by_its_length() -> None:
    gate = Gate()
    assert gate.frame(b"\3" * (wire.FRAME_BYTES_MAX + 1)) == []
    assert "frame of 2097153 bytes" in gate.refused[0]


# -- certificates by themselves ------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        certificate_of(SET, N, view=0, block_hash=NAME, signers=(0, 1)),
        certificate_of(SET, N, view=0, block_hash=NAME, signers=(1, 0, 2)),
        replace(CERTIFICATE, signers=(0, 0, 1)),
        replace(CERTIFICATE, signers=(0, 1, 4)),
        replace(CERTIFICATE, signers=(-1, 1, 2)),
        replace(CERTIFICATE, signatures=CERTIFICATE.signatures[:2]),
        replace(CERTIFICATE, height=Height(2)),
        replace(CERTIFICATE, block_hash=Digest(b"?" * 32)),
        spoiled(CERTIFICATE),
    ],
)
def test_certificate_that_no_quorum_signed_does_not_hold(bad: Certificate) -> None:
    assert verify_certificate(CERTIFICATE, SET, CHAIN, keyed_verify)
    assert not verify_certificate(bad, SET, CHAIN, keyed_verify)


def test_decision_holds_for_its_own_block_and_by_a_finalization_only() -> None:
    final = certificate_of(SET, F, view=0, block_hash=NAME)
    other = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP, transactions=(b"y",))
    assert verify_decision(Decision(BLOCK, final), SET, CHAIN, keyed_verify)
    assert not verify_decision(Decision(other, final), SET, CHAIN, keyed_verify)
    assert not verify_decision(Decision(BLOCK, CERTIFICATE), SET, CHAIN, keyed_verify)
    assert not verify_decision(Decision(b"", final), SET, CHAIN, keyed_verify)
