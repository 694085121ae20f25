"""A leaf with everything that shows where it stands: its proof, and the header of its block.

Sent by peers to nodes that have no history yet. Nothing of it is believed before ``check``, which
needs a head that is believed. Wire form: docs/spec/peer-protocols.md, "ask", ``entries``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.leaves import Header
from pyrsia_node.tlog.proofs import verify_inclusion
from pyrsia_node.tlog.tree import HASH_SIZE, leaf_hash, split_hashes

PLACED_BYTES_MAX: Final = 128 * 1024
"""Two leaves of the largest size, and two proofs."""

_PLACES: Final = struct.Struct(">QQII")


@dataclass(frozen=True, slots=True)
class PlacedLeaf:
    """A leaf, as somebody claims that it stands in the log, and its block's header likewise."""

    index: int
    data: bytes
    proof: tuple[bytes, ...]
    header_index: int
    header: bytes
    header_proof: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the wire form."""
        places = _PLACES.pack(self.index, self.header_index, len(self.data), len(self.header))
        hashes = [len(self.proof).to_bytes(1, "big"), *self.proof, *self.header_proof]
        return b"".join([places, self.data, self.header, *hashes])

    @classmethod
    def decode(cls, data: bytes) -> PlacedLeaf:
        """Return what ``encode`` wrote, unchecked.

        Raises:
            InvalidInputError: Too long, or malformed.
        """
        if not _PLACES.size <= len(data) <= PLACED_BYTES_MAX:
            raise InvalidInputError(f"placed leaf of {len(data)} bytes")
        index, header_index, leaf_length, header_length = _PLACES.unpack_from(data)
        start = _PLACES.size
        header_start = start + leaf_length
        proofs_start = header_start + header_length
        hashes = data[proofs_start + 1 :]
        if proofs_start >= len(data) or len(hashes) % HASH_SIZE:
            raise InvalidInputError("placed leaf: its parts do not fill it")
        found = split_hashes(hashes)
        count = data[proofs_start]
        if count > len(found):
            raise InvalidInputError(f"placed leaf: {len(found)} hashes, {count} are announced")
        return cls(
            index=index,
            data=data[start:header_start],
            proof=tuple(found[:count]),
            header_index=header_index,
            header=data[header_start:proofs_start],
            header_proof=tuple(found[count:]),
        )

    def check(self, *, size: int, root: bytes) -> Header:
        """Check that both leaves stand in the tree (size, root), one in the other's block.

        Returns:
            The header of the leaf's block.

        Raises:
            InvalidInputError: Malformed, or a place is beyond the tree.
            VerificationError: It leads to another root, or the block does not hold the leaf.
        """
        for index, data, proof in (
            (self.index, self.data, self.proof),
            (self.header_index, self.header, self.header_proof),
        ):
            verify_inclusion(leaf_hash(data), index=index, size=size, root=root, proof=proof)
        header = Header.decode(self.header)
        if (
            header.prev_size != self.header_index
            or not self.header_index <= self.index < header.size
        ):
            raise VerificationError(
                f"block {header.height}, whose header is leaf {self.header_index}, does not hold "
                f"leaf {self.index}"
            )
        return header
