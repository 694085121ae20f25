"""Looks whether ``maven.sqlite`` is whole, for fsck; for a node that does not run.

Blobs that its rows name may be gone: the cache drops them, and they are fetched anew.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def check_maven_db(path: Path) -> list[str]:
    """Return what is wrong with the file, in words; an absent one is no fault."""
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path)) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA quick_check(10)")]
            orphans = db.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    faults = [f"SQLite says: {each}" for each in said if each != "ok"]
    if orphans:
        faults.append(f"{len(orphans)} files have no digests")
    return faults
