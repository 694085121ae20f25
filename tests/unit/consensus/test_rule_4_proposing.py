"""R4: who leads a view proposes once, what the views before it demand."""

from __future__ import annotations

from consensus.effects import (
    Broadcast,
    BuildBody,
    Persist,
    RecordKind,
    SetTimer,
)
from consensus.events import TimerKind
from consensus.types import Status
from tests.unit.consensus.committee import (
    alone,
    of_type,
    proposals_in,
)
from tests.unit.consensus.first_height import B0, notarized, nullified, proposal_0


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
