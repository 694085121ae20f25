"""Who has an artifact: who attested it, then whom other holders remember (the core's side).

The log says who attested, and attesting is a promise to serve; then comes this node's own memory
of holders, then that of the likeliest holders, who are asked at once and for a short time only.
An answer is a hint: integrity never depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from consensus.types import NodeId
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import Clock, PeerId
from pyrsia_node.schema.links import HolderEntry

ASK_TIMEOUT_S: Final = 1.0
ASKED_MAX: Final = 4
HOLDERS_MAX: Final = 32

Attesters = Callable[[str], Iterable[NodeId]]
"""Members that attested an entry which lists the file with this SHA-256."""


class CoreRouter:
    """Answers ``holders`` and ``announce`` of the control link."""

    def __init__(
        self,
        network: Network,
        *,
        attesters: Attesters,
        peer_of: Callable[[NodeId], PeerId],
        clock: Clock,
    ) -> None:
        """Ask over ``network``; ``attesters`` reads the ledger's index."""
        self._network = network
        self._attesters = attesters
        self._peer_of = peer_of
        self._clock = clock

    async def holders(self, sha256: str) -> list[HolderEntry]:
        """Return holders, the likeliest first; never this node itself."""
        found: dict[PeerId, bool] = {}
        for member in self._attesters(sha256):
            found.setdefault(self._peer_of(member), True)
        now_s = self._clock.monotonic_s()
        for holding in self._network.holders.holders(sha256, now_s=now_s):
            found.setdefault(holding.peer, holding.complete)
        for peer, complete in await self._ask_others(sha256, list(found)):
            found.setdefault(peer, complete)
        found.pop(self._network.peer_id, None)
        records = {known.peer: known for known in self._network.directory()}
        entries = []
        for peer, complete in list(found.items())[:HOLDERS_MAX]:
            known = records.get(peer)
            entries.append(
                HolderEntry(
                    peer=peer,
                    data_url=(known.data_url or None) if known else None,
                    fingerprint=(known.fingerprint or None) if known else None,
                    complete=complete,
                )
            )
        return entries

    async def _ask_others(self, sha256: str, likely: list[PeerId]) -> list[tuple[PeerId, bool]]:
        connected = self._network.connected()
        asked = [peer for peer in likely if peer in connected][:ASKED_MAX]
        answers: list[tuple[PeerId, bool]] = []

        async def ask(peer: PeerId) -> None:
            try:
                answers.extend(await self._network.ask_holders(peer, sha256))
            except PyrsiaError:
                return

        with trio.move_on_after(ASK_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for peer in asked:
                    nursery.start_soon(ask, peer)
        return answers

    async def announce(self, sha256: str, *, complete: bool) -> None:
        """Tell the likeliest holders that this node has (part of) the artifact too."""
        attesters = [self._peer_of(member) for member in self._attesters(sha256)]
        connected = self._network.connected()
        told = [peer for peer in attesters if peer in connected][:ASKED_MAX]

        async def tell(peer: PeerId) -> None:
            try:
                await self._network.tell_have(peer, sha256, complete=complete)
            except PyrsiaError:
                return

        with trio.move_on_after(ASK_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for peer in told:
                    nursery.start_soon(tell, peer)
