"""Changes of tags in ``registry.sqlite``: every one leaves a step in the tag's history."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from pyrsia_node.ports.registry import ImmutableTagError, StoredManifest
from pyrsia_node.store.registry_db_settings import namespace_of
from pyrsia_node.store.registry_db_steps import repository_id


@dataclass(frozen=True, slots=True)
class Tagging:
    """One actor's changes of one repository's tags, inside a transaction."""

    db: sqlite3.Connection
    repository: str
    repository_id: int
    is_immutable: bool
    actor: str
    now_ms: int

    @classmethod
    def of(cls, db: sqlite3.Connection, repository: str, actor: str, now_ms: int) -> Tagging:
        """Return the changes that the repository's namespace allows."""
        namespace = namespace_of(db, repository)
        is_immutable = namespace is not None and namespace.immutable_tags
        found = repository_id(db, repository)
        return cls(db, repository, found, is_immutable, actor, now_ms)

    def moving(self, digest: str, tags: Sequence[str]) -> list[str]:
        """Return those of the tags that do not point to ``digest`` yet, each once.

        Raises:
            ImmutableTagError: One of them points elsewhere and may not move.
        """
        moving = []
        for tag in dict.fromkeys(tags):
            before = self._target(tag)
            if before == digest:
                continue
            if before is not None and self.is_immutable:
                raise ImmutableTagError(f"{self.repository}:{tag} is {before} and may not move")
            moving.append(tag)
        return moving

    def point(self, repository: int, tag: str, manifest: StoredManifest) -> None:
        """Let a tag point to a manifest of the repository, whose row was maybe made since."""
        self.db.execute(
            "INSERT INTO tags (repository, tag, digest) VALUES (?, ?, ?)"
            " ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest",
            (repository, tag, manifest.digest),
        )
        self._note(tag, manifest.digest, manifest.media, manifest.size)

    def delete(self, tag: str) -> bool:
        """Delete a tag; tells whether it was there.

        Raises:
            ImmutableTagError: It may not be deleted.
        """
        if self._target(tag) is None:
            return False
        if self.is_immutable:
            raise ImmutableTagError(
                f"{self.repository}:{tag} may not be deleted: tags of its namespace never change"
            )
        self.db.execute(
            "DELETE FROM tags WHERE repository = ? AND tag = ?",
            (self.repository_id, tag),
        )
        self._note(tag, "", "", 0)
        return True

    def tags_of(self, digest: str) -> list[str]:
        """Return the tags that point to a manifest, sorted."""
        rows = self.db.execute(
            "SELECT tag FROM tags WHERE repository = ? AND digest = ? ORDER BY tag",
            (self.repository_id, digest),
        ).fetchall()
        return [tag for (tag,) in rows]

    def _target(self, tag: str) -> str | None:
        row = self.db.execute(
            "SELECT digest FROM tags WHERE repository = ? AND tag = ?",
            (self.repository_id, tag),
        ).fetchone()
        return None if row is None else str(row[0])

    def _note(self, tag: str, digest: str, media: str, size: int) -> None:
        self.db.execute(
            "INSERT INTO tag_changes (repository, tag, digest, media, size, actor, time_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.repository, tag, digest, media, size, self.actor, self.now_ms),
        )
