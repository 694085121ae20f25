"""Takes in one bucket of a snapshot's state page by page, and counts it in when its sum holds.

Pages are kept as they come, because a bucket grows with the log and would not fit in memory
for ever. So rows stand in the store before they are proved: nothing reads them, since a store is a
chain only when every bucket is counted in, and ``remove`` takes those of a bucket that was none.
Specification: docs/spec/leaves.md, "Snapshot root"; used by ``ledger.adopting``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from pyrsia_node.ledger import storage
from pyrsia_node.ledger.commitment import (
    KEY_BYTES_MAX,
    BucketSum,
    bucket_hash,
    bucket_of,
    is_empty,
)
from pyrsia_node.ledger.durable import Changes
from pyrsia_node.ledger.waiting_rows import WaitingRows
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.ports import KeyValueStore

REMOVED_AT_ONCE: Final = 10_000


class BucketIntake:
    """The pairs of one bucket, in order of key."""

    def __init__(self, name: str, wanted: bytes, waiting: WaitingRows) -> None:
        """Take in bucket ``name``, whose hash shall be ``wanted``; rows go to ``waiting``."""
        self._name = name
        self._wanted = wanted
        self._waiting = waiting
        self._sum = BucketSum()
        self._last = b""

    def add(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Take the next pairs, in any number.

        Raises:
            InvalidInputError: A key is too long, not of this bucket, or not behind the one before
                it.
        """
        longest = max((len(key) for key, _ in pairs), default=0)
        if longest > KEY_BYTES_MAX:
            raise InvalidInputError(
                f"bucket {self._name}: a key of {longest} bytes exceeds {KEY_BYTES_MAX}"
            )
        last = self._last
        for key, _ in pairs:
            text = key.decode("ascii", "replace")
            if not key.isascii() or "/" not in text or bucket_of(text) != self._name:
                raise InvalidInputError(f"key {text!r:.60} is not of bucket {self._name}")
            if key <= last:
                raise InvalidInputError(f"bucket {self._name}: key {text!r:.60} comes out of order")
            last = key
        self._last = last
        self._sum.add_all(pairs)
        prefix = storage.STATE_PREFIX
        self._waiting.add(self._place, [(prefix + key, value) for key, value in pairs])

    def finish(self) -> None:
        """Count the bucket in.

        Raises:
            VerificationError: Its pairs are not those that the header commits to.
        """
        value = self._sum.value()
        found = bucket_hash(self._name, value)
        if is_empty(value) or found != self._wanted:
            raise VerificationError(
                f"bucket {self._name} has hash {found.hex()}, not {self._wanted.hex()}"
            )
        self._waiting.complete(self._place, into=f"state/{self._name.partition('/')[0]}")
        self._waiting.add("bucket", [(storage.bucket_key(self._name), value)])

    def remove(self, store: KeyValueStore) -> bool:
        """Remove what was taken in, 10,000 rows at once; False once nothing is left, durably."""
        self._waiting.forget(self._place)
        prefix = storage.STATE_PREFIX
        # Where the name is a kind alone, keys of other buckets begin with it, too.
        its_own = (
            key
            for key, _ in store.scan(prefix + self._name.encode())
            if bucket_of(key.removeprefix(prefix).decode()) == self._name
        )
        rows: Changes = [(key, None) for key in islice(its_own, REMOVED_AT_ONCE)]
        store.write(rows, sync=False)
        if len(rows) == REMOVED_AT_ONCE:
            return True
        store.settle()
        return False

    @property
    def _place(self) -> str:
        return f"state/{self._name}"
