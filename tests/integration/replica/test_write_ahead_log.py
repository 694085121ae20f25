"""The write-ahead log on a real disk: what was appended is read back, and damage is told apart."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from consensus.effects import Record, RecordKind
from consensus.types import Digest, Height, View, Vote, VoteKind
from consensus.wal import PAGE_BYTES
from consensus.wire import encode_vote
from pyrsia_node.model.errors import DiskError
from pyrsia_node.replica.wal import FILE_BYTES, StoreAnchor, WriteAheadLog
from tests.fakes.memory_store import MemoryKeyValueStore


def vote(number: int, size: int = 40) -> Record:
    return Record(RecordKind.VOTE, number.to_bytes(8, "big") * (size // 8))


def write(folder: Path, batches: int, *, first: int = 0) -> list[Record]:
    wal = WriteAheadLog(folder, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    records = [vote(first + number) for number in range(batches)]
    for record in records:
        wal.append([record], height=1)
    wal.close()
    return records


def read(folder: Path) -> tuple[list[Record], str]:
    return WriteAheadLog(folder, StoreAnchor(MemoryKeyValueStore())).read()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wal"))


def test_a_fresh_folder_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == ([], "")


def test_what_was_appended_is_read_back_in_order_across_restarts(tmp_path: Path) -> None:
    written = write(tmp_path, 5)
    written += write(tmp_path, 4, first=5)
    assert read(tmp_path) == (written, "")


def test_a_start_without_an_append_loses_nothing(tmp_path: Path) -> None:
    written = write(tmp_path, 2)
    for _ in range(3):
        assert write(tmp_path, 0) == []
    assert read(tmp_path) == (written, "")


def test_a_torn_last_batch_is_dropped_and_the_log_goes_on(tmp_path: Path) -> None:
    written = write(tmp_path, 3)
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(2 * PAGE_BYTES + 30)
        file.write(b"\xff" * 8)
    assert read(tmp_path) == (written[:2], "")
    more = write(tmp_path, 2, first=10)
    assert read(tmp_path) == (written[:2] + more, "")


def test_a_damaged_batch_before_later_ones_means_forgotten_votes(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(PAGE_BYTES + 30)
        file.write(b"\xff" * 8)
    _, damage = read(tmp_path)
    assert "damaged after batch 1" in damage


@pytest.mark.parametrize("batch", [0, 1])
def test_damage_is_found_again_by_every_later_start(tmp_path: Path, batch: int) -> None:
    write(tmp_path, 3)
    with files(tmp_path)[0].open("r+b") as file:
        file.seek(batch * PAGE_BYTES + 30)
        file.write(b"\xff" * 8)
    evidence = files(tmp_path)[0].read_bytes()
    for run in range(2):
        wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
        assert wal.read()[1] != ""
        wal.append([vote(run)], height=7)
        wal.discard(100)
        wal.close()
    assert files(tmp_path)[0].read_bytes() == evidence


def test_a_file_cut_short_means_forgotten_votes(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with files(tmp_path)[0].open("r+b") as file:
        file.truncate(FILE_BYTES - PAGE_BYTES)
    assert "cut short" in read(tmp_path)[1]


def test_a_missing_file_between_others_means_forgotten_votes(tmp_path: Path) -> None:
    for run in range(3):
        write(tmp_path, 2, first=10 * run)
    files(tmp_path)[1].unlink()
    assert "missing" in read(tmp_path)[1]


def test_a_file_whose_making_was_interrupted_is_ignored(tmp_path: Path) -> None:
    written = write(tmp_path, 1)
    (tmp_path / f"{99:016x}.new").write_bytes(b"half")
    assert read(tmp_path) == (written, "")


def test_files_rotate_and_go_once_their_heights_are_committed(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    big = FILE_BYTES // 2
    for height in range(1, 6):
        wal.append([vote(height, big)], height=height)
    assert len(files(tmp_path)) > 2
    wal.discard(4)
    wal.append([vote(6)], height=6)
    wal.close()
    records, damage = read(tmp_path)
    assert damage == ""
    assert vote(6) in records
    assert vote(5, big) in records
    assert vote(1, big) not in records


def test_a_batch_larger_than_a_file_gets_a_file_of_its_size(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    record = vote(7, FILE_BYTES + 8000)
    wal.append([record], height=1)
    wal.close()
    assert read(tmp_path) == ([record], "")


def test_a_file_left_without_a_batch_does_not_take_its_successor_with_it(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with files(tmp_path)[0].open("r+b") as file:
        file.write(bytes(PAGE_BYTES))  # the first batch never reached the disk
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    assert wal.read() == ([], "")
    big = FILE_BYTES // 2
    for number in range(3):  # the third rotates
        wal.append([vote(number, big)], height=9)
    wal.discard(8)
    wal.close()
    assert read(tmp_path) == ([vote(number, big) for number in range(3)], "")


def test_files_found_at_start_stay_while_their_votes_may_matter(tmp_path: Path) -> None:
    ballot = Vote(VoteKind.NOTARIZE, Height(9), View(0), Digest(b"b" * 32), 0, bytes(64))
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    wal.append([Record(RecordKind.VOTE, encode_vote(ballot))], height=9)
    wal.close()
    again = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    assert len(again.read()[0]) == 1
    again.discard(8)
    assert len(files(tmp_path)) == 1
    again.discard(9)
    assert len(files(tmp_path)) == 1, "the newest stays until another is there"
    again.append([vote(1)], height=10)
    again.discard(9)
    again.close()
    assert read(tmp_path)[0] == [vote(1)]


def test_the_oldest_files_go_first_so_a_crash_never_leaves_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    for number in range(4):
        wal.append([vote(number, FILE_BYTES - PAGE_BYTES)], height=number)
    left: list[tuple[list[Record], str]] = []
    removed = []
    unlink = Path.unlink

    def record(path: Path, *, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        removed.append(path.name)
        left.append(read(tmp_path))  # what a start would find if the power went now

    monkeypatch.setattr(Path, "unlink", record)
    wal.discard(2)
    wal.close()
    assert removed == sorted(removed)
    assert [damage for _, damage in left] == ["", "", ""]
    assert [len(records) for records, _ in left] == [3, 2, 1]


def test_what_an_interrupted_start_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{99:016x}.new").write_bytes(b"half")
    read(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_a_write_is_an_error_not_a_loss(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path / "gone", StoreAnchor(MemoryKeyValueStore()))
    with pytest.raises(DiskError, match=r"gone: the disk refuses \(No such file"):
        wal.append([vote(1)], height=1)


@pytest.mark.parametrize("door", ["pwrite", "fdatasync", "fsync"])
def test_disk_that_is_full_or_fails_stops_the_process_and_names_the_file(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    monkeypatch.setattr(os, door, refuse)
    with pytest.raises(DiskError, match=f"{tmp_path}.*No space left on device"):
        wal.append([vote(1)], height=1)
    wal.close()


def refuse(*_arguments: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_an_earlier_process_wrote_is_durable_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between write and sync, it left records that the disk may not have yet."""
    write(tmp_path, 2)
    done: list[str] = []
    for name in ("fsync", "posix_fadvise"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name), done))
    assert len(read(tmp_path)[0]) == 2
    (path,) = files(tmp_path)
    assert done == [f"fsync {path}", f"posix_fadvise {path}"]
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match=str(path)):
        read(tmp_path)


