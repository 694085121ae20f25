"""Tables of ``registry.sqlite``, and how an older file becomes today's.

Two counts say what is needed, and triggers alone keep them, so that no code path can forget one:
``links.needs`` is how many manifests of its repository need a blob; ``blobs.keeps`` is how many
needed links, manifests and proxied images hold its bytes. Texts compare by their bytes, as the
registry's lists are sorted. Tables and columns are explained in docs/design/storage.md.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from pyrsia_node.store.migrations import Schema, bring_up_to_date

APPLICATION_ID: Final = 0x70797273
"""Says in the file's header that it is ours."""

_FIRST: Final = """
CREATE TABLE blobs (
    sha256 TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    used_ms INTEGER NOT NULL,
    keeps INTEGER NOT NULL DEFAULT 0 CHECK (keeps >= 0),
    is_closing INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX blobs_unneeded ON blobs (used_ms) WHERE keeps = 0;
CREATE INDEX blobs_closing ON blobs (sha256) WHERE is_closing;

CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE links (
    repository INTEGER NOT NULL REFERENCES repositories,
    digest TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blobs,
    used_ms INTEGER NOT NULL,
    needs INTEGER NOT NULL DEFAULT 0 CHECK (needs >= 0),
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX links_of_blob ON links (sha256);
CREATE INDEX links_of_digest ON links (digest);
CREATE INDEX links_unneeded ON links (used_ms) WHERE needs = 0;

CREATE TABLE manifests (
    repository INTEGER NOT NULL REFERENCES repositories,
    digest TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES blobs,
    size INTEGER NOT NULL,
    media TEXT NOT NULL,
    needs TEXT NOT NULL,
    subject TEXT,
    artifact_type TEXT NOT NULL,
    annotations TEXT NOT NULL,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_of_blob ON manifests (sha256);
CREATE INDEX manifests_of_subject ON manifests (repository, subject, digest)
    WHERE subject IS NOT NULL;

CREATE TABLE needs (
    repository INTEGER NOT NULL,
    digest TEXT NOT NULL,
    manifest TEXT NOT NULL,
    PRIMARY KEY (repository, digest, manifest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest)
) WITHOUT ROWID;
CREATE INDEX needs_of_manifest ON needs (repository, manifest);

CREATE TABLE tags (
    repository INTEGER NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest)
) WITHOUT ROWID;
CREATE INDEX tags_of_manifest ON tags (repository, digest);

CREATE TABLE tag_changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    media TEXT NOT NULL,
    size INTEGER NOT NULL,
    actor TEXT NOT NULL,
    time_ms INTEGER NOT NULL
);
CREATE INDEX tag_changes_of_tag ON tag_changes (repository, tag, number);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    repository TEXT NOT NULL,
    written INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    touched_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_touch ON uploads (touched_ms);

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE grants (
    user TEXT NOT NULL REFERENCES users,
    position INTEGER NOT NULL,
    prefix TEXT NOT NULL,
    may_push INTEGER NOT NULL,
    PRIMARY KEY (user, position)
) WITHOUT ROWID;

CREATE TABLE namespaces (
    prefix TEXT PRIMARY KEY,
    immutable_tags INTEGER NOT NULL,
    quota_bytes INTEGER,
    is_private INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE upstream_tags (
    host TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    media TEXT NOT NULL,
    size INTEGER NOT NULL,
    checked_ms INTEGER NOT NULL,
    PRIMARY KEY (host, repository, tag)
) WITHOUT ROWID;

CREATE TABLE proxied (
    sha256 TEXT PRIMARY KEY REFERENCES blobs,
    size INTEGER NOT NULL,
    image TEXT NOT NULL,
    used_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX proxied_by_use ON proxied (used_ms);

CREATE VIEW named_blobs AS
SELECT r.name AS repository, l.digest, l.sha256, b.size, l.needs > 0 AS is_needed
FROM repositories r JOIN links l ON l.repository = r.id JOIN blobs b ON b.sha256 = l.sha256;

CREATE VIEW named_manifests AS
SELECT r.name AS repository, m.digest, m.sha256, m.size, m.media, m.needs, m.subject,
    m.artifact_type, m.annotations
FROM repositories r JOIN manifests m ON m.repository = r.id;

CREATE VIEW tagged_manifests AS
SELECT r.name AS repository, t.tag, m.digest, m.sha256, m.size, m.media, m.needs, m.subject,
    m.artifact_type, m.annotations
FROM repositories r JOIN tags t ON t.repository = r.id
    JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest;

CREATE TRIGGER need_begins AFTER INSERT ON needs BEGIN
    UPDATE links SET needs = needs + 1
    WHERE repository = NEW.repository AND digest = NEW.digest;
END;
CREATE TRIGGER need_ends AFTER DELETE ON needs BEGIN
    UPDATE links SET needs = needs - 1
    WHERE repository = OLD.repository AND digest = OLD.digest;
END;

CREATE TRIGGER link_comes_needed AFTER INSERT ON links WHEN NEW.needs > 0 BEGIN
    UPDATE blobs SET keeps = keeps + 1 WHERE sha256 = NEW.sha256;
END;
CREATE TRIGGER link_becomes_needed AFTER UPDATE OF needs ON links
WHEN OLD.needs = 0 AND NEW.needs > 0 BEGIN
    UPDATE blobs SET keeps = keeps + 1 WHERE sha256 = NEW.sha256;
END;
CREATE TRIGGER link_becomes_unneeded AFTER UPDATE OF needs ON links
WHEN OLD.needs > 0 AND NEW.needs = 0 BEGIN
    UPDATE blobs SET keeps = keeps - 1 WHERE sha256 = NEW.sha256;
END;
CREATE TRIGGER link_goes_needed AFTER DELETE ON links WHEN OLD.needs > 0 BEGIN
    UPDATE blobs SET keeps = keeps - 1 WHERE sha256 = OLD.sha256;
END;

CREATE TRIGGER manifest_comes AFTER INSERT ON manifests BEGIN
    UPDATE blobs SET keeps = keeps + 1 WHERE sha256 = NEW.sha256;
END;
CREATE TRIGGER manifest_goes AFTER DELETE ON manifests BEGIN
    UPDATE blobs SET keeps = keeps - 1 WHERE sha256 = OLD.sha256;
END;

CREATE TRIGGER proxied_comes AFTER INSERT ON proxied BEGIN
    UPDATE blobs SET keeps = keeps + 1 WHERE sha256 = NEW.sha256;
END;
CREATE TRIGGER proxied_goes AFTER DELETE ON proxied BEGIN
    UPDATE blobs SET keeps = keeps - 1 WHERE sha256 = OLD.sha256;
END;
"""

MIGRATIONS: Final = (_FIRST,)
"""Step *n* makes a file of version *n* one of version *n* + 1. Steps are added, never changed."""

VERSION: Final = len(MIGRATIONS)


def migrate(db: sqlite3.Connection, path: object) -> None:
    """Bring an open file to today's version; raises CorruptStateError if it cannot be one."""
    bring_up_to_date(db, path, Schema(APPLICATION_ID, MIGRATIONS, "the registry of a node"))
