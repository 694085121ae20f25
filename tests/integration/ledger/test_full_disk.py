"""A full disk stops a process, not a node: the error says so, and a new process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.model.errors import CorruptStateError, DiskError
from pyrsia_node.schema.exit_codes import REFUSALS, UNAVAILABLE, exit_code_of
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.log_story import LogStory, tell


def test_an_index_without_room_says_so_and_is_whole_when_there_is_room(tmp_path: Path) -> None:
    story = LogStory()
    tell(story)
    for number in range(60):  # more rows than the empty tables have room for
        story.ask(f"pkg:pypi/{'long' * 20}{number}@1.0")
    chain, network_id = story.chain, story.local.network_id
    with IndexWriter.current(tmp_path, network_id=network_id) as index:
        pages = index._db.execute("PRAGMA page_count").fetchone()[0]
        index._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskError, match=r"index-1\.sqlite cannot be written.*full"):
            index.catch_up(chain, size=chain.tip.size)
        assert index.applied_size == 0
    with IndexWriter.current(tmp_path, network_id=network_id) as index:
        index.catch_up(chain, size=chain.tip.size)
        assert index.applied_size == chain.tip.size


WRITER = """
import resource, sys
from pathlib import Path
from pyrsia_node.model.errors import DiskError
from pyrsia_node.store.leveldb import LevelDbStore
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with LevelDbStore(Path(sys.argv[1])) as store:
    for number in range(1000):
        try:
            store.write([(b"%d" % number, bytes(1000))], sync=True)
        except DiskError as error:
            print(number, error)
            break
"""


def test_a_database_that_cannot_grow_says_so_and_keeps_what_was_written(tmp_path: Path) -> None:
    LevelDbStore(tmp_path / "db", create=True).close()
    limit = 64 * 1024
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "db"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    number, _, text = done.stdout.strip().partition(" ")
    assert "cannot be written" in text
    with LevelDbStore(tmp_path / "db") as store:
        assert len(list(store.scan(b""))) >= int(number) > 10
        store.write([(b"more", b"")], sync=True)


SETTLER = """
import os, resource, signal, sys
from pathlib import Path
from pyrsia_node.model.errors import DiskError
from pyrsia_node.store.leveldb import LevelDbStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with LevelDbStore(Path(sys.argv[1]), create=True) as store:
    store.write([(b"%d" % number, os.urandom(1000)) for number in range(100)], sync=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))
    store.settle()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        store.write([(b"tip", b"")], sync=True)
    except DiskError as error:
        print(error)
"""


def test_what_could_not_be_settled_fails_the_write_that_relies_on_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SETTLER, str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert "cannot be written" in done.stdout
    with LevelDbStore(tmp_path / "db") as store:
        assert store.get(b"tip") is None


def test_a_supervisor_starts_again_after_a_disk_error_and_not_after_damage() -> None:
    assert exit_code_of(DiskError("full")) == UNAVAILABLE
    assert UNAVAILABLE not in REFUSALS
    assert exit_code_of(CorruptStateError("damaged")) in REFUSALS
