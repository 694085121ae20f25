"""Decides whom to connect to, and knocks for as long as it takes.

Members and configured peers are wanted for ever, with jittered back-off; besides them a node keeps
a few connections to peers that it only knows by their record, so that it survives the loss of
every configured one. The library forgets a bootstrap peer that was down for half a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.p2p.doors import Doors
from pyrsia_node.p2p.pacing import backoff_s
from pyrsia_node.ports import PeerId

FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 5.0
POLITE_S: Final = 0.3
"""Head start of the peer with the smaller id, so that a pair seldom dials each other at once."""

_EXPLORE_S: Final = 5.0
_STABLE_S: Final = 5.0
_LOG: Final = logging.getLogger("pyrsia.p2p")


class Keeper:
    """Keeps the wanted peers connected."""

    def __init__(
        self,
        own: PeerId,
        doors: Doors,
        until_gone: Callable[[PeerId], Awaitable[None]],
        candidates: Callable[[], list[PeerId]],
    ) -> None:
        """Remember the parts.

        Args:
            own: This node's id.
            doors: Ways to peers.
            until_gone: Waits until a peer is not connected.
            candidates: Known peers that could be connected to but are not.
        """
        self._own = own
        self._doors = doors
        self._until_gone = until_gone
        self._candidates = candidates
        self._wanted: dict[PeerId, trio.CancelScope] = {}
        self._tries = 0
        self._tried: dict[PeerId, int] = {}

    @property
    def wanted(self) -> set[PeerId]:
        """Whom this node knocks at for ever."""
        return set(self._wanted)

    def want(self, peers: Iterable[PeerId]) -> None:
        """Replace whom to keep connected; nobody is disconnected by this."""
        wanted = set(peers) - {self._own}
        for peer in self._wanted.keys() - wanted:
            self._wanted.pop(peer).cancel()
        for peer in wanted - self._wanted.keys():
            self._wanted[peer] = scope = trio.CancelScope()
            self._doors.spawn(self._keep, peer, scope)

    async def explore(self, connected: Callable[[], int], wanted: int) -> None:
        """Connect to known peers, one at a time, while fewer than ``wanted`` are connected."""
        while True:
            await trio.sleep(_EXPLORE_S * (0.5 + self._doors.chance()))
            candidates = self._candidates()
            if connected() >= wanted or not candidates:
                continue
            try:
                await self._doors.reach(self._next_of(candidates))
            except PyrsiaError as error:
                _LOG.debug("no connection for company: %s", error)

    def _next_of(self, candidates: list[PeerId]) -> PeerId:
        """Return who was tried longest ago or never, by chance among equals.

        By chance alone a node could knock at one dead peer for a minute and pass over a living one.
        """
        self._tried = {peer: self._tried.get(peer, 0) for peer in candidates}
        longest_ago = min(self._tried.values())
        equals = [peer for peer in candidates if self._tried[peer] == longest_ago]
        chosen = equals[int(self._doors.chance() * len(equals))]
        self._tries += 1
        self._tried[chosen] = self._tries
        return chosen

    async def _keep(self, peer: PeerId, scope: trio.CancelScope) -> None:
        failures = 0
        with scope:
            if self._own > peer:
                await trio.sleep(POLITE_S)
            while True:
                failures = await self._stay(peer, failures)
                await trio.sleep(
                    backoff_s(
                        failures,
                        first_s=FIRST_RETRY_S,
                        last_s=LAST_RETRY_S,
                        chance=self._doors.chance(),
                    )
                )

    async def _stay(self, peer: PeerId, failures: int) -> int:
        """Connect, stay until the connection ends, and return the failures in a row by then."""
        try:
            await self._doors.reach(peer)
            since = trio.current_time()
            await self._until_gone(peer)
        except PyrsiaError as error:
            # Said once; a peer that stays away for a day is no news every half minute.
            _LOG.log(logging.DEBUG if failures else logging.INFO, "%s", error)
            return failures + 1
        # A peer that hangs up at once is treated like one that does not answer.
        return 1 if trio.current_time() - since > _STABLE_S else failures + 1
