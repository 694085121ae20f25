"""What one member may cost is bounded, and nobody pays for another."""

from __future__ import annotations

from consensus.types import NodeId
from pyrsia_node.replica.budget import Budget, CheckCounter, SeldomLog

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
