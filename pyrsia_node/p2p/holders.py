"""Holders' memory: whom this node served or heard of lately, per artifact. Pure and bounded.

Every holder tells the next asker of the last ones, so a swarm finds itself without a tracker. An
entry is a hint: it expires, and nothing is trusted because of it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from pyrsia_node.ports import PeerId

ARTIFACTS_MAX: Final = 4096
HOLDERS_PER_ARTIFACT_MAX: Final = 32
ARTIFACTS_PER_PEER_MAX: Final = 1024
"""A single peer must not push everybody else out by announcing everything."""

EXPIRY_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Holding:
    """A peer that has an artifact, whole or in part, as of a time of the caller's clock."""

    peer: PeerId
    complete: bool
    at_s: float


class HoldersMemory:
    """Newest holders per artifact; the artifact that was touched longest ago goes first."""

    def __init__(self) -> None:
        self._artifacts: OrderedDict[str, OrderedDict[PeerId, Holding]] = OrderedDict()
        self._by_peer: dict[PeerId, int] = {}

    def remember(self, sha256: str, peer: PeerId, *, complete: bool, now_s: float) -> bool:
        """Note that a peer has an artifact; say whether there was room for it."""
        holdings = self._artifacts.get(sha256)
        is_new = holdings is None or peer not in holdings
        if is_new and self._by_peer.get(peer, 0) >= ARTIFACTS_PER_PEER_MAX:
            return False
        if holdings is None:
            holdings = self._artifacts[sha256] = OrderedDict()
        holdings.pop(peer, None)
        holdings[peer] = Holding(peer, complete, now_s)
        self._artifacts.move_to_end(sha256)
        self._by_peer[peer] = self._by_peer.get(peer, 0) + is_new
        if len(holdings) > HOLDERS_PER_ARTIFACT_MAX:
            self._drop(sha256, next(iter(holdings)))
        if len(self._artifacts) > ARTIFACTS_MAX:
            oldest = next(iter(self._artifacts))
            for holder in list(self._artifacts[oldest]):
                self._drop(oldest, holder)
        return True

    def forget(self, sha256: str, peer: PeerId) -> None:
        """Note that a peer turned out not to have an artifact."""
        if peer in self._artifacts.get(sha256, ()):
            self._drop(sha256, peer)

    def holders(self, sha256: str, *, now_s: float) -> list[Holding]:
        """Return who had it within the last hour, the latest first."""
        holdings = self._artifacts.get(sha256)
        if holdings is None:
            return []
        for holding in list(holdings.values()):
            if now_s - holding.at_s > EXPIRY_S:
                self._drop(sha256, holding.peer)
        return list(reversed(holdings.values()))

    def __len__(self) -> int:
        return len(self._artifacts)

    def _drop(self, sha256: str, peer: PeerId) -> None:
        holdings = self._artifacts[sha256]
        del holdings[peer]
        if not holdings:
            del self._artifacts[sha256]
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]
