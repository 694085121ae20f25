"""Links of those who left stay open for a moment, so that they hear why."""

from __future__ import annotations

from collections.abc import Iterable

from consensus.types import NodeId
from pyrsia_node.core.member_links import LINGER_S, MemberLinks
from pyrsia_node.ports import PeerId

NORTH, SOUTH, WEST = PeerId("north"), PeerId("south"), PeerId("west")


class Links:
    """Whom the network was told to keep links with."""

    def __init__(self) -> None:
        self.kept: set[PeerId] = set()
        self.links = MemberLinks(self._set)

    def _set(self, peers: Iterable[PeerId]) -> None:
        self.kept = set(peers)

    def changed(self, *peers: PeerId, now: float) -> None:
        self.links.changed({peer: NodeId(peer) for peer in peers}, now=now)


def test_a_removed_member_keeps_its_link_for_a_moment_and_is_heard_no_more() -> None:
    it = Links()
    it.changed(NORTH, SOUTH, now=0.0)
    it.changed(NORTH, now=1.0)
    assert it.kept == {NORTH, SOUTH}
    assert it.links.peers.keys() == {NORTH}
    it.links.let_go(now=LINGER_S)
    assert it.kept == {NORTH, SOUTH}
    it.links.let_go(now=1.0 + LINGER_S)
    assert it.kept == {NORTH}


def test_another_change_does_not_cut_those_who_left_before_it() -> None:
    it = Links()
    it.changed(NORTH, SOUTH, WEST, now=0.0)
    it.changed(NORTH, WEST, now=1.0)
    it.changed(NORTH, now=2.0)
    assert it.kept == {NORTH, SOUTH, WEST}
    it.links.let_go(now=1.5 + LINGER_S)
    assert it.kept == {NORTH, WEST}


def test_who_comes_back_stays() -> None:
    it = Links()
    it.changed(NORTH, SOUTH, now=0.0)
    it.changed(NORTH, now=1.0)
    it.changed(NORTH, SOUTH, now=2.0)
    it.links.let_go(now=2 * LINGER_S)
    assert it.kept == it.links.peers.keys() == {NORTH, SOUTH}


def test_a_node_that_left_itself_keeps_no_link() -> None:
    it = Links()
    it.changed(NORTH, SOUTH, now=0.0)
    it.changed(now=1.0)
    assert it.kept == set()
