"""Rows that wait until there are enough of their kind to be written together.

LevelDB sorts what was written lately and puts it into one table. While a store is filled, rows of
all kinds come mixed: such a table reaches from the first kind to the last, overlaps every other
one, and is merged with them again and again; with a million entries that cost more than all the
rest of joining. A table of one kind, whose rows come in the order of their keys, overlaps nothing
and is written once (``KeyValueStore.settle``). Knows keys and sizes, writes nothing itself.
Layout of the keys: ``ledger.storage``.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from pyrsia_node.ledger.durable import Rows

BYTES_MIN: Final = 4 * 1024 * 1024
"""What is worth a table: half of what the database sorts in memory."""

COMPLETE_BYTES_MIN: Final = 256 * 1024
"""The same for a kind of which no more comes."""


class WaitingRows:
    """Rows by kind; in memory are at most ``BYTES_MIN`` a kind, and what was added last."""

    __slots__ = ("_bytes", "_due", "_rows")

    def __init__(self) -> None:
        """Start empty."""
        self._rows: dict[str, Rows] = {}
        self._bytes: dict[str, int] = {}
        self._due: set[str] = set()

    def add(self, kind: str, rows: Rows) -> None:
        """Keep rows of one kind: between whose keys no key of another kind lies."""
        if kind not in self._rows:
            self._rows[kind], self._bytes[kind] = [], 0
        self._rows[kind] += rows
        self._bytes[kind] += sum(map(len, chain.from_iterable(rows)))

    def complete(self, kind: str, *, into: str) -> None:
        """Say that no more of a kind comes: it is due now, or joins a wider one if it is little."""
        if self._bytes.get(kind, 0) >= COMPLETE_BYTES_MIN:
            self._due.add(kind)
        elif kind in self._rows:
            del self._bytes[kind]
            self.add(into, self._rows.pop(kind))

    def forget(self, kind: str) -> None:
        """Drop what waits of a kind."""
        self._rows.pop(kind, None)
        self._bytes.pop(kind, None)

    def take(self, *, bytes_min: int = BYTES_MIN) -> list[Rows]:
        """Give out the kinds of which at least ``bytes_min`` wait; each is to be one write."""
        full = [
            kind for kind, size in self._bytes.items() if size >= bytes_min or kind in self._due
        ]
        self._due.clear()
        for kind in full:
            del self._bytes[kind]
        return [self._rows.pop(kind) for kind in full]
