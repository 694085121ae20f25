"""Answers nodes that have no history yet: where a package's entries stand, and the proof of it.

What this node's index says is a hint to whoever asks; the proofs stand by themselves.
Design: docs/design/catchup.md, "Serving while joining"; wire form: docs/spec/peer-protocols.md.
"""

from __future__ import annotations

from pathlib import Path

import trio

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica.catchup_wire import ANSWER_BYTES_MAX, join_prefixed
from pyrsia_node.replica.entry_wire import (
    ENTRIES_REQUEST_BYTES_MAX,
    FIND_REQUEST_BYTES_MAX,
    Found,
    decode_entries,
    decode_find,
    encode_found,
)
from pyrsia_node.tlog.placed import PlacedLeaf
from pyrsia_node.tlog.proofs import make_inclusion_proof
from pyrsia_node.tlog.tile import TileHashReader


class EntryAnswers:
    """Handlers of ``find`` and ``entries``."""

    def __init__(self, *, chain: Chain, log: Path, root: Path) -> None:
        """Answer from ``chain``, the tiles below ``log`` and the index below ``root``."""
        self._chain = chain
        self._tiles = TileFiles(log)
        self._index = IndexReader(root)

    def serve_on(self, requests: PeerRequests) -> None:
        """Register the methods."""
        requests.serve("find", self._find, request_bytes_max=FIND_REQUEST_BYTES_MAX)
        requests.serve("entries", self._entries, request_bytes_max=ENTRIES_REQUEST_BYTES_MAX)

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    async def _find(self, _peer: PeerId, payload: bytes) -> bytes:
        ecosystem, name = decode_find(payload)
        await trio.lowlevel.checkpoint()
        try:
            entries = self._index.accepted(ecosystem, name)
            statements = self._index.statements(ecosystem, name)
        except CorruptStateError as error:
            # An index is derived: this node can make it again, and others can be asked.
            raise UnavailableError(f"the index cannot be read: {error}") from error
        return encode_found(Found(tuple(entries), tuple(statements)))

    async def _entries(self, _peer: PeerId, payload: bytes) -> bytes:
        size, leaves = decode_entries(payload)
        if size > self._chain.tip.size:
            raise NotFoundError(f"a log of size {size} is not here yet")
        found: list[bytes] = []
        length = 0
        for leaf in leaves:
            placed = (await trio.to_thread.run_sync(self._place, leaf, size)).encode()
            length += len(placed) + 4
            # The first is sent whatever its size, or a small limit would stop the asker for good.
            if found and length > ANSWER_BYTES_MAX:
                break
            found.append(placed)
        return join_prefixed(found)

    def _place(self, leaf: int, size: int) -> PlacedLeaf:
        height, _ = self._chain.block_of_leaf(leaf)
        if height == 0:
            raise NotFoundError(f"leaf {leaf} stands before every block")
        at = self._chain.block(height).first_leaf
        proof, header_proof = (self._proof_of(index, size) for index in (leaf, at))
        return PlacedLeaf(
            index=leaf,
            data=self._chain.leaf(leaf),
            proof=proof,
            header_index=at,
            header=self._chain.leaf(at),
            header_proof=header_proof,
        )

    def _proof_of(self, index: int, size: int) -> tuple[bytes, ...]:
        try:
            reader = TileHashReader(self._tiles, size)
            return make_inclusion_proof(reader, index=index, size=size)
        except (NotFoundError, InvalidInputError, CorruptStateError) as error:
            # Tiles are derived: they follow the chain, and can be made again.
            raise UnavailableError(f"the log's files are not complete: {error}") from error
