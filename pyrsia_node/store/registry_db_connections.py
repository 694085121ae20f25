"""Connections to a SQLite file of ours: one that writes, behind a lock, and some that read.

WAL with ``synchronous = FULL``: readers never wait, and a commit is one write and one sync of the
``-wal`` file. What only notes something commits without the sync; such a commit is lost by a power
cut at most, and the next full one makes it durable, too.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import (
    CorruptStateError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.store.files import sync_directory
from pyrsia_node.store.registry_db_schema import migrate

_RETRYABLE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
)
_BUSY_SECONDS: Final = 10.0
"""How long to wait for another process, which is normally a backup."""
_CACHE_PAGES: Final = 4096
_CHECKPOINT_PAGES: Final = 4000
"""Pages of the ``-wal`` file after which a commit moves them into the database (measured: a push of
a manifest takes a quarter less time than with SQLite's 1000)."""
_IDLE_READERS_MAX: Final = 16


class Connections:
    """Opens, lends and closes the connections to one file."""

    def __init__(
        self,
        path: Path,
        *,
        create: bool,
        migrate: Callable[[sqlite3.Connection, object], None] = migrate,
    ) -> None:
        """Open the file and bring its tables to today's version.

        Args:
            path: The database file.
            create: Whether an absent file is made.
            migrate: Brings its tables to today's version: those of the registry by default.

        Raises:
            NotFoundError: It is absent and is not to be made.
            CorruptStateError: It is damaged, of another program, or of a newer version.
        """
        if not path.exists():
            if not create:
                raise NotFoundError(f"{path} is missing")
            path.touch(mode=0o600)
        self._path = path
        self.changes = 0
        """Grows with every transaction: what was read under another number may be old."""
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        with self._told():
            self._writer = self._connect()
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute("PRAGMA foreign_keys = ON")
                self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                migrate(self._writer, path)
            except BaseException:
                self._writer.close()
                raise
        sync_directory(path.parent)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the writing connection for one transaction, durable at the end.

        Any exception, also one of the caller's, undoes all of it.
        """
        with self._told(), self._lock:
            try:
                with _transaction(self._writer):
                    yield self._writer
            finally:
                # After the commit: who saw the number before it looks again.
                self.changes += 1

    @contextlib.contextmanager
    def noting(self) -> Iterator[sqlite3.Connection]:
        """Lend it for one transaction that a power cut may undo as a whole."""
        with self._told(), self._lock:
            self._writer.execute("PRAGMA synchronous = NORMAL")
            try:
                with _transaction(self._writer):
                    yield self._writer
            finally:
                self._writer.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees what was committed; each statement is its own view."""
        with self._told():
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._connect()
                db.execute("PRAGMA query_only = ON")
            try:
                yield db
            finally:
                if len(self._idle) < _IDLE_READERS_MAX:
                    self._idle.append(db)
                else:
                    db.close()

    @contextlib.contextmanager
    def viewing(self) -> Iterator[sqlite3.Connection]:
        """Lend a reading connection whose statements all see the same state."""
        with self.reading() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                db.execute("COMMIT")

    def close(self) -> None:
        """Close all connections; nobody may be using one."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun and ended by hand; a connection is used by one thread at a time.
        db = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
        )
        db.execute(f"PRAGMA cache_size = {_CACHE_PAGES}")
        return db

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, which name the file."""
        try:
            yield
        except PyrsiaError:
            raise
        except sqlite3.IntegrityError:
            raise  # our own code is wrong
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _RETRYABLE:
                raise UnavailableError(f"cannot write {self._path}: {error}") from error
            raise CorruptStateError(f"{self._path}: {error}") from error


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # A full disk has rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
