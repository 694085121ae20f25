"""The Merkle tree of RFC 6962: hashes, the growing edge of a tree, and how a tree is cut up.

A tree over n leaves splits at the largest power of two below n (RFC 6962, 2.1). So it is a row of
perfect subtrees, one for each set bit of n; their hashes, the *frontier*, are all that appending
needs. Proofs are in ``proofs``; storage of hashes is in ``tile``. No I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from pyrsia_node.model.errors import InvalidInputError

HASH_SIZE: Final = 32
"""Bytes of a SHA-256 hash."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""

SIZE_MAX: Final = 2**53 - 1
"""Largest tree size we work with: the leaf index must fit the integers of canonical JSON."""

_SIZE_BYTES: Final = 8


class Subtree(NamedTuple):
    """The perfect subtree over leaves [number * 2**level, (number + 1) * 2**level)."""

    level: int
    number: int


class HashReader(Protocol):
    """Gives hashes of perfect subtrees; each must lie wholly inside the stored tree."""

    def read_hashes(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        """Return the hashes, in the order asked; one call reads all that a proof needs."""
        ...


def leaf_hash(leaf: bytes) -> bytes:
    """Return SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree over the leaf hashes: O(n) time, O(log n) memory."""
    return EMPTY_FRONTIER.extend(leaf_hashes).root()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: its size and the hashes of its maximal perfect subtrees.

    ``hashes`` runs from left to right, so from the largest subtree to the smallest.
    """

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Assert one hash for each set bit of the size."""
        assert 0 <= self.size <= SIZE_MAX
        assert len(self.hashes) == self.size.bit_count()

    def extend(self, leaf_hashes: Iterable[bytes]) -> Frontier:
        """Return the frontier after appending the leaf hashes."""
        size, stack = self.size, list(self.hashes)
        for each in leaf_hashes:
            merged = each
            carry = size
            while carry & 1:  # a full subtree of this height stands to the left: join
                merged = hashlib.sha256(b"\x01" + stack.pop() + merged).digest()
                carry >>= 1
            stack.append(merged)
            size += 1
        return Frontier(size=size, hashes=tuple(stack))

    def root(self) -> bytes:
        """Return the root hash of the whole tree."""
        return fold_right_to_left(self.hashes) if self.hashes else EMPTY_ROOT

    def encode(self) -> bytes:
        """Return the stored form: u64 size, then the hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.hashes)

    @classmethod
    def decode(cls, data: bytes) -> Frontier:
        """Return the frontier that ``encode`` wrote.

        Raises:
            InvalidInputError: The length does not fit the size.
        """
        size = int.from_bytes(data[:_SIZE_BYTES], "big")
        count = size.bit_count()
        if len(data) != _SIZE_BYTES + count * HASH_SIZE or size > SIZE_MAX:
            raise InvalidInputError(
                f"frontier of {len(data)} bytes does not fit a tree of size {size}"
            )
        return cls(size=size, hashes=split_hashes(data[_SIZE_BYTES:]))


EMPTY_FRONTIER: Final = Frontier(size=0, hashes=())
"""The frontier of the tree without leaves."""


def split_hashes(data: bytes) -> tuple[bytes, ...]:
    """Return the 32-byte hashes that ``data`` is made of.

    Raises:
        InvalidInputError: The length is no multiple of 32.
    """
    if len(data) % HASH_SIZE:
        raise InvalidInputError(f"{len(data)} bytes are no whole number of 32-byte hashes")
    return tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))


def perfect_subtrees(start: int, end: int) -> tuple[Subtree, ...]:
    """Return the maximal perfect subtrees that cover leaves [start, end), left to right.

    ``start`` must be a multiple of the largest power of two that is at most ``end - start``, as
    it is for every range that RFC 6962 splits off.
    """
    subtrees = []
    while start < end:
        level = (end - start).bit_length() - 1
        assert start % (1 << level) == 0, "the range is not one that a tree splits into"
        subtrees.append(Subtree(level, start >> level))
        start += 1 << level
    return tuple(subtrees)


def fold_right_to_left(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a row of perfect subtrees of falling size (at least one)."""
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded
