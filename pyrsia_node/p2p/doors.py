"""What the protocols need of the rest of the network. Implemented by ``network`` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pyrsia_node.p2p.stats import Counters
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId


class Doors(Protocol):
    """Ways to peers, and what all protocols share."""

    counters: Counters

    async def reach(self, peer: PeerId) -> None:
        """Connect to a peer and wait until it is welcome; the caller sets the deadline.

        Raises:
            UnavailableError: No address is known, or none of them works.
        """
        ...

    async def until_welcome(self, peer: PeerId) -> None:
        """Wait until a peer is connected and welcomed; the caller sets the deadline."""
        ...

    async def open_stream(self, peer: PeerId, protocol: str) -> PeerStream:
        """Open a stream to a connected peer, or raise UnavailableError."""
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to a peer."""
        ...

    def refuse(self, why: str, peer: object) -> None:
        """Count one refusal."""
        ...

    def spawn(self, work: Callable[..., Any], *arguments: object) -> None:
        """Run an async function until it ends or the network closes."""
        ...

    def chance(self) -> float:
        """Return a number uniform in [0, 1)."""
        ...
