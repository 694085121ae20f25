"""LevelDB's own promises: locks, restarts, forks, damage."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyrsia_node.model.errors import CorruptStateError, UnavailableError
from pyrsia_node.store.leveldb import LevelDbStore

WRITER = """
import sys
from pathlib import Path
from pyrsia_node.store.leveldb import LevelDbStore
store = LevelDbStore(Path(sys.argv[1]), create=True)
for number in range(10**9):
    store.write([(b"a%08d" % number, b"x" * 100), (b"b%08d" % number, b"y" * 100)], sync=True)
    print(number, flush=True)
"""


def test_a_second_opener_is_told_that_the_folder_is_in_use(tmp_path: Path) -> None:
    with (
        LevelDbStore(tmp_path / "db", create=True),
        pytest.raises(UnavailableError, match=r"db is open in another process"),
    ):
        LevelDbStore(tmp_path / "db")


def test_an_absent_folder_is_not_created_unasked(tmp_path: Path) -> None:
    with pytest.raises(CorruptStateError, match="no intact database"):
        LevelDbStore(tmp_path / "db")


def test_a_closed_store_opens_again_with_its_content(tmp_path: Path) -> None:
    with LevelDbStore(tmp_path / "db", create=True) as store:
        store.write([(b"k", b"v")], sync=True)
        store.close()
    with LevelDbStore(tmp_path / "db") as store:
        assert store.get(b"k") == b"v"


def test_a_killed_writer_loses_no_synced_write_and_leaves_no_half(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, os.fspath(tmp_path / "db")], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 50:
                writer.send_signal(signal.SIGKILL)
                break
        acknowledged = [50, *(int(line) for line in writer.stdout.read().splitlines())]
    with LevelDbStore(tmp_path / "db") as store:
        first = [int(key[1:]) for key, _ in store.scan(b"a")]
        second = [int(key[1:]) for key, _ in store.scan(b"b")]
    assert first == second == list(range(len(first)))
    assert len(first) >= acknowledged[-1] + 1


FORKER = """
import os, sys
from pathlib import Path
from pyrsia_node.store.leveldb import LevelDbStore
store = LevelDbStore(Path(sys.argv[1]), create=True)
child = os.fork()
if child == 0:
    try:
        store.write([(b"k", b"v")], sync=True)
    except AssertionError:
        os._exit(7)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_write_after_a_fork_is_refused(tmp_path: Path) -> None:
    # In a process of its own: forking one that has threads is no good idea either.
    done = subprocess.run(
        [sys.executable, "-c", FORKER, os.fspath(tmp_path / "db")], check=False, timeout=30
    )
    assert done.returncode == 7
    with LevelDbStore(tmp_path / "db") as store:
        assert store.get(b"k") is None


def test_a_damaged_table_is_an_error_and_no_missing_key(tmp_path: Path) -> None:
    with LevelDbStore(tmp_path / "db", create=True) as store:
        for number in range(100):
            store.write([(b"k%03d" % number, os.urandom(100))], sync=False)
    with LevelDbStore(tmp_path / "db"):
        pass  # opening again moves the log into a table file
    table = next((tmp_path / "db").glob("*.ldb"))
    content = bytearray(table.read_bytes())
    content[200] ^= 0xFF
    table.write_bytes(content)
    with (
        pytest.raises(CorruptStateError, match="db"),
        LevelDbStore(tmp_path / "db") as store,
    ):
        list(store.scan(b"k"))


def test_what_is_settled_needs_no_log_file(tmp_path: Path) -> None:
    with LevelDbStore(tmp_path / "db", create=True) as store:
        store.write([(b"a", b"1")], sync=False)
        store.settle()
        without = shutil.ignore_patterns("*.log", "LOCK")
        shutil.copytree(tmp_path / "db", tmp_path / "after a power cut", ignore=without)
    with LevelDbStore(tmp_path / "after a power cut") as store:
        assert store.get(b"a") == b"1"


def test_tables_that_are_settled_kind_by_kind_are_never_merged(tmp_path: Path) -> None:
    rounds, kinds = 12, (b"block/", b"leaf/", b"state/")
    with LevelDbStore(tmp_path / "db", create=True) as store:
        for each in range(rounds):
            for kind in kinds:
                numbers = range(1_000 * each, 1_000 * (each + 1))
                store.write([(kind + b"%08d" % number, b"x") for number in numbers], sync=False)
                store.settle()
        assert len(list((tmp_path / "db").glob("*.ldb"))) == rounds * len(kinds)
        assert sum(1 for _ in store.scan(b"leaf/")) == 1_000 * rounds
