"""The tables of the search index, and what each is for. SQL alone.

``unit``   what a search finds: see ``ledger.rows``.
``tag``    a unit's exact properties. ``kind`` is blob (a file's digest), builder, claim (unless
           it is "rebuilt"), commit, dep, file, repo or sha256 (any other digest); ``value`` is
           text, a member's number or 32 bytes. ``known`` is the leaf from which on it holds, so
           that a query as of an older size does not see it.
``statement``  what withdraw, revoke, deprecate and vulnerable name.
``words``  the full-text index over ``description``.
``entry``  every leaf; ``item`` the batches that speak of a request. For "all about a package".

``request`` in any table is the leaf of the build request. ``SECONDARY`` indexes serve queries
alone: a bulk load makes them last, from sorted runs, which is several times as fast.
"""

from __future__ import annotations

from typing import Final

SCHEMA_VERSION: Final = 4

TABLES: Final = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    'CREATE TABLE block(height INTEGER PRIMARY KEY, first INTEGER, "end" INTEGER, time_ms INTEGER)',
    "CREATE INDEX block_first ON block(first)",
    "CREATE TABLE entry(leaf INTEGER PRIMARY KEY, type TEXT, request INTEGER)",
    (
        "CREATE TABLE unit(leaf INTEGER PRIMARY KEY, type TEXT, purl TEXT, project TEXT,"
        " request INTEGER)"
    ),
    # Not secondary: while the rest is still being loaded, files are served by it.
    "CREATE INDEX unit_accepted ON unit(project, leaf) WHERE type = 'accepted'",
    "CREATE TABLE request(leaf INTEGER PRIMARY KEY, id TEXT UNIQUE, status TEXT, decided INTEGER)",
    "CREATE TABLE item(request INTEGER, leaf INTEGER, PRIMARY KEY(request, leaf)) WITHOUT ROWID",
    (
        "CREATE TABLE tag(leaf INTEGER, kind TEXT, value, known INTEGER,"
        " PRIMARY KEY(leaf, kind, value)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE statement(leaf INTEGER PRIMARY KEY, kind TEXT, purl TEXT, project TEXT,"
        " entry INTEGER, sha256 BLOB)"
    ),
    "CREATE INDEX statement_project ON statement(project)",
    "CREATE INDEX statement_sha256 ON statement(sha256)",
    "CREATE TABLE builder(number INTEGER PRIMARY KEY, id TEXT UNIQUE)",
    (
        "CREATE TABLE member(epoch INTEGER, id TEXT, label TEXT, leaf INTEGER,"
        " PRIMARY KEY(epoch, id)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE description(leaf INTEGER PRIMARY KEY, name TEXT, summary TEXT, author TEXT,"
        " keywords TEXT, repository TEXT, licence TEXT)"
    ),
    (
        "CREATE VIRTUAL TABLE words USING fts5(name, summary, author, keywords, repository,"
        " licence, content='description', content_rowid='leaf')"
    ),
)

SECONDARY: Final = {
    "block_time": "CREATE INDEX block_time ON block(time_ms)",
    "request_open": "CREATE INDEX request_open ON request(leaf) WHERE decided IS NULL",
    "request_decided": "CREATE INDEX request_decided ON request(decided)",
    "entry_request": "CREATE INDEX entry_request ON entry(request) WHERE request IS NOT NULL",
    "unit_purl": "CREATE INDEX unit_purl ON unit(purl, leaf) WHERE purl IS NOT NULL",
    "unit_project": "CREATE INDEX unit_project ON unit(project, leaf) WHERE project IS NOT NULL",
    "unit_type": "CREATE INDEX unit_type ON unit(type, leaf)",
    "tag_value": "CREATE INDEX tag_value ON tag(kind, value, leaf, known)",
    "member_label": "CREATE INDEX member_label ON member(label)",
}

INSERTS: Final = {
    "block": "INSERT INTO block VALUES(?,?,?,?)",
    "entry": "INSERT INTO entry VALUES(?,?,?)",
    "unit": "INSERT INTO unit VALUES(?,?,?,?,?)",
    "request": "INSERT INTO request VALUES(?,?,'open',NULL)",
    "decision": "UPDATE request SET status=?, decided=? WHERE leaf=?",
    "item": "INSERT INTO item VALUES(?2,?1)",
    "tag": "INSERT OR IGNORE INTO tag VALUES(?,?,?,?)",
    "statement": "INSERT INTO statement VALUES(?,?,?,?,?,?)",
    "builder": "INSERT INTO builder VALUES(?,?)",
    "member": "INSERT INTO member VALUES(?,?,?,?)",
    "description": "INSERT INTO description VALUES(?,?,?,?,?,?,?)",
}
"""In the order in which a batch is written."""

INSERT_WORDS: Final = (
    "INSERT INTO words(rowid, name, summary, author, keywords, repository, licence)"
    " VALUES(?,?,?,?,?,?,?)"
)
REBUILD_WORDS: Final = "INSERT INTO words(words) VALUES('rebuild')"
CHECK_WORDS: Final = "INSERT INTO words(words, rank) VALUES('integrity-check', 1)"

DUMPED: Final = {
    "block": "1",
    "entry": "1",
    "unit": "1",
    "request": "1",
    "item": "1, 2",
    "tag": "1, 2, 3",
    "statement": "1",
    "builder": "1",
    "member": "1, 2",
    "description": "1",
}
"""Tables whose rows are the content of the index, equal for equal logs however made; their keys."""
