"""Signed records of other nodes, kept for the next run under ``peers/`` in the core's store.

With them a node finds its network again when every configured bootstrap peer is gone. Records are
hints: each is verified again when it is read back, and one that does not hold is forgotten.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import KeyValueStore

_LOG = logging.getLogger("pyrsia.core.peers")

KEEP_INTERVAL_S: Final = 30.0
_PREFIX: Final = b"peers/"


class KnownPeers:
    """Loads records at start and writes new ones now and then."""

    def __init__(self, store: KeyValueStore, network: Network) -> None:
        """Keep what ``network`` learns in ``store``."""
        self._store = store
        self._network = network

    def load(self) -> int:
        """Give the network what earlier runs learned; return how many records held."""
        stale: list[tuple[bytes, bytes | None]] = []
        count = 0
        for key, raw in self._store.scan(_PREFIX):
            try:
                self._network.learn_record(raw)
                count += 1
            except (InvalidInputError, VerificationError) as error:
                _LOG.warning("a kept node record does not hold and is forgotten: %s", error)
                stale.append((key, None))
        if stale:
            self._store.write(stale, sync=False)
        return count

    def save(self) -> None:
        """Write records that are new or newer; losing the last ones costs nothing but time."""
        changes: list[tuple[bytes, bytes | None]] = []
        for record in self._network.records():
            key = _PREFIX + record.peer.encode()
            if self._store.get(key) != record.raw:
                changes.append((key, record.raw))
        if changes:
            self._store.write(changes, sync=False)

    async def keep(self) -> None:
        """Save for ever."""
        while True:
            await trio.sleep(KEEP_INTERVAL_S)
            self.save()
