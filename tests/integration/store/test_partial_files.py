"""A download in progress keeps only checked pieces, over any crash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pyrsia_node.model.errors import UnavailableError, VerificationError
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.store.partial import Partial, known_pieces, remove_stale
from pyrsia_node.store.pieces import PieceHasher, PieceList, piece_root

DATA = bytes(PIECE_SIZE_BYTES) + b"\1" * PIECE_SIZE_BYTES + b"tail"
SHA256 = hashlib.sha256(DATA).hexdigest()


def _list(data: bytes) -> PieceList:
    hasher = PieceHasher()
    hasher.update(memoryview(data))
    hashes = hasher.finish()
    return PieceList.check(hashes, size=len(data), root=piece_root(hashes))


PIECES = _list(DATA)


def _piece(index: int) -> bytes:
    return DATA[index * PIECE_SIZE_BYTES : (index + 1) * PIECE_SIZE_BYTES]


def test_wrong_piece_is_never_written(tmp_path: Path) -> None:
    partial = Partial(tmp_path, SHA256, PIECES)
    with pytest.raises(VerificationError, match="piece 2 hashes to"):
        partial.write_piece(2, b"liar")
    with pytest.raises(VerificationError, match="5 bytes instead of 4"):
        partial.write_piece(2, b"tail!")
    assert len(partial.have) == 0
    assert partial.path.read_bytes()[2 * PIECE_SIZE_BYTES :] == bytes(4)
    partial.close()


def test_interrupted_download_resumes_with_what_was_checked(tmp_path: Path) -> None:
    first = Partial(tmp_path, SHA256, PIECES)
    first.write_piece(2, _piece(2))
    first.write_piece(0, _piece(0))
    first.close()
    root = PIECES.root
    assert known_pieces(tmp_path, SHA256, size=len(DATA), root=root) == PIECES
    assert known_pieces(tmp_path, SHA256, size=len(DATA), root="0" * 64) is None
    second = Partial(tmp_path, SHA256, PIECES)
    assert list(second.have.missing()) == [1]
    assert second.read(2 * PIECE_SIZE_BYTES, 4) == b"tail"
    assert second.has_range(0, PIECE_SIZE_BYTES)
    assert not second.has_range(0, PIECE_SIZE_BYTES + 1)
    second.close()


def test_claimed_piece_that_did_not_reach_the_disk_is_missing_again(tmp_path: Path) -> None:
    first = Partial(tmp_path, SHA256, PIECES)
    for index in range(3):
        first.write_piece(index, _piece(index))
    first.close()
    with first.path.open("r+b") as data:
        data.seek(PIECE_SIZE_BYTES + 100)
        data.write(b"lost")
    second = Partial(tmp_path, SHA256, PIECES)
    assert list(second.have.missing()) == [1]
    second.close()


@pytest.mark.parametrize("content", [b"", b"garbage", b"pyrsia/partial/1\n" + b"\xff" * 44])
def test_damaged_map_means_starting_anew(tmp_path: Path, content: bytes) -> None:
    first = Partial(tmp_path, SHA256, PIECES)
    first.write_piece(2, _piece(2))
    first.close()
    (tmp_path / f"{SHA256}.map").write_bytes(content)
    second = Partial(tmp_path, SHA256, PIECES)
    assert len(second.have) == 0
    second.close()


def test_another_piece_list_means_starting_anew(tmp_path: Path) -> None:
    first = Partial(tmp_path, SHA256, PIECES)
    first.write_piece(2, _piece(2))
    first.close()
    other = _list(DATA[:-1] + b"!")
    second = Partial(tmp_path, SHA256, other)
    assert len(second.have) == 0
    second.close()


def test_artifact_larger_than_the_disk_is_refused_with_the_path(tmp_path: Path) -> None:
    size = 1 << 40
    hashes = bytes(size // PIECE_SIZE_BYTES * 32)
    pieces = PieceList.check(hashes, size=size, root=piece_root(hashes))
    with pytest.raises(UnavailableError, match=str(tmp_path)):
        Partial(tmp_path, SHA256, pieces)
    assert list(tmp_path.iterdir()) == []


def test_single_piece_needs_no_list(tmp_path: Path) -> None:
    pieces = PieceList.of_single(size=5, root=_list(b"small").root)
    assert pieces is not None
    partial = Partial(tmp_path, SHA256, pieces)
    with pytest.raises(VerificationError):
        partial.write_piece(0, b"smelt")
    partial.write_piece(0, b"small")
    assert partial.have.is_full
    partial.close()


def test_stale_downloads_are_deleted(tmp_path: Path) -> None:
    Partial(tmp_path, SHA256, PIECES).close()
    os.utime(tmp_path / f"{SHA256}.map", (1, 1))
    assert remove_stale(tmp_path, before_s=2) == [f"{SHA256}.map"]
