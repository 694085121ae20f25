"""Laws of pieces, piece lists and bitmaps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import VerificationError
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.store.pieces import (
    Bitmap,
    PieceHasher,
    PieceList,
    piece_count,
    piece_hash,
    piece_length,
    piece_root,
    pieces_of_range,
)

SIZES = st.integers(0, 1 << 40)


@given(SIZES)
def test_pieces_cover_the_artifact_exactly(size: int) -> None:
    count = piece_count(size)
    assert (count - 1) * PIECE_SIZE_BYTES < size <= count * PIECE_SIZE_BYTES or size == count == 0
    if count:
        last = piece_length(count - 1, size=size)
        assert (count - 1) * PIECE_SIZE_BYTES + last == size


@given(SIZES, st.integers(0, 1 << 26))
def test_pieces_of_a_range_are_those_that_overlap_it(start: int, length: int) -> None:
    touched = pieces_of_range(start, length)
    if length == 0:
        assert not touched
    else:
        assert touched[0] == start // PIECE_SIZE_BYTES
        assert touched[-1] == (start + length - 1) // PIECE_SIZE_BYTES


@given(st.lists(st.integers(0, 3 * PIECE_SIZE_BYTES // 2), max_size=4))
def test_hasher_does_not_care_how_the_file_is_cut(cuts: list[int]) -> None:
    data = bytes(range(256)) * (PIECE_SIZE_BYTES * 3 // 2 // 256)
    hasher = PieceHasher()
    bounds = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(bounds):
        hasher.update(memoryview(data)[start:end])
    expected = [piece_hash(data[:PIECE_SIZE_BYTES]), piece_hash(data[PIECE_SIZE_BYTES:])]
    assert hasher.finish() == b"".join(expected)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_byte_fails_the_piece(data: bytes, draw: st.DataObject) -> None:
    pieces = PieceList.of_single(size=len(data), root=piece_root(piece_hash(data)))
    assert pieces is not None
    pieces.check_piece(0, data)
    changed = bytearray(data)
    changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(VerificationError):
        pieces.check_piece(0, changed)


@given(st.binary(max_size=400), SIZES, st.text("0123456789abcdef", min_size=64, max_size=64))
def test_only_the_committed_list_is_accepted(hashes: bytes, size: int, root: str) -> None:
    with pytest.raises(VerificationError):
        PieceList.check(hashes, size=size + 1, root=root)


@given(st.integers(0, 100), st.data())
def test_bitmap_is_the_set_of_its_indices(count: int, draw: st.DataObject) -> None:
    indices = draw.draw(st.sets(st.integers(0, count - 1))) if count else set()
    bitmap = Bitmap(count)
    for index in indices:
        bitmap.add(index)
    again = Bitmap(count, bytes(bitmap) + b"\xff")
    assert {index for index in range(count) if index in again} == indices
    assert len(again) == len(indices)
    assert list(again.missing()) == sorted(set(range(count)) - indices)
    assert again.is_full == (len(indices) == count)
    for index in indices:
        again.discard(index)
    assert len(again) == 0
    assert Bitmap.full(count).is_full
