"""The search index: SQLite files derived from the log, and the pointer to the current one.

``index-<n>.sqlite`` holds the rows of ``ledger.rows``; ``index.current`` names the file in use. An
index is never repaired in place and never renamed over: SQLite's side files (``-wal``) would
overlay the new content with the old. ``reindex`` builds the next file and then moves the pointer;
a reader that still has the old file open goes on in a consistent past.

Rows of a leaf exist from commit on; readers limit every query to the published size. The rows of
a transaction and ``applied_size`` are written together, so a crash loses whole leaves from the end
and the next start adds them again. When very much is missing, the rows come first and the indexes
that serve queries last; ``loading`` in ``meta`` says so until they are there, and a start after a
crash goes on. Nothing here is trusted: see ``ledger.reader``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyrsia_node.ledger.index_batch import ROWS_MAX, BatchBuilder
from pyrsia_node.ledger.index_schema import (
    CHECK_WORDS,
    DUMPED,
    INSERT_WORDS,
    INSERTS,
    REBUILD_WORDS,
    SCHEMA_VERSION,
    SECONDARY,
    TABLES,
)
from pyrsia_node.ledger.rows import Block, block_at, read_leaf, rows_of
from pyrsia_node.ledger.tiles import LeafSource
from pyrsia_node.model.errors import CorruptStateError, DiskError, InvalidInputError
from pyrsia_node.store.files import write_atomic

POINTER: Final = "index.current"
REPAIR: Final = "pyrsia-node reindex"
_FILE_NAME: Final = re.compile(r"index-([1-9][0-9]{0,8})\.sqlite", re.ASCII)
_DISK_CODES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""Primary codes with which SQLite says that the disk, not the file, is at fault."""

_BATCH_LEAVES: Final = 2000

BULK_LEAVES_MIN: Final = 20_000
"""From so many missing leaves on, the indexes that serve queries are made after the rows."""

_CACHE_KIB: Final = 32 * 1024

_WAL_PAGES: Final = 8000
"""Pages after which the write-ahead log is folded in, 32 MiB: blocks touch the same pages often."""


