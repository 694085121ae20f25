"""What a header says of the whole state: one hash over buckets, kept up to date change by change.

``state_root`` chains the changes of all blocks and proves nothing of the state's content to whoever
was not there. ``snapshot_root`` does: keys lie in *buckets* (their kind and the first character
after it, so a bucket is one range of keys); each bucket has an LtHash, the sum of a 2,048-byte hash
of every pair in it, lane by lane; and the root is the RFC 6962 root over the buckets in order of
name. A sum takes pairs in and out in any order, so a commit costs two hashes a changed key however
large the state is. A bucket whose sum is zero is absent, as an empty one is.

LtHash16 with 1,024 lanes: Lewi, Kim, Maykov, Weis, "Securing Update Propagation with Homomorphic
Hashing" (2019): over 200 bits against who wants two sets with one sum. Pure, but for reads.
Specification: docs/spec/leaves.md, "Snapshot root".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from blake3 import blake3

from pyrsia_node.ledger.machine.view import Change
from pyrsia_node.tlog.tree import leaf_hash, root

SUM_BYTES: Final = 2048
ELEMENT_TAG: Final = b"pyrsia/snapshot/1\0"
INTERVAL_BLOCKS: Final = 10_000
"""Heights that are a multiple carry a snapshot root, beside those that end an epoch."""

KEY_BYTES_MAX: Final = 512
"""Most bytes of a key of the state; the longest that the rules make has not half as many."""

SERVING_KINDS: Final = ("advice", "param", "revoked", "statement", "withdrawn")
"""Kinds of keys that a node needs for serving; few, so they come first."""

_LOW: Final = int.from_bytes(b"\x00\x00\xff\xff" * (SUM_BYTES // 4), "big")
_TURN: Final = int.from_bytes(b"\x00\x01\x00\x00" * (SUM_BYTES // 4), "big")
_TERMS_MAX: Final = 30_000
"""Terms between two reductions: a lane has 32 bits for its sum."""

Sums = Mapping[str, bytes]
"""Bucket name to its sum; a zero sum says that the bucket is empty."""


def is_due(height: int, *, changes_set: bool) -> bool:
    """Tell whether the header of ``height`` carries a snapshot root."""
    return changes_set or height % INTERVAL_BLOCKS == 0


def bucket_of(key: str) -> str:
    """Return the name of a key's bucket: ``kind/`` and the first character after it."""
    return key[: key.index("/") + 2]


class BucketSum:
    """The LtHash of one bucket: pairs are added and removed in any order."""

    __slots__ = ("_even", "_odd", "_terms")

    def __init__(self, value: bytes = bytes(SUM_BYTES)) -> None:
        """Start from a stored sum; from the empty bucket without one."""
        number = int.from_bytes(value, "big")
        self._even = number & _LOW
        self._odd = number >> 16 & _LOW
        self._terms = 0

    def add(self, key: str, value: bytes) -> None:
        """Take a pair in."""
        number = _element(key, value)
        self._even += number & _LOW
        self._odd += number >> 16 & _LOW
        self._note_term()

    def add_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Take many pairs in; half as expensive as one by one.

        The lanes at odd places come last: what the even ones leave of the sum of whole elements.
        """
        before, even, terms, total = self._even, self._even, self._terms, 0
        for key, value in pairs:
            message = b"%b%b%b%b" % (ELEMENT_TAG, len(key).to_bytes(2, "big"), key, value)
            number = int.from_bytes(blake3(message).digest(length=SUM_BYTES), "big")
            even += number & _LOW
            total += number
            terms += 1
            if terms == _TERMS_MAX:
                self._odd = (self._odd + ((total - (even - before)) >> 16)) & _LOW
                before = even = even & _LOW
                terms = total = 0
        self._odd += (total - (even - before)) >> 16
        self._even, self._terms = even, terms

    def remove(self, key: str, value: bytes) -> None:
        """Take out a pair that is in."""
        number = _element(key, value)
        self._even += _TURN - (number & _LOW)
        self._odd += _TURN - (number >> 16 & _LOW)
        self._note_term()

    def value(self) -> bytes:
        """Return the sum."""
        return ((self._odd & _LOW) << 16 | self._even & _LOW).to_bytes(SUM_BYTES, "big")

    def _note_term(self) -> None:
        self._terms += 1
        if self._terms == _TERMS_MAX:
            self._even &= _LOW
            self._odd &= _LOW
            self._terms = 0


def changed_sums(
    changes: Iterable[Change],
    *,
    read_value: Callable[[str], bytes | None],
    read_sum: Callable[[str], bytes | None],
) -> dict[str, bytes]:
    """Return the new sums of the buckets that a block's changes touch.

    Args:
        changes: The block's changes.
        read_value: Reads a key of the state before the block.
        read_sum: Reads a bucket's sum before the block; None for an empty bucket.
    """
    touched: dict[str, BucketSum] = {}
    for change in changes:
        name = bucket_of(change.key)
        bucket = touched.get(name)
        if bucket is None:
            bucket = touched[name] = BucketSum(read_sum(name) or bytes(SUM_BYTES))
        before = read_value(change.key)
        if before is not None:
            bucket.remove(change.key, before)
        if change.value is not None:
            bucket.add(change.key, change.value)
    return {name: bucket.value() for name, bucket in sorted(touched.items())}


def is_empty(value: bytes) -> bool:
    """Tell whether a sum is that of a bucket without pairs."""
    return not any(value)


def bucket_hash(name: str, value: bytes) -> bytes:
    """Return the leaf hash of a bucket in the tree under ``snapshot_root``."""
    return leaf_hash(name.encode("ascii") + b"\0" + value)


def snapshot_root(hashes: Iterable[bytes]) -> bytes:
    """Return the root over the hashes of the buckets that are not empty, in order of name."""
    return root(hashes)


def root_of_sums(sums: Sums) -> bytes:
    """Return the snapshot root of all buckets together."""
    return snapshot_root(
        bucket_hash(name, value) for name, value in sorted(sums.items()) if not is_empty(value)
    )


def sums_of(pairs: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return the sums of a whole state, computed from nothing: what the kept ones must equal."""
    buckets: dict[str, BucketSum] = {}
    for key, value in pairs:
        buckets.setdefault(bucket_of(key), BucketSum()).add(key, value)
    return {name: bucket.value() for name, bucket in buckets.items()}


def _element(key: str, value: bytes) -> int:
    encoded = key.encode("ascii")
    message = ELEMENT_TAG + len(encoded).to_bytes(2, "big") + encoded + value
    return int.from_bytes(blake3(message).digest(length=SUM_BYTES), "big")
