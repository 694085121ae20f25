"""R8 and R9: what is repeated, what is answered, and who is helped; late votes and claims."""

from __future__ import annotations

from consensus.effects import (
    Broadcast,
    Effect,
    RequestBody,
    Send,
    ServeDecisions,
    SetTimer,
    StartCatchup,
)
from consensus.events import AheadSeen, BodyReceived, DecisionApplied, TimerKind, WorkLapsed
from consensus.rules import RETRY_BYTES_MAX
from consensus.types import Certificate, Decision, Height, NodeId, Proposal, Status, View, Vote
from consensus.wire import certificate_bytes_max
from tests.unit.consensus.committee import (
    F,
    N,
    X,
    alone,
    certificate_of,
    of_type,
    proposal_of,
    vote_of,
    votes_in,
)
from tests.unit.consensus.first_height import B0, FORGED, H0, SET, finalized, notarized, nullified


def certificates_to(effects: list[Effect], node: str) -> list[tuple[str, int]]:
    return [
        (effect.message.kind.name, effect.message.view)
        for effect in of_type(effects, Send)
        if effect.to == node and isinstance(effect.message, Certificate)
    ]


def statuses(effects: list[Effect]) -> list[Status]:
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Broadcast | Send) and isinstance(effect.message, Status)
    ]


def status(view: int, *missing: tuple[int, int], height: int = 1) -> Status:
    ranges = tuple((View(first), View(last)) for first, last in missing)
    return Status(Height(height), View(view), ranges, ())


# -- R8 ------------------------------------------------------------------------------------------


def test_r8_retry_repeats_own_votes_and_the_status_and_goes_on() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    effects = node.fire(TimerKind.RETRY)
    assert votes_in(effects) == [(N, 0)]
    assert statuses(effects) == [status(0)]
    assert [timer.kind for timer in of_type(effects, SetTimer)] == [TimerKind.RETRY]


def test_r8_leader_repeats_its_proposal_to_those_who_have_not_voted_for_it() -> None:
    node = alone(4, 1)
    node.work()
    name = node.replica._state.proposals[View(0)].block_hash
    node.tell("m002", vote_of("m002", SET, N, view=0, block_hash=name))
    effects = node.fire(TimerKind.RETRY)
    repeated = [one.to for one in of_type(effects, Send) if isinstance(one.message, Proposal)]
    assert repeated == ["m000", "m003"]


def test_r8_status_names_the_holes() -> None:
    node = alone(4, 0)
    for view in (1, 2, 5):
        node.tell("m002", nullified(view))
    node.tell("m002", notarized(8))
    (found,) = statuses(node.fire(TimerKind.RETRY))
    assert found.missing_views == ((0, 0), (3, 4), (6, 7))
    assert found.missing_bodies == (H0,)


def test_r8_peer_gets_what_its_status_lacks_oldest_first() -> None:
    node = alone(4, 0)
    for view in range(6):
        node.tell("m002", nullified(view))
    node.tell("m002", notarized(3))
    effects = node.tell("m003", status(4, (1, 1), (3, 3)))
    assert certificates_to(effects, "m003") == [
        ("NULLIFY", 1),
        ("NOTARIZE", 3),
        ("NULLIFY", 3),
        ("NULLIFY", 4),
        ("NULLIFY", 5),
    ]


def test_r8_peer_gets_a_final_certificate_before_all_others() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(0))
    node.tell("m002", finalized(1))
    assert certificates_to(node.tell("m003", status(0)), "m003")[0] == ("FINALIZE", 1)


def test_r8_answers_a_peer_once_in_a_retry_period() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(0))
    assert certificates_to(node.tell("m003", status(0)), "m003") == [("NULLIFY", 0)]
    assert certificates_to(node.tell("m003", status(0)), "m003") == []
    assert certificates_to(node.fire(TimerKind.RETRY), "m003") == [("NULLIFY", 0)]


def test_r8_answer_stays_within_its_cap() -> None:
    node = alone(4, 0)
    for view in range(400):
        node.tell("m002", nullified(view))
    answer = certificates_to(node.tell("m003", status(0)), "m003")
    assert len(answer) == RETRY_BYTES_MAX // certificate_bytes_max(4)
    assert answer[0] == ("NULLIFY", 0)


def test_r8_peer_in_a_later_view_is_asked_for_what_we_lack() -> None:
    node = alone(4, 0)
    assert statuses(node.tell("m003", status(3))) == [status(0)]


def test_r8_missing_body_is_asked_for_again_from_another_holder_first() -> None:
    node = alone(4, 0)
    node.tell("m002", notarized())
    node.step(BodyReceived(Height(1), FORGED))
    holders = [
        request.holders[0]
        for _ in range(2)
        for request in of_type(node.fire(TimerKind.RETRY), RequestBody)
    ]
    assert sorted(holders) == ["m001", "m002"]


