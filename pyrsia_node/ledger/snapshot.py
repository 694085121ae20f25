"""The state after one block, as a node offers it to others: its buckets, and pages of their pairs.

A snapshot is a view of the store at the moment when a block whose header carries ``snapshot_root``
was the tip; LevelDB keeps what the view needs and nothing is copied. So a node offers the newest
such height since it started, and none before it met one. Readers trust none of it: they check the
header's certificate, the bucket hashes against ``snapshot_root``, and each bucket against its hash.
Design: docs/design/catchup.md, "Snapshots".
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from consensus import wire
from pyrsia_node.ledger.commitment import bucket_hash, is_due
from pyrsia_node.ledger.queries import CommittedChain
from pyrsia_node.ledger.storage import BucketReader, ChainReader, StateReader
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports import KeyValueReader, KeyValueStore

PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
BUCKETS_MAX: Final = 100_000
"""Most buckets of one state; there are some hundred."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node says it has: a header with its certificate, and the buckets under its root."""

    header: bytes
    certificate: bytes
    buckets: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Pairs of one bucket in key order; ``is_last`` says that no more follow."""

    pairs: tuple[tuple[bytes, bytes], ...]
    is_last: bool


class Snapshot:
    """One view, read for others."""

    def __init__(self, view: KeyValueReader) -> None:
        """Read from ``view``, whose tip carries a snapshot root."""
        self._state = StateReader(view)
        reader = ChainReader(view)
        self.height: Final = reader.height()
        decision = reader.decision(self.height)
        assert decision is not None
        sums = BucketReader(view).sums()
        buckets = tuple((name, bucket_hash(name, value)) for name, value in sorted(sums.items()))
        header = wire.split_block(decision[0]).header
        self.offer: Final = Offer(header, decision[1], buckets)

    def page(self, bucket: str, *, after: bytes) -> Page:
        """Return the pairs of a bucket with keys > ``after``, as many as fit; at least one.

        Raises:
            NotFoundError: There is no such bucket.
        """
        if bucket not in dict(self.offer.buckets):
            raise NotFoundError(f"the state after block {self.height} has no bucket {bucket!r:.40}")
        pairs: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in self._state.scan(bucket.encode("ascii"), after=after):
            size += len(key) + len(value) + 8
            if pairs and size > PAGE_BYTES_MAX:
                return Page(tuple(pairs), is_last=False)
            pairs.append((key, value))
        return Page(tuple(pairs), is_last=True)


class SnapshotKeeper:
    """Holds the newest view that may be offered; used from the chain's own task."""

    def __init__(self, store: KeyValueStore, chain: CommittedChain) -> None:
        """Start with the tip, if it carries a root."""
        self._store = store
        self._chain = chain
        self._held: AbstractContextManager[KeyValueReader] | None = None
        self._snapshot: Snapshot | None = None
        self.committed()

    def committed(self) -> None:
        """Take the tip as the new snapshot if its header carries a root. Cheap otherwise."""
        tip = self._chain.tip
        changes_set = tip.epoch_height == tip.height
        if tip.height == 0 or not is_due(tip.height, changes_set=changes_set):
            return
        self.close()
        self._held = self._store.snapshot()
        self._snapshot = Snapshot(self._held.__enter__())

    def newest(self) -> Snapshot:
        """Return what is offered.

        Raises:
            NotFoundError: Nothing since this node started.
        """
        if self._snapshot is None:
            raise NotFoundError("no snapshot is here yet")
        return self._snapshot

    def close(self) -> None:
        """Let the view go."""
        if self._held is not None:
            self._held.__exit__(None, None, None)
        self._held = self._snapshot = None
