"""The log as files under ``log/``: written leaf by leaf, read by anybody. C2SP tlog-tiles.

Everything here is derived from the chain and believed by nobody: readers check proofs. So only
what is complete is made durable. Order of the durable steps, and what a crash leaves:

1. a bundle or tile that became full is written and fsynced, entries first, then levels upwards;
   a crash between two of them leaves a lower one whose upper one is missing: ``TileWriter`` makes
   the upper one again when it opens;
2. partial tiles are renamed into place without fsync; after a power cut they may be missing or
   empty, and the writer, which resumes at the last full tile, writes them again.

Of a partial tile, the published width and the newest widths are kept as files. ``TileFiles``
answers for every other width that the log had by cutting a wider file, of which it is a prefix.
After an ``OSError`` a writer is of no further use: make a new one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.tile import (
    BUNDLE_BYTES_MAX,
    WIDTH,
    Tile,
    cut_bundle,
    decode_bundle,
    encode_bundle,
    entry_in_bundle,
    fold_perfect,
    tile_width,
    tiles_of_size,
)
from pyrsia_node.tlog.tree import (
    EMPTY_FRONTIER,
    HASH_SIZE,
    Frontier,
    leaf_hash,
)

REPAIR: Final = "pyrsia-node fsck --repair"
"""The command that derives tiles and checkpoint again."""


class LeafSource(Protocol):
    """Where derived data comes from: the chain."""

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end)."""
        ...


WIDTHS_KEPT: Final = 32
"""Newest widths of one partial tile that are kept when nothing tells what is published."""


