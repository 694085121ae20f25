"""What the registry's database promises beyond its port: the file, its version, its durability."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pyrsia_node.model.errors import CorruptStateError, NotFoundError, UnavailableError
from pyrsia_node.ports.registry import RepositoryBlob, StoredManifest
from pyrsia_node.store.registry_db import SqliteRegistryDb, open_registry_db
from pyrsia_node.store.registry_db_schema import VERSION
from tests.fakes.killed_writer import told_until_killed

SHA256 = hashlib.sha256(b"blob").hexdigest()
BLOB = RepositoryBlob(f"sha256:{SHA256}", SHA256, 4)


def test_absent_file_is_made_only_on_purpose(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    with pytest.raises(NotFoundError, match=str(path)):
        SqliteRegistryDb(path)
    assert not path.exists()
    SqliteRegistryDb(path, create=True).close()
    SqliteRegistryDb(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_lost_database_is_never_replaced_while_pushed_blobs_are_there(tmp_path: Path) -> None:
    path, local = tmp_path / "registry.sqlite", tmp_path / "blobs" / "local"
    open_registry_db(path, local).close()
    (local / SHA256[:2]).mkdir(parents=True)
    open_registry_db(path, local).close()
    (local / SHA256[:2] / SHA256).write_bytes(b"blob")
    open_registry_db(path, local).close()
    path.unlink()
    with pytest.raises(CorruptStateError, match="backup"):
        open_registry_db(path, local)
    assert not path.exists()


def test_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    SqliteRegistryDb(path, create=True).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(CorruptStateError, match="upgrade"):
        SqliteRegistryDb(path)


def test_other_programs_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA application_id = 7")
    with pytest.raises(CorruptStateError, match="not the registry"):
        SqliteRegistryDb(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(CorruptStateError, match=str(path)):
        SqliteRegistryDb(path)


def test_opening_again_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    for number in range(3):
        db = SqliteRegistryDb(path, create=True)
        db.add_blob(f"r{number}", BLOB, now_ms=1)
        assert [name for name, _ in db.find_blob(BLOB.digest)] == [
            f"r{each}" for each in range(number + 1)
        ]
        db.close()


_PUSH_AND_TELL = """
import hashlib, sys
from pathlib import Path
from pyrsia_node.ports.registry import RepositoryBlob
from pyrsia_node.store.registry_db import SqliteRegistryDb
db = SqliteRegistryDb(Path(sys.argv[1]), create=True)
number = 0
while True:
    sha256 = hashlib.sha256(b"%d" % number).hexdigest()
    db.add_blob("a", RepositoryBlob(f"sha256:{sha256}", sha256, 1), now_ms=1)
    print(number, flush=True)
    number += 1
"""


def test_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    told = told_until_killed(_PUSH_AND_TELL, path)
    db = SqliteRegistryDb(path)
    for number in told:
        sha256 = hashlib.sha256(b"%d" % number).hexdigest()
        assert db.blob("a", f"sha256:{sha256}") is not None
    db.close()


_FILL = """
import hashlib, resource, sys
from pathlib import Path
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports.registry import RepositoryBlob
from pyrsia_node.store.registry_db import SqliteRegistryDb
db = SqliteRegistryDb(Path(sys.argv[1]), create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for number in range(1000):
    sha256 = hashlib.sha256(b"%d" % number).hexdigest()
    try:
        db.add_blob("a", RepositoryBlob(f"sha256:{sha256}", sha256, 1), now_ms=1)
    except UnavailableError as error:
        print(number, error)
        break
assert db.blob("a", f"sha256:{sha256}") is None
"""


def test_full_disk_is_a_retryable_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(path)], capture_output=True, text=True, check=True
    )
    stored, _, text = done.stdout.partition(" ")
    assert str(path) in text
    db = SqliteRegistryDb(path)
    assert db.usage("a") == int(stored) > 0
    db.close()


def test_other_process_that_holds_the_file_makes_writes_wait_then_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.store.registry_db_connections._BUSY_SECONDS", 0.05)
    path = tmp_path / "registry.sqlite"
    db = SqliteRegistryDb(path, create=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match=str(path)):
            db.add_blob("a", BLOB, now_ms=1)
        assert db.blob("a", BLOB.digest) is None
        other.execute("ROLLBACK")
    db.add_blob("a", BLOB, now_ms=1)
    db.close()


def test_names_never_become_statements(tmp_path: Path) -> None:
    db = SqliteRegistryDb(tmp_path / "registry.sqlite", create=True)
    evil = "a'; DROP TABLE blobs; --"
    whole = StoredManifest(evil, SHA256, 1, evil, (), evil, evil, evil)
    db.put_manifest(evil, whole, [evil], actor=evil, now_ms=1)
    assert db.repositories(after="", limit=9) == [evil]
    assert db.tags(evil, after="", limit=9) == [evil]
    assert db.manifest(evil, evil) == whole
    assert db.usage(evil) == 1
    db.close()
