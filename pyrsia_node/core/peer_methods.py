"""What this core answers to other nodes about the chain (docs/spec/peer-protocols.md).

Every answer is bounded; everything here is public within the network. Who asks does not matter,
except for ``submit``, which members alone need and which checks signatures by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from consensus import wire
from consensus.types import Digest
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica.follow import decode_range, join_prefixed, split_prefixed
from pyrsia_node.replica.pending import PendingTransactions

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
    ) -> None:
        """Answer from ``chain``; ``pending`` is None where this node is no member."""
        self._chain = chain
        self._publisher = publisher
        self._pending = pending
        self._find_body = find_body

    def serve_on(self, requests: PeerRequests) -> None:
        """Register all methods."""
        requests.serve("tip", self._tip, request_bytes_max=0)
        requests.serve("decisions", self._decisions, request_bytes_max=12)
        requests.serve("body", self._body, request_bytes_max=32)
        requests.serve("cosignatures", self._cosignatures, request_bytes_max=8)
        requests.serve("pending", self._pending_others, request_bytes_max=68 * PENDING_IDS_MAX)

    async def _tip(self, _peer: PeerId, _payload: bytes) -> bytes:
        decision = self._chain.decision(self._chain.tip.height)
        return wire.join_decision(*decision) if decision is not None else b""

    async def _decisions(self, _peer: PeerId, payload: bytes) -> bytes:
        height, bytes_max = decode_range(payload)
        found: list[bytes] = []
        size = 0
        while (decision := self._chain.decision(height)) is not None:
            encoded = wire.join_decision(*decision)
            size += len(encoded) + 4
            # The first is sent whatever its size, or a small limit would stop the asker for good.
            if found and size > bytes_max:
                break
            found.append(encoded)
            height += 1
            # Thousands of small blocks, read in one go, would hold up votes.
            await trio.lowlevel.checkpoint()
        return join_prefixed(found)

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
