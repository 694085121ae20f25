"""What every ``ports.KeyValueStore`` must do, on the fake and on LevelDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.ports import KeyValueStore
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.memory_store import MemoryKeyValueStore


@pytest.fixture(params=["memory", "leveldb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValueStore]:
    if request.param == "memory":
        yield MemoryKeyValueStore()
        return
    with LevelDbStore(tmp_path / "db", create=True) as opened:
        yield opened


def test_an_absent_key_is_none_and_an_empty_value_is_not(store: KeyValueStore) -> None:
    assert store.get(b"k") is None
    store.write([(b"k", b"")], sync=True)
    assert store.get(b"k") == b""


def test_a_write_sets_replaces_and_deletes_together(store: KeyValueStore) -> None:
    store.write([(b"a", b"1"), (b"b", b"2")], sync=True)
    store.write([(b"a", None), (b"b", b"3"), (b"c", b"4"), (b"absent", None)], sync=False)
    assert list(store.scan(b"")) == [(b"b", b"3"), (b"c", b"4")]


def test_the_last_change_of_a_key_in_a_write_wins(store: KeyValueStore) -> None:
    store.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")], sync=True)
    assert list(store.scan(b"")) == [(b"b", b"2")]


def test_a_write_whose_changes_fail_half_way_writes_nothing(store: KeyValueStore) -> None:
    def changes() -> Iterator[tuple[bytes, bytes]]:
        yield b"a", b"1"
        raise LookupError

    with pytest.raises(LookupError):
        store.write(changes(), sync=True)
    assert store.get(b"a") is None


def test_scan_yields_a_prefix_in_byte_order(store: KeyValueStore) -> None:
    keys = [b"p", b"p\x00", b"p\x00a", b"pa", b"p\xff", b"p\xff\xff", b"o", b"q", b"", b"\xff"]
    store.write([(key, key) for key in keys], sync=True)
    assert [key for key, _ in store.scan(b"p")] == sorted(k for k in keys if k[:1] == b"p")
    assert [key for key, _ in store.scan(b"")] == sorted(keys)
    assert [key for key, _ in store.scan(b"\xff")] == [b"\xff"]
    assert [key for key, _ in store.scan(b"p\xff")] == [b"p\xff", b"p\xff\xff"]
    assert list(store.scan(b"none")) == []


def test_scan_goes_on_after_a_key_that_need_not_exist(store: KeyValueStore) -> None:
    store.write([(b"p%d" % number, b"") for number in range(5)], sync=True)
    assert [key for key, _ in store.scan(b"p", after=b"p2")] == [b"p3", b"p4"]
    assert [key for key, _ in store.scan(b"p", after=b"p2x")] == [b"p3", b"p4"]
    assert [key for key, _ in store.scan(b"p", after=b"a")] == [b"p%d" % n for n in range(5)]
    assert list(store.scan(b"p", after=b"q")) == []
    assert list(store.scan(b"p", after=b"p4")) == []


def test_scan_shows_the_state_of_its_first_step(store: KeyValueStore) -> None:
    store.write([(b"a", b"1"), (b"b", b"1")], sync=True)
    scan = store.scan(b"")
    assert next(scan) == (b"a", b"1")
    store.write([(b"b", b"2"), (b"c", b"2")], sync=True)
    assert list(scan) == [(b"b", b"1")]


def test_a_snapshot_does_not_see_later_writes(store: KeyValueStore) -> None:
    store.write([(b"a", b"1")], sync=True)
    with store.snapshot() as before:
        store.write([(b"a", b"2"), (b"b", b"2")], sync=True)
        assert before.get(b"a") == b"1"
        assert before.get(b"b") is None
        assert list(before.scan(b"")) == [(b"a", b"1")]
        assert list(before.scan(b"", after=b"a")) == []
    assert store.get(b"a") == b"2"


def test_what_is_settled_reads_as_before(store: KeyValueStore) -> None:
    store.settle()
    store.write([(b"a", b"1"), (b"b", b"2")], sync=False)
    store.settle()
    store.write([(b"a", None), (b"c", b"3")], sync=False)
    store.settle()
    assert list(store.scan(b"")) == [(b"b", b"2"), (b"c", b"3")]
    assert store.get(b"a") is None
