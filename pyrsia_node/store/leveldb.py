"""``ports.KeyValueStore`` over LevelDB. The only module that imports plyvel.

LevelDB locks its folder against other processes; a child made by fork would share the open files
and silently lose writes, so every write checks that the process is still the one that opened.
Every read verifies checksums: a damaged block is an error, never a missing or wrong value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import plyvel

from pyrsia_node.model.errors import CorruptStateError, DiskError, UnavailableError
from pyrsia_node.ports import KeyValueReader, KeyValueStore

_WRITE_BUFFER_BYTES = 8 * 1024 * 1024
_CACHE_BYTES = 16 * 1024 * 1024
_FILTER_BITS_PER_KEY = 10
_OPEN_FILES_MAX = 128
"""Tables of 2 to 4 MiB are read through the page cache; so many may count as this process's."""

_BEYOND_ALL_KEYS = b"\xff" * 16


class _Iterator(Protocol):
    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...

    def close(self) -> None: ...


class _View(Protocol):
    """What plyvel's databases and snapshots share."""

    def get(self, key: bytes, *, verify_checksums: bool) -> bytes | None: ...

    def iterator(
        self, *, start: bytes, stop: bytes | None, include_start: bool, verify_checksums: bool
    ) -> _Iterator: ...


class LevelDbStore(KeyValueStore):
    """An open database folder. Threads may read while one writes; close it when none does.

    Use as a context manager, or call ``close``.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the folder.

        Args:
            path: The database folder.
            create: Make it when absent; otherwise absence is an error.

        Raises:
            UnavailableError: Another process has it open, or it cannot be read.
            CorruptStateError: It is no intact database.
        """
        try:
            self._db = plyvel.DB(
                os.fspath(path),
                create_if_missing=create,
                paranoid_checks=True,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                lru_cache_size=_CACHE_BYTES,
                bloom_filter_bits=_FILTER_BITS_PER_KEY,
                max_open_files=_OPEN_FILES_MAX,
            )
        except plyvel.IOError as error:
            if "lock" in str(error).lower():
                raise UnavailableError(f"{path} is open in another process: {error}") from None
            raise UnavailableError(f"{path} cannot be opened: {error}") from None
        except plyvel.Error as error:
            raise CorruptStateError(f"{path} is no intact database: {error}") from None
        self._path = path
        self._process = os.getpid()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return _get(self._db, key, self._path)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) under ``prefix`` in key order, keys > ``after``.

        The view is that of the first step; writes during the scan do not show.
        """
        return _scan(self._db, prefix, after, self._path)

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """Apply all changes or none; None deletes. With ``sync`` durable on return.

        Raises:
            DiskError: The disk refused; the process must not go on with this state.
            CorruptStateError: The database is damaged.
        """
        assert os.getpid() == self._process, "the database was opened before a fork"
        batch = self._db.write_batch(sync=sync)
        for key, value in changes:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            batch.write()
        except plyvel.IOError as error:
            # After a failed fsync nobody can tell what is on disk: stop, restart, look.
            raise DiskError(f"{self._path} cannot be written: {error}") from None
        except plyvel.Error as error:
            raise CorruptStateError(f"{self._path} cannot be written: {error}") from None

    def settle(self) -> None:
        """Put what was written into a table of its own. Waits for the disk.

        The table and LevelDB's list of tables are synced. It tells nobody when the disk refuses,
        but remembers: then the next write fails, with ``DiskError``.
        """
        # Compacting a range that no key is in writes out the memtable and merges nothing.
        self._db.compact_range(start=_BEYOND_ALL_KEYS, stop=_BEYOND_ALL_KEYS)

    @contextmanager
    def snapshot(self) -> Iterator[KeyValueReader]:
        """Return a view that later writes do not change; close it by leaving the context."""
        view = self._db.snapshot()
        try:
            yield _SnapshotReader(view, self._path)
        finally:
            view.close()

    def close(self) -> None:
        """Close the database and release its lock; closing twice is no error."""
        self._db.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the database."""
        self.close()


class _SnapshotReader(KeyValueReader):
    def __init__(self, view: _View, path: Path) -> None:
        self._view = view
        self._path = path

    def get(self, key: bytes) -> bytes | None:
        return _get(self._view, key, self._path)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return _scan(self._view, prefix, after, self._path)


def _get(view: _View, key: bytes, path: Path) -> bytes | None:
    try:
        return view.get(key, verify_checksums=True)
    except plyvel.Error as error:
        raise CorruptStateError(f"{path} cannot be read: {error}") from None


def _scan(view: _View, prefix: bytes, after: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    start = max(prefix, after)
    iterator = view.iterator(
        start=start,
        stop=_prefix_end(prefix),
        include_start=after < prefix or after == b"",
        verify_checksums=True,
    )
    try:
        yield from iterator
    except plyvel.Error as error:
        raise CorruptStateError(f"{path} cannot be read: {error}") from None
    finally:
        iterator.close()


def _prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key after all keys with ``prefix``; None if there is no such key."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None
