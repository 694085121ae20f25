"""What the contract's server remembers: bounded, durable, and honest after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildpipelines.worker.contract import Failure, MappingInfo, Running, Success
from buildpipelines.worker.contract_store import (
    INTERRUPTED,
    OPEN_MAX,
    BuildRecord,
    ContractStore,
    StoreFullError,
)

ASKED = MappingInfo("Maven2", "g:a:1")


def built(store: ContractStore, folder: Path, text: str = "jar") -> BuildRecord:
    (folder / "made").write_text(text)
    record = store.add(ASKED)
    store.succeed(record, [("a-1.jar", folder / "made"), ("a-1.pom", folder / "made")])
    found = store.find(record.id)
    assert found is not None
    return found


def test_files_of_a_build_outlive_a_restart(tmp_path: Path) -> None:
    record = built(ContractStore(tmp_path / "s"), tmp_path)
    again = ContractStore(tmp_path / "s")
    assert again.find(record.id) == record
    assert record.status == Success(
        tuple(f"/build/{record.id}/artifacts/{name}" for name in ("a-1.jar", "a-1.pom"))
    )
    path = again.file(record, "a-1.jar")
    assert path is not None
    assert path.read_text() == "jar"


def test_build_that_a_restart_interrupts_has_failed_and_says_why(tmp_path: Path) -> None:
    record = ContractStore(tmp_path).add(ASKED)
    for store in (ContractStore(tmp_path), ContractStore(tmp_path)):
        found = store.find(record.id)
        assert found is not None
        assert found.status == INTERRUPTED


def test_files_that_no_record_names_yet_are_gone_after_a_crash(tmp_path: Path) -> None:
    record = ContractStore(tmp_path).add(ASKED)
    (tmp_path / record.id / "artifacts").mkdir()
    (tmp_path / record.id / "artifacts" / "a-1.jar").touch()
    ContractStore(tmp_path)
    assert not (tmp_path / record.id / "artifacts").exists()


def test_nothing_but_what_a_build_offers_is_a_file_of_it(tmp_path: Path) -> None:
    store = ContractStore(tmp_path / "s")
    record = built(store, tmp_path)
    for name in ("../build.json", "..", "", ".", "b.jar", "A-1.jar", "a-1.jar/"):
        assert store.file(record, name) is None


def test_record_that_lost_a_file_or_its_form_is_forgotten(tmp_path: Path) -> None:
    store = ContractStore(tmp_path / "s")
    lost, spoilt, kept = (built(store, tmp_path) for _ in range(3))
    (tmp_path / "s" / lost.id / "artifacts" / "a-1.jar").unlink()
    (tmp_path / "s" / spoilt.id / "build.json").write_text(json.dumps({"number": 1}))
    again = ContractStore(tmp_path / "s")
    assert [again.find(each.id) for each in (lost, spoilt, kept)] == [None, None, kept]


@pytest.mark.parametrize("text", ["", "[]", "[" * 60_000, "{}" + " " * 300_000, '{"number":0}'])
def test_record_that_is_none_is_forgotten_and_its_folder_removed(tmp_path: Path, text: str) -> None:
    store = ContractStore(tmp_path / "s")
    record = built(store, tmp_path)
    (tmp_path / "s" / record.id / "build.json").write_text(text)
    again = ContractStore(tmp_path / "s")
    assert again.find(record.id) is None
    assert not (tmp_path / "s" / record.id).exists()


def test_folder_that_no_build_is_called_like_is_removed(tmp_path: Path) -> None:
    store = ContractStore(tmp_path / "s")
    record = store.add(ASKED)
    (tmp_path / "s" / record.id).rename(tmp_path / "s" / ".odd")
    ContractStore(tmp_path / "s")
    assert list((tmp_path / "s").iterdir()) == []


def test_oldest_builds_that_ended_make_room(tmp_path: Path) -> None:
    store = ContractStore(tmp_path / "s", builds_max=3)
    waiting = store.add(ASKED)
    first, second, third = (built(store, tmp_path) for _ in range(3))
    assert [store.find(each.id) for each in (waiting, first, second, third)] == [
        waiting,
        None,
        second,
        third,
    ]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == sorted(
        (waiting.id, second.id, third.id)
    )


def test_bytes_of_ended_builds_are_bounded(tmp_path: Path) -> None:
    store = ContractStore(tmp_path / "s", bytes_max=100)
    first = built(store, tmp_path, "x" * 40)
    second = built(store, tmp_path, "x" * 40)
    store.add(ASKED)
    assert store.find(first.id) is None
    assert store.find(second.id) == second


def test_no_more_builds_are_under_way_than_there_may_be(tmp_path: Path) -> None:
    store = ContractStore(tmp_path)
    records = [store.add(ASKED) for _ in range(OPEN_MAX)]
    with pytest.raises(StoreFullError, match="try again later"):
        store.add(ASKED)
    store.fail(records[0], "no")
    assert store.add(ASKED).status == Running()


def test_ids_say_nothing_and_never_come_twice(tmp_path: Path) -> None:
    store = ContractStore(tmp_path)
    ids = []
    for _ in range(20):
        record = store.add(ASKED)
        ids.append(record.id)
        store.fail(record, "no")
    assert len(set(ids)) == 20
    assert all(len(each) == 36 and each[14] == "4" for each in ids)


def test_text_of_a_failure_is_cut_to_what_the_contract_carries(tmp_path: Path) -> None:
    store = ContractStore(tmp_path)
    record = store.add(ASKED)
    store.fail(record, "x" * 100_000)
    found = ContractStore(tmp_path).find(record.id)
    assert found is not None
    assert found.status == Failure("x" * 4000)
