"""Uploads, accounts, namespaces and notes about upstreams in ``registry.sqlite``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.ports.registry import Grant, Namespace, Proxied, Upload, UpstreamTag, User
from pyrsia_node.store.registry_db_connections import Connections


class SettingsTables:
    """A part of ``ports.registry.RegistryDb``; see there for the contract of each method."""

    def __init__(self, connections: Connections) -> None:
        """Work on an open database."""
        self._db = connections

    # ------------------------------------------------------------ uploads

    def begin_upload(self, upload: Upload) -> None:
        """Remember a new upload."""
        with self._db.writing() as db:
            db.execute(
                "INSERT INTO uploads (id, repository, written, started_ms, touched_ms)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    upload.id,
                    upload.repository,
                    upload.offset,
                    upload.started_ms,
                    upload.touched_ms,
                ),
            )

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload under way."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT id, repository, written, started_ms, touched_ms FROM uploads WHERE id = ?",
                (upload_id,),
            ).fetchone()
        return None if row is None else Upload(*row)

    def advance_upload(self, upload_id: str, *, offset: int, now_ms: int) -> None:
        """Remember how much is durable; raises NotFoundError."""
        with self._db.writing() as db:
            moved = db.execute(
                "UPDATE uploads SET written = ?, touched_ms = max(touched_ms, ?) WHERE id = ?",
                (offset, now_ms, upload_id),
            )
            if moved.rowcount == 0:
                raise NotFoundError(f"no upload {upload_id} is under way")

    def end_upload(self, upload_id: str) -> bool:
        """Forget an upload; tells whether it was there."""
        with self._db.writing() as db:
            return db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,)).rowcount > 0

    def stale_uploads(self, *, before_ms: int, limit: int) -> list[Upload]:
        """Return uploads not touched since; one that was only begun was touched then."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT id, repository, written, started_ms, touched_ms FROM uploads"
                " WHERE touched_ms < ? ORDER BY touched_ms, id LIMIT ?",
                (before_ms, limit),
            ).fetchall()
        return [Upload(*row) for row in rows]

    # ------------------------------------------------------------ accounts

    def put_user(self, user: User) -> None:
        """Add or replace an account."""
        with self._db.writing() as db:
            db.execute(
                "INSERT INTO users (name, password) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET password = excluded.password",
                (user.name, user.password),
            )
            db.execute("DELETE FROM grants WHERE user = ?", (user.name,))
            db.executemany(
                "INSERT INTO grants (user, position, prefix, may_push) VALUES (?, ?, ?, ?)",
                [
                    (user.name, position, grant.prefix, int(grant.may_push))
                    for position, grant in enumerate(user.grants)
                ],
            )

    def user(self, name: str) -> User | None:
        """Return an account."""
        with self._db.viewing() as db:
            row = db.execute("SELECT name, password FROM users WHERE name = ?", (name,)).fetchone()
            return None if row is None else _with_grants(db, row)

    def users(self) -> list[User]:
        """Return all accounts, by name."""
        with self._db.viewing() as db:
            rows = db.execute("SELECT name, password FROM users ORDER BY name").fetchall()
            return [_with_grants(db, row) for row in rows]

    def remove_user(self, name: str) -> bool:
        """Delete an account; tells whether it was there."""
        with self._db.writing() as db:
            db.execute("DELETE FROM grants WHERE user = ?", (name,))
            return db.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount > 0

    # ------------------------------------------------------------ namespaces

    def put_namespace(self, namespace: Namespace) -> None:
        """Add or replace the settings of a prefix."""
        with self._db.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO namespaces"
                " (prefix, immutable_tags, quota_bytes, is_private) VALUES (?, ?, ?, ?)",
                (
                    namespace.prefix,
                    int(namespace.immutable_tags),
                    namespace.quota_bytes,
                    int(namespace.is_private),
                ),
            )

    def namespaces(self) -> list[Namespace]:
        """Return all settings, by prefix."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT prefix, immutable_tags, quota_bytes, is_private FROM namespaces"
                " ORDER BY prefix"
            ).fetchall()
        return [_namespace(row) for row in rows]

    def remove_namespace(self, prefix: str) -> bool:
        """Delete settings; tells whether they were there."""
        with self._db.writing() as db:
            return db.execute("DELETE FROM namespaces WHERE prefix = ?", (prefix,)).rowcount > 0

    def usage(self, prefix: str) -> int:
        """Return the bytes of the distinct blobs and manifests under a prefix."""
        with self._db.reading() as db:
            return usage_of(db, prefix)

    # ------------------------------------------------------------ upstreams

    def note_upstream_tag(self, seen: UpstreamTag) -> None:
        """Remember what a tag means at its upstream."""
        with self._db.noting() as db:
            db.execute(
                "INSERT OR REPLACE INTO upstream_tags"
                " (host, repository, tag, digest, media, size, checked_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    seen.host,
                    seen.repository,
                    seen.tag,
                    seen.digest,
                    seen.media,
                    seen.size,
                    seen.checked_ms,
                ),
            )

    def upstream_tag(self, host: str, repository: str, tag: str) -> UpstreamTag | None:
        """Return what a tag meant when it was last asked."""
        with self._db.reading() as db:
            row = db.execute(
                "SELECT host, repository, tag, digest, media, size, checked_ms FROM upstream_tags"
                " WHERE host = ? AND repository = ? AND tag = ?",
                (host, repository, tag),
            ).fetchone()
        return None if row is None else UpstreamTag(*row)

    def forget_upstream_tags(self, *, before_ms: int, keep: int) -> None:
        """Forget what was last asked before, and the oldest where more than ``keep`` are left."""
        with self._db.noting() as db:
            db.execute("DELETE FROM upstream_tags WHERE checked_ms < ?", (before_ms,))
            db.execute(
                "DELETE FROM upstream_tags WHERE (host, repository, tag) IN"
                " (SELECT host, repository, tag FROM upstream_tags"
                " ORDER BY checked_ms DESC, host, repository, tag LIMIT -1 OFFSET ?)",
                (keep,),
            )

    def note_proxied(self, proxied: Iterable[Proxied]) -> None:
        """Remember local blobs that came through a proxy, or their newest uses."""
        with self._db.noting() as db:
            for each in proxied:
                _note_proxied(db, each)

    def proxied(self, *, limit: int) -> list[Proxied]:
        """Return them, least recently used first, without those that a repository holds."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT p.sha256, p.size, p.image, p.used_ms FROM proxied p"
                " WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.sha256 = p.sha256)"
                " AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.sha256 = p.sha256)"
                " ORDER BY p.used_ms, p.sha256 LIMIT ?",
                (limit,),
            ).fetchall()
        return [Proxied(*row) for row in rows]


