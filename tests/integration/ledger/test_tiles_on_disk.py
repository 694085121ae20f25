"""The log's files: same bytes from every cut, resumed from every crash, read at every width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrsia_node.ledger.tiles import WIDTHS_KEPT, TileFiles, TileWriter
from pyrsia_node.model.errors import CorruptStateError, NotFoundError
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.proofs import make_inclusion_proof, verify_inclusion
from pyrsia_node.tlog.tile import (
    Tile,
    TileHashReader,
    tile_width,
    tiles_of_size,
)
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, leaf_hash

LEAVES = [b"leaf %d" % number * (number % 5) for number in range(1200)]


class Chain:
    """Leaves in memory, as the chain yields them."""

    def __init__(self, leaves: Sequence[bytes] = LEAVES) -> None:
        self._leaves = leaves
        self.asked: list[tuple[int, int]] = []

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        self.asked.append((start, end))
        yield from self._leaves[start:end]


def root_at(size: int, leaves: Sequence[bytes] = LEAVES) -> bytes:
    return EMPTY_FRONTIER.extend(leaf_hash(leaf) for leaf in leaves[:size]).root()


def catch_up(folder: Path, size: int) -> TileWriter:
    writer = TileWriter(folder)
    writer.catch_up(Chain(), size=size, root=root_at(size))
    return writer


def full_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".p" not in path.parent.name
    }


def served(folder: Path, size: int) -> dict[str, bytes]:
    """Return every tile that a log of ``size`` consists of, through the reader."""
    files = TileFiles(folder)
    found = {}
    for last in tiles_of_size(size):
        for number in range(last.number + 1):
            width = tile_width(last.level or 0, number, size=size)
            tile = Tile(last.level, number, width)
            found[tile.path()] = files.read(tile)
    return found


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 512, 1100])
def test_every_proof_of_the_head_can_be_made_from_the_files(tmp_path: Path, size: int) -> None:
    catch_up(tmp_path, size)
    files = TileFiles(tmp_path)
    reader = TileHashReader(files, size)
    for index in range(0, size, 37):
        leaf = files.entry(index, size=size)
        assert leaf == LEAVES[index]
        proof = make_inclusion_proof(reader, index=index, size=size)
        verify_inclusion(leaf_hash(leaf), index=index, size=size, root=root_at(size), proof=proof)
    assert list(files.entries(0, size, size=size)) == LEAVES[:size]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 700), max_size=8), reopen=st.booleans())
def test_any_way_of_cutting_the_appends_gives_the_same_files(
    tmp_path: Path, cuts: list[int], *, reopen: bool
) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for folder in (whole, pieces):
        shutil.rmtree(folder, ignore_errors=True)
    catch_up(whole, 700)
    writer = TileWriter(pieces)
    for size in sorted({*cuts, 700}):
        if reopen:
            writer = TileWriter(pieces)
        writer.catch_up(Chain(), size=size, root=root_at(size))
        assert writer.frontier() == EMPTY_FRONTIER.extend(map(leaf_hash, LEAVES[:size]))
    assert full_files(pieces) == full_files(whole)
    assert served(pieces, 700) == served(whole, 700)


def test_a_reopened_writer_asks_only_for_what_is_after_its_last_full_bundle(
    tmp_path: Path,
) -> None:
    catch_up(tmp_path, 1100)
    writer, chain = TileWriter(tmp_path), Chain()
    assert writer.size == 1024
    writer.catch_up(chain, size=1150, root=root_at(1150))
    assert chain.asked == [(1024, 1150)]


class PowerCutError(Exception):
    pass


MANY = [b"%d" % number for number in range(65_540)]


def unsynced(path: Path, data: bytes, *, sync: bool) -> None:
    del sync
    write_atomic(path, data, sync=False)


def test_a_crash_between_two_files_is_repaired_by_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the levels meet: leaf 65,536 completes a bundle, a level 0 tile and a level 1 tile.
    # A thousand fsyncs prove nothing here: the crash is between writes, not in the disk's cache.
    monkeypatch.setattr("pyrsia_node.ledger.tiles.write_atomic", unsynced)
    before = tmp_path / "before"
    TileWriter(before).extend(MANY[:65_535])
    whole, root = tmp_path / "whole", root_at(65_540, MANY)
    shutil.copytree(before, whole)
    TileWriter(whole).catch_up(Chain(MANY), size=65_540, root=root)
    order: list[str] = []
    for allowed in range(7):
        folder = tmp_path / f"crash{allowed}"
        shutil.copytree(before, folder)
        writer = TileWriter(folder)
        left = iter(range(allowed))
        written: list[str] = []

        def write(
            path: Path,
            data: bytes,
            *,
            sync: bool,
            left: Iterator[int] = left,
            written: list[str] = written,
            folder: Path = folder,
        ) -> None:
            if next(left, None) is None:
                raise PowerCutError
            written.append(str(path.relative_to(folder)))
            unsynced(path, data, sync=sync)

        monkeypatch.setattr("pyrsia_node.ledger.tiles.write_atomic", write)
        try:
            writer.extend(MANY[65_280:65_537])
        except PowerCutError:
            assert len(written) == allowed < 6
        order = written
        monkeypatch.setattr("pyrsia_node.ledger.tiles.write_atomic", unsynced)
        again = TileWriter(folder)
        again.catch_up(Chain(MANY), size=65_540, root=root)
        assert full_files(folder) == full_files(whole)
    assert order == [
        "tile/entries/255",
        "tile/0/255",
        "tile/1/000",
        "tile/0/256.p/1",
        "tile/2/000.p/1",
        "tile/entries/256.p/1",
    ]


def test_empty_partials_after_a_power_cut_are_written_again(tmp_path: Path) -> None:
    catch_up(tmp_path, 300)
    for path in tmp_path.rglob("*.p/*"):
        path.write_bytes(b"")
    with pytest.raises(CorruptStateError, match="is damaged"):
        served(tmp_path, 300)
    catch_up(tmp_path, 300)
    assert b"".join(served(tmp_path, 300).values())
    assert list(TileFiles(tmp_path).entries(0, 300, size=300)) == LEAVES[:300]


def grow(writer: TileWriter, size: int, *, published: int = 0) -> None:
    writer.published(published)
    writer.catch_up(Chain(), size=size, root=root_at(size))


def widths(folder: Path, place: str = "tile/0/000.p") -> list[int]:
    return sorted(int(path.name) for path in (folder / place).iterdir())


def test_narrower_widths_are_cut_from_what_is_there(tmp_path: Path) -> None:
    writer = catch_up(tmp_path, 40)
    early = served(tmp_path, 40)
    grow(writer, 200, published=200)
    assert widths(tmp_path) == widths(tmp_path, "tile/entries/000.p") == [200]
    assert served(tmp_path, 40) == early
    grow(writer, 256, published=256)
    assert [p.name for p in tmp_path.rglob("*.p/*")] == ["1"]  # the root tile, one hash wide
    assert served(tmp_path, 40) == early
    with pytest.raises(NotFoundError):
        TileFiles(tmp_path).read(Tile(0, 1, 1))


def test_what_the_published_head_needs_stays_until_the_next_is_published(tmp_path: Path) -> None:
    writer = catch_up(tmp_path, 40)
    grow(writer, 50)
    grow(writer, 60, published=50)
    assert widths(tmp_path) == [50, 60]
    grow(writer, 300, published=50)
    assert widths(tmp_path) == [50, 60]
    again = TileWriter(tmp_path)
    grow(again, 300, published=300)
    assert not (tmp_path / "tile/0/000.p").exists()


def test_widths_are_bounded_when_nothing_is_published_for_long(tmp_path: Path) -> None:
    writer = catch_up(tmp_path, 10)
    for size in range(11, 100):
        grow(writer, size, published=10)
    assert widths(tmp_path) == [10, *range(100 - WIDTHS_KEPT, 100)]
    assert list(TileFiles(tmp_path).entries(0, 30, size=30)) == LEAVES[:30]


def test_size_counts_only_leaves_whose_tiles_are_all_in_place(tmp_path: Path) -> None:
    writer = catch_up(tmp_path, 300)
    seen: list[int] = []

    def watched() -> Iterator[bytes]:
        for leaf in LEAVES[300:600]:
            seen.append(writer.size)
            yield leaf

    writer.extend(watched())
    assert set(seen) == {300}
    assert writer.size == 600


def test_files_of_another_log_are_told_with_both_roots(tmp_path: Path) -> None:
    TileWriter(tmp_path).extend(b"other" for _ in range(300))
    writer = TileWriter(tmp_path)
    with pytest.raises(CorruptStateError, match=root_at(400).hex()):
        writer.catch_up(Chain(), size=400, root=root_at(400))


def test_files_ahead_of_the_chain_stay(tmp_path: Path) -> None:
    writer = catch_up(tmp_path, 300)
    writer.catch_up(Chain(), size=100, root=root_at(100))
    assert writer.size == 300


def test_a_damaged_full_tile_is_told_with_its_path(tmp_path: Path) -> None:
    catch_up(tmp_path, 300)
    (tmp_path / "tile/entries/000").write_bytes(b"\0\1")
    with pytest.raises(CorruptStateError, match=r"tile/entries/000 is damaged .*fsck --repair"):
        TileFiles(tmp_path).entry(3, size=300)
    (tmp_path / "tile/0/000").write_bytes(b"\0\1")
    with pytest.raises(CorruptStateError, match=r"tile/0/000 is damaged .*fsck --repair"):
        TileWriter(tmp_path)
