"""R1 to R7, each by its number, on one node whose peers the test speaks for.

n = 4, height 1, no history: m001 leads view 0, m002 view 1, m003 view 2, m000 view 3.
"""

from __future__ import annotations

import pytest

from consensus import wire
from consensus.effects import (
    Broadcast,
    BuildBody,
    CheckBody,
    Commit,
    Persist,
    RecordKind,
    RequestBody,
    Send,
    SetTimer,
)
from consensus.events import BodyReceived, TimerFired, TimerKind, TimeVerdict, WorkPending
from consensus.types import Certificate, Decision, Height, NodeId, Proposal, Status, View, VoteKind
from tests.unit.consensus.committee import (
    GENESIS_TIP,
    F,
    N,
    Node,
    X,
    alone,
    certificate_of,
    make_block,
    member_set,
    names,
    of_type,
    proposal_of,
    vote_of,
    votes_in,
)

SET = member_set(names(4))


def block_of(view: int, proposer: str, *transactions: bytes) -> bytes:
    return make_block(
        height=1,
        view=view,
        proposer=proposer,
        parent=GENESIS_TIP,
        transactions=transactions or (b"tx",),
    )


B0 = block_of(0, "m001")
H0 = wire.block_hash(B0)
OTHER = block_of(0, "m001", b"another")
H_OTHER = wire.block_hash(OTHER)
FORGED = wire.encode_block(wire.split_block(B0).header, b"", (b"other bytes, true header",))


def proposal_0(block: bytes = B0) -> Proposal:
    return proposal_of("m001", SET, block, view=0)


def nullified(view: int) -> Certificate:
    return certificate_of(SET, X, view=view)


def notarized(view: int = 0, block: bytes = B0) -> Certificate:
    return certificate_of(SET, N, view=view, block_hash=wire.block_hash(block))


def finalized(view: int = 0, block: bytes = B0) -> Certificate:
    return certificate_of(SET, F, view=view, block_hash=wire.block_hash(block))


# -- R1 ------------------------------------------------------------------------------------------


def test_r1_commits_what_is_final_once_its_body_is_valid() -> None:
    node = alone(4, 0)
    assert not of_type(node.tell("m002", finalized()), Commit)
    effects = node.step(BodyReceived(Height(1), B0))
    (commit,) = of_type(effects, Commit)
    assert (commit.height, commit.block, commit.certificate.block_hash) == (1, B0, H0)
    assert (node.replica.height, node.replica.view) == (2, 0)


def test_r1_commits_a_decision_whole() -> None:
    node = alone(4, 0)
    effects = node.tell("m002", Decision(B0, finalized(7)))
    assert [commit.certificate.view for commit in of_type(effects, Commit)] == [7]


def test_r1_never_commits_other_bytes_under_the_final_header() -> None:
    node = alone(4, 0)
    node.tell("m002", finalized())
    assert not of_type(node.step(BodyReceived(Height(1), FORGED)), Commit)
    assert not of_type(node.step(BodyReceived(Height(1), FORGED)), Commit)
    assert of_type(node.step(BodyReceived(Height(1), B0)), Commit)


def test_r1_certificate_of_the_commit_carries_every_finalization_known() -> None:
    node = alone(4, 0)
    node.is_slow = True
    node.tell("m001", proposal_0())
    for voter in ("m001", "m002", "m003"):
        node.tell(voter, vote_of(voter, SET, F, view=0, block_hash=H0))
    late = certificate_of(SET, F, view=0, block_hash=H0, signers=(0, 1, 2))
    node.tell("m003", late)
    (commit,) = of_type(node.step(node.check(B0)), Commit)
    assert commit.certificate.signers == (1, 2, 3)


def test_r1_final_certificate_with_a_body_at_hand_needs_no_record_of_its_own() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    effects = node.tell("m002", finalized())
    assert of_type(effects, Commit)
    kinds = [record.kind for persist in of_type(effects, Persist) for record in persist.records]
    assert RecordKind.CERTIFICATE not in kinds


def test_r1_commit_after_view_0_carries_what_the_height_went_through() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(1))
    node.tell("m002", notarized(0))
    (commit,) = of_type(node.tell("m002", Decision(B0, finalized(2))), Commit)
    assert commit.transcript == (notarized(0), nullified(1))


