"""What garbage collection and fsck ask of ``registry.sqlite``.

The order of durable steps of a removal: ``begin_removal`` is synced before it returns, so that
bytes go only while their row is closed and no repository names them; ``end_removal`` need not be:
a row that a power cut brings back is closed still, and the next collection ends it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from pyrsia_node.ports.registry import Reason, RepositoryBlob
from pyrsia_node.store.registry_db_connections import Connections
from pyrsia_node.store.registry_db_steps import forget_if_empty

_TAGS: Final = (
    "SELECT 'tag', repository, tag, NULL FROM tagged_manifests WHERE digest = ?"
    " ORDER BY repository, tag"
)
_NEEDS: Final = (
    "SELECT 'manifest', r.name, n.manifest, NULL FROM repositories r"
    " JOIN needs n ON n.repository = r.id WHERE n.digest = ? ORDER BY r.name, n.manifest"
)
_SUBJECTS: Final = (
    "SELECT 'subject', repository, subject, NULL FROM named_manifests"
    " WHERE digest = ? AND subject IS NOT NULL ORDER BY repository"
)
_STORED: Final = (
    "SELECT 'stored', r.name, m.digest, NULL FROM repositories r"
    " JOIN manifests m ON m.repository = r.id WHERE m.digest = ? AND m.subject IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM tags WHERE repository = r.id AND digest = m.digest)"
    " AND NOT EXISTS (SELECT 1 FROM needs WHERE repository = r.id AND digest = m.digest)"
    " ORDER BY r.name"
)
_LINKS: Final = (
    "SELECT 'blob', r.name, l.digest, l.used_ms FROM repositories r"
    " JOIN links l ON l.repository = r.id WHERE l.digest = ? AND l.needs = 0 ORDER BY r.name"
)
_USED: Final = (
    "SELECT 'used', '', sha256, used_ms FROM blobs b WHERE sha256 = ? AND NOT is_closing"
    " AND keeps = 0 AND NOT EXISTS (SELECT 1 FROM links l WHERE l.sha256 = b.sha256)"
)
_BY_NAME: Final = (_TAGS, _NEEDS, _SUBJECTS, _STORED, _LINKS)
_BY_BYTES: Final = (
    "SELECT 'proxied', '', image, used_ms FROM proxied WHERE sha256 = ?",
    "SELECT 'closing', '', sha256, used_ms FROM blobs WHERE sha256 = ? AND is_closing",
    _USED,
)


class RemovalTables:
    """A part of ``ports.registry.RegistryDb``; see there for the contract of each method."""

    def __init__(self, connections: Connections) -> None:
        """Work on an open database."""
        self._db = connections

    def removable(self, *, before_ms: int, limit: int) -> list[RepositoryBlob]:
        """Return blobs that nothing needs and that were last used before; also half removed."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT sha256, size, 0 AS used_ms FROM blobs WHERE is_closing UNION"
                " SELECT sha256, size, used_ms FROM blobs"
                " WHERE keeps = 0 AND used_ms < ? AND NOT is_closing"
                " ORDER BY used_ms, sha256 LIMIT ?",
                (before_ms, limit),
            ).fetchall()
        return [_bytes(sha256, size) for sha256, size, _ in rows]

    def unlink_unneeded(self, *, before_ms: int, limit: int) -> int:
        """Take blobs out of repositories that do not need them, last used before."""
        with self._db.writing() as db:
            rows = db.execute(
                "SELECT repository, digest FROM links WHERE needs = 0 AND used_ms < ? LIMIT ?",
                (before_ms, limit),
            ).fetchall()
            db.executemany("DELETE FROM links WHERE repository = ? AND digest = ?", rows)
            for repository in {repository for repository, _ in rows}:
                forget_if_empty(db, repository)
            return len(rows)

    def count_unneeded(self, *, before_ms: int) -> int:
        """Return how many blobs ``unlink_unneeded`` would take out."""
        with self._db.reading() as db:
            query = "SELECT count(*) FROM links WHERE needs = 0 AND used_ms < ?"
            return int(db.execute(query, (before_ms,)).fetchone()[0])

    def begin_removal(self, sha256: str, *, before_ms: int) -> bool:
        """Close a blob, if it is still removable: from now on ``add_blob`` waits for its end."""
        with self._db.writing() as db:
            closed = db.execute(
                "UPDATE blobs SET is_closing = 1"
                " WHERE sha256 = ? AND (is_closing OR (keeps = 0 AND used_ms < ?))",
                (sha256, before_ms),
            )
            if closed.rowcount == 0:
                return False
            _unlink_everywhere(db, sha256)
            return True

    def cancel_removal(self, sha256: str) -> None:
        """Open a closed blob again, whose bytes could not be removed now."""
        with self._db.writing() as db:
            db.execute("UPDATE blobs SET is_closing = 0 WHERE sha256 = ?", (sha256,))

    def end_removal(self, sha256: str) -> None:
        """Forget a blob whose bytes are gone."""
        with self._db.noting() as db:
            db.execute("DELETE FROM blobs WHERE sha256 = ? AND is_closing", (sha256,))

    def evict_proxied(self, sha256: str, *, used_ms: int) -> bool:
        """Let a proxied blob go unless it was used after ``used_ms``; tells whether it may go."""
        with self._db.writing() as db:
            gone = db.execute(
                "DELETE FROM proxied WHERE sha256 = ? AND used_ms <= ?", (sha256, used_ms)
            )
            return gone.rowcount > 0

    def known(self, sha256: Sequence[str]) -> set[str]:
        """Return which of these bytes the registry knows at all, to find orphans."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT sha256 FROM blobs WHERE sha256 IN (SELECT value FROM json_each(?))",
                (json.dumps(list(sha256)),),
            ).fetchall()
        return {found for (found,) in rows}

    def note_orphans(self, found: Iterable[tuple[str, int]]) -> None:
        """Remember bytes (SHA-256, size) that were unknown as removable; known ones are left."""
        with self._db.noting() as db:
            db.executemany(
                "INSERT OR IGNORE INTO blobs (sha256, size, used_ms) VALUES (?, ?, 0)", list(found)
            )

    def rows(self, *, after: str, limit: int) -> list[RepositoryBlob]:
        """Return all bytes that the registry names, by SHA-256 > ``after``, for fsck."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT sha256, size FROM blobs b WHERE sha256 > ? AND NOT is_closing"
                " AND (keeps > 0 OR EXISTS (SELECT 1 FROM links l WHERE l.sha256 = b.sha256))"
                " ORDER BY sha256 LIMIT ?",
                (after, limit),
            ).fetchall()
        return [_bytes(sha256, size) for sha256, size in rows]

    def reasons(self, digest: str) -> list[Reason]:
        """Return why a blob or manifest is kept; empty if nothing keeps it."""
        with self._db.viewing() as db:
            sha256 = _sha256_of(db, digest)
            found: list[Reason] = []
            for name in (digest, *_other_names(db, sha256, digest)):
                found += _reasons_of_name(db, name)
            return found + _reasons_of_bytes(db, sha256)


