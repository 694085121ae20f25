"""Whole or absent."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pyrsia_node.store.files import create_atomic, write_atomic


def test_a_write_replaces_the_whole_content_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "state"
    write_atomic(target, b"a long first content")
    write_atomic(target, b"short", mode=0o600, sync=False)
    assert target.read_bytes() == b"short"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_refused_write_leaves_target_and_folder_as_they_were(tmp_path: Path) -> None:
    target = tmp_path / "state"
    target.mkdir()
    (target / "occupied").write_bytes(b"")
    with pytest.raises(OSError, match="state"):
        write_atomic(target, b"x")
    assert list(tmp_path.iterdir()) == [target]


def test_create_never_replaces_an_existing_file(tmp_path: Path) -> None:
    target = tmp_path / "state"
    create_atomic(target, b"first", mode=0o600)
    with pytest.raises(FileExistsError):
        create_atomic(target, b"second")
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]
