"""The set of the next height may differ; leaders follow what the chain says."""

from __future__ import annotations

from consensus.replica import Start
from consensus.types import Height, NodeId, View
from tests.unit.consensus.committee import (
    Committee,
    Node,
    member_set,
    names,
)


def test_set_changes_with_the_block_that_says_so() -> None:
    committee = Committee(4)
    larger = member_set(names(5), epoch=1)
    for node in committee.nodes.values():
        node.next_sets[1] = larger
    committee.leader().work()
    committee.deliver()
    tip = committee[0].committed[-1]
    start = Start(
        Height(2),
        tip.certificate.block_hash,
        larger,
        tip.certificate,
        ((),),
        committee.members,
    )
    newcomer = Node(NodeId("m004"), larger, start)
    committee.nodes[newcomer.me] = newcomer
    assert {node.replica.members.epoch for node in committee.nodes.values()} == {1}
    for _ in range(4):
        committee.leader().work()
        committee.deliver()
    heights = [[one.height for one in node.committed] for node in committee.nodes.values()]
    assert heights == [[1, 2, 3, 4, 5]] * 4 + [[2, 3, 4, 5]]
    assert (
        len({node.committed[-1].certificate.block_hash for node in committee.nodes.values()}) == 1
    )


def test_removed_member_commits_its_removal_and_falls_silent() -> None:
    committee = Committee(4)
    smaller = member_set(names(3), epoch=1)
    for node in committee.nodes.values():
        node.next_sets[1] = smaller
    committee.leader().work()
    committee.deliver()
    gone = committee[3]
    assert gone.replica.height == 2
    gone.work()
    gone.fire()
    assert not gone.sent
    committee.leader().work()
    committee.deliver()
    assert [one.height for one in committee[0].committed] == [1, 2]


def test_dead_member_leads_no_view_0_once_the_chain_shows_it() -> None:
    committee = Committee(4)
    dead = NodeId("m003")
    del committee.nodes[dead]
    for _ in range(30):
        node = committee[0]
        if node.replica.leader(View(0)) == dead:
            for one in committee.nodes.values():
                one.work()
            for one in committee.nodes.values():
                one.fire()
        else:
            committee.leader().work()
        committee.deliver()
    led = [one.certificate.view for one in committee[0].committed]
    assert len(led) == 30
    # Two early heights that the dead member leads; after that the chain's history leaves it out.
    assert [view for view in led if view > 0] == [1] * sum(led)
    assert sum(led[10:]) == 0


def test_every_node_derives_the_same_history() -> None:
    committee = Committee(4)
    for _ in range(12):
        committee.leader().work()
        committee.deliver()
    assert len({node.replica._below.history for node in committee.nodes.values()}) == 1
