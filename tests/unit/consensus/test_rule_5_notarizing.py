"""R5: which block of a view gets a vote."""

from __future__ import annotations

from consensus.effects import (
    CheckBody,
    Persist,
    RecordKind,
)
from consensus.events import TimerKind, TimeVerdict
from consensus.types import View, VoteKind
from tests.unit.consensus.committee import (
    N,
    X,
    alone,
    of_type,
    proposal_of,
    vote_of,
    votes_in,
)
from tests.unit.consensus.first_height import (
    B0,
    H0,
    OTHER,
    SET,
    block_of,
    notarized,
    nullified,
    proposal_0,
)


def test_r5_notarizes_the_leaders_block_with_its_body_durable_first() -> None:
    node = alone(4, 0)
    effects = node.tell("m001", proposal_0())
    assert votes_in(effects) == [(N, 0)]
    (persist,) = of_type(effects, Persist)
    assert [record.kind for record in persist.records] == [RecordKind.BODY, RecordKind.VOTE]


def test_r5_notarizes_only_the_first_block_of_a_view() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    assert votes_in(node.tell("m001", proposal_0(OTHER))) == []


def test_r5_ignores_a_proposal_of_one_who_does_not_lead() -> None:
    node = alone(4, 0)
    block = block_of(0, "m002")
    assert votes_in(node.tell("m002", proposal_of("m002", SET, block, view=0))) == []


def test_r5_never_notarizes_a_view_it_nullified() -> None:
    node = alone(4, 0)
    node.work()
    node.fire()
    assert votes_in(node.tell("m001", proposal_0())) == []


def test_r5_proposal_without_all_nullifications_waits_for_them() -> None:
    node = alone(4, 0)
    block = block_of(2, "m003")
    node.tell("m003", proposal_of("m003", SET, block, view=2, nullifications=(nullified(1),)))
    assert node.replica.view == 2
    assert votes_in(node.done) == []
    assert of_type(node.done, CheckBody) == [], "nothing is executed before it is justified"
    assert votes_in(node.tell("m002", nullified(0))) == [(N, 2)]


def test_r5_block_of_another_origin_is_no_fresh_block() -> None:
    node = alone(4, 0)
    effects = node.tell(
        "m002", proposal_of("m002", SET, B0, view=1, nullifications=(nullified(0),))
    )
    assert votes_in(effects) == [(X, 1)], "it can never be acceptable, so its view is skipped"


def test_r5_takes_a_notarized_block_again_in_a_later_view() -> None:
    node = alone(4, 0)
    again = proposal_of(
        "m003", SET, B0, view=2, notarization=notarized(0), nullifications=(nullified(1),)
    )
    assert (N, 2) in votes_in(node.tell("m003", again))


def test_r5_notarized_block_needs_every_view_since_then_skipped() -> None:
    node = alone(4, 0)
    again = proposal_of("m003", SET, B0, view=2, notarization=notarized(0))
    node.tell("m002", nullified(1))  # enters view 2
    node.replica._state.nullifications.clear()
    assert (N, 2) not in votes_in(node.tell("m003", again))


def test_r5_time_ahead_waits_and_is_tested_again() -> None:
    node = alone(4, 0)
    node.time = TimeVerdict.FUTURE
    assert votes_in(node.tell("m001", proposal_0())) == []
    assert votes_in(node.fire(TimerKind.RETRY)) == []
    node.time = TimeVerdict.OK
    assert votes_in(node.fire(TimerKind.RETRY)) == [(N, 0)]


def test_r5_time_behind_is_not_voted_for_and_no_reason_to_skip_the_leader() -> None:
    node = alone(4, 0)
    node.time = TimeVerdict.PAST
    assert votes_in(node.tell("m001", proposal_0())) == []
    assert votes_in(node.fire(TimerKind.RETRY)) == []


def test_r5_time_does_not_matter_for_a_block_that_was_notarized_before() -> None:
    node = alone(4, 0)
    node.time = TimeVerdict.PAST
    again = proposal_of("m002", SET, B0, view=1, notarization=notarized(0))
    assert (N, 1) in votes_in(node.tell("m002", again))


def test_r5_proposal_of_a_view_to_come_is_judged_on_entry() -> None:
    node = alone(4, 0)
    block = block_of(1, "m002")
    assert votes_in(node.tell("m002", proposal_of("m002", SET, block, view=1))) == []
    assert votes_in(node.tell("m003", nullified(0))) == [(N, 1)]


def test_own_votes_are_signed_by_kind_and_view() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    vote = node.replica._state.mine[VoteKind.NOTARIZE, View(0)]
    assert vote == vote_of("m000", SET, N, view=0, block_hash=H0)
