"""What one member may cost is bounded, and nobody pays for another."""

from __future__ import annotations

import contextlib

import pytest

from consensus.quorum import faults
from consensus.types import NodeId
from pyrsia_node.replica.budget import (
    MEMBER_SHARE_MAX,
    SHARE_BURST_S,
    TRAITORS_SHARE_MAX,
    Budget,
    CheckCounter,
    SeldomLog,
    TimeBudget,
)

ONE, TWO = NodeId("one"), NodeId("two")


def test_what_is_spent_comes_back_with_time_and_never_beyond_the_burst() -> None:
    budget = Budget(per_s=10, burst=20)
    budget.spend(ONE, 20, 100.0)
    assert budget.left(ONE, 100.0) == 0
    assert budget.left(ONE, 100.5) == 5
    assert budget.left(ONE, 1_000.0) == 20


def test_what_is_owed_is_paid_back_first() -> None:
    budget = Budget(per_s=10, burst=20)
    budget.spend(ONE, 50, 0.0)
    assert not budget.take(ONE, 3.0)
    assert budget.take(ONE, 3.2)


def test_one_member_spends_nothing_of_another() -> None:
    budget = Budget(per_s=1, burst=1)
    assert budget.take(ONE, 0.0)
    assert not budget.take(ONE, 0.0)
    assert budget.take(TWO, 0.0)


def test_a_new_height_forgives_everybody() -> None:
    budget = Budget(per_s=1, burst=1)
    budget.spend(ONE, 100, 0.0)
    budget.renew()
    assert budget.take(ONE, 0.0)


def test_every_check_is_counted_whatever_it_says() -> None:
    counter = CheckCounter(lambda _key, _message, signature: signature == b"true")
    assert [counter(b"", b"", each) for each in (b"true", b"false")] == [True, False]
    assert counter.count == 2


def test_a_flood_of_lines_is_written_once_a_second_with_what_was_left_out() -> None:
    lines: list[tuple[NodeId, str, int]] = []
    log = SeldomLog(lambda *line: lines.append(line))
    for number in range(1_000):
        log.line(ONE, str(number), 0.0)
    log.line(ONE, "later", 1.0)
    assert len(lines) == 6
    assert lines[-1] == (ONE, "later", 995)


class Worker:
    """A thread's clock that advances by the work that a test does."""

    def __init__(self) -> None:
        self.worked_s = 0.0

    def __call__(self) -> float:
        return self.worked_s


def test_time_is_charged_to_whom_it_was_spent_for_and_comes_back() -> None:
    worker = Worker()
    budget = TimeBudget(4, clock=worker)
    assert not budget.is_spent(ONE, 0.0)
    with budget.charged(ONE, 0.0):
        worker.worked_s += SHARE_BURST_S * MEMBER_SHARE_MAX + 0.25
    assert budget.is_spent(ONE, 0.0)
    assert budget.is_spent(ONE, 0.99)
    assert not budget.is_spent(ONE, 1.01)
    assert not budget.is_spent(TWO, 0.0)


def test_time_is_charged_for_what_fails_too() -> None:
    worker = Worker()
    budget = TimeBudget(4, clock=worker)
    with contextlib.suppress(ValueError), budget.charged(ONE, 0.0):
        worker.worked_s += 9.0
        raise ValueError
    assert budget.is_spent(ONE, 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 10, 31, 88])
def test_all_who_can_be_traitors_together_leave_half_of_the_thread(n: int) -> None:
    worker = Worker()
    budget = TimeBudget(n, clock=worker)
    traitors = [NodeId(f"traitor {number}") for number in range(faults(n))]
    now_s = 0.0
    for _ in range(2_000):  # 20 seconds of frames that cost 1 ms each
        for traitor in traitors:
            if not budget.is_spent(traitor, now_s):
                with budget.charged(traitor, now_s):
                    worker.worked_s += 0.001
        now_s += 0.01
    saved_up = SHARE_BURST_S * TRAITORS_SHARE_MAX
    assert worker.worked_s <= now_s * TRAITORS_SHARE_MAX + saved_up + 0.001 * len(traitors)


def test_a_set_of_another_size_shares_anew() -> None:
    worker = Worker()
    budget = TimeBudget(4, clock=worker)
    with budget.charged(ONE, 0.0):
        worker.worked_s += 99.0
    budget.resize(88)
    assert not budget.is_spent(ONE, 0.0)
    with budget.charged(ONE, 0.0):
        worker.worked_s += 1.01 * SHARE_BURST_S * TRAITORS_SHARE_MAX / faults(88)
    assert budget.is_spent(ONE, 0.0)
