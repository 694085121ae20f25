"""Whom the planner asks: what it remembers of those who lied, stalled, left and came again."""

from __future__ import annotations

import itertools

import pytest

from pyrsia_node.ports import PeerId
from pyrsia_node.replica import plan as plan_module
from pyrsia_node.replica.plan import (
    FAILED_S,
    LIED_S,
    POLL_S,
    STALLED_S,
    Ask,
    AskKind,
    CatchupPlan,
)

HONEST, SECOND, LIAR = PeerId("m honest"), PeerId("n honest"), PeerId("a liar")

BLOCK_BYTES = 1_500


@pytest.fixture
def plan() -> CatchupPlan:
    """A plan that got block 1 from the honest peer, which is level with it now."""
    plan = CatchupPlan(0)
    plan.connected({HONEST}, 0.0)
    (ask,) = plan.next_asks(0.0)
    plan.blocks_proved(ask, last=1, size=1_000, now=0.0)
    plan.advanced(1)
    (ask,) = plan.next_asks(0.0)
    plan.nothing_there(ask, 0.0)
    return plan


def polled(plan: CatchupPlan, now: float) -> Ask:
    """Return the one question of a poll."""
    (ask,) = plan.next_asks(now)
    return ask


def test_a_peer_that_lied_is_left_alone_over_a_new_link_too(plan: CatchupPlan) -> None:
    now = POLL_S
    plan.connected({HONEST, LIAR}, now)
    plan.hinted(LIAR, 10**9, now)
    ask = polled(plan, now)
    assert ask.peer == LIAR
    plan.failed(ask, now, lied=True)
    lied_at = now
    while now < lied_at + LIED_S - POLL_S:
        now += POLL_S
        plan.connected({HONEST}, now)
        plan.connected({HONEST, LIAR}, now)
        plan.hinted(LIAR, 10**9, now)
        ask = polled(plan, now)
        assert ask.peer == HONEST
        plan.nothing_there(ask, now)


def test_a_peer_that_fails_when_its_link_ends_is_left_alone_when_it_is_back(
    plan: CatchupPlan,
) -> None:
    plan.connected({HONEST, LIAR}, POLL_S)
    plan.hinted(LIAR, 2, POLL_S)
    ask = polled(plan, POLL_S)
    assert ask.peer == LIAR
    plan.failed(ask, POLL_S, lied=False)
    plan.connected({HONEST}, POLL_S)
    plan.dropped(2, LIAR, POLL_S)  # blocks of it that waited turn out to be false
    plan.connected({HONEST, LIAR}, POLL_S)
    assert polled(plan, POLL_S + FAILED_S + 1).peer == HONEST


@pytest.mark.parametrize("hints", [False, True])
def test_ever_new_names_gain_a_liar_every_second_question_at_most(
    plan: CatchupPlan, *, hints: bool
) -> None:
    asked: list[PeerId] = []
    now = 0.0
    for number in range(60):
        now += POLL_S
        # "a" sorts before the honest one, and nobody has asked it yet.
        liar = PeerId(f"a liar {number}")
        plan.connected({HONEST, liar}, now)
        if hints:
            plan.hinted(liar, 10**9, now)
        for ask in plan.next_asks(now):
            asked.append(ask.peer)
            if ask.peer == HONEST:
                plan.nothing_there(ask, now)
            else:
                plan.failed(ask, now, lied=True)
    assert asked.count(HONEST) >= len(asked) // 2
    assert all(HONEST in pair for pair in itertools.pairwise(asked))


def test_without_anybody_who_delivered_a_hint_is_followed() -> None:
    plan = CatchupPlan(0)
    plan.connected({HONEST, SECOND}, 0.0)
    for now in (0.0, POLL_S):
        plan.hinted(SECOND, 9, now)
        ask = polled(plan, now)
        assert ask.peer == SECOND
        plan.nothing_there(ask, now)


def test_a_new_peer_stands_at_the_end_of_the_line(plan: CatchupPlan) -> None:
    plan.connected({HONEST, LIAR}, 1.0)
    assert polled(plan, POLL_S).peer == HONEST


def test_a_probe_that_stalls_holds_nobody_up(plan: CatchupPlan) -> None:
    plan.connected({HONEST, LIAR}, 1.0)
    plan.hinted(LIAR, 10**9, 1.0)
    stalled = polled(plan, 1.0)
    assert stalled.peer == LIAR
    assert plan.next_asks(1.0 + STALLED_S - 0.1) == []
    second = polled(plan, 1.0 + STALLED_S)
    assert (second.kind, second.peer) == (AskKind.PROBE, HONEST)
    # And two are enough.
    assert plan.next_asks(1.0 + 3 * STALLED_S) == []


def test_those_who_left_are_remembered_in_bounded_number_the_worst_longest(
    plan: CatchupPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "GONE_MAX", 3)
    now = POLL_S
    for number in range(8):
        liar = PeerId(f"a liar {number}")
        plan.connected({HONEST, liar}, now)
        plan.dropped(2, liar, now + number)
    plan.connected({HONEST}, now)
    assert sorted(plan._gone) == ["a liar 5", "a liar 6", "a liar 7"]
    plan.connected({HONEST}, now + 7 + LIED_S)
    assert plan._gone == {}


def followed(
    seconds: float, *, blocks_per_s: float, answer_s: float, bytes_per_s: float, timeout_s: float
) -> int:
    """Return how far a follower of a growing chain, with one slow peer, is behind in the end."""
    plan, made, tip, now = CatchupPlan(0), 2_000.0, 0, 0.0
    while now < seconds:
        plan.connected({HONEST}, now)
        plan.hinted(HONEST, int(made), now)
        spent = 0.0
        for ask in plan.next_asks(now):
            last = min(ask.last, int(made), ask.first + max(1, ask.bytes_max // BLOCK_BYTES) - 1)
            size = (last - ask.first + 1) * BLOCK_BYTES if ask.kind is not AskKind.HEAD else 0
            took = answer_s + size / bytes_per_s
            spent += min(took, timeout_s)
            if took > timeout_s:
                plan.failed(ask, now + spent, lied=False)
            elif ask.kind is AskKind.HEAD:
                plan.head_proved(ask, int(made))
            elif last < ask.first:
                plan.nothing_there(ask, now + spent)
            else:
                plan.blocks_proved(ask, last=last, size=size, now=now + spent)
                tip = max(tip, last) if ask.first <= tip + 1 else tip
        plan.advanced(tip)
        spent += plan.wait_s(now + spent)
        now, made = now + spent, made + blocks_per_s * spent
    return int(made) - tip


def test_a_busy_member_that_takes_seconds_for_an_answer_is_kept_up_with() -> None:
    behind = followed(600, blocks_per_s=200, answer_s=3, bytes_per_s=10**8, timeout_s=10)
    assert behind < 200 * 3 * 3


def test_over_a_link_too_slow_for_a_whole_answer_less_is_asked_for() -> None:
    behind = followed(900, blocks_per_s=1, answer_s=0.1, bytes_per_s=50_000, timeout_s=10)
    assert behind < 30
