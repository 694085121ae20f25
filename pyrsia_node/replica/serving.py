"""Answers other nodes' catch-up from the committed chain: head, set changes, decisions.

Every answer is bounded and gives way between blocks, so that a thousand small ones, read in one
go, do not hold up votes. Wire form: docs/spec/peer-protocols.md, "ask".
"""

from __future__ import annotations

import trio

from consensus import wire
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.replica.catchup_wire import (
    ANSWER_BYTES_MAX,
    CHANGES_MAX,
    decode_first_epoch,
    decode_range,
    encode_changes,
    encode_head,
    join_prefixed,
)


class ChainAnswers:
    """Answers requests by their payload; raises InvalidInputError for malformed ones."""

    def __init__(self, chain: CommittedChain) -> None:
        """Answer from ``chain``."""
        self._chain = chain

    async def head(self, _payload: bytes) -> bytes:
        """Return the newest header and its certificate; nothing at height 0."""
        decision = self._chain.decision(self._chain.tip.height)
        if decision is None:
            return b""
        return encode_head(wire.split_block(decision[0]).header, decision[1])

    async def changes(self, payload: bytes) -> bytes:
        """Return the set changes from an epoch on."""
        first = decode_first_epoch(payload)
        changes = set_changes(self._chain, first_epoch=first, bytes_max=ANSWER_BYTES_MAX)
        return encode_changes(changes[:CHANGES_MAX])

    async def decisions(self, payload: bytes) -> bytes:
        """Return decisions from a height on, as many as fit; nothing beyond the tip."""
        asked = decode_range(payload)
        found: list[bytes] = []
        size = 0
        while len(found) < asked.count:
            decision = self._chain.decision(asked.first + len(found))
            if decision is None:
                break
            encoded = wire.join_decision(*decision)
            size += len(encoded) + 4
            # The first is sent whatever its size, or a small limit would stop the asker for good.
            if found and size > asked.bytes_max:
                break
            found.append(encoded)
            await trio.lowlevel.checkpoint()
        return join_prefixed(found)
