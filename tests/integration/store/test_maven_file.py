"""``maven.sqlite``: what it keeps, what a killed process leaves, and what damage does to it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.ports.maven import Digests, KeptFile, KeptListing, MavenDb
from pyrsia_node.store.maven_db import SqliteMavenDb, open_maven_db
from pyrsia_node.store.maven_db_check import check_maven_db
from pyrsia_node.store.maven_db_schema import SCHEMA
from pyrsia_node.store.migrations import bring_up_to_date
from pyrsia_node.store.registry_db import SqliteRegistryDb
from tests.fakes.killed_writer import told_until_killed

JAR = "org/example/tool/1.0/tool-1.0.jar"


def digests_of(data: bytes) -> Digests:
    found = [hashlib.new(kind, data).hexdigest() for kind in ("sha256", "sha1", "md5", "sha512")]
    return Digests(found[0], len(data), "0" * 64, *found[1:])


FILE = KeptFile(JAR, "central", digests_of(b"jar"), "sha1", 1_700_000_000, 5)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteMavenDb]:
    with closing(open_maven_db(tmp_path / "maven.sqlite")) as opened:
        yield opened


def test_file_is_known_by_its_path_and_its_bytes_by_their_digest(db: MavenDb) -> None:
    assert db.file(JAR) is None
    assert db.digests(FILE.digests.sha256) is None
    db.keep_file(FILE)
    assert db.file(JAR) == FILE
    assert db.digests(FILE.digests.sha256) == FILE.digests
    newer = replace(FILE, digests=digests_of(b"another"), upstream="own")
    db.keep_file(newer)
    assert db.file(JAR) == newer


def test_digest_is_told_by_the_extension_of_its_file() -> None:
    data = b"jar"
    assert {kind: FILE.digests.of(kind) for kind in ("sha1", "md5", "sha256", "sha512")} == {
        kind: hashlib.new(kind, data).hexdigest() for kind in ("sha1", "md5", "sha256", "sha512")
    }


def test_digests_are_noted_once_and_again(db: MavenDb) -> None:
    db.note_digests(FILE.digests)
    db.note_digests(FILE.digests)
    assert db.digests(FILE.digests.sha256) == FILE.digests


def test_listing_is_kept_for_each_upstream(db: MavenDb) -> None:
    listing = KeptListing("org/example/tool/maven-metadata.xml", "central", b"<a/>", '"1"', "", 7)
    db.keep_listing(listing)
    assert db.listing(listing.path, "central") == listing
    assert db.listing(listing.path, "own") is None
    empty = replace(listing, body=b"", asked_ms=8)
    db.keep_listing(empty)
    assert db.listing(listing.path, "central") == empty


@pytest.mark.parametrize(("rows", "size"), [(3, 1 << 20), (100, 3 * 50)])
def test_listings_are_bounded_in_number_and_size_and_the_longest_unasked_goes_first(
    tmp_path: Path, rows: int, size: int
) -> None:
    bounds = {"listing_rows_max": rows, "listing_bytes_max": size}
    with closing(SqliteMavenDb(tmp_path / "maven.sqlite", create=True, **bounds)) as db:

        def ask(name: str, *, length: int = 50, at: int = 7) -> None:
            db.keep_listing(KeptListing(name, "central", b"x" * length, "", "", at))

        def kept() -> list[str]:
            return [name for name in "abcdef" if db.listing(name, "central") is not None]

        for name in "abc":
            ask(name)
        ask("a", at=3)  # a clock that was set back makes nothing old
        ask("d")
        assert kept() == ["a", "c", "d"]
        for _ in range(3):
            ask("e", length=40)
        assert kept() == ["a", "d", "e"]
        ask("f", length=1 << 20)
        assert kept()[-1] == "f", "the newest stays, however long it is"


def test_older_file_is_brought_to_today_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "maven.sqlite"
    first = replace(SCHEMA, steps=SCHEMA.steps[:1])
    with closing(sqlite3.connect(path)) as raw:
        bring_up_to_date(raw, path, first)
        raw.execute("INSERT INTO listings VALUES ('a', 'central', 'text', '', '', 7)")
        raw.commit()
    with closing(SqliteMavenDb(path, listing_bytes_max=5)) as db:
        assert db.listing("a", "central") is not None
        db.keep_listing(KeptListing("b", "central", b"xx", "", "", 8))
        assert db.listing("a", "central") is None, "its bytes count as well"
    assert check_maven_db(path) == []


def test_files_are_listed_by_path(db: MavenDb) -> None:
    for name in ("c", "a", "b"):
        db.keep_file(replace(FILE, path=name))
    assert [each.path for each in db.files(after="", limit=2)] == ["a", "b"]
    assert [each.path for each in db.files(after="b", limit=2)] == ["c"]


_KEEP_AND_TELL = """
import sys
from dataclasses import replace
from pathlib import Path
from pyrsia_node.ports.maven import Digests, KeptFile
from pyrsia_node.store.maven_db import open_maven_db
db = open_maven_db(Path(sys.argv[1]))
number = 0
while True:
    digests = Digests(f"{number:064x}", 1, "0" * 64, "1", "2", "3")
    db.keep_file(KeptFile(f"file-{number}", "central", digests, "sha1", 0, 0))
    print(number, flush=True)
    number += 1
"""


def test_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "maven.sqlite"
    told = told_until_killed(_KEEP_AND_TELL, path)
    assert check_maven_db(path) == []
    with closing(open_maven_db(path)) as db:
        assert all(db.file(f"file-{number}") is not None for number in told)


def test_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    path = tmp_path / "maven.sqlite"
    path.write_bytes(b"no database at all" * 100)
    assert check_maven_db(path) != []
    with closing(open_maven_db(path)) as db:
        db.keep_file(FILE)
        assert db.file(JAR) == FILE
    assert (tmp_path / "maven.sqlite.damaged").read_bytes().startswith(b"no database")
    assert check_maven_db(path) == []


def test_another_database_of_the_node_is_neither_taken_nor_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "maven.sqlite"
    SqliteRegistryDb(path, create=True).close()
    with pytest.raises(CorruptStateError, match="not what a node keeps of Maven"):
        open_maven_db(path)
    assert path.exists()


def test_check_names_files_without_digests_and_absence_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "maven.sqlite"
    assert check_maven_db(path) == []
    with closing(open_maven_db(path)) as db:
        db.keep_file(FILE)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DELETE FROM digests")
        raw.commit()
    assert check_maven_db(path) == ["1 files have no digests"]
