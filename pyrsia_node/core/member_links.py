"""Whom a member keeps links with: the members of the next height, and briefly those who left.

The certificate of the block that removed a member goes over its link. Cut at once, the link would
take that along, and the removed node would have to ask others for what it could have been told.
Nothing that it says over the link is heard any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from consensus.types import NodeId
from pyrsia_node.ports import PeerId

LINGER_S: Final = 10.0
"""How long the link of a removed member stays open."""


class MemberLinks:
    """Tells the network whom to keep links with. Times are seconds of one monotonic clock."""

    def __init__(self, set_members: Callable[[Iterable[PeerId]], None]) -> None:
        """Keep no links yet; ``set_members`` replaces all that there are."""
        self._set_members = set_members
        self._leaving: dict[PeerId, float] = {}
        self.peers: Mapping[PeerId, NodeId] = {}
        """The members that are heard, by peer id."""

    def changed(self, peers: Mapping[PeerId, NodeId], *, now: float) -> None:
        """Take in the members of the next height; none where this node is not one of them."""
        gone = self.peers.keys() - peers.keys() if peers else ()
        self._leaving |= dict.fromkeys(gone, now + LINGER_S)
        self.peers = peers
        self.let_go(now=now)

    def let_go(self, *, now: float) -> None:
        """End the links of those whose time is over, or of all if this node left itself."""
        self._leaving = {
            peer: until
            for peer, until in self._leaving.items()
            if until > now and self.peers and peer not in self.peers
        }
        self._set_members([*self.peers, *self._leaving])
