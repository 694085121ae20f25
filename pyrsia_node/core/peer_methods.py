"""What this core answers to other nodes about the chain (docs/spec/peer-protocols.md).

Every answer is bounded; everything here is public within the network. Who asks does not matter,
except for ``submit``, which members alone need and which checks signatures by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consensus import wire
from consensus.types import Digest
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica.catchup_wire import (
    CHANGES_REQUEST_BYTES,
    DECISIONS_REQUEST_BYTES,
    join_prefixed,
    split_prefixed,
)
from pyrsia_node.replica.pending import PendingTransactions
from pyrsia_node.replica.serving import ChainAnswers, SnapshotAnswers
from pyrsia_node.replica.snapshot_wire import BUCKET_REQUEST_BYTES_MAX

PENDING_IDS_MAX: Final = 5000
PENDING_BYTES_MAX: Final = 1024 * 1024

FindBody = Callable[[Digest], bytes | None]
"""Returns the body of a certified block of the working height, if it is here."""


class PeerMethods:
    """Handlers of the ``ask`` protocol that read the chain."""

    def __init__(
        self,
        *,
        chain: Chain,
        publisher: Publisher,
        pending: PendingTransactions | None,
        find_body: FindBody,
        snapshots: SnapshotKeeper,
    ) -> None:
        """Answer from ``chain``; ``pending`` is None where this node is no member."""
        self._snapshots = SnapshotAnswers(snapshots)
        self._chain = chain
        self._answers = ChainAnswers(chain)
        self._publisher = publisher
        self._pending = pending
        self._find_body = find_body

    def serve_on(self, requests: PeerRequests) -> None:
        """Register all methods."""
        requests.serve("tip", self._tip, request_bytes_max=0)
        requests.serve("head", self._head, request_bytes_max=0)
        requests.serve("changes", self._changes, request_bytes_max=CHANGES_REQUEST_BYTES)
        requests.serve("decisions", self._decisions, request_bytes_max=DECISIONS_REQUEST_BYTES)
        requests.serve("history", self._history, request_bytes_max=DECISIONS_REQUEST_BYTES)
        requests.serve("snapshot", self._snapshot, request_bytes_max=0)
        requests.serve("bucket", self._bucket, request_bytes_max=BUCKET_REQUEST_BYTES_MAX)
        requests.serve("body", self._body, request_bytes_max=32)
        requests.serve("cosignatures", self._cosignatures, request_bytes_max=8)
        requests.serve("pending", self._pending_others, request_bytes_max=68 * PENDING_IDS_MAX)

    async def _tip(self, _peer: PeerId, _payload: bytes) -> bytes:
        decision = self._chain.decision(self._chain.tip.height)
        return wire.join_decision(*decision) if decision is not None else b""

    async def _head(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._answers.head(payload)

    async def _changes(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._answers.changes(payload)

    async def _decisions(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._answers.decisions(payload)

    async def _history(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._answers.history(payload)

    async def _snapshot(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._snapshots.snapshot(payload)

    async def _bucket(self, _peer: PeerId, payload: bytes) -> bytes:
        return await self._snapshots.bucket(payload)

    async def _body(self, _peer: PeerId, payload: bytes) -> bytes:
        if len(payload) != 32:
            raise InvalidInputError(f"body: hash of {len(payload)} bytes, 32 expected")
        body = self._find_body(Digest(payload))
        if body is None:
            raise NotFoundError(f"body {payload.hex()} is not here")
        return body

    async def _cosignatures(self, _peer: PeerId, payload: bytes) -> bytes:
        if len(payload) != 8:
            raise InvalidInputError(f"cosignatures: size of {len(payload)} bytes, 8 expected")
        return self._publisher.note_with_cosignatures(int.from_bytes(payload, "big"))

    async def _pending_others(self, _peer: PeerId, payload: bytes) -> bytes:
        if self._pending is None:
            return b""
        known = split_prefixed(payload, items_max=PENDING_IDS_MAX)
        ids = frozenset(each.decode("ascii", "replace") for each in known)
        return join_prefixed(self._pending.others(ids, bytes_max=PENDING_BYTES_MAX))
