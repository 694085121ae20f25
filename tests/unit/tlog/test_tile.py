"""Paths, widths and bundles; proofs made from tiles."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog import proofs
from pyrsia_node.tlog.tile import (
    Tile,
    TileHashReader,
    cut_bundle,
    decode_bundle,
    encode_bundle,
    entry_in_bundle,
    hash_in_tile,
    tile_of,
    tile_width,
    tiles_of_size,
)
from pyrsia_node.tlog.tree import (
    EMPTY_FRONTIER,
    Frontier,
    Subtree,
    leaf_hash,
    perfect_subtrees,
)

SIZE = 66_000  # needs three levels of tiles
LEAF_HASHES = [leaf_hash(number.to_bytes(4, "big")) for number in range(SIZE)]


class TilesInMemory:
    """All tiles of the log of ``SIZE`` leaves, built level by level with the tree's own folding."""

    def __init__(self) -> None:
        self.levels = [LEAF_HASHES]
        while len(self.levels[-1]) >= 256:
            below = self.levels[-1]
            self.levels.append(
                [
                    EMPTY_FRONTIER.extend(below[at : at + 256]).root()
                    for at in range(0, len(below) - 255, 256)
                ]
            )
        self.reads: list[list[Tile]] = []

    def read_tiles(self, tiles: Sequence[Tile]) -> list[bytes]:
        self.reads.append(list(tiles))
        contents = []
        for tile in tiles:
            assert tile.level is not None
            start = tile.number * 256
            contents.append(b"".join(self.levels[tile.level][start : start + tile.width]))
        return contents


TILES = TilesInMemory()


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, SIZE])
def test_roots_frontiers_and_proofs_come_out_of_tiles(size: int) -> None:
    reader = TileHashReader(TILES, size)
    expected: Frontier = EMPTY_FRONTIER.extend(LEAF_HASHES[:size])
    hashes = reader.read_hashes(perfect_subtrees(0, size))
    assert Frontier(size, tuple(hashes)) == expected
    for index in {0, size // 2, size - 1}:
        TILES.reads.clear()
        proof = proofs.make_inclusion_proof(reader, index=index, size=size)
        assert len(TILES.reads) == 1, "one batch a proof"
        assert len(TILES.reads[0]) == len(set(TILES.reads[0])) <= 6
        proofs.verify_inclusion(
            LEAF_HASHES[index], index=index, size=size, root=expected.root(), proof=proof
        )
    for old_size in {1, size // 3 + 1, size - 1 or 1}:
        proof = proofs.make_consistency_proof(reader, old_size=old_size, new_size=size)
        proofs.verify_consistency(
            old_size=old_size,
            old_root=EMPTY_FRONTIER.extend(LEAF_HASHES[:old_size]).root(),
            new_size=size,
            new_root=expected.root(),
            proof=proof,
        )


def test_a_tile_shorter_than_its_width_is_bad_input() -> None:
    with pytest.raises(InvalidInputError, match="shorter than its width"):
        hash_in_tile(bytes(32 * 3), Subtree(2, 0))
    with pytest.raises(InvalidInputError, match="no whole number"):
        hash_in_tile(bytes(33), Subtree(0, 0))


def test_a_subtree_beyond_the_log_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="not yet in the tree"):
        tile_of(Subtree(2, 1), size=7)


def test_widths_and_last_tiles_follow_the_size() -> None:
    assert [tile_width(0, 1, size=size) for size in (256, 257, 512, 513)] == [0, 1, 256, 256]
    assert tiles_of_size(0) == []
    assert tiles_of_size(1) == [Tile(0, 0, 1), Tile(None, 0, 1)]
    assert tiles_of_size(256) == [Tile(0, 0), Tile(1, 0, 1), Tile(None, 0)]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(0, 999), "tile/0/999"),
        (Tile(1, 1000, 255), "tile/1/x001/000.p/255"),
        (Tile(None, 1_000_000), "tile/entries/x001/x000/000"),
        (Tile(6, 5, 7), "tile/6/005.p/7"),
    ],
)
def test_paths_are_read_back(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/000/",
        "/tile/0/000",
        "tile/00/000",
        "tile/7/000",
        "tile/63/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/-1/000",
        "tile/entries/../../x",
        "tile/entries/%2e%2e",
        "tile/0/\u0660\u0660\u0660",
        "tile/0/000\n",
        "tile/0/" + "x999/" * 11 + "999",
        "tile/0/" + "x999/" * 5 + "999",
    ],
)
def test_other_spellings_and_impossible_tiles_are_refused(path: str) -> None:
    with pytest.raises(InvalidInputError):
        Tile.parse(path)


def test_bundles_are_read_back_and_cut() -> None:
    entries = (b"", b"a", b"\0" * 65_535, b"last")
    data = encode_bundle(entries)
    assert decode_bundle(data, width=4) == entries
    assert cut_bundle(data, width=2) == encode_bundle(entries[:2])
    assert decode_bundle(cut_bundle(data, width=2), width=2) == entries[:2]


def test_an_entry_is_found_whatever_stands_behind_it() -> None:
    entries = (b"", b"a", b"\0" * 65_535, b"last")
    data = encode_bundle(entries)
    assert tuple(entry_in_bundle(data, place) for place in range(4)) == entries
    assert entry_in_bundle(data[:-1], 2) == entries[2]
    with pytest.raises(InvalidInputError, match="ends after 3 of 4"):
        entry_in_bundle(data[:-1], 3)


@pytest.mark.parametrize(
    ("data", "width", "reason"),
    [
        (b"", 1, "ends after 0 of 1"),
        (b"\0", 1, "ends after 0 of 1"),
        (b"\0\1", 1, "ends after 0 of 1"),
        (b"\0\1a\0", 2, "ends after 1 of 2"),
        (b"\0\1a\0\0", 1, "more than 1"),
    ],
)
def test_cut_off_and_overlong_bundles_are_refused(data: bytes, width: int, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        decode_bundle(data, width=width)
