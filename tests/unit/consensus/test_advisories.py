"""What went wrong in other networks of this kind does not go wrong here, advisory by advisory.

Here or, by its name, in the test that ``ELSEWHERE`` names:

ASA-2024-001      a wrong check at one height stopped the chain: any frame of any height is harmless
ASA-2024-009      a light client believed unsigned parts of a set: every byte of a set is certified
ASA-2024-011      a voter's index out of bounds ended the process
ASA-2025-001      a peer claimed a height and never showed it; a part proved at another place
ASA-2025-003      a bitmap and its signatures of different number ended the process
ABC-0013, -0014   peers of block sync fed blocks of no use and bodies that did not fit
#5324             proposals larger than allowed were passed on and stored
"Mulberry"        evidence was judged by a time that its finder chose
#3003             everybody had voted for nothing, and nobody went on
#861, #1575       a commit was known and its block, of an earlier round, was never fetched
April 2026        block sync stalled by what a peer says of itself (known from the press alone)
Jepsen 2017       recovery of the log crashed; the log was not durable when it had to be
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Final

import pytest

from consensus import wire
from consensus.effects import RequestBody
from consensus.errors import DecodeError
from consensus.events import BodyReceived, TimerKind
from consensus.ingress import VIEW_WINDOW
from consensus.types import Decision, Height, Message, NodeId, Proposal, Status, View
from consensus.wire import BLOCK_BYTES_MAX, LEAF_BYTES_MAX, MessageKind
from tests.unit.consensus.committee import (
    CHAIN,
    GENESIS_TIP,
    Committee,
    F,
    N,
    X,
    alone,
    certificate_of,
    keyed_sign,
    make_block,
    member_set,
    names,
    of_type,
    proposal_of,
    vote_of,
    votes_in,
)

ELSEWHERE: Final = {
    "tests/unit/consensus/test_ingress.py": (
        "test_asa_2024_011_voter_index_out_of_bounds_is_refused",
        "test_asa_2025_003_bits_and_signatures_of_different_number_are_refused",
    ),
    "tests/integration/replica/test_apply_and_follow.py": (
        "test_asa_2025_001_a_height_that_is_claimed_and_not_shown_holds_nobody",
        "test_transactions_changed_on_the_way_are_their_senders_fault_alone",
        "test_a_hostile_peer_costs_rounds_and_never_ends_the_follower",
    ),
    "tests/property/consensus/test_catchup_reaches_the_head.py": ("test_one_honest_peer_suffices",),
    "tests/property/tlog/test_hostile_proofs_and_texts.py": (
        "test_no_mutated_inclusion_proof_is_accepted",
    ),
    "tests/unit/tlog/test_trust_and_verify.py": (
        "test_a_change_that_is_not_certified_in_every_part_is_refused",
    ),
    "tests/unit/ledger/test_machine_evidence.py": (
        "test_mulberry_evidence_carries_no_time_and_does_not_age",
    ),
    "tests/integration/replica/test_write_ahead_log.py": (
        "test_what_an_earlier_process_wrote_is_durable_before_it_is_read",
    ),
    "tests/property/consensus/test_log_never_lies.py": ("test_file_cut_short_yields_a_prefix",),
}

SET = member_set(names(4))
BLOCK = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP)
NAME = wire.block_hash(BLOCK)
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("file", ELSEWHERE)
def test_tests_that_are_named_here_exist(file: str) -> None:
    text = (ROOT / file).read_text()
    assert [name for name in ELSEWHERE[file] if f"def {name}(" not in text] == []


def messages_of(height: int) -> list[Message]:
    return [
        vote_of("m001", SET, F, view=0, block_hash=NAME, height=height),
        certificate_of(SET, X, view=3, height=height),
        proposal_of("m001", SET, BLOCK, view=0, height=height),
        Status(Height(height), View(2**32 - 1), (), ()),
    ]


@pytest.mark.parametrize("height", [0, 3, 4, 5, 2**32, wire.HEIGHT_MAX])
def test_asa_2024_001_frames_of_any_height_leave_the_chain_going_on(height: int) -> None:
    committee = Committee(4)
    victim = committee[0]
    for message in messages_of(height):
        victim.hear("m001", wire.encode_message(message, n=4))
        victim.hear("m099", wire.encode_message(message, n=4))
    for _ in range(3):
        for node in committee.nodes.values():
            node.work()
        committee.deliver()
    assert len(victim.committed) == 3


def test_abc_0013_bodies_that_nobody_asked_for_or_that_do_not_fit_are_dropped() -> None:
    node = alone(4, 0)
    other = make_block(height=1, view=0, proposer="m001", parent=GENESIS_TIP, transactions=(b"o",))
    forged = wire.encode_block(wire.split_block(BLOCK).header, b"", (b"forged",))
    node.step(BodyReceived(Height(1), BLOCK))
    assert node.replica.body(NAME) is None
    node.tell("m001", certificate_of(SET, F, view=0, block_hash=NAME, signers=(1, 2, 3)))
    for body in (b"", b"\xff" * 64, other, forged):
        node.step(BodyReceived(Height(1), body), BodyReceived(Height(9), BLOCK))
    assert node.committed == []
    node.step(BodyReceived(Height(1), BLOCK))
    assert [commit.block for commit in node.committed] == [BLOCK]


def test_pr_5324_oversized_proposal_costs_no_signature_check_and_is_not_kept() -> None:
    node = alone(4, 0)
    count = BLOCK_BYTES_MAX // LEAF_BYTES_MAX + 1
    parts = [b"header", b"", *([bytes(LEAF_BYTES_MAX)] * count)]
    block = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    assert len(block) > BLOCK_BYTES_MAX
    with pytest.raises(DecodeError):
        wire.split_block(block)
    small = proposal_of("m001", SET, BLOCK, view=0)
    frame = wire.encode_message(small, n=4)
    assert frame.endswith(BLOCK)
    assert node.hear("m001", frame.removesuffix(BLOCK) + block) == []
    assert len(node.refused) == 1
    assert node.replica.body(wire.block_hash(BLOCK)) is None


def test_3003_everybody_skipped_and_everybody_goes_on() -> None:
    """Everything but votes is lost for some views; then the network heals."""
    committee = Committee(4)
    for view in range(5):
        for node in committee.nodes.values():
            node.work()
        committee.deliver(lambda *_: False)
        for node in committee.nodes.values():
            node.fire()
        committee.deliver(lambda _from, _to, frame: frame[0] != MessageKind.PROPOSAL)
        assert {node.replica.view for node in committee.nodes.values()} == {View(view + 1)}
    for node in committee.nodes.values():
        node.fire(TimerKind.RETRY)
    committee.deliver()
    assert all(len(node.committed) == 1 for node in committee.nodes.values())


def test_861_final_certificate_of_an_older_view_finds_its_body_and_commits() -> None:
    """The node went on to view 3; the block of view 0 was final, and its body never came."""
    node = alone(4, 0)
    for view in range(3):
        node.tell("m001", certificate_of(SET, X, view=view, signers=(1, 2, 3)))
    assert node.replica.view == 3
    found = node.tell("m002", certificate_of(SET, F, view=0, block_hash=NAME, signers=(1, 2, 3)))
    (asked,) = of_type(found, RequestBody)
    assert asked.block_hash == NAME
    assert set(asked.holders) <= {NodeId("m001"), NodeId("m002"), NodeId("m003")}
    node.step(BodyReceived(Height(1), BLOCK))
    assert [commit.block for commit in node.committed] == [BLOCK]


def test_1575_body_held_from_an_older_view_is_enough_to_commit() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, BLOCK, view=0))
    for view in range(3):
        node.tell("m001", certificate_of(SET, X, view=view, signers=(1, 2, 3)))
    found = node.tell("m002", certificate_of(SET, F, view=0, block_hash=NAME, signers=(1, 2, 3)))
    assert of_type(found, RequestBody) == []
    assert [commit.block for commit in node.committed] == [BLOCK]


def test_claims_of_a_height_or_a_view_without_certificates_move_nobody() -> None:
    node = alone(4, 0)
    for peer in ("m001", "m002", "m003"):
        for height in (1, 2, 7, wire.HEIGHT_MAX):
            node.tell(peer, Status(Height(height), View(2**32 - 1), (), ()))
    for view in range(1, VIEW_WINDOW + 1):
        for peer in ("m001", "m002"):
            node.tell(peer, vote_of(peer, SET, N, view=view, block_hash=NAME))
    assert (node.replica.height, node.replica.view) == (Height(1), View(0))
    assert node.committed == []


def test_decision_of_a_height_that_is_not_next_commits_nothing() -> None:
    node = alone(4, 0)
    for height in (2, 3, 4, 99):
        final = certificate_of(SET, F, view=0, block_hash=NAME, height=height)
        node.tell("m001", Decision(BLOCK, final))
    assert node.committed == []
    assert node.replica.height == 1


def test_random_frames_of_members_never_end_the_node() -> None:
    """Bytes, and true frames with bytes exchanged, of every kind: the core outlives them all."""
    rng = random.Random(2025)
    node = alone(4, 0)
    frames = [wire.encode_message(one, n=4) for height in (1, 2) for one in messages_of(height)]
    for _ in range(600):
        frame = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        node.hear(f"m00{rng.randint(0, 4)}", bytes(frame[: rng.randint(1, len(frame))]))
        node.hear("m001", rng.randbytes(rng.randint(0, 200)))
    assert node.replica.height == 1
    node.tell("m001", proposal_of("m001", SET, BLOCK, view=0))
    assert votes_in(node.done)[-1] == (N, 0)


def test_proposal_signed_for_another_view_is_refused() -> None:
    """A proof of one place is none of another: what was signed names chain, height and view."""
    node = alone(4, 0)
    signed = wire.proposal_bytes(Height(1), View(4), NAME, chain_id=CHAIN, set_hash=SET.set_hash)
    elsewhere = Proposal(Height(1), View(0), BLOCK, None, (), keyed_sign("m001")(signed))
    assert node.tell("m001", elsewhere) == []
    assert "not signed" in node.refused[0]
