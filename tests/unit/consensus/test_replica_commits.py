"""A committee without faults decides, at every size."""

from __future__ import annotations

import pytest

from consensus import rules
from consensus.events import BodyReceived
from consensus.types import Height, NodeId, VoteKind
from consensus.wire import MessageKind
from tests.unit.consensus.committee import Committee, alone, proposal_of, votes_in
from tests.unit.consensus.first_height import B0, H0, SET, notarized


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 17])
def test_committee_commits_the_leaders_block_in_view_0(n: int) -> None:
    committee = Committee(n)
    for _ in range(3):
        committee.leader().work()
        committee.deliver()
    for node in committee.nodes.values():
        assert [(one.height, one.certificate.view) for one in node.committed] == [
            (1, 0),
            (2, 0),
            (3, 0),
        ]
    assert (
        len({node.committed[-1].certificate.block_hash for node in committee.nodes.values()}) == 1
    )


def test_committee_commits_with_real_ed25519() -> None:
    committee = Committee(4, is_real=True)
    committee.leader().work()
    committee.deliver()
    assert {node.committed[-1].height for node in committee.nodes.values()} == {1}
    assert all(node.refused == [] for node in committee.nodes.values())


def test_deciding_takes_three_message_delays() -> None:
    """Proposal, notarizations, finalizations: counted in rounds in which all frames arrive."""
    committee = Committee(4)
    committee.leader().work()
    rounds = 0
    while not all(node.committed for node in committee.nodes.values()):
        in_flight = [
            (sender, target, frame)
            for sender, node in committee.nodes.items()
            for target, frame in node.sent
        ]
        for node in committee.nodes.values():
            node.sent.clear()
        for sender, target, frame in in_flight:
            committee.nodes[target].hear(sender, frame)
        rounds += 1
    assert rounds == 3


def test_block_crosses_the_network_once() -> None:
    committee = Committee(4)
    proposals = 0

    def count(_from: NodeId, _to: NodeId, frame: bytes) -> bool:
        nonlocal proposals
        proposals += frame[0] == MessageKind.PROPOSAL
        return True

    for _ in range(5):
        committee.leader().work()
        committee.deliver(count)
    assert proposals == 5 * 3


def test_valid_bodies_are_served_by_their_hash() -> None:
    node = alone(4, 0)
    assert node.replica.body(H0) is None
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    assert node.replica.body(H0) == B0


def test_mistake_in_the_rules_costs_a_vote_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_of("m001", SET, B0, view=0))
    node.fire()
    # A core that forgot why it must not finalize after a nullification: the signer remembers.
    monkeypatch.setattr(
        rules,
        "finalize",
        lambda state: next(
            (
                one
                for one in state.notarizations.values()
                if state.may_ask_for(VoteKind.FINALIZE, one.view)
            ),
            None,
        ),
    )
    assert votes_in(node.tell("m002", notarized(0))) == []
    assert node.replica.view == 1


def test_body_that_is_no_block_is_dropped() -> None:
    node = alone(4, 0)
    node.tell("m002", notarized(0))
    assert node.step(BodyReceived(Height(1), b"\0\0\0\1")) == []
