"""A node that lost everything but its records comes back as the one it was."""

from __future__ import annotations

import pytest

from consensus import wire
from consensus.effects import BuildBody, CheckBody, Record, RecordKind, SetTimer
from consensus.events import TimerKind
from consensus.recovery import recover
from consensus.signer import Signer
from consensus.timing import Timing
from consensus.types import Decision, Height, View
from tests.unit.consensus.committee import (
    CHAIN,
    Committee,
    F,
    N,
    X,
    alone,
    keyed_public,
    keyed_sign,
    keyed_verify,
    of_type,
    proposal_of,
    proposals_in,
    votes_in,
)
from tests.unit.consensus.first_height import (
    B0,
    H0,
    OTHER,
    SET,
    finalized,
    notarized,
    nullified,
)


def test_recovered_node_repeats_its_vote_and_casts_no_other() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    again = node.restart()
    assert votes_in(again.done) == [(N, 0)]
    assert votes_in(again.tell("m001", proposal_of("m001", SET, OTHER, view=0))) == []


def test_recovered_node_never_finalizes_what_it_nullified() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.fire()
    again = node.restart()
    again.tell("m002", notarized())
    assert (F, 0) not in votes_in(again.done)


def test_recovered_node_is_in_its_view_by_its_certificates() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(0))
    node.tell("m002", nullified(1))
    again = node.restart()
    assert again.replica.view == 2
    timers = {(timer.kind, timer.view) for timer in of_type(again.done, SetTimer)}
    assert {(TimerKind.VIEW, 2), (TimerKind.RETRY, 2)} <= timers


def test_recovered_leader_repeats_its_proposal_and_builds_no_other() -> None:
    node = alone(4, 1)
    node.work()
    (mine,) = proposals_in(node)
    again = node.restart()
    again.work()
    assert of_type(again.done, BuildBody) == []
    again.fire(TimerKind.RETRY)
    assert {wire.decode_message(frame, n=4) for _, frame in again.sent} >= {mine}


def test_recovered_node_has_its_bodies_judged_again_and_goes_on() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    again = node.restart()
    assert [check.block for check in of_type(again.done, CheckBody)] == [B0]
    assert (F, 0) in votes_in(again.tell("m002", notarized()))


def test_records_of_committed_heights_are_dropped() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.tell("m002", nullified(0))
    node.tell("m002", Decision(B0, finalized(0)))
    again = node.restart()
    assert (again.replica.height, again.replica.view) == (2, 0)
    assert votes_in(again.done) == []


def test_records_of_a_later_height_bind_the_signer_when_it_gets_there() -> None:
    """The committed state may be older than the log, as after a restored copy of it."""
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.tell("m002", Decision(B0, finalized(0)))
    node.work()
    node.fire()
    assert votes_in(node.done)[-1] == (X, 0)
    node.committed.clear()
    again = node.restart()
    assert again.replica.height == 1
    again.tell("m002", Decision(B0, finalized(0)))
    assert again.replica.height == 2
    assert again.replica._state.mine.keys() == {(X, View(0))}


def test_node_that_may_have_forgotten_votes_is_silent_but_commits() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    again = node.restart(first_height=None)
    assert votes_in(again.tell("m002", nullified(0))) == []
    again.tell("m002", finalized(0))
    assert [commit.height for commit in again.committed] == [1]
    again.signer.resume(Height(2))
    again.work()
    assert votes_in(again.fire()) == [(X, 0)]


def test_whole_committee_recovers_after_losing_power_with_a_block_in_flight() -> None:
    committee = Committee(4)
    committee.leader().work()
    # Every finalization is lost, then the power.
    committee.deliver(
        lambda _from, _to, frame: not (frame[0] == wire.MessageKind.VOTE and frame[1] == F)
    )
    assert all(not node.committed for node in committee.nodes.values())
    committee.nodes = {name: node.restart() for name, node in committee.nodes.items()}
    committee.deliver()
    assert {node.committed[-1].height for node in committee.nodes.values()} == {1}


def test_recovery_names_a_record_that_is_not_ours() -> None:
    node = alone(4, 0)
    bad = Record(RecordKind.VOTE, b"too short")
    signer = Signer(CHAIN, node.me, keyed_public("m000"), keyed_sign("m000"))
    with pytest.raises(ValueError, match="write-ahead log: vote of 9 bytes"):
        recover(
            [bad],
            me=node.me,
            chain_id=CHAIN,
            start=node.start,
            signer=signer,
            timing=Timing(),
            verify=keyed_verify,
        )


def test_body_without_a_vote_or_certificate_of_the_height_is_not_judged() -> None:
    node = alone(4, 0)
    node.records.append(Record(RecordKind.BODY, B0))
    assert of_type(node.restart().done, CheckBody) == []
    assert wire.block_hash(B0) == H0
