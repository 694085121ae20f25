"""How a SQLite file of this product becomes today's version of itself. docs/design/storage.md."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from pyrsia_node.model.errors import CorruptStateError


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file of one kind is.

    Attributes:
        application_id: says in the file's header whose it is.
        steps: step *n* makes a file of version *n* one of version *n* + 1; steps are added, never
            changed.
        what: the kind in words, for errors.
    """

    application_id: int
    steps: tuple[str, ...]
    what: str


def bring_up_to_date(db: sqlite3.Connection, path: object, schema: Schema) -> None:
    """Bring an open file to today's version; each step is one transaction.

    Raises:
        CorruptStateError: It is another program's file, or one of a newer version of this one.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application not in (0, schema.application_id):
        raise CorruptStateError(f"{path} is not {schema.what}")
    if version > len(schema.steps):
        raise CorruptStateError(
            f"{path} has version {version}; this program knows {len(schema.steps)} and older ones: "
            "upgrade it"
        )
    for number in range(version, len(schema.steps)):
        # executescript would commit by itself, so the transaction stands in the text.
        db.executescript(
            f"BEGIN IMMEDIATE; {schema.steps[number]}"
            f"PRAGMA application_id = {schema.application_id};"
            f"PRAGMA user_version = {number + 1}; COMMIT;"
        )
