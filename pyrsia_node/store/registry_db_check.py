"""Holds ``registry.sqlite`` against itself and against the bytes on the disk, for fsck.

Only for a node that does not run. It looks and changes nothing: names that lost their bytes are
mended by pushing again, and a damaged database comes from a backup.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.store.registry_db import SqliteRegistryDb

FINDINGS_MAX: Final = 100
"""Findings that are reported; more would not help anybody."""

_PAGE: Final = 1000
_LINK_COUNTS: Final = (
    "SELECT count(*) FROM links l WHERE needs != (SELECT count(*) FROM needs n"
    " WHERE n.repository = l.repository AND n.digest = l.digest)"
)
_BLOB_COUNTS: Final = (
    "SELECT count(*) FROM blobs b WHERE keeps !="
    " (SELECT count(*) FROM links l WHERE l.sha256 = b.sha256 AND l.needs > 0)"
    " + (SELECT count(*) FROM manifests m WHERE m.sha256 = b.sha256)"
    " + (SELECT count(*) FROM proxied p WHERE p.sha256 = b.sha256)"
)


@dataclass(frozen=True, slots=True)
class RegistryFault:
    """What is wrong, and what a person can do about it."""

    what: str
    advice: str


def check_registry(path: Path, blobs: Path) -> list[RegistryFault]:
    """Return what is wrong with a registry, at most ``FINDINGS_MAX`` faults.

    Args:
        path: ``registry.sqlite``; an absent one is no fault unless something was pushed.
        blobs: The blob store's folder.
    """
    local = blobs / "local"
    if not path.exists():
        if next(local.glob("??/*"), None) is None:
            return []
        return [RegistryFault("it is missing, but blobs were pushed here", _BACKUP)]
    faults = list(_of_file(path))
    if faults:
        return faults
    try:
        db = SqliteRegistryDb(path)
        with closing(db):
            for fault in _of_bytes(db, local):
                faults.append(fault)
                if len(faults) == FINDINGS_MAX:
                    break
    except PyrsiaError as error:
        faults.append(RegistryFault(str(error), _BACKUP))
    return faults


_BACKUP: Final = "put the file back from a backup"


def _of_file(path: Path) -> Iterator[RegistryFault]:
    """Yield what SQLite itself and the counts say."""
    try:
        with closing(sqlite3.connect(path)) as db:
            for (said,) in db.execute("PRAGMA quick_check(10)").fetchall():
                if said != "ok":
                    yield RegistryFault(f"SQLite says: {said}", _BACKUP)
            for query, what in ((_LINK_COUNTS, "names"), (_BLOB_COUNTS, "blobs")):
                (wrong,) = db.execute(query).fetchone()
                if wrong:
                    yield RegistryFault(f"{wrong} {what} have a wrong count of needs", _BACKUP)
    except sqlite3.DatabaseError as error:
        yield RegistryFault(str(error), _BACKUP)


def _of_bytes(db: SqliteRegistryDb, local: Path) -> Iterator[RegistryFault]:
    """Yield the names whose bytes are missing or have another size."""
    after = ""
    while page := db.rows(after=after, limit=_PAGE):
        for row in page:
            try:
                size = (local / row.sha256[:2] / row.sha256).stat().st_size
            except OSError:
                size = -1
            if size != row.size:
                has = "has no bytes" if size < 0 else f"has {size} bytes instead of {row.size}"
                holders = sorted({each.repository for each in db.reasons(row.digest)} - {""})
                where = ", ".join(holders[:5]) or "an upstream's image"
                yield RegistryFault(f"{row.digest} of {where} {has}", "push it again, or delete it")
        after = page[-1].sha256