def test_r1_commit_in_view_0_keeps_what_a_later_view_could_build_a_fork_on() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(0))
    (commit,) = of_type(node.tell("m002", Decision(B0, finalized(0))), Commit)
    assert commit.transcript == (nullified(0),)
    plain = alone(4, 0)
    plain.tell("m002", notarized(0))
    (commit,) = of_type(plain.tell("m002", Decision(B0, finalized(0))), Commit)
    assert commit.transcript == ()


def test_r1_effects_of_the_next_height_stand_behind_the_commit() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    effects = node.tell("m002", finalized())
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Send) < kinds.index(Commit), "the certificate is passed on first"
    assert of_type(effects[kinds.index(Commit) :], Persist) == []


# -- R2 ------------------------------------------------------------------------------------------


def test_r2_finalizes_a_notarized_block_whose_body_is_here() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    assert (F, 0) in votes_in(node.tell("m002", notarized()))


def test_r2_body_is_durable_before_its_finalization_leaves() -> None:
    node = alone(4, 0)
    node.tell("m002", notarized())
    effects = node.step(BodyReceived(Height(1), B0))
    (persist,) = of_type(effects, Persist)
    assert [record.kind for record in persist.records] == [RecordKind.BODY, RecordKind.VOTE]
    assert effects.index(persist) < next(
        index for index, effect in enumerate(effects) if isinstance(effect, Broadcast)
    )


def test_r2_never_finalizes_without_the_body() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m002", notarized())) == []


def test_r2_never_finalizes_a_view_it_nullified() -> None:
    node = alone(4, 0)
    node.work()
    assert votes_in(node.fire()) == [(X, 0)]
    node.tell("m002", notarized())
    assert (F, 0) not in votes_in(node.step(BodyReceived(Height(1), B0)))


def test_r2_never_finalizes_another_block_than_it_notarized() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m001", proposal_0())) == [(N, 0)]
    node.tell("m002", notarized(block=OTHER))
    assert votes_in(node.step(BodyReceived(Height(1), OTHER))) == []


def test_r2_finalizes_in_an_old_view_too() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(2))
    assert node.replica.view == 3
    node.tell("m002", notarized(1))
    assert (F, 1) in votes_in(node.step(BodyReceived(Height(1), B0)))


# -- R3 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", [nullified(0), notarized(0), nullified(40)])
def test_r3_enters_the_view_after_the_newest_certificate(certificate: Certificate) -> None:
    node = alone(4, 0)
    effects = node.tell("m002", certificate)
    assert node.replica.view == certificate.view + 1
    views = {(timer.kind, timer.view) for timer in of_type(effects, SetTimer)}
    assert (TimerKind.VIEW, certificate.view + 1) in views


def test_r3_stays_on_an_old_certificate() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(5))
    node.tell("m002", nullified(2))
    assert node.replica.view == 6


def test_r3_final_certificate_alone_moves_no_view() -> None:
    node = alone(4, 0)
    node.tell("m002", finalized(3))
    assert node.replica.view == 0


# -- R4 ------------------------------------------------------------------------------------------


def proposals_in(node: Node) -> list[Proposal]:
    return [
        effect.message
        for effect in of_type(node.done, Broadcast)
        if isinstance(effect.message, Proposal)
    ]


def test_r4_leader_of_view_0_proposes_when_work_comes_and_not_before() -> None:
    node = alone(4, 1)
    assert of_type(node.done, BuildBody) == []
    node.work()
    (proposal,) = proposals_in(node)
    assert (proposal.view, proposal.notarization, proposal.nullifications) == (0, None, ())


def test_r4_nobody_but_the_leader_builds() -> None:
    node = alone(4, 0)
    assert of_type(node.work(), BuildBody) == []


def test_r4_proposal_is_durable_before_it_leaves() -> None:
    node = alone(4, 1)
    effects = node.work()
    persist = next(effect for effect in effects if isinstance(effect, Persist))
    sending = next(effect for effect in effects if isinstance(effect, Broadcast))
    assert persist.records[0].kind is RecordKind.PROPOSAL
    assert effects.index(persist) < effects.index(sending)


def test_r4_leader_proposes_once_in_a_view() -> None:
    node = alone(4, 1)
    node.work()
    node.work()
    node.fire(TimerKind.RETRY)
    assert len(proposals_in(node)) == 1


