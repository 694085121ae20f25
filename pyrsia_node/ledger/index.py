"""The search index: SQLite files derived from the log, and the pointer to the current one.

``index-<n>.sqlite`` holds the rows of ``ledger.rows``; ``index.current`` names the file in use. An
index is never repaired in place and never renamed over: SQLite's side files (``-wal``) would
overlay the new content with the old. ``reindex`` builds the next file and then moves the pointer;
a reader that still has the old file open goes on in a consistent past.

Rows of a leaf exist from commit on; readers limit every query to the published size. The rows of
a transaction and ``applied_size`` are written together, so a crash loses whole leaves from the end
and the next start adds them again. Nothing here is trusted: see ``ledger.reader``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyrsia_node.ledger.rows import Block, Row, SqlValue, block_at, rows_of
from pyrsia_node.ledger.tiles import LeafSource
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.store.files import write_atomic

POINTER: Final = "index.current"
REPAIR: Final = "pyrsia-node reindex"
SCHEMA_VERSION: Final = 1

_FILE_NAME: Final = re.compile(r"index-([1-9][0-9]{0,8})\.sqlite", re.ASCII)
_BATCH_LEAVES: Final = 2000

_SCHEMA: Final = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE block(height INTEGER PRIMARY KEY, first INTEGER, "end" INTEGER, time_ms INTEGER);
CREATE INDEX block_first ON block(first);
CREATE TABLE entry(leaf INTEGER PRIMARY KEY, type TEXT, purl TEXT, project TEXT, request TEXT,
                   height INTEGER);
CREATE INDEX entry_purl ON entry(purl, leaf) WHERE purl IS NOT NULL;
CREATE INDEX entry_project ON entry(project, leaf) WHERE project IS NOT NULL;
CREATE INDEX entry_request ON entry(request, leaf) WHERE request IS NOT NULL;
CREATE TABLE request(id TEXT PRIMARY KEY, leaf INTEGER, purl TEXT, project TEXT, sponsor TEXT,
                     status TEXT, decided INTEGER) WITHOUT ROWID;
CREATE INDEX request_decided ON request(decided);
CREATE INDEX request_status ON request(status, decided);
CREATE INDEX request_purl ON request(purl);
CREATE INDEX request_project ON request(project);
CREATE TABLE item(leaf INTEGER, request TEXT, member TEXT, outcome TEXT,
                  PRIMARY KEY(leaf, request)) WITHOUT ROWID;
CREATE INDEX item_request ON item(request, leaf);
CREATE INDEX item_member ON item(member, outcome, leaf);
CREATE TABLE file(leaf INTEGER, name TEXT, project TEXT, sha256 TEXT,
                  PRIMARY KEY(leaf, name)) WITHOUT ROWID;
CREATE INDEX file_project ON file(project, leaf);
CREATE TABLE digest(value TEXT, kind TEXT, leaf INTEGER, request TEXT,
                    PRIMARY KEY(value, kind, leaf)) WITHOUT ROWID;
CREATE TABLE dependency(project TEXT, leaf INTEGER, request TEXT,
                        PRIMARY KEY(project, leaf)) WITHOUT ROWID;
CREATE TABLE member(epoch INTEGER, id TEXT, label TEXT, leaf INTEGER,
                    PRIMARY KEY(epoch, id)) WITHOUT ROWID;
CREATE INDEX member_label ON member(label);
CREATE TABLE description(leaf INTEGER PRIMARY KEY, name TEXT, summary TEXT, author TEXT,
                         keywords TEXT, repository TEXT, licence TEXT);
CREATE VIRTUAL TABLE words USING fts5(name, summary, author, keywords, repository, licence,
                                      content='description', content_rowid='leaf');
"""

