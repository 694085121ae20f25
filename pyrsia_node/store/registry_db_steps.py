"""Steps of the transactions that change content in ``registry.sqlite``; each needs an open one."""

from __future__ import annotations

import json
import sqlite3
from typing import Final

from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.ports.registry import (
    InUseError,
    QuotaExceededError,
    RepositoryBlob,
    StoredManifest,
)
from pyrsia_node.store.registry_db_settings import namespace_of, usage_of

ManifestRow = tuple[str, str, int, str, str, str | None, str, str]
"""Digest, SHA-256, size, media type, what it needs, subject, artifact type, annotations."""

BY_DIGEST: Final = (
    "SELECT digest, sha256, size, media, needs, subject, artifact_type, annotations"
    " FROM named_manifests WHERE repository = ? AND digest = ?"
)

_MISSING_NAMED_MAX: Final = 100

_RENEW_LINKS: Final = (
    "UPDATE links SET used_ms = max(used_ms, ?1) WHERE repository = ?2 AND digest IN"
    " (SELECT digest FROM needs WHERE repository = ?2 AND manifest = ?3)"
)
_RENEW_BLOBS: Final = (
    "UPDATE blobs SET used_ms = max(used_ms, ?1) WHERE sha256 IN"
    " (SELECT sha256 FROM links WHERE repository = ?2 AND digest IN"
    " (SELECT digest FROM needs WHERE repository = ?2 AND manifest = ?3)"
    " UNION SELECT sha256 FROM manifests WHERE repository = ?2 AND digest = ?3)"
)


def use_bytes(db: sqlite3.Connection, sha256: str, size: int, now_ms: int) -> None:
    """Note a use of some bytes, making their row; ``size`` 0 is not known yet.

    Raises:
        UnavailableError: They are just being removed.
    """
    changed = db.execute(
        "INSERT INTO blobs (sha256, size, used_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (sha256) DO UPDATE SET"
        " used_ms = max(used_ms, excluded.used_ms), size = max(size, excluded.size)"
        " WHERE NOT is_closing",
        (sha256, size, now_ms),
    )
    if changed.rowcount == 0:
        raise UnavailableError(f"sha256:{sha256} is just being removed; try again")


def forget_if_empty(db: sqlite3.Connection, repository: int) -> None:
    """Forget a repository's name once it holds nothing; its tags' history stays."""
    db.execute(
        "DELETE FROM repositories WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM links WHERE repository = id)"
        " AND NOT EXISTS (SELECT 1 FROM manifests WHERE repository = id)",
        (repository,),
    )


def repository_id(db: sqlite3.Connection, name: str) -> int:
    """Return the row's number, or -1."""
    row = db.execute("SELECT id FROM repositories WHERE name = ?", (name,)).fetchone()
    return -1 if row is None else int(row[0])


def make_repository(db: sqlite3.Connection, name: str) -> int:
    """Return the row's number, making it if there is none."""
    found = repository_id(db, name)
    if found >= 0:
        return found
    return int(db.execute("INSERT INTO repositories (name) VALUES (?)", (name,)).lastrowid or 0)


def link(db: sqlite3.Connection, repository: str, blob: RepositoryBlob, now_ms: int) -> None:
    """Make a blob part of a repository, or renew its use there.

    Raises:
        QuotaExceededError: The namespace would hold more than it may.
        UnavailableError: It is just being removed.
    """
    found = make_repository(db, repository)
    use_bytes(db, blob.sha256, blob.size, now_ms)
    renewed = db.execute(
        "UPDATE links SET used_ms = max(used_ms, ?) WHERE repository = ? AND digest = ?",
        (now_ms, found, blob.digest),
    )
    if renewed.rowcount:
        return
    # A manifest may need it by now: then it came as a child manifest before.
    db.execute(
        "INSERT INTO links (repository, digest, sha256, used_ms, needs) SELECT ?1, ?2, ?3, ?4,"
        " (SELECT count(*) FROM needs WHERE repository = ?1 AND digest = ?2)",
        (found, blob.digest, blob.sha256, now_ms),
    )
    _check_quota(db, repository)


