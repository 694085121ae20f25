"""Whatever hostile peers claim, one that delivers is reached, and no claim is ever waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consensus.catchup import Ask, Catchup
from consensus.types import Height, NodeId

HONEST = NodeId("honest")
behaviours = st.lists(
    st.sampled_from(["silent", "empty", "false", "one block", "shrinking", "leaves"]), max_size=6
)


@given(
    liars=behaviours,
    head=st.integers(1, 30),
    blocks_an_answer=st.integers(1, 8),
    is_heard=st.booleans(),
)
def test_one_honest_peer_suffices(
    *, liars: list[str], head: int, blocks_an_answer: int, is_heard: bool
) -> None:
    plan = Catchup(Height(1))
    plan.joined(HONEST)
    for index, _ in enumerate(liars):
        plan.joined(NodeId(f"a liar {index}"))
    asks = 0
    while plan.height <= head:
        for index, _ in enumerate(liars):
            # ASA-2025-001: claims come again, and higher, whatever was delivered.
            plan.heard(NodeId(f"a liar {index}"), Height(1_000_000 + asks))
        if is_heard:
            plan.heard(HONEST, Height(head + 1))
        ask = plan.next_ask() or plan.next_ask(is_poll=True)
        assert ask is not None
        assert ask.first == plan.height
        answer(plan, ask, liars, head=head, blocks_an_answer=blocks_an_answer)
        asks += 1
        assert asks <= 10 * (head + 1) * (len(liars) + 1)


def answer(plan: Catchup, ask: Ask, liars: list[str], *, head: int, blocks_an_answer: int) -> None:
    if ask.peer == HONEST:
        for height in range(ask.first, min(head, ask.first + blocks_an_answer - 1) + 1):
            plan.applied(Height(height + 1))
        plan.answered()
        return
    match liars[int(ask.peer.split()[-1])]:
        case "one block" if ask.first <= head:
            plan.applied(Height(ask.first + 1))
            plan.answered()
        case "empty" | "one block":
            plan.answered()
        case "shrinking":
            plan.heard(ask.peer, Height(0))
            plan.answered()
        case "leaves":
            plan.left(ask.peer)
            plan.joined(ask.peer)
        case _:
            plan.failed()


def test_a_leaving_and_returning_peer_cannot_hold_the_line() -> None:
    plan = Catchup(Height(1))
    plan.joined(HONEST)
    plan.joined(NodeId("a liar 0"))
    asked = []
    for _ in range(6):
        ask = plan.next_ask(is_poll=True)
        assert ask is not None
        asked.append(ask.peer)
        plan.failed()
    assert asked.count(HONEST) == 3


@given(past_failures=st.integers(0, 5), liars=st.integers(1, 6))
def test_polls_reach_a_peer_that_once_failed_past_liars_that_claim_nothing(
    *, past_failures: int, liars: int
) -> None:
    plan = Catchup(Height(1))
    plan.joined(HONEST)
    for _ in range(past_failures):
        assert plan.next_ask(is_poll=True) is not None
        plan.failed()
    for index in range(liars):
        plan.joined(NodeId(f"a liar {index}"))
    asked: list[NodeId] = []
    for _ in range(liars + 1):
        ask = plan.next_ask(is_poll=True)
        assert ask is not None
        asked.append(ask.peer)
        plan.answered()
    assert asked.count(HONEST) == 1, "one round of polls asks everybody once"


def test_nobody_is_asked_twice_at_once() -> None:
    plan = Catchup(Height(1))
    plan.joined(HONEST)
    assert plan.next_ask(is_poll=True) is not None
    assert plan.next_ask(is_poll=True) is None


def test_without_claims_and_without_a_poll_nobody_is_asked() -> None:
    plan = Catchup(Height(4))
    plan.joined(HONEST)
    plan.heard(HONEST, Height(4))
    assert plan.next_ask() is None
    plan.heard(HONEST, Height(5))
    assert plan.next_ask() is not None


def test_liar_costs_one_question_a_poll_however_often_it_claims() -> None:
    plan = Catchup(Height(5))
    liar = NodeId("liar")
    for peer in (HONEST, liar, NodeId("other")):
        plan.joined(peer)
    asks = 0
    for poll in range(10):
        for _ in range(100):
            plan.heard(liar, Height(10**6))
            ask = plan.next_ask(is_poll=False)
            if ask is not None:
                asks += 1
                plan.answered()
        assert plan.next_ask(is_poll=True) is not None, f"poll {poll} goes out"
        plan.answered()
    assert asks <= 10


def test_true_claim_is_followed_at_once_after_a_poll_that_brought_nothing() -> None:
    plan = Catchup(Height(5))
    plan.joined(HONEST)
    assert plan.next_ask(is_poll=True) is not None
    plan.answered()
    plan.heard(HONEST, Height(6))
    ask = plan.next_ask()
    assert ask is not None
    assert (ask.peer, ask.first) == (HONEST, 5)
