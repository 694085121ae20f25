"""What ``status`` tells of the network's tolerance, in words."""

from __future__ import annotations

import pytest

from pyrsia_node.core.member_methods import note_on


@pytest.mark.parametrize("n", [1, 2, 3])
def test_with_fewer_than_four_one_node_down_halts_the_log(n: int) -> None:
    assert note_on(n).startswith("f=0: one node down halts the log")


def test_with_four_or_more_it_says_how_many_may_be_lost() -> None:
    assert note_on(7) == "the log goes on while 5 of 7 authorized nodes are up (2 may be lost)"


@pytest.mark.parametrize(
    ("n", "away", "end"),
    [
        (7, 1, "; now 1 away: 1 more may be lost"),
        (7, 2, "; now 2 away: one more lost halts it"),
        (7, 3, "; NOW 3 are away: the log stands still until 1 of them are back"),
        (2, 1, "; NOW 1 are away: the log stands still until 1 of them are back"),
    ],
)
def test_a_member_says_what_the_nodes_that_are_away_cost_now(n: int, away: int, end: str) -> None:
    assert note_on(n, away=away) == note_on(n) + end
