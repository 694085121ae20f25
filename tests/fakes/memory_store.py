"""``ports.KeyValueStore`` in memory; conforms to the same suite as LevelDB."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyrsia_node.ports import KeyValueReader, KeyValueStore


class MemoryReader(KeyValueReader):
    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self._entries = entries

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        entries = dict(self._entries)
        keys = sorted(entries)
        first = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        for key in keys[first:]:
            if not key.startswith(prefix):
                return
            yield key, entries[key]


class MemoryKeyValueStore(MemoryReader, KeyValueStore):
    def __init__(self) -> None:
        super().__init__({})
        self.synced_writes = 0
        self.settled = 0

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        staged = list(changes)  # all or none: an iterator that raises leaves nothing
        for key, value in staged:
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = value
        self.synced_writes += sync

    def settle(self) -> None:
        self.settled += 1

    @contextmanager
    def snapshot(self) -> Iterator[KeyValueReader]:
        yield MemoryReader(dict(self._entries))
