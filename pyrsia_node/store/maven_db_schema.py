"""Tables of ``maven.sqlite``, and how an older file becomes today's. docs/design/storage.md."""

from __future__ import annotations

import sqlite3
from typing import Final

from pyrsia_node.store.migrations import Schema, bring_up_to_date

_FIRST: Final = """
CREATE TABLE digests (
    sha256 TEXT PRIMARY KEY,
    size INTEGER NOT NULL CHECK (size >= 0),
    pieces TEXT NOT NULL,
    sha1 TEXT NOT NULL,
    md5 TEXT NOT NULL,
    sha512 TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE files (
    path TEXT PRIMARY KEY,
    upstream TEXT NOT NULL,
    sha256 TEXT NOT NULL REFERENCES digests,
    checked TEXT NOT NULL,
    modified_s INTEGER NOT NULL,
    kept_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE listings (
    path TEXT NOT NULL,
    upstream TEXT NOT NULL,
    body BLOB NOT NULL,
    etag TEXT NOT NULL,
    modified TEXT NOT NULL,
    asked_ms INTEGER NOT NULL,
    PRIMARY KEY (path, upstream)
);

CREATE VIEW kept_files AS
SELECT f.path, f.upstream, f.checked, f.modified_s, f.kept_ms,
    d.sha256, d.size, d.pieces, d.sha1, d.md5, d.sha512
FROM files f JOIN digests d ON d.sha256 = f.sha256;
"""

_SIZES: Final = """
ALTER TABLE listings ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE listings SET size = length(body);
CREATE INDEX listings_by_size ON listings (size);
"""
"""So that the sum of all bodies is had from the index alone."""

SCHEMA: Final = Schema(
    application_id=0x70796D76, steps=(_FIRST, _SIZES), what="what a node keeps of Maven"
)


def migrate(db: sqlite3.Connection, path: object) -> None:
    """Bring an open file to today's version; raises CorruptStateError if it cannot be one."""
    bring_up_to_date(db, path, SCHEMA)
