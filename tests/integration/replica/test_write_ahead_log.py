"""The write-ahead log on a real disk: what was appended is read back, and damage is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.effects import Record, RecordKind
from consensus.wal import PAGE_BYTES
from pyrsia_node.replica.wal import FILE_BYTES, WriteAheadLog


def vote(number: int, size: int = 40) -> Record:
    return Record(RecordKind.VOTE, number.to_bytes(8, "big") * (size // 8))


def write(folder: Path, batches: int, *, first: int = 0) -> list[Record]:
    wal = WriteAheadLog(folder)
    wal.read()
    records = [vote(first + number) for number in range(batches)]
    for record in records:
        wal.append([record], height=1)
    wal.close()
    return records


def read(folder: Path) -> tuple[list[Record], str]:
    return WriteAheadLog(folder).read()


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
    wal = WriteAheadLog(tmp_path)
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
    wal = WriteAheadLog(tmp_path)
    wal.read()
    record = vote(7, FILE_BYTES + 8000)
    wal.append([record], height=1)
    wal.close()
    assert read(tmp_path) == ([record], "")


def test_a_disk_that_refuses_a_write_is_an_error_not_a_loss(tmp_path: Path) -> None:
    wal = WriteAheadLog(tmp_path / "gone")
    with pytest.raises(OSError, match="gone"):
        wal.append([vote(1)], height=1)
