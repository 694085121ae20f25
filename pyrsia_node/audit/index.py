"""Holds the search index of a data directory against the leaves it was made from.

The index is copied first, so a running node is not disturbed. The same rows are derived again, from
the entries in ``log/``, into a scratch index; both are compared table by table.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pyrsia_node.audit.report import Report
from pyrsia_node.audit.source import DirectorySource
from pyrsia_node.ledger import index as indexes
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.tiles import TileFiles
from pyrsia_node.model.errors import PyrsiaError


class Entries:
    """The leaves in ``log/``, those after the checkpoint included."""

    def __init__(self, log: Path, size: int) -> None:
        """Read a log of ``size`` leaves."""
        self._files = TileFiles(log)
        self._size = size

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end)."""
        return self._files.entries(start, end, size=self._size)


def audit_index(source: DirectorySource, report: Report) -> None:
    """Compare the index of a data directory with its log; a bare log has none."""
    root = source.root
    if root is None:
        report.leave_out("index", "a log folder has none")
        return
    if not report.network_id:
        report.leave_out("index", "the log has no genesis to go by")
        return
    try:
        name = indexes.read_pointer(root)
        if name is None or not (root / name).is_file():
            report.leave_out("index", f"{indexes.POINTER} leads to no index")
            return
        with tempfile.TemporaryDirectory(prefix="pyrsia-audit-") as scratch:
            _compare(root, name, Path(scratch), report)
    except (PyrsiaError, sqlite3.Error) as error:
        report.contradict("index", indexes.POINTER, str(error).partition(": run ")[0])


def _compare(root: Path, name: str, scratch: Path, report: Report) -> None:
    copy = scratch / "found.sqlite"
    with (
        closing(sqlite3.connect(f"{(root / name).absolute().as_uri()}?mode=ro", uri=True)) as found,
        closing(sqlite3.connect(copy)) as target,
    ):
        found.backup(target)
    network_id = bytes.fromhex(report.network_id)
    with (
        IndexWriter(copy, network_id=network_id) as theirs,
        IndexWriter(scratch / "derived.sqlite", network_id=network_id) as ours,
    ):
        size = theirs.applied_size
        theirs.check_words()
        ours.catch_up(Entries(root / "log", size), size=size)
        derived = ours.dump_sha256_by_table()
        for table, digest in theirs.dump_sha256_by_table().items():
            if derived[table] != digest:
                report.contradict("index", name, f"table {table} differs from the {size} entries")
            else:
                report.counted["index"] += 1