class IndexWriter:
    """The one writer of the current index: the core. Use as a context manager, or ``close``."""

    def __init__(self, path: Path, *, network_id: bytes, is_scratch: bool = False) -> None:
        """Open the index file at ``path``, or make it.

        Args:
            path: The file.
            network_id: The network whose leaves it indexes.
            is_scratch: Nobody reads the file before ``finish``, and a crash may spoil it.

        Raises:
            CorruptStateError: It is damaged, of another network or of another version.
        """
        self._path = path
        self._network = network_id
        self._block: Block | None = None
        self._applied = 0
        self._is_loading = False
        with _told(path):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute(f"PRAGMA journal_mode={'OFF' if is_scratch else 'WAL'}")
                # A power cut may lose the newest transactions, never tear one; they are re-derived.
                self._db.execute(f"PRAGMA synchronous={'OFF' if is_scratch else 'NORMAL'}")
                self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
                self._db.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
                self._open()
            except BaseException:
                self._db.close()
                raise

    @classmethod
    def current(cls, root: Path, *, network_id: bytes) -> IndexWriter:
        """Open the index that the pointer in the data directory names; make the first one.

        Raises:
            CorruptStateError: As the constructor, or the pointer is damaged.
        """
        name = read_pointer(root)
        if name is not None:
            if not (root / name).is_file():
                raise CorruptStateError(f"{root / name} is missing: run '{REPAIR}'")
            return cls(root / name, network_id=network_id)
        name = f"index-{_next_number(root)}.sqlite"
        writer = cls(root / name, network_id=network_id)
        # The file first, then the pointer: a crash between leaves a file that nobody reads.
        move_pointer(root, name)
        return writer

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def applied_size(self) -> int:
        """Leaves whose rows are in the index."""
        return self._applied

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the rows of the leaves that follow ``applied_size``, in bounded transactions.

        Raises:
            CorruptStateError: A leaf is not one of the log, or the file cannot be written.
        """
        try:
            self._extend(leaves)
        except BaseException:
            self._batch.forget()
            raise

    def catch_up(self, source: LeafSource, *, size: int) -> None:
        """Add the rows of every leaf that the chain has and the index lacks."""
        missing = size - self._applied
        if missing > 0:
            if missing >= max(BULK_LEAVES_MIN, self._applied):
                self._begin_loading()
            self.extend(source.leaves(self._applied, size))
        if self._is_loading:
            self._end_loading()

    def dump_sha256(self) -> str:
        """Return the hash of all rows in key order: equal for equal content, however made."""
        tables = self.dump_sha256_by_table()
        return hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()

    def dump_sha256_by_table(self) -> dict[str, str]:
        """Return, for each table, the hash of its rows in key order."""
        with _told(self._path):
            return {table: _table_sha256(self._db, table) for table in DUMPED}

    def check_words(self) -> None:
        """Check that the full-text index fits the descriptions.

        Raises:
            CorruptStateError: It does not.
        """
        with _told(self._path):
            self._db.execute(CHECK_WORDS)

    def finish(self) -> None:
        """Make the file whole and durable, ready for readers."""
        with _told(self._path):
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA synchronous=NORMAL")
        # What was written without a journal was not synced on the way.
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the file; closing twice is no error."""
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
        """Close the file."""
        self.close()

    def _extend(self, leaves: Iterable[bytes]) -> None:
        block, position = self._block, self._applied
        for data in leaves:
            try:
                leaf = read_leaf(data)
                block = block_at(leaf, position, block)
                self._batch.add(rows_of(data, leaf, position, block, network_id=self._network))
            except InvalidInputError as error:
                raise CorruptStateError(f"leaf {position} cannot be indexed: {error}") from None
            position += 1
            if self._batch.count >= ROWS_MAX:
                self._write(position, block)
        if position > self._applied:
            self._write(position, block)

    def _begin_loading(self) -> None:
        with _told(self._path), self._transaction():
            for name in SECONDARY:
                self._db.execute(f"DROP INDEX IF EXISTS {name}")
            self._set_meta({"loading": "1"})
        self._is_loading = True

    def _end_loading(self) -> None:
        """Make what queries need. A crash between two steps leaves the rest to the next start."""
        with _told(self._path):
            for name, statement in SECONDARY.items():
                made = "SELECT 1 FROM sqlite_schema WHERE name = ?"
                if self._db.execute(made, (name,)).fetchone() is None:
                    self._db.execute(statement)
            with self._transaction():
                self._db.execute(REBUILD_WORDS)
                self._db.execute("DELETE FROM meta WHERE key = 'loading'")
        self._is_loading = False

    def _open(self) -> None:
        self._batch = BatchBuilder(self._db)
        tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables == 0:
            self._create()
            return
        meta = read_meta(self._db)
        for key, expected in (("schema", str(SCHEMA_VERSION)), ("network", self._network.hex())):
            if meta.get(key) != expected:
                raise CorruptStateError(
                    f"{self._path}: {key} is {meta.get(key)}, expected {expected}: run '{REPAIR}'"
                )
        self._applied = int(meta["applied_size"])
        self._is_loading = "loading" in meta
        found = self._db.execute(
            'SELECT height, first, "end", time_ms FROM block ORDER BY first DESC LIMIT 1'
        ).fetchone()
        self._block = None if found is None else Block(*found)

    def _create(self) -> None:
        with self._transaction():  # all tables or none, whatever happens meanwhile
            for statement in (*TABLES, *SECONDARY.values()):
                self._db.execute(statement)
            facts = {"network": self._network.hex(), "schema": str(SCHEMA_VERSION)}
            self._set_meta({**facts, "applied_size": "0"})

    def _write(self, position: int, block: Block | None) -> None:
        rows = self._batch.take()
        with _told(self._path), self._transaction():
            for table, statement in INSERTS.items():
                # Requests are inserted before the decisions on them: the dict is in that order.
                self._db.executemany(statement, rows.get(table, ()))
            if not self._is_loading:
                self._db.executemany(INSERT_WORDS, rows.get("description", ()))
            self._set_meta({"applied_size": str(position)})
        self._applied, self._block = position, block

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # where the disk was full, SQLite has rolled back already
                self._db.execute("ROLLBACK")
            raise

    def _set_meta(self, values: dict[str, str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?,?)", values.items())


def reindex(root: Path, source: LeafSource, *, size: int, network_id: bytes) -> Path:
    """Build the next index from the log and move the pointer to it. Return the new file.

    Order of the durable steps: the new file is complete and fsynced, then the pointer moves, then
    older files go. A crash leaves the old index in use, or the new one and a file too many, which
    the next run removes.

    Raises:
        CorruptStateError: The log has a leaf that cannot be indexed, or the disk refused.
    """
    name = f"index-{_next_number(root)}.sqlite"
    with IndexWriter(root / name, network_id=network_id, is_scratch=True) as writer:
        writer.catch_up(source, size=size)
        writer.finish()
    move_pointer(root, name)
    for path in root.glob("index-*.sqlite*"):
        if not path.name.startswith(name):
            path.unlink(missing_ok=True)
    return root / name


def read_pointer(root: Path) -> str | None:
    """Return the name of the current index file; None if there never was one.

    Raises:
        CorruptStateError: The pointer is damaged.
    """
    try:
        text = (root / POINTER).read_text("ascii", errors="replace")
    except FileNotFoundError:
        return None
    if not text.endswith("\n") or not _FILE_NAME.fullmatch(text[:-1]):
        raise CorruptStateError(f"{root / POINTER} is damaged: run '{REPAIR}'")
    return text[:-1]


def move_pointer(root: Path, name: str) -> None:
    """Make ``name`` the current index, durably."""
    assert _FILE_NAME.fullmatch(name)
    write_atomic(root / POINTER, f"{name}\n".encode("ascii"))


def read_meta(db: sqlite3.Connection) -> dict[str, str]:
    """Return the index's own facts: ``schema``, ``network``, ``applied_size``."""
    return dict(db.execute("SELECT key, value FROM meta").fetchall())


def _table_sha256(db: sqlite3.Connection, table: str) -> str:
    digest = hashlib.sha256()
    # The table names are the constants above; nothing from outside gets into the statement.
    for row in db.execute(f"SELECT * FROM {table} ORDER BY {DUMPED[table]}"):  # noqa: S608
        digest.update(repr(row).encode() + b"\n")
    return digest.hexdigest()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_CODES:
            raise DiskError(f"{path} cannot be written: {error}") from None
        raise CorruptStateError(f"{path} cannot be used ({error}): run '{REPAIR}'") from None
    except sqlite3.Error as error:
        raise CorruptStateError(f"{path} cannot be used ({error}): run '{REPAIR}'") from None


def _next_number(root: Path) -> int:
    numbers = [0]
    for path in root.glob("index-*"):
        match = _FILE_NAME.match(path.name)
        if match is not None:
            numbers.append(int(match[1]))
    return max(numbers) + 1