def test_r4_empty_answer_is_asked_again_when_work_comes() -> None:
    node = alone(4, 1)
    node.transactions = ()
    node.work()
    assert proposals_in(node) == []
    node.transactions = (b"now",)
    node.work()
    assert len(proposals_in(node)) == 1


def test_r4_work_that_comes_while_building_is_not_forgotten() -> None:
    node = alone(4, 1)
    node.is_slow = True
    (ask,) = of_type(node.work(), BuildBody)
    node.work()
    node.transactions = ()
    assert len(of_type(node.step(node.build(ask)), BuildBody)) == 1


def test_r4_leader_of_a_later_view_shows_why_the_earlier_ones_were_skipped() -> None:
    node = alone(4, 2)
    node.tell("m003", nullified(0))
    (proposal,) = proposals_in(node)
    assert (proposal.view, proposal.notarization) == (1, None)
    assert [one.view for one in proposal.nullifications] == [0]


def test_r4_notarized_block_is_proposed_again_as_it_is() -> None:
    node = alone(4, 3)
    node.tell("m001", proposal_0())
    node.tell("m000", notarized(0))
    node.tell("m000", nullified(1))
    (proposal,) = proposals_in(node)
    assert (proposal.view, proposal.block) == (2, B0)
    assert proposal.notarization is not None
    assert proposal.notarization.view == 0
    assert [one.view for one in proposal.nullifications] == [1]


def test_r4_fresh_block_when_the_notarized_one_is_missing_but_was_skipped() -> None:
    node = alone(4, 2)
    node.tell("m003", notarized(0))
    assert proposals_in(node) == []
    node.tell("m003", nullified(0))
    (proposal,) = proposals_in(node)
    assert proposal.notarization is None
    assert proposal.block != B0


def test_r4_leader_with_a_hole_below_asks_and_proposes_when_it_is_filled() -> None:
    node = alone(4, 3)
    effects = node.tell("m000", nullified(1))
    statuses = [one.message for one in of_type(effects, Broadcast)]
    assert [one.missing_views for one in statuses if isinstance(one, Status)] == [((0, 0),)]
    assert proposals_in(node) == []
    node.tell("m000", nullified(0))
    assert [one.view for one in proposals_in(node)] == [2]


def test_r4_leader_that_nullified_its_view_does_not_propose() -> None:
    node = alone(4, 1)
    node.is_slow = True
    (ask,) = of_type(node.work(), BuildBody)
    node.fire()
    node.step(node.build(ask))
    assert proposals_in(node) == []


def test_r4_block_of_the_view_before_gets_time_to_become_final_first() -> None:
    node = alone(4, 2)
    node.tell("m001", proposal_0())
    effects = node.tell("m000", notarized(0))
    assert (TimerKind.HOLD, 1) in {(one.kind, one.view) for one in of_type(effects, SetTimer)}
    assert proposals_in(node) == []
    node.fire(TimerKind.HOLD)
    (proposal,) = proposals_in(node)
    assert (proposal.view, proposal.block) == (1, B0)


# -- R5 ------------------------------------------------------------------------------------------


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


# -- R6 ------------------------------------------------------------------------------------------


def test_r6a_nullifies_when_patience_ends() -> None:
    node = alone(4, 0)
    node.work()
    assert votes_in(node.fire()) == [(X, 0)]


def test_r6a_nullifies_after_notarizing() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    assert votes_in(node.fire()) == [(X, 0)]


def test_r6a_timer_of_an_older_view_nullifies_nothing() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    node.tell("m002", notarized(0))
    stale = TimerFired(TimerKind.VIEW, Height(1), View(0))
    assert votes_in(node.step(stale)) == []


def test_r6a_timer_of_an_older_height_nullifies_nothing() -> None:
    node = alone(4, 0)
    node.tell("m002", Decision(B0, finalized()))
    node.work()
    assert votes_in(node.step(TimerFired(TimerKind.VIEW, Height(1), View(0)))) == []


def test_r6a_idle_node_has_no_patience_to_lose() -> None:
    node = alone(4, 0)
    assert votes_in(node.fire()) == []


def test_r6b_nullifies_a_leader_whose_block_is_invalid() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m001", proposal_0(block_of(0, "m001", b"bad")))) == [(X, 0)]


def test_r6b_nullifies_a_leader_that_sends_other_bytes_under_its_header() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m001", proposal_0(FORGED))) == [(X, 0)]