def _bytes(sha256: str, size: int) -> RepositoryBlob:
    return RepositoryBlob(f"sha256:{sha256}", sha256, size)


def _unlink_everywhere(db: sqlite3.Connection, sha256: str) -> None:
    rows = db.execute("SELECT DISTINCT repository FROM links WHERE sha256 = ?", (sha256,))
    repositories = [repository for (repository,) in rows.fetchall()]
    db.execute("DELETE FROM links WHERE sha256 = ?", (sha256,))
    for repository in repositories:
        forget_if_empty(db, repository)


def _sha256_of(db: sqlite3.Connection, digest: str) -> str:
    """Return where the bytes of a digest are, as hex; "" for a SHA-512 name that nobody has."""
    if digest.startswith("sha256:"):
        return digest.removeprefix("sha256:")
    row = db.execute(
        "SELECT sha256 FROM links WHERE digest = ?1 UNION ALL"
        " SELECT sha256 FROM manifests WHERE digest = ?1 LIMIT 1",
        (digest,),
    ).fetchone()
    return "" if row is None else str(row[0])


def _other_names(db: sqlite3.Connection, sha256: str, digest: str) -> list[str]:
    rows = db.execute(
        "SELECT digest FROM links WHERE sha256 = ?1 UNION"
        " SELECT digest FROM manifests WHERE sha256 = ?1 ORDER BY digest",
        (sha256,),
    ).fetchall()
    return [name for (name,) in rows if name != digest]


def _reasons_of_name(db: sqlite3.Connection, digest: str) -> list[Reason]:
    rows: list[tuple[str, str, str, int | None]] = []
    for query in _BY_NAME:
        rows += db.execute(query, (digest,)).fetchall()
    return [Reason(*row) for row in rows]


def _reasons_of_bytes(db: sqlite3.Connection, sha256: str) -> list[Reason]:
    rows: list[tuple[str, str, str, int | None]] = []
    for query in _BY_BYTES:
        rows += db.execute(query, (sha256,)).fetchall()
    return [Reason(*row) for row in rows]
