"""Blobs, manifests and tags in ``registry.sqlite``: what pushes write and pulls read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pyrsia_node.ports.registry import RepositoryBlob, StoredManifest, TagChange, referrer_bytes
from pyrsia_node.store.registry_db_connections import Connections
from pyrsia_node.store.registry_db_steps import (
    BY_DIGEST,
    check_unneeded,
    delete_manifest,
    forget_if_empty,
    link,
    manifest_of,
    place_manifest,
    repository_id,
    use_bytes,
)
from pyrsia_node.store.registry_db_tagging import Tagging

_BLOB: Final = (
    "SELECT digest, sha256, size, is_needed FROM named_blobs WHERE repository = ? AND digest = ?"
)
_BY_TAG: Final = (
    "SELECT digest, sha256, size, media, needs, subject, artifact_type, annotations"
    " FROM tagged_manifests WHERE repository = ? AND tag = ?"
)
_REFERRERS: Final = (
    "SELECT digest, sha256, size, media, needs, subject, artifact_type, annotations"
    " FROM named_manifests WHERE repository = ?1 AND subject = ?2 AND digest > ?3"
    " AND (?4 IS NULL OR artifact_type = ?4) ORDER BY digest"
)
_ROWS_KEPT: Final = 4096
_ROW_LENGTH_KEPT: Final = 4096
"""Longer rows, with many parts or long annotations, are not kept in memory; few are."""

_T = TypeVar("_T")


class ContentTables:
    """The half of ``ports.registry.RegistryDb`` that names content; see there for contracts."""

    def __init__(self, connections: Connections) -> None:
        """Work on an open database."""
        self._db = connections
        # This process alone writes, so a row that was read since its last write is still so.
        self._blobs: dict[tuple[str, str], tuple[int, RepositoryBlob]] = {}
        self._manifests: dict[tuple[str, str], tuple[int, StoredManifest]] = {}
        self._kept_at = 0

    # ------------------------------------------------------------ blobs

    def claim(self, sha256: str, *, now_ms: int) -> None:
        """Say that these bytes are about to be put into the store and to be named."""
        with self._db.noting() as db:
            use_bytes(db, sha256, 0, now_ms)
            # Who claims what he need not push relies on its name, too.
            db.execute(
                "UPDATE links SET used_ms = max(used_ms, ?) WHERE sha256 = ?", (now_ms, sha256)
            )

    def add_blob(
        self,
        repository: str,
        blob: RepositoryBlob,
        *,
        now_ms: int,
        upload_id: str | None = None,
    ) -> None:
        """Make a blob part of a repository; again is a use of it, which renews its grace."""
        with self._db.writing() as db:
            link(db, repository, blob, now_ms)
            if upload_id is not None:
                db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))

    def mount_blob(
        self, source: str, target: str, digest: str, *, now_ms: int
    ) -> RepositoryBlob | None:
        """Make a blob of one repository part of another one; None if ``source`` lacks it."""
        with self._db.writing() as db:
            row = db.execute(_BLOB, (source, digest)).fetchone()
            if row is None:
                return None
            blob = _blob(row)
            link(db, target, blob, now_ms)
            return blob

    def blob(self, repository: str, digest: str) -> RepositoryBlob | None:
        """Return a blob that is part of the repository."""
        key, changes = (repository, digest), self._db.changes
        known = self._known(self._blobs, key, changes)
        if known is not None:
            return known
        with self._db.reading() as db:
            row = db.execute(_BLOB, key).fetchone()
        if row is None:
            return None
        found = _blob(row)
        self._blobs[key] = changes, found
        return found

    def find_blob(self, digest: str) -> list[tuple[str, RepositoryBlob]]:
        """Return (repository, blob) of every repository that has it, for a mount."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT repository, digest, sha256, size, is_needed FROM named_blobs"
                " WHERE digest = ? ORDER BY repository",
                (digest,),
            ).fetchall()
        return [(name, _blob(row)) for name, *row in rows]

    def remove_blob(self, repository: str, digest: str) -> bool:
        """Take a blob out of a repository; tells whether it was there."""
        with self._db.writing() as db:
            check_unneeded(db, repository, digest)
            found = repository_id(db, repository)
            gone = db.execute(
                "DELETE FROM links WHERE repository = ? AND digest = ?", (found, digest)
            )
            forget_if_empty(db, found)
            return gone.rowcount > 0

    # ------------------------------------------------------------ manifests and tags

    def put_manifest(
        self,
        repository: str,
        manifest: StoredManifest,
        tags: Sequence[str],
        *,
        actor: str,
        now_ms: int,
    ) -> None:
        """Make a manifest part of a repository and let ``tags`` point to it, with history."""
        with self._db.writing() as db:
            tagging = Tagging.of(db, repository, actor, now_ms)
            moving = tagging.moving(manifest.digest, tags)
            found = place_manifest(db, repository, manifest, now_ms)
            for tag in moving:
                tagging.point(found, tag, manifest)

    def manifest(self, repository: str, reference: str) -> StoredManifest | None:
        """Return the manifest that a tag or digest names."""
        key, changes = (repository, reference), self._db.changes
        known = self._known(self._manifests, key, changes)
        if known is not None:
            return known
        with self._db.reading() as db:
            query = BY_DIGEST if ":" in reference else _BY_TAG
            row = db.execute(query, key).fetchone()
        if row is None:
            return None
        found = manifest_of(row)
        length = len(found.annotations) + sum(map(len, found.needs))
        if length <= _ROW_LENGTH_KEPT:
            self._manifests[key] = changes, found
        return found

    def _known(
        self, kept: dict[tuple[str, str], tuple[int, _T]], key: tuple[str, str], changes: int
    ) -> _T | None:
        """Return a row that was read since the last write; what is older is let go."""
        if changes != self._kept_at or len(kept) >= _ROWS_KEPT:
            self._kept_at = changes
            self._blobs.clear()
            self._manifests.clear()
            return None
        seen_at, row = kept.get(key, (-1, None))
        return row if seen_at == changes else None

    def remove_manifest(self, repository: str, digest: str, *, actor: str, now_ms: int) -> bool:
        """Take a manifest and every tag on it away; tells whether it was there."""
        with self._db.writing() as db:
            if db.execute(BY_DIGEST, (repository, digest)).fetchone() is None:
                return False
            found = repository_id(db, repository)
            check_unneeded(db, repository, digest)
            tagging = Tagging.of(db, repository, actor, now_ms)
            for tag in tagging.tags_of(digest):
                tagging.delete(tag)
            delete_manifest(db, found, digest, now_ms)
            forget_if_empty(db, found)
            return True

    def remove_tag(self, repository: str, tag: str, *, actor: str, now_ms: int) -> bool:
        """Delete a tag; its history stays. Raises ImmutableTagError."""
        with self._db.writing() as db:
            return Tagging.of(db, repository, actor, now_ms).delete(tag)

    # ------------------------------------------------------------ lists

    def has_repository(self, repository: str) -> bool:
        """Tell whether anything was ever pushed to it and is still there."""
        with self._db.reading() as db:
            query = "SELECT 1 FROM repositories WHERE name = ?"
            return db.execute(query, (repository,)).fetchone() is not None

    def repositories(self, *, after: str, limit: int) -> list[str]:
        """Return names of repositories that hold a manifest, sorted bytewise, > ``after``."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT name FROM repositories WHERE name > ?"
                " AND EXISTS (SELECT 1 FROM manifests WHERE repository = id)"
                " ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()
        return [name for (name,) in rows]

    def tags(self, repository: str, *, after: str, limit: int) -> list[str]:
        """Return tags, sorted bytewise, > ``after``."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT t.tag FROM repositories r JOIN tags t ON t.repository = r.id"
                " WHERE r.name = ? AND t.tag > ? ORDER BY t.tag LIMIT ?",
                (repository, after, limit),
            ).fetchall()
        return [tag for (tag,) in rows]

    def referrers(
        self,
        repository: str,
        subject: str,
        *,
        artifact_type: str | None = None,
        after: str = "",
        bytes_max: int,
    ) -> list[StoredManifest]:
        """Return manifests whose subject is that digest, a page of them in order of digest."""
        found: list[StoredManifest] = []
        taken = 0
        with self._db.reading() as db:
            rows = db.execute(_REFERRERS, (repository, subject, after, artifact_type))
            for row in rows:
                found.append(manifest_of(row))
                taken += referrer_bytes(found[-1])
                if taken > bytes_max:
                    break
            rows.close()
        return found

    def tag_history(
        self, repository: str, tag: str, *, before: int | None, limit: int
    ) -> list[TagChange]:
        """Return changes of a tag, newest first, with numbers < ``before``."""
        with self._db.reading() as db:
            rows = db.execute(
                "SELECT number, tag, digest, media, size, actor, time_ms FROM tag_changes"
                " WHERE repository = ? AND tag = ? AND number < ? ORDER BY number DESC LIMIT ?",
                (repository, tag, 2**63 - 1 if before is None else before, limit),
            ).fetchall()
        return [TagChange(*row) for row in rows]


def _blob(row: Sequence[Any]) -> RepositoryBlob:
    digest, sha256, size, is_needed = row
    return RepositoryBlob(digest, sha256, size, is_needed=bool(is_needed))
