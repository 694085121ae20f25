"""Answers other nodes' catch-up from the committed chain: heads, set changes, blocks, snapshots.

Every answer is bounded, in bytes and in time, and gives way now and then, so that a thousand small
blocks, read in one go, do not hold up votes. On a busy node each turn may take long: an answer that
gave way after every block would come after its asker has given up, each time.
Wire form: docs/spec/peer-protocols.md, "ask".
"""

from __future__ import annotations

from typing import Final

import trio

from consensus import wire
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.ledger.snapshot import SnapshotKeeper
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.replica.catchup_wire import (
    ANSWER_BYTES_MAX,
    CHANGES_MAX,
    decode_first_epoch,
    decode_range,
    encode_changes,
    encode_head,
    join_prefixed,
)
from pyrsia_node.replica.snapshot_wire import (
    decode_bucket_request,
    encode_offer,
    encode_page,
    encode_whole_block,
)

SLICE_S: Final = 0.01
"""How long an answer reads on before others get their turn."""

ANSWER_S: Final = 3.0
"""After what time it goes out with what was found by then; the asker waits ten seconds."""


class _Turns:
    """Lets others run now and then, and says when an answer has taken long enough."""

    def __init__(self) -> None:
        now = trio.current_time()
        self._end, self._slice_end = now + ANSWER_S, now + SLICE_S

    async def go_on(self) -> bool:
        """Give way if it is time to; False once the answer should go out as it is."""
        if trio.current_time() >= self._slice_end:
            await trio.lowlevel.checkpoint()
            self._slice_end = trio.current_time() + SLICE_S
        return trio.current_time() < self._end


class ChainAnswers:
    """Answers requests by their payload; raises InvalidInputError for malformed ones."""

    def __init__(self, chain: CommittedChain) -> None:
        """Answer from ``chain``."""
        self._chain = chain

    async def head(self, _payload: bytes) -> bytes:
        """Return the newest header and its certificate; nothing at height 0.

        Costs a few reads: anybody may ask, however large the block.
        """
        height = self._chain.tip.height
        found = self._chain.certificates(height)
        if found is None:
            return b""
        header = self._chain.leaf(self._chain.block(height).first_leaf)
        return encode_head(header, found[0])

    async def changes(self, payload: bytes) -> bytes:
        """Return the set changes from an epoch on."""
        first = decode_first_epoch(payload)
        changes = set_changes(self._chain, first_epoch=first, bytes_max=ANSWER_BYTES_MAX)
        return encode_changes(changes[:CHANGES_MAX])

    async def decisions(self, payload: bytes) -> bytes:
        """Return decisions from a height on, as many as fit; nothing beyond the tip."""
        asked, turns = decode_range(payload), _Turns()
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
            if not await turns.go_on():
                break
        return join_prefixed(found)

    async def history(self, payload: bytes) -> bytes:
        """Return blocks from a height on with all their leaves, as many as fit."""
        asked, turns = decode_range(payload), _Turns()
        found: list[bytes] = []
        size = 0
        while len(found) < asked.count:
            height = asked.first + len(found)
            certificates = self._chain.certificates(height)
            if certificates is None:
                break
            certificate, parent = certificates
            following = self._chain.certificates(height + 1)
            if following is not None:
                # The one that the next block carries: its hash is proved with that block.
                certificate = following[1]
            record = self._chain.block(height)
            leaves = list(self._chain.leaves(record.first_leaf, record.size))
            encoded = encode_whole_block(certificate, parent, leaves)
            size += len(encoded) + 4
            if found and size > asked.bytes_max:
                break
            found.append(encoded)
            if not await turns.go_on():
                break
        return join_prefixed(found)


class SnapshotAnswers:
    """Answers those who join, from the newest snapshot."""

    def __init__(self, keeper: SnapshotKeeper) -> None:
        """Offer what ``keeper`` holds."""
        self._keeper = keeper

    async def snapshot(self, _payload: bytes) -> bytes:
        """Return what is offered; raises NotFoundError when nothing is."""
        await trio.lowlevel.checkpoint()
        return encode_offer(self._keeper.newest().offer)

    async def bucket(self, payload: bytes) -> bytes:
        """Return a page of a bucket; raises NotFoundError when another height is offered now."""
        asked = decode_bucket_request(payload)
        snapshot = self._keeper.newest()
        if snapshot.height != asked.height:
            raise NotFoundError(f"the snapshot of height {asked.height} is not here any more")
        await trio.lowlevel.checkpoint()
        return encode_page(snapshot.page(asked.bucket, after=asked.after))
