"""The file behind ``ports.maven.MavenDb``: ``maven.sqlite`` of a data directory.

A memory of what can be had again, so a damaged file is put aside and a new one begun: the node
serves on, and asks its upstreams once more. Tables: :mod:`pyrsia_node.store.maven_db_schema`.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.ports.maven import Digests, KeptFile, KeptListing
from pyrsia_node.store.maven_db_schema import migrate
from pyrsia_node.store.registry_db_connections import Connections

LISTING_ROWS_MAX: Final = 16_384
LISTING_BYTES_MAX: Final = 128 * 1024 * 1024
"""Of all listings together: some clients ask for whatever they like, some upstreams send much."""

_log: Final = logging.getLogger("pyrsia.store.maven")


def open_maven_db(path: Path) -> SqliteMavenDb:
    """Open the database of a data directory, making it where there is none.

    A damaged one is renamed to ``….damaged`` and reported: it only remembered what can be had
    again.

    Raises:
        CorruptStateError: It is another program's, or of a newer version.
        UnavailableError: The disk is full, or the folder cannot be written.
    """
    try:
        return SqliteMavenDb(path, create=True)
    except CorruptStateError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError):
            raise
        put_aside(path)
        _log.error("%s; it was put aside, and what it knew will be asked for again", error)
        return SqliteMavenDb(path, create=True)


def put_aside(path: Path) -> Path:
    """Rename a damaged database and return its new name; one put aside before is lost.

    What SQLite keeps beside the file belongs to the damaged one and goes first: a crash after
    that leaves a database without its newest rows, which is damaged or not, and either is well.
    """
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    return path.replace(path.with_name(f"{path.name}.damaged"))


class SqliteMavenDb:
    """Implements ``ports.maven.MavenDb``; see there for the contract of each method."""

    def __init__(
        self,
        path: Path,
        *,
        create: bool = False,
        listing_rows_max: int = LISTING_ROWS_MAX,
        listing_bytes_max: int = LISTING_BYTES_MAX,
    ) -> None:
        """Open the database and bring it to today's version.

        Args:
            path: ``maven.sqlite`` of a data directory.
            create: Whether an absent file is made.
            listing_rows_max: How many listings are kept.
            listing_bytes_max: How many bytes their bodies have together; the newest stays anyhow.

        Raises:
            NotFoundError: It is absent and is not to be made.
            CorruptStateError: It is damaged, another program's, or of a newer version.
        """
        self._db = Connections(path, create=create, migrate=migrate)
        self._listing_rows_max = listing_rows_max
        self._listing_bytes_max = listing_bytes_max

    def close(self) -> None:
        """Close the file; nobody may be using it. A second call does nothing."""
        self._db.close()

    # ------------------------------------------------------------ bytes

    def digests(self, sha256: str) -> Digests | None:
        """Return what is known of these bytes."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT sha256, size, pieces, sha1, md5, sha512 FROM digests WHERE sha256 = ?",
                (sha256,),
            ).fetchone()
        return None if row is None else Digests(*row)

    def note_digests(self, digests: Digests) -> None:
        """Remember what was computed."""
        with self._db.noting() as db:
            _note(db, digests)

    # ------------------------------------------------------------ files

    def file(self, path: str) -> KeptFile | None:
        """Return the file that was taken in under a path."""
        with self._db.reading() as db:
            row = db.execute("SELECT * FROM kept_files WHERE path = ?", (path,)).fetchone()
        return None if row is None else _kept(row)

    def keep_file(self, file: KeptFile) -> None:
        """Remember a file whose blob is stored, with its digests; replaces an earlier one."""
        with self._db.noting() as db:
            _note(db, file.digests)
            db.execute(
                "INSERT OR REPLACE INTO files"
                " (path, upstream, sha256, checked, modified_s, kept_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    file.path,
                    file.upstream,
                    file.digests.sha256,
                    file.checked,
                    file.modified_s,
                    file.kept_ms,
                ),
            )

    def files(self, *, after: str, limit: int) -> list[KeptFile]:
        """Return kept files by path > ``after``, in order."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT * FROM kept_files WHERE path > ? ORDER BY path LIMIT ?", (after, limit)
            ).fetchall()
        return [_kept(row) for row in rows]

    # ------------------------------------------------------------ listings

    def listing(self, path: str, upstream: str) -> KeptListing | None:
        """Return what an upstream's listing last was."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT path, upstream, body, etag, modified, asked_ms FROM listings"
                " WHERE path = ? AND upstream = ?",
                (path, upstream),
            ).fetchone()
        return None if row is None else KeptListing(*row)

    def keep_listing(self, listing: KeptListing) -> None:
        """Remember a listing; replaces the one before, and those kept longest ago if too many."""
        with self._db.noting() as db:
            db.execute(
                "INSERT OR REPLACE INTO listings"
                " (path, upstream, body, etag, modified, asked_ms, size)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    listing.path,
                    listing.upstream,
                    listing.body,
                    listing.etag,
                    listing.modified,
                    listing.asked_ms,
                    len(listing.body),
                ),
            )
            self._drop_oldest_listings(db)

    def _drop_oldest_listings(self, db: sqlite3.Connection) -> None:
        """Keep within the bounds.

        What replaces a row gets the highest row number, so the order is that in which listings were
        last asked about, whatever the clock did since; one in use is asked about again and again.
        """
        rows, size = db.execute("SELECT count(*), total(size) FROM listings").fetchone()
        while rows > 1 and (rows > self._listing_rows_max or size > self._listing_bytes_max):
            number, gone = db.execute(
                "SELECT rowid, size FROM listings ORDER BY rowid LIMIT 1"
            ).fetchone()
            db.execute("DELETE FROM listings WHERE rowid = ?", (number,))
            rows, size = rows - 1, size - gone


def _note(db: sqlite3.Connection, digests: Digests) -> None:
    db.execute(
        "INSERT OR IGNORE INTO digests (sha256, size, pieces, sha1, md5, sha512)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            digests.sha256,
            digests.size,
            digests.pieces,
            digests.sha1,
            digests.md5,
            digests.sha512,
        ),
    )


_Row = tuple[str, str, str, int, int, str, int, str, str, str, str]


def _kept(row: _Row) -> KeptFile:
    path, upstream, checked, modified_s, kept_ms, sha256, size, pieces, sha1, md5, sha512 = row
    digests = Digests(sha256, size, pieces, sha1, md5, sha512)
    return KeptFile(path, upstream, digests, checked, modified_s, kept_ms)
