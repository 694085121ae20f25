"""The file of a blob on its way: taken up after a stop, and few and small ones left behind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pyrsia_node.artifacts.images.incoming_file import (
    LEFT_FILES_MAX,
    IncomingFile,
    NoRoomError,
    incoming_path,
    sweep,
)
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.store.pieces import PieceHasher

DATA = os.urandom(1000) * 5000


def digest(data: bytes, algorithm: str = "sha256") -> OciDigest:
    return OciDigest(algorithm, hashlib.new(algorithm, data).hexdigest())


def pieces(data: bytes) -> bytes:
    hasher = PieceHasher()
    hasher.update(memoryview(data))
    return hasher.finish()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("stop", [0, 1, PIECE_SIZE_BYTES, len(DATA)])
def test_file_of_a_stopped_process_is_taken_up(tmp_path: Path, algorithm: str, stop: int) -> None:
    path = tmp_path / "file"
    first = IncomingFile(path, digest(DATA, algorithm))
    first.write(DATA[:stop])
    first.close()
    second = IncomingFile(path, digest(DATA, algorithm))
    assert second.written == stop
    second.write(DATA[stop:])
    assert second.finish() == (digest(DATA).hex, pieces(DATA))
    second.close()
    assert path.read_bytes() == DATA


def test_wrong_bytes_are_named_by_both_digests(tmp_path: Path) -> None:
    file = IncomingFile(tmp_path / "file", digest(DATA))
    file.write(b"other")
    with pytest.raises(VerificationError, match=f"{digest(b'other')} as {digest(DATA)}"):
        file.finish()
    file.close()


def test_what_the_disk_has_no_room_for_is_refused_with_the_numbers(tmp_path: Path) -> None:
    file = IncomingFile(tmp_path / "file", digest(DATA))
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize
    file.check_room(1)
    with pytest.raises(NoRoomError, match=r"bytes needed, \d+ free, of which \d+ stay free"):
        file.check_room(free)
    file.close()


def test_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "file").symlink_to(tmp_path / "secret")
    with pytest.raises(NoRoomError):
        IncomingFile(tmp_path / "file", digest(DATA))
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_oldest_left_files_go_until_they_fit_and_others_stay(tmp_path: Path) -> None:
    paths = [incoming_path(tmp_path, digest(bytes([n])), local=n % 2 == 0) for n in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(b"x" * 100)
        os.utime(path, (number, number))
    (tmp_path / "0123.data").write_bytes(b"x" * 1000)
    assert sweep(tmp_path, bytes_max=250, in_use={paths[0]}) == [paths[1], paths[2]]
    assert {each for each in tmp_path.iterdir() if each in paths} == {paths[0], *paths[3:]}
    assert (tmp_path / "0123.data").exists()


def test_many_small_left_files_go_as_well(tmp_path: Path) -> None:
    for number in range(LEFT_FILES_MAX + 10):
        incoming_path(tmp_path, digest(str(number).encode()), local=False).write_bytes(b"x")
    assert len(sweep(tmp_path, bytes_max=1 << 20, in_use=())) == 10
