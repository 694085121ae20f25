"""The mark in memory: it vouches for a log that has come as far, and gives an older one away."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.replica.boot_mark import BootMark, Continuity, Position

KEY = bytes(range(32))
UNKNOWN, WHOLE, OLDER = Continuity.UNKNOWN, Continuity.WHOLE, Continuity.OLDER
U64 = st.integers(0, 2**64 - 1)


class Machine:
    """A machine with one data directory, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "data"
        self.memory = folder / "memory"
        self.boot_id = folder / "boot_id"
        for path in (self.root, self.memory):
            path.mkdir(parents=True)
        self.boot_id.write_text("first\n")

    def mark(self) -> BootMark:
        return BootMark(self.root, KEY, folder=self.memory, boot_id=self.boot_id)

    def file(self) -> Path:
        (path,) = self.memory.iterdir()
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_known_before_anybody_vouches(machine: Machine) -> None:
    mark = machine.mark()
    mark.moved(Position(5, 3))  # a start that still asks says nothing for the next one
    assert machine.mark().judge(Position(9, 9)) is UNKNOWN
    assert list(machine.memory.iterdir()) == []


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (Position(7, 4), WHOLE),
        (Position(8, 4), WHOLE),
        (Position(7, 9), WHOLE),
        (Position(6, 4), OLDER),
        (Position(7, 3), OLDER),
        (Position(1, 9), OLDER),
    ],
)
def test_log_is_whole_if_batches_and_heights_have_come_as_far(
    machine: Machine, at: Position, expected: Continuity
) -> None:
    mark = machine.mark()
    mark.begin(Position(5, 3))
    mark.moved(Position(7, 4))
    assert machine.mark().judge(at) is expected


def test_start_of_the_machine_ends_what_was_known(machine: Machine) -> None:
    machine.mark().begin(Position(5, 3))
    machine.boot_id.write_text("second\n")
    assert machine.mark().judge(Position(5, 3)) is UNKNOWN
    assert machine.mark().judge(Position(1, 1)) is UNKNOWN


def test_word_of_a_person_holds_for_any_log_but_overrules_nothing_known(machine: Machine) -> None:
    assert machine.mark().vouch()
    assert machine.mark().judge(Position(1, 1)) is WHOLE
    machine.mark().begin(Position(5, 3))
    assert machine.mark().vouch()
    assert machine.mark().judge(Position(1, 1)) is OLDER


def test_new_keys_begin_anew(machine: Machine) -> None:
    machine.mark().begin(Position(5, 3))
    machine.mark().renew()
    assert machine.mark().judge(Position(1, 1)) is WHOLE


def test_copy_at_another_place_or_in_its_place_has_no_mark(machine: Machine) -> None:
    machine.mark().begin(Position(5, 3))
    other = machine.root.with_name("copy")
    other.mkdir()
    elsewhere = BootMark(other, KEY, folder=machine.memory, boot_id=machine.boot_id)
    assert elsewhere.judge(Position(5, 3)) is UNKNOWN
    machine.root.rename(machine.root.with_name("before"))
    other.rename(machine.root)
    assert machine.mark().judge(Position(5, 3)) is UNKNOWN


def let_others_write(path: Path) -> None:
    path.chmod(0o622)


def link_elsewhere(path: Path) -> None:
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def link_twice(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut_short(path: Path) -> None:
    os.truncate(path, 20)


@pytest.mark.parametrize(
    "harm", [let_others_write, link_elsewhere, link_twice, make_fifo, cut_short]
)
def test_file_that_others_can_have_made_is_no_mark(
    machine: Machine, harm: Callable[[Path], None]
) -> None:
    machine.mark().vouch()
    harm(machine.file())
    assert machine.mark().judge(Position(5, 3)) is UNKNOWN


def test_mark_that_cannot_be_written_any_more_is_taken_away(machine: Machine) -> None:
    mark = machine.mark()
    mark.begin(Position(5, 3))
    machine.file().chmod(0o666)
    mark.moved(Position(6, 3))
    assert list(machine.memory.iterdir()) == []
    mark.moved(Position(7, 3))
    assert machine.mark().judge(Position(5, 3)) is UNKNOWN


def test_machine_without_shared_memory_or_boot_id_remembers_nothing(machine: Machine) -> None:
    for folder, boot_id in (
        (machine.memory / "none", machine.boot_id),
        (machine.memory, machine.root / "none"),
    ):
        mark = BootMark(machine.root, KEY, folder=folder, boot_id=boot_id)
        mark.begin(Position(5, 3))
        assert not mark.vouch()
        assert mark.judge(Position(5, 3)) is UNKNOWN


def test_marks_of_directories_that_are_gone_are_cleared_away(machine: Machine) -> None:
    other = machine.root.with_name("other")
    other.mkdir()
    BootMark(other, KEY, folder=machine.memory, boot_id=machine.boot_id).renew()
    stranger = machine.memory / "somebody-elses"
    stranger.touch()
    other.rmdir()
    machine.mark().renew()
    stranger.unlink()
    assert machine.file().read_bytes().endswith(b"/data")


@given(batch=U64, height=U64, at_batch=U64, at_height=U64)
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, batch: int, height: int, at_batch: int, at_height: int
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.mark().begin(Position(batch, height))
    is_older = at_batch < batch or at_height < height
    assert machine.mark().judge(Position(at_batch, at_height)) is (OLDER if is_older else WHOLE)


@given(data=st.binary(max_size=200))
def test_no_content_of_the_file_breaks_a_start(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.mark().vouch()
    machine.file().write_bytes(data)
    assert machine.mark().judge(Position(5, 3)) is UNKNOWN
    machine.mark().renew()
    assert machine.mark().judge(Position(5, 3)) is WHOLE


def test_format_is_fixed(machine: Machine) -> None:
    machine.mark().begin(Position(5, 3))
    data = machine.file().read_bytes()
    assert data[:8] == b"pyrmark1"
    assert struct.unpack(">QQ", data[40:56]) == (5, 3)
    assert data[56:] == os.fsencode(machine.root.resolve())