def _check_quota(db: sqlite3.Connection, repository: str) -> None:
    """Refuse what was just written, if it is too much: the exception undoes it."""
    namespace = namespace_of(db, repository)
    if namespace is None or namespace.quota_bytes is None:
        return
    used = usage_of(db, namespace.prefix)
    if used > namespace.quota_bytes:
        raise QuotaExceededError(
            f"{repository}: namespace {namespace.prefix!r} would hold {used} bytes,"
            f" more than its quota of {namespace.quota_bytes}"
        )


def check_unneeded(db: sqlite3.Connection, repository: str, digest: str) -> None:
    """Raise InUseError if a manifest of the repository needs the blob or manifest."""
    row = db.execute(
        "SELECT n.manifest FROM repositories r JOIN needs n ON n.repository = r.id"
        " WHERE r.name = ? AND n.digest = ? ORDER BY n.manifest LIMIT 1",
        (repository, digest),
    ).fetchone()
    if row is not None:
        raise InUseError(f"{digest} is needed in {repository} by {row[0]}; delete that first")


def place_manifest(
    db: sqlite3.Connection, repository: str, manifest: StoredManifest, now_ms: int
) -> int:
    """Write a manifest's row and what it needs, in place of a row of the same digest.

    A manifest that is there already as it is makes no change.

    Returns:
        The number of the repository's row.

    Raises:
        NotFoundError: Something it needs is not part of the repository.
        QuotaExceededError: The namespace would hold more than it may.
        UnavailableError: Its bytes are just being removed.
    """
    row = db.execute(BY_DIGEST, (repository, manifest.digest)).fetchone()
    found = make_repository(db, repository)
    if row == row_of(manifest):
        return found
    _check_needs(db, found, repository, manifest)
    use_bytes(db, manifest.sha256, manifest.size, now_ms)
    if row is not None:
        # Pushed again as another media type, the same bytes are read anew; tags on it stay.
        db.execute("PRAGMA defer_foreign_keys = ON")
        delete_manifest(db, found, manifest.digest, now_ms)
    db.execute(
        "INSERT INTO manifests (repository, digest, sha256, size, media, needs, subject,"
        " artifact_type, annotations) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (found, *row_of(manifest)),
    )
    db.executemany(
        "INSERT OR IGNORE INTO needs (repository, digest, manifest) VALUES (?, ?, ?)",
        [(found, need, manifest.digest) for need in manifest.needs],
    )
    _check_quota(db, repository)
    return found


def _check_needs(
    db: sqlite3.Connection, repository: int, name: str, manifest: StoredManifest
) -> None:
    rows = db.execute(
        "SELECT DISTINCT value FROM json_each(?1) WHERE"
        " NOT EXISTS (SELECT 1 FROM links WHERE repository = ?2 AND digest = value) AND"
        " NOT EXISTS (SELECT 1 FROM manifests WHERE repository = ?2 AND digest = value)"
        " LIMIT ?3",
        (json.dumps(manifest.needs), repository, _MISSING_NAMED_MAX),
    ).fetchall()
    if rows:
        missing = "\n".join(digest for (digest,) in rows)
        raise NotFoundError(f"{manifest.digest} needs what {name} does not have:\n{missing}")


def delete_manifest(db: sqlite3.Connection, repository: int, digest: str, now_ms: int) -> None:
    """Delete the row, if there is one; the grace of what it needed begins now."""
    db.execute(_RENEW_LINKS, (now_ms, repository, digest))
    db.execute(_RENEW_BLOBS, (now_ms, repository, digest))
    db.execute("DELETE FROM needs WHERE repository = ? AND manifest = ?", (repository, digest))
    db.execute("DELETE FROM manifests WHERE repository = ? AND digest = ?", (repository, digest))


def row_of(manifest: StoredManifest) -> ManifestRow:
    """Return a manifest as ``BY_DIGEST`` gives it."""
    return (
        manifest.digest,
        manifest.sha256,
        manifest.size,
        manifest.media,
        " ".join(manifest.needs),
        manifest.subject,
        manifest.artifact_type,
        manifest.annotations,
    )


def manifest_of(row: ManifestRow) -> StoredManifest:
    """Return the manifest that a row of ``BY_DIGEST`` holds."""
    digest, sha256, size, media, needs, subject, artifact_type, annotations = row
    return StoredManifest(
        digest, sha256, size, media, tuple(needs.split()), subject, artifact_type, annotations
    )