def usage_of(db: sqlite3.Connection, prefix: str) -> int:
    """Return the bytes of the distinct blobs and manifests under a prefix ("" is everything)."""
    row = db.execute(
        "WITH here AS (SELECT id FROM repositories WHERE ?1 = '' OR name = ?1"
        " OR (name > ?1 || '/' AND name < ?1 || '0'))"
        " SELECT coalesce(sum(size), 0) FROM blobs WHERE sha256 IN"
        " (SELECT sha256 FROM links WHERE repository IN here"
        " UNION SELECT sha256 FROM manifests WHERE repository IN here)",
        (prefix,),
    ).fetchone()
    return int(row[0])


def namespace_of(db: sqlite3.Connection, repository: str) -> Namespace | None:
    """Return the settings with the longest prefix that fits, at a boundary of the path."""
    row = db.execute(
        "SELECT prefix, immutable_tags, quota_bytes, is_private FROM namespaces"
        " WHERE prefix = '' OR prefix = ?1 OR substr(?1, 1, length(prefix) + 1) = prefix || '/'"
        " ORDER BY length(prefix) DESC LIMIT 1",
        (repository,),
    ).fetchone()
    return None if row is None else _namespace(row)


def _namespace(row: tuple[str, int, int | None, int]) -> Namespace:
    return Namespace(row[0], bool(row[1]), row[2], bool(row[3]))


def _with_grants(db: sqlite3.Connection, row: tuple[str, str]) -> User:
    grants = db.execute(
        "SELECT prefix, may_push FROM grants WHERE user = ? ORDER BY position", (row[0],)
    )
    return User(row[0], row[1], tuple(Grant(prefix, bool(may)) for prefix, may in grants))


def _note_proxied(db: sqlite3.Connection, each: Proxied) -> None:
    # How lately it was used stands in its own row: its grace is the cache's order of eviction.
    known = db.execute(
        "INSERT INTO blobs (sha256, size, used_ms) VALUES (?, ?, 0) ON CONFLICT (sha256)"
        " DO UPDATE SET size = max(size, excluded.size) WHERE NOT is_closing",
        (each.sha256, each.size),
    )
    if known.rowcount == 0:
        raise UnavailableError(f"sha256:{each.sha256} is just being removed; try again")
    db.execute(
        "INSERT INTO proxied (sha256, size, image, used_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (sha256) DO UPDATE SET"
        " used_ms = max(used_ms, excluded.used_ms), image = excluded.image",
        (each.sha256, each.size, each.image, each.used_ms),
    )
