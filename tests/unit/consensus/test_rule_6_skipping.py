"""R6: when a view is given up, and what makes its timer run."""

from __future__ import annotations

from consensus.effects import (
    SetTimer,
)
from consensus.events import TimerFired, TimerKind, WorkPending
from consensus.types import Decision, Height, Status, View
from tests.unit.consensus.committee import (
    N,
    Node,
    X,
    alone,
    of_type,
    vote_of,
    votes_in,
)
from tests.unit.consensus.first_height import (
    B0,
    FORGED,
    H0,
    SET,
    block_of,
    finalized,
    notarized,
    proposal_0,
)

# -- R6 -------------------------------------------------------------------------------------------


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


# -- arming ---------------------------------------------------------------------------------------


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
