"""The METADATA file of a wheel, and what hostile archives get instead."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from pyrsia_node.gateway.wheel_metadata import METADATA_BYTES_MAX, read_metadata
from pyrsia_node.model.errors import NotFoundError
from tests.fakes.wheels import make_wheel


def archive(path: Path, members: dict[str, bytes]) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    path.write_bytes(buffer.getvalue())
    return str(path)


def test_metadata_of_a_wheel_is_read(tmp_path: Path) -> None:
    _, data = make_wheel("six", "1.0", requires=("idna>=3",))
    (tmp_path / "wheel").write_bytes(data)
    text = read_metadata(str(tmp_path / "wheel")).decode()
    assert "Name: six\n" in text
    assert "Requires-Dist: idna>=3\n" in text


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"METADATA": b"x"},
        {"a/b.dist-info/METADATA": b"x"},
        {"a.dist-info/METADATA": b"x", "b.dist-info/METADATA": b"y"},
        {"a.dist-info/METADATA": bytes(METADATA_BYTES_MAX + 1)},
    ],
)
def test_none_several_or_a_bomb_are_not_found(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(NotFoundError):
        read_metadata(archive(tmp_path / "wheel", members))


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive at all" * 10])
def test_what_is_no_archive_is_not_found(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "wheel").write_bytes(damage)
    with pytest.raises(NotFoundError):
        read_metadata(str(tmp_path / "wheel"))


def test_damaged_archives_are_not_found_and_nothing_else(tmp_path: Path) -> None:
    _, data = make_wheel("six", "1.0")
    path = tmp_path / "wheel"
    for position in range(0, len(data), 23):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        path.write_bytes(broken)
        try:
            read_metadata(str(path))
        except NotFoundError:
            continue