class TileFiles:
    """Reads tiles and entries. Any process may; nothing is locked."""

    def __init__(self, folder: Path) -> None:
        """Read below ``folder``, the log's prefix; it may still be empty."""
        self._folder = folder

    def read(self, tile: Tile) -> bytes:
        """Return the content of a tile or bundle of exactly its width.

        The address is a parsed ``Tile``, so no text from the network ever becomes a path.

        Raises:
            NotFoundError: The log does not have it (yet).
        """
        for candidate in (tile, tile.full()):
            content = self._read_file(candidate)
            if content is not None:
                return self._cut(content, tile, candidate.width)
        for width in sorted(self._partial_widths(tile)):
            if width > tile.width:
                wider = Tile(tile.level, tile.number, width)
                content = self._read_file(wider)
                if content is not None:
                    return self._cut(content, tile, width)
        raise NotFoundError(f"{tile.path()} is not in the log")

    def read_tiles(self, tiles: Sequence[Tile]) -> list[bytes]:
        """Return each tile's content; this makes the class a ``tile.TileReader``."""
        return [self.read(tile) for tile in tiles]

    def entries(self, start: int, end: int, *, size: int) -> Iterator[bytes]:
        """Yield the leaves [start, end) of a log of ``size``.

        Raises:
            NotFoundError: A bundle is missing.
            CorruptStateError: A bundle is damaged; names its path.
        """
        assert 0 <= start <= end <= size
        for number in range(start // WIDTH, -(-end // WIDTH)):
            first = number * WIDTH
            tile = Tile(None, number, tile_width(0, number, size=size))
            content = self.read(tile)
            with self._intact(tile):
                bundle = decode_bundle(content, width=tile.width)
            yield from bundle[max(start - first, 0) : end - first]

    def entry(self, index: int, *, size: int) -> bytes:
        """Return one leaf of a log of ``size``; raises as ``entries``."""
        assert 0 <= index < size
        number, place = divmod(index, WIDTH)
        tile = Tile(None, number, tile_width(0, number, size=size))
        content = self.read(tile)
        with self._intact(tile):
            return entry_in_bundle(content, place)

    def _read_file(self, tile: Tile) -> bytes | None:
        try:
            with (self._folder / tile.path()).open("rb") as file:
                # No more than there is: for the largest bundle 16 MiB would be mapped each time.
                return file.read(min(os.fstat(file.fileno()).st_size, BUNDLE_BYTES_MAX))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _partial_widths(self, tile: Tile) -> set[int]:
        return partial_widths(self._folder, tile)

    def _cut(self, content: bytes, tile: Tile, width: int) -> bytes:
        with self._intact(tile):
            return _prefix(content, tile, width)

    @contextlib.contextmanager
    def _intact(self, tile: Tile) -> Iterator[None]:
        """Name the file when its content is not what its path promises."""
        try:
            yield
        except InvalidInputError as error:
            raise CorruptStateError(
                f"{self._folder / tile.path()} is damaged ({error}): run '{REPAIR}'"
            ) from None


class TileWriter:
    """Appends leaves to the log's files. One writer at a time: the core.

    Opening finds how far the files go and resumes there; ``size`` then tells from which leaf on
    the owner must append (again). ``extend`` and ``catch_up`` may run in a thread of their own, one
    at a time; ``size`` and ``published`` may be used meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        """Resume below ``folder``; it is created when absent. Cost: at most 255 tiles a level.

        Raises:
            CorruptStateError: A full tile is damaged; names its path.
        """
        self._folder = folder
        self._files = TileFiles(folder)
        self._entries: list[bytes] = []
        self._pending: list[list[bytes]] = [[]]
        self._size = 0
        self._whole_size = 0
        self._published_size = 0
        self._partials: set[Tile] = set()  # files that exist, to be pruned one day
        self._written: set[Tile] = set()  # those written since opening, known to be whole
        self._resume()

    @property
    def size(self) -> int:
        """Leaves that are in the files, with every tile of a log of this size."""
        return self._whole_size

    def frontier(self) -> Frontier:
        """Return the right edge of the tree in the files."""
        hashes: list[bytes] = []
        for level in reversed(self._pending):
            hashes += EMPTY_FRONTIER.extend(level).hashes
        return Frontier(size=self._size, hashes=tuple(hashes))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves and write what changed, the partial tiles of the new size included.

        Appending many leaves at once writes partial tiles once. The first call after opening
        writes them even when there is nothing to append.
        """
        for leaf in leaves:
            self._entries.append(leaf)
            self._pending[0].append(leaf_hash(leaf))
            self._size += 1
            if len(self._entries) == WIDTH:
                self._complete_bundle()
        self._write_partials()
        self._remove_surplus()
        self._whole_size = self._size

    def catch_up(self, source: LeafSource, *, size: int, root: bytes) -> None:
        """Append the leaves that the chain has and the files lack, up to the head (size, root).

        Raises:
            CorruptStateError: The files are those of another log, or damaged.
        """
        if size < self._size:
            return  # the chain itself is catching up; the files are ahead and stay
        self.extend(source.leaves(self._size, size))
        found = self.frontier().root()
        if found != root:
            raise CorruptStateError(
                f"{self._folder} has root {found.hex()} at size {size}, the chain has "
                f"{root.hex()}: run '{REPAIR}'"
            )

    def published(self, size: int) -> None:
        """Say which head is published: ``extend`` then removes partial files of older ones."""
        self._published_size = size

    # ------------------------------------------------------------ opening

    def _resume(self) -> None:
        full = self._count_full()
        self._size = self._whole_size = full * WIDTH
        below = full
        level = 1
        while below:
            self._make_missing_upper(level, below)
            first = below // WIDTH * WIDTH
            numbers = range(first, below)
            self._pending.append([self._tile_root(level - 1, number) for number in numbers])
            below //= WIDTH
            level += 1
        for height in range(len(self._pending)):
            number = full >> (8 * height)
            for place in {max(number - 1, 0), number}:
                self._find_partials(height, place)
                if height == 0:
                    self._find_partials(None, place)

    def _find_partials(self, level: int | None, number: int) -> None:
        for width in partial_widths(self._folder, Tile(level, number)):
            self._partials.add(Tile(level, number, width))

    def _count_full(self) -> int:
        """Return how many level 0 tiles are full: they are written in order."""
        low, high = 0, 1
        while self._has(high - 1):
            low, high = high, high * 2
        while low < high:
            middle = (low + high) // 2
            if self._has(middle):
                low = middle + 1
            else:
                high = middle
        return low

    def _has(self, number: int) -> bool:
        return (self._folder / Tile(0, number).path()).is_file()

    def _make_missing_upper(self, level: int, below: int) -> None:
        """Write the last full tile of a level if a crash came before it was written."""
        last = below // WIDTH - 1
        if last < 0 or (self._folder / Tile(level, last).path()).is_file():
            return
        numbers = range(last * WIDTH, (last + 1) * WIDTH)
        hashes = [self._tile_root(level - 1, number) for number in numbers]
        self._write(Tile(level, last), b"".join(hashes))

    def _tile_root(self, level: int, number: int) -> bytes:
        return fold_perfect(self._files.read(Tile(level, number)))

    # ------------------------------------------------------------ writing

    def _complete_bundle(self) -> None:
        number = self._size // WIDTH - 1
        self._write(Tile(None, number), encode_bundle(self._entries))
        self._entries.clear()
        level = 0
        while len(self._pending[level]) == WIDTH:
            row = b"".join(self._pending[level])
            number = (self._size >> (8 * (level + 1))) - 1
            self._write(Tile(level, number), row)
            if level + 1 == len(self._pending):
                self._pending.append([])
            self._pending[level + 1].append(fold_perfect(row))
            self._pending[level] = []
            level += 1

    def _write_partials(self) -> None:
        for tile in tiles_of_size(self._size):
            if tile.is_full or tile in self._written:
                continue
            if tile.level is None:
                content = encode_bundle(self._entries)
            else:
                content = b"".join(self._pending[tile.level])
            self._write(tile, content)
            self._partials.add(tile)
            self._written.add(tile)

    def _remove_surplus(self) -> None:
        """Remove partial files that neither the published head nor a later one needs."""
        places: dict[Tile, list[Tile]] = {}
        for tile in self._partials:
            places.setdefault(tile.full(), []).append(tile)
        for place, tiles in places.items():
            needed = tile_width(place.level or 0, place.number, size=self._published_size)
            ordered = sorted(tiles, key=lambda tile: tile.width)
            for tile in ordered:
                if tile.width < needed or (tile.width > needed and tile in ordered[:-WIDTHS_KEPT]):
                    self._remove(tile)

    def _remove(self, tile: Tile) -> None:
        path = self._folder / tile.path()
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # refuses while other widths are there
        self._partials.discard(tile)
        self._written.discard(tile)

    def _write(self, tile: Tile, content: bytes) -> None:
        path = self._folder / tile.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content, sync=tile.is_full)


def _prefix(content: bytes, tile: Tile, width: int) -> bytes:
    """Return what ``tile`` has of the content of the tile of ``width`` at the same place."""
    if tile.level is None:
        return content if width == tile.width else cut_bundle(content, width=tile.width)
    if len(content) != width * HASH_SIZE:
        raise InvalidInputError(f"{len(content)} bytes instead of {width * HASH_SIZE}")
    return content[: tile.width * HASH_SIZE]


def partial_widths(folder: Path, tile: Tile) -> set[int]:
    """Return the widths of a tile for which there is a partial file."""
    place = (folder / Tile(tile.level, tile.number, 1).path()).parent
    try:
        names = [each.name for each in place.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {int(name) for name in names if name.isascii() and name.isdigit()}