# -- R9 ------------------------------------------------------------------------------------------


def test_r9_helps_a_peer_at_a_decided_height() -> None:
    node = alone(4, 0)
    node.tell("m002", Decision(B0, finalized()))
    effects = node.tell("m003", status(0))
    assert of_type(effects, ServeDecisions) == [ServeDecisions(NodeId("m003"), Height(1))]


def test_r9_helps_one_who_is_no_member_any_more() -> None:
    node = alone(4, 0)
    node.tell("m002", Decision(B0, finalized()))
    effects = node.tell("gone", status(0))
    assert of_type(effects, ServeDecisions) == [ServeDecisions(NodeId("gone"), Height(1))]


def test_r9_peer_two_heights_ahead_is_asked_at_once() -> None:
    node = alone(4, 0)
    effects = node.tell("m003", status(0, height=3))
    assert of_type(effects, StartCatchup) == [StartCatchup(NodeId("m003"), Height(3))]
    assert statuses(effects) == [status(0)]
    assert node.step(AheadSeen(NodeId("m003"), Height(3))) == [], "the same claim is no news"
    assert node.step(AheadSeen(NodeId("m003"), Height(9))) == [], "nor is one that grows"


def test_r9_peer_one_height_ahead_is_asked_by_the_next_retry_even_when_idle() -> None:
    node = alone(4, 0)
    effects = node.step(AheadSeen(NodeId("m003"), Height(2)))
    assert [timer.kind for timer in of_type(effects, SetTimer)] == [TimerKind.RETRY]
    effects = node.fire(TimerKind.RETRY)
    assert statuses(effects) == [status(0)]
    assert of_type(effects, SetTimer) == [], "a claim keeps an idle node awake only once"


def test_r9_claims_are_acted_on_again_at_the_next_height() -> None:
    node = alone(4, 0)
    node.step(AheadSeen(NodeId("m003"), Height(5)))
    effects = node.tell("m002", Decision(B0, finalized()))
    assert of_type(effects, StartCatchup) == [StartCatchup(NodeId("m003"), Height(5))]


def test_decision_applied_by_catchup_enters_the_next_height() -> None:
    node = alone(4, 0)
    applied = DecisionApplied(Height(1), H0, SET, (), finalized())
    node.step(applied)
    assert node.replica.height == 2
    node.step(applied)
    assert node.replica.height == 2, "the same decision again has no effect"


# -- what the next block carries -----------------------------------------------------------------


def test_late_finalizations_join_the_parent_certificate() -> None:
    node = alone(4, 2)  # leads view 0 of height 2
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.tell("m001", certificate_of(SET, F, view=0, block_hash=H0, signers=(0, 1, 2)))
    assert node.replica.height == 2
    node.tell("m003", vote_of("m003", SET, F, view=0, block_hash=H0))
    node.tell("m003", vote_of("m003", SET, F, view=0, block_hash=H0))
    below = node.replica._below.certificate
    assert below is not None
    assert below.signers == (0, 1, 2, 3)


def test_late_votes_for_anything_else_change_nothing() -> None:
    node = alone(4, 2)
    node.tell(
        "m001", Decision(B0, certificate_of(SET, F, view=0, block_hash=H0, signers=(0, 1, 2)))
    )
    node.tell("m003", vote_of("m003", SET, F, view=1, block_hash=H0))
    below = node.replica._below.certificate
    assert below is not None
    assert below.signers == (0, 1, 2)


def test_lapsed_work_lets_an_idle_view_rest() -> None:
    node = alone(4, 0)
    node.work()
    node.step(WorkLapsed(Height(1)))
    assert votes_in(node.fire()) == []


def test_lapsed_work_does_not_stop_a_view_that_others_are_in() -> None:
    node = alone(4, 0)
    node.work()
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.step(WorkLapsed(Height(1)))
    assert votes_in(node.fire()) == [(X, 0)]


def test_watcher_says_nothing_and_still_commits() -> None:
    node = alone(4, 0)
    watcher = type(node)(NodeId("watcher"), SET, node.start)
    watcher.tell("m001", proposal_of("m001", SET, B0, view=0))
    watcher.tell("m002", notarized())
    watcher.work()
    watcher.tell("m002", finalized())
    assert [commit.height for commit in watcher.committed] == [1]
    assert not watcher.sent
    assert not any(isinstance(effect, SetTimer) for effect in watcher.done)
    assert not any(isinstance(one, Vote) for one in watcher.done)
