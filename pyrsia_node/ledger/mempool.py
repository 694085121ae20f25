"""Transactions that wait for a block: bounded, fair between authors, in a useful order. Pure.

Each author has a lane of its own for each kind of transaction. A block takes the kinds in a fixed
order: what guards the network first (evidence, approvals, changes, statements), then requests,
then attest batches, then results (a result needs its item before it). Within a kind it takes one
from each lane in turn, so no author can crowd out another; and what stands before the requests is
few, so that no flood of it keeps them out. The lane of batches is kept by their number. What other
members are told of goes by authors in turn, too: an author that waits in front of everybody, with
all that it may have, would hide the others.

The mempool judges nothing itself: callers give it what ``Chain.check_transaction`` said, and let
it ask again after each block. Specification: docs/design/ledger.md 7.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from pyrsia_node.ledger.chain import TransactionInfo
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.transactions import TRANSACTION_KINDS

AUTHOR_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes that one author may have waiting."""

AUTHOR_COUNT_MAX: Final = 1_000
"""Transactions that one author may have waiting."""

TOTAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that may wait altogether."""

BLOCK_BYTES_MAX: Final = 2 * 1024 * 1024
"""Candidates for one block: twice what fits, because some may have become invalid."""

REVIEW_MAX: Final = 16
"""Entries at the front of each lane that may be judged anew after a block."""

_URGENT_BYTES_MAX: Final = 64 * 1024
"""Bytes of candidates of one urgent kind for one block."""

_URGENT_KINDS: Final = (
    *("evidence", "approve", "remove_node", "rotate_key", "add_node", "set_param"),
    *("revoke", "withdraw", "add_source", "vulnerable", "deprecate"),
)
_BUILD_KINDS: Final = ("build_request", "attest_commit", "attest_batch", "result")
_PLACES: Final = {kind: place for place, kind in enumerate((*_URGENT_KINDS, *_BUILD_KINDS))}
assert set(_PLACES) == TRANSACTION_KINDS  # none may wait for ever

_T = TypeVar("_T")

Judge = Callable[[bytes], TransactionInfo]
"""``Chain.check_transaction`` at some time."""


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int  # of arrival
    data: bytes
    info: TransactionInfo


@dataclass(slots=True)
class _Usage:
    count: int = 0
    size: int = 0


class Mempool:
    """What waits, by author and kind."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[str, _Entry] = {}
        self._lanes: dict[tuple[str, str], list[str]] = {}
        self._usage: dict[str, _Usage] = {}
        self._size = 0
        self._arrivals = 0
        # Whose turn it is moves on with each block, so that a short block is fair over time.
        self._turn = 0
        self._tellings = 0

    def __len__(self) -> int:
        """Return how many transactions wait."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes that wait."""
        return self._size

    def add(self, info: TransactionInfo, data: bytes) -> bool:
        """Take a transaction that was checked; False if it is here already.

        Raises:
            UnavailableError: Its author, or the mempool, has no room left.
        """
        known = self._entries.get(info.id)
        if known is not None:
            self._entries[info.id] = _Entry(known.number, known.data, info)
            return False
        usage = self._usage.setdefault(info.author, _Usage())
        if usage.count >= AUTHOR_COUNT_MAX or usage.size + len(data) > AUTHOR_BYTES_MAX:
            raise UnavailableError(
                f"{info.author} has {usage.count} transactions of {usage.size} bytes waiting"
            )
        if self._size + len(data) > TOTAL_BYTES_MAX:
            raise UnavailableError(f"the mempool is full: {self._size} bytes wait")
        usage.count += 1
        usage.size += len(data)
        self._size += len(data)
        self._arrivals += 1
        self._entries[info.id] = _Entry(self._arrivals, data, info)
        lane = self._lanes.setdefault((info.kind, info.author), [])
        bisect.insort(lane, info.id, key=self._place)
        return True

    def get(self, transaction_id: str) -> bytes | None:
        """Return a waiting transaction, or None."""
        entry = self._entries.get(transaction_id)
        return None if entry is None else entry.data

    def ids(self) -> list[str]:
        """Return the ids of all that waits, oldest first."""
        return list(self._entries)

    def in_turns(self) -> Iterator[tuple[str, bytes]]:
        """Yield id and bytes of all that waits, for telling others: one of each author in turn.

        An author's turn goes round its lanes. Who is first moves on with each call, so that those
        who come last are reached as well where there is not room for all. Nothing may be added or
        removed before the last one was yielded, or none is asked for any more.
        """
        self._tellings += 1
        by_author: dict[str, list[Iterator[tuple[str, _Entry]]]] = {}
        for kind, author in sorted(self._lanes, key=_place_of_lane):
            by_author.setdefault(author, []).append(self._in_lane(self._lanes[kind, author]))
        rows = [_one_of_each(lanes) for lanes in _from(self._tellings, list(by_author.values()))]
        return ((transaction_id, entry.data) for transaction_id, entry in _one_of_each(rows))

    def has_work(self) -> bool:
        """Tell whether something waits that a block after the tip may hold."""
        return any(
            self._entries[each].info.is_ready
            for lane in self._lanes.values()
            for each in islice(lane, REVIEW_MAX)
        )

    def for_block(self) -> list[bytes]:
        """Return candidates for a block in order, about twice as many as fit."""
        chosen: list[bytes] = []
        self._turn += 1
        for kind in _URGENT_KINDS:
            chosen += self._urgent(kind)
        room = BLOCK_BYTES_MAX - sum(map(len, chosen))
        for kind in _BUILD_KINDS:
            for entry in self._round_robin(kind):
                if len(entry.data) > room:
                    return chosen
                chosen.append(entry.data)
                room -= len(entry.data)
        return chosen

    def committed(self, ids: Iterable[str]) -> None:
        """Forget what a block now holds."""
        for transaction_id in ids:
            if transaction_id in self._entries:
                self._remove(transaction_id)

    def review(self, judge: Judge) -> list[str]:
        """Judge the front of every lane anew, after a block or as time passes.

        A lane is looked at up to its first transaction that is ready: that one is work, and what
        stands behind it gets its verdict when its turn comes.

        Returns:
            The ids of what was dropped because it can not become valid.
        """
        dropped = []
        for lane in list(self._lanes.values()):
            for transaction_id in lane[:REVIEW_MAX]:
                entry = self._entries[transaction_id]
                try:
                    info = judge(entry.data)
                except InvalidInputError:
                    self._remove(transaction_id)
                    dropped.append(transaction_id)
                    continue
                self._entries[transaction_id] = _Entry(entry.number, entry.data, info)
                if info.is_ready:
                    break
        return dropped

    def _place(self, transaction_id: str) -> tuple[int, int]:
        entry = self._entries[transaction_id]
        return entry.info.sequence, entry.number

    def _urgent(self, kind: str) -> list[bytes]:
        """Return candidates of a kind of which only what is ready is worth a place.

        What waits for approvals may wait for ever, and there may be as much of it as an author's
        quota has room for. It becomes ready by what other blocks hold, so ``review`` notices.
        """
        chosen: list[bytes] = []
        room = _URGENT_BYTES_MAX
        for entry in self._round_robin(kind):
            if not entry.info.is_ready:
                continue
            if len(entry.data) > room:
                break
            chosen.append(entry.data)
            room -= len(entry.data)
        return chosen

    def _round_robin(self, kind: str) -> Iterator[_Entry]:
        authors = sorted(author for lane_kind, author in self._lanes if lane_kind == kind)
        lanes = [self._in_lane(self._lanes[kind, author]) for author in _from(self._turn, authors)]
        return (entry for _, entry in _one_of_each(lanes))

    def _in_lane(self, lane: list[str]) -> Iterator[tuple[str, _Entry]]:
        return ((transaction_id, self._entries[transaction_id]) for transaction_id in lane)

    def _remove(self, transaction_id: str) -> None:
        entry = self._entries.pop(transaction_id)
        lane = self._lanes[entry.info.kind, entry.info.author]
        lane.remove(transaction_id)
        if not lane:
            del self._lanes[entry.info.kind, entry.info.author]
        usage = self._usage[entry.info.author]
        usage.count -= 1
        usage.size -= len(entry.data)
        self._size -= len(entry.data)
        if not usage.count:
            del self._usage[entry.info.author]


def _place_of_lane(lane: tuple[str, str]) -> tuple[str, int]:
    kind, author = lane
    return author, _PLACES[kind]


def _from(turn: int, row: list[_T]) -> list[_T]:
    """Return a row that begins with whose turn it is."""
    first = turn % len(row) if row else 0
    return row[first:] + row[:first]


def _one_of_each(rows: list[Iterator[_T]]) -> Iterator[_T]:
    """Yield the first of each row, then the second of each, until all rows are at their ends."""
    left = list(rows)
    while left:
        ended = []
        for row in left:
            for each in row:
                yield each
                break
            else:
                ended.append(row)
        left = [row for row in left if row not in ended]