_STATEMENTS: Final = {
    "block": "INSERT INTO block VALUES(?,?,?,?)",
    "entry": "INSERT INTO entry VALUES(?,?,?,?,?,?)",
    "request": "INSERT INTO request VALUES(?,?,?,?,?,?,?)",
    "decision": "UPDATE request SET status=?, decided=? WHERE id=?",
    "item": "INSERT INTO item VALUES(?,?,?,?)",
    "file": "INSERT INTO file VALUES(?,?,?,?)",
    "digest": "INSERT OR IGNORE INTO digest VALUES(?,?,?,?)",
    "dependency": "INSERT INTO dependency VALUES(?,?,?)",
    "member": "INSERT INTO member VALUES(?,?,?,?)",
    "description": "INSERT INTO description VALUES(?,?,?,?,?,?,?)",
}
_WORDS: Final = (
    "INSERT INTO words(rowid, name, summary, author, keywords, repository, licence)"
    " VALUES(?,?,?,?,?,?,?)"
)
_DUMPED: Final = (
    *("block", "entry", "request", "item", "file", "digest", "dependency", "member"),
    "description",
)


class IndexWriter:
    """The one writer of the current index: the core. Use as a context manager, or ``close``."""

    def __init__(self, path: Path, *, network_id: bytes) -> None:
        """Open the index file at ``path``, or make it.

        Raises:
            CorruptStateError: It is damaged, of another network or of another version.
        """
        self._path = path
        self._network = network_id
        self._block: Block | None = None
        self._applied = 0
        with _told(path):
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                # A power cut may lose the newest transactions, never tear one; they are re-derived.
                self._db.execute("PRAGMA synchronous=NORMAL")
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
        rows: list[Row] = []
        block, position = self._block, self._applied
        for leaf in leaves:
            try:
                block = block_at(leaf, position, block)
                rows += rows_of(leaf, position, block, network_id=self._network)
            except InvalidInputError as error:
                raise CorruptStateError(f"leaf {position} cannot be indexed: {error}") from None
            position += 1
            if position - self._applied >= _BATCH_LEAVES:
                self._write(rows, position, block)
                rows = []
        if position > self._applied:
            self._write(rows, position, block)

    def catch_up(self, source: LeafSource, *, size: int) -> None:
        """Add the rows of every leaf that the chain has and the index lacks."""
        if size > self._applied:
            self.extend(source.leaves(self._applied, size))

    def dump_sha256(self) -> str:
        """Return the hash of all rows in key order: equal for equal content, however made."""
        tables = self.dump_sha256_by_table()
        return hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()

    def dump_sha256_by_table(self) -> dict[str, str]:
        """Return, for each table, the hash of its rows in key order."""
        with _told(self._path):
            return {table: _table_sha256(self._db, table) for table in _DUMPED}

    def check_words(self) -> None:
        """Check that the full-text index fits the descriptions.

        Raises:
            CorruptStateError: It does not.
        """
        with _told(self._path):
            self._db.execute("INSERT INTO words(words, rank) VALUES('integrity-check', 1)")

    def finish(self) -> None:
        """Fold the write-ahead log into the file and make it durable."""
        with _told(self._path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

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

    def _open(self) -> None:
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
        found = self._db.execute(
            'SELECT height, first, "end", time_ms FROM block ORDER BY first DESC LIMIT 1'
        ).fetchone()
        self._block = None if found is None else Block(*found)

    def _create(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")  # all tables or none, whatever happens meanwhile
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        facts = {"network": self._network.hex(), "schema": str(SCHEMA_VERSION)}
        self._set_meta({**facts, "applied_size": "0"})
        self._db.execute("COMMIT")

    def _write(self, rows: list[Row], position: int, block: Block | None) -> None:
        by_table: dict[str, list[tuple[SqlValue, ...]]] = {}
        for row in rows:
            by_table.setdefault(row.table, []).append(row.values)
        with _told(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for table, statement in _STATEMENTS.items():
                    # Requests are inserted before the decisions on them: the dict is in that order.
                    self._db.executemany(statement, by_table.get(table, ()))
                self._db.executemany(_WORDS, by_table.get("description", ()))
                self._set_meta({"applied_size": str(position)})
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        self._applied, self._block = position, block

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
    with IndexWriter(root / name, network_id=network_id) as writer:
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
    for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3"):  # noqa: S608
        digest.update(repr(row).encode() + b"\n")
    return digest.hexdigest()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise CorruptStateError(f"{path} cannot be used ({error}): run '{REPAIR}'") from None


def _next_number(root: Path) -> int:
    numbers = [0]
    for path in root.glob("index-*"):
        match = _FILE_NAME.match(path.name)
        if match is not None:
            numbers.append(int(match[1]))
    return max(numbers) + 1