def test_r6c_nullifies_when_the_leader_does() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m002", vote_of("m002", SET, X, view=0))) == []
    assert votes_in(node.tell("m001", vote_of("m001", SET, X, view=0))) == [(X, 0)]


def test_r6d_nullifies_with_f_plus_1_others() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m002", vote_of("m002", SET, X, view=0))) == []
    assert votes_in(node.tell("m003", vote_of("m003", SET, X, view=0))) == [(X, 0)]


def test_r6_nullifies_once() -> None:
    node = alone(4, 0)
    node.work()
    node.fire()
    assert votes_in(node.fire()) == []


# -- R7 ------------------------------------------------------------------------------------------


def relayed(effects: list[object], certificate: Certificate) -> list[str]:
    return [
        effect.to
        for effect in effects
        if isinstance(effect, Send) and effect.message == certificate
    ]


def test_r7_certificate_goes_to_all_once_and_is_durable() -> None:
    node = alone(4, 0)
    certificate = nullified(0)
    effects = node.tell("m002", certificate)
    assert relayed([*effects], certificate) == ["m001", "m002", "m003"]
    assert of_type(effects, Persist)[0].records[0].kind is RecordKind.CERTIFICATE
    assert relayed([*node.tell("m003", certificate)], certificate) == []


def test_r7_certificate_inside_a_refused_proposal_counts() -> None:
    node = alone(4, 0)
    effects = node.tell(
        "m003", proposal_of("m003", SET, B0, view=5, nullifications=(nullified(4),))
    )
    assert node.replica.view == 5
    assert relayed([*effects], nullified(4))


def test_r7_own_votes_make_certificates_too() -> None:
    node = alone(4, 0)
    node.tell("m001", vote_of("m001", SET, N, view=0, block_hash=H0))
    node.tell("m002", vote_of("m002", SET, N, view=0, block_hash=H0))
    assert node.replica.view == 0
    node.tell("m001", proposal_0())
    assert node.replica.view == 1


def test_r7_large_sets_tell_the_next_leaders_and_two_collectors() -> None:
    members = member_set(names(20))
    node = alone(20, 0)
    certificate = certificate_of(members, X, view=0)
    told = relayed([*node.tell("m005", certificate)], certificate)
    assert 2 <= len(told) <= 4
    assert {node.replica.leader(View(1)), node.replica.leader(View(2))} <= {*told}


def test_r7_a_collector_of_a_large_set_tells_all() -> None:
    members = member_set(names(20))
    certificate = certificate_of(members, X, view=0)
    told = [
        len(relayed([*alone(20, me).tell("m019", certificate)], certificate)) for me in range(19)
    ]
    assert told.count(19) == 2


# -- arming --------------------------------------------------------------------------------------


def is_armed(node: Node) -> bool:
    return any(timer.kind is TimerKind.VIEW for timer in of_type(node.done, SetTimer))


def test_view_0_waits_for_ever_while_nothing_happens() -> None:
    node = alone(4, 0)
    node.tell("m001", Status(Height(1), View(0), (), ()))
    node.tell("m002", vote_of("m002", SET, X, view=0))
    assert not is_armed(node)


def test_view_0_is_armed_by_work() -> None:
    node = alone(4, 0)
    node.step(WorkPending(Height(2)))
    assert not is_armed(node), "work of another height is none"
    node.step(WorkPending(Height(1)))
    assert is_armed(node)


def test_view_0_is_armed_by_a_proposal() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    assert is_armed(node)


def test_view_0_is_armed_by_votes_of_f_plus_1() -> None:
    node = alone(4, 0)
    node.tell("m002", vote_of("m002", SET, N, view=0, block_hash=H0))
    assert not is_armed(node)
    node.tell("m003", vote_of("m003", SET, X, view=0))
    assert is_armed(node)


def test_certificate_asks_for_the_body_that_is_missing() -> None:
    node = alone(4, 0)
    (request,) = of_type(node.tell("m002", notarized()), RequestBody)
    assert request == RequestBody(Height(1), H0, (NodeId("m001"), NodeId("m002")))


def test_own_votes_are_signed_by_kind_and_view() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    vote = node.replica._state.mine[VoteKind.NOTARIZE, View(0)]
    assert vote == vote_of("m000", SET, N, view=0, block_hash=H0)