def noting(name: str, real: Callable[..., None], done: list[str]) -> Callable[..., None]:
    def door(descriptor: int, *others: int) -> None:
        done.append(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink()}")
        real(descriptor, *others)

    return door


def test_a_newest_file_that_is_gone_is_missed_by_the_anchor_elsewhere(tmp_path: Path) -> None:
    anchor = StoreAnchor(MemoryKeyValueStore())
    for number in (1, 2):
        wal = WriteAheadLog(tmp_path, anchor)
        wal.read()
        wal.append([vote(number)], height=number)
        wal.close()
    first, second = files(tmp_path)
    second.unlink()
    assert "the newest, is gone" in WriteAheadLog(tmp_path, anchor).read()[1]
    first.unlink()
    assert "the newest, is gone" in WriteAheadLog(tmp_path, anchor).read()[1]


def test_a_start_that_writes_nothing_leaves_no_false_alarm(tmp_path: Path) -> None:
    anchor = StoreAnchor(MemoryKeyValueStore())
    wal = WriteAheadLog(tmp_path, anchor)
    assert wal.read() == ([], "")
    wal.append([vote(1)], height=1)
    wal.close()
    for _ in range(3):
        again = WriteAheadLog(tmp_path, anchor)
        assert again.read() == ([vote(1)], "")
        again.discard(50)
        again.close()


def test_damaged_files_are_kept_aside_once_they_matter_no_more(tmp_path: Path) -> None:
    anchor = StoreAnchor(MemoryKeyValueStore())
    wal = WriteAheadLog(tmp_path, anchor)
    wal.read()
    wal.append([vote(1)], height=1)
    wal.close()
    with files(tmp_path)[0].open("r+b") as file:
        file.truncate(PAGE_BYTES)
    hurt = WriteAheadLog(tmp_path, anchor)
    assert hurt.read()[1]
    hurt.append([vote(2)], height=2)
    hurt.set_aside()
    hurt.append([vote(3)], height=2)
    hurt.close()
    assert len(list(tmp_path.glob("forgotten-*/*.wal"))) == 1
    assert WriteAheadLog(tmp_path, anchor).read() == ([vote(2), vote(3)], "")


def test_what_is_set_aside_is_durable_there_before_it_is_gone_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)
    wal = WriteAheadLog(tmp_path, StoreAnchor(MemoryKeyValueStore()))
    wal.read()
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noted_sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').resolve().name.partition('-')[0]}")
        sync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        done.append("move")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    wal.set_aside()
    here = f"sync {tmp_path.name.partition('-')[0]}"
    assert done[:4] == [here, "move", "sync forgotten", here]


def test_setting_all_files_aside_leaves_a_fresh_log(tmp_path: Path) -> None:
    anchor = StoreAnchor(MemoryKeyValueStore())
    wal = WriteAheadLog(tmp_path, anchor)
    wal.read()
    wal.append([vote(1)], height=1)
    wal.close()
    with files(tmp_path)[0].open("r+b") as file:
        file.truncate(PAGE_BYTES)
    hurt = WriteAheadLog(tmp_path, anchor)
    assert hurt.read()[1]
    hurt.set_aside()
    hurt.close()
    assert WriteAheadLog(tmp_path, anchor).read() == ([], "")
