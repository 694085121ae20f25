"""Rows that wait until there are enough of their kind to be written together.

LevelDB sorts what was written lately and puts it into one table. While a store is filled, rows of
all kinds come mixed: such a table reaches from the first kind to the last, overlaps every other
one, and is merged with them again and again; with a million entries that cost more than all the
rest of joining. A table of one kind, whose rows come in the order of their keys, overlaps nothing
and is written once (``KeyValueStore.settle``). Knows keys and sizes, writes nothing itself.
Layout of the keys: ``ledger.storage``.
"""

from __future__ import annotations

from typing import Final

from pyrsia_node.ledger.durable import Changes

BYTES_MIN: Final = 4 * 1024 * 1024
"""What is worth a table: half of what the database sorts in memory."""

_STATE: Final = b"state"


class WaitingRows:
    """Rows by kind; in memory are at most ``BYTES_MIN`` a kind, and what was added last."""

    __slots__ = ("_bytes", "_rows")

    def __init__(self) -> None:
        """Start empty."""
        self._rows: dict[bytes, Changes] = {}
        self._bytes: dict[bytes, int] = {}

    def add(self, rows: Changes) -> None:
        """Keep rows, in any number and of any kinds."""
        waiting, sizes = self._rows, self._bytes
        for row in rows:
            key, value = row
            kind = kind_of(key)
            if kind not in waiting:
                waiting[kind], sizes[kind] = [], 0
            waiting[kind].append(row)
            sizes[kind] += len(key) + len(value or b"")

    def take(self, *, bytes_min: int = BYTES_MIN) -> list[Changes]:
        """Give out the kinds of which at least ``bytes_min`` wait; each is to be one write."""
        full = [kind for kind, size in self._bytes.items() if size >= bytes_min]
        for kind in full:
            del self._bytes[kind]
        return [self._rows.pop(kind) for kind in full]


def kind_of(key: bytes) -> bytes:
    """Return what comes before the number, hash or name in a key; of the state, its kind of key."""
    _, kind, rest = key.split(b"/", 2)
    return kind if kind != _STATE else rest[: rest.index(b"/")]
