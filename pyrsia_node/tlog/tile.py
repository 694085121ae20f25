"""Tiles and entry bundles: how a tree and its entries are laid out as files. C2SP tlog-tiles.

A tile at level L holds up to 256 hashes of perfect subtrees of height 8 * L, and stands for a
subtree of height 8 whose inner hashes are computed again by whoever reads it. A bundle holds the
entries below a level 0 tile. A tile that is not yet full is *partial* and named by its width.

Pure: paths are text, contents are bytes. ``TileHashReader`` turns a reader of tiles into the
``tree.HashReader`` that proofs are made with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.tlog.tree import (
    HASH_SIZE,
    SIZE_MAX,
    Subtree,
)

HEIGHT: Final = 8
"""Levels of the tree that one tile spans."""

WIDTH: Final = 1 << HEIGHT
"""Hashes in a full tile."""

LEVEL_MAX: Final = SIZE_MAX.bit_length() // HEIGHT
ENTRY_BYTES_MAX: Final = 2**16 - 1
"""What the length prefix of a bundle can say."""

BUNDLE_BYTES_MAX: Final = WIDTH * (2 + ENTRY_BYTES_MAX)

_NUMBER: Final = r"(?:x[0-9]{3}/)*[0-9]{3}"
_PATH: Final = re.compile(
    rf"tile/(?P<level>0|[1-9][0-9]?|entries)/(?P<number>{_NUMBER})(?:\.p/(?P<width>[1-9][0-9]{{0,2}}))?",
    re.ASCII,
)
_PATH_LENGTH_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class Tile:
    """The address of a tile, or of an entry bundle when ``level`` is None."""

    level: int | None
    number: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        """Assert that the address is one that a log of our size can have."""
        assert self.level is None or 0 <= self.level <= LEVEL_MAX
        assert 0 <= self.number <= SIZE_MAX >> HEIGHT
        assert 1 <= self.width <= WIDTH

    @property
    def is_full(self) -> bool:
        """Whether the tile has all its 256 hashes or entries."""
        return self.width == WIDTH

    def full(self) -> Tile:
        """Return the address of the full tile at the same place."""
        return Tile(self.level, self.number)

    def path(self) -> str:
        """Return the path under the log's prefix, such as ``tile/0/x001/x234/067.p/8``."""
        groups: list[str] = []
        rest = self.number
        while True:
            rest, group = divmod(rest, 1000)
            groups.append(f"{group:03}" if not groups else f"x{group:03}")
            if not rest:
                break
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.is_full else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Return the address that ``path`` spells; only the form of ``path()`` is taken.

        Raises:
            InvalidInputError: Not the path of a tile or bundle.
        """
        match = _PATH.fullmatch(path) if len(path) <= _PATH_LENGTH_MAX else None
        if match is None:
            raise InvalidInputError(f"{path!r:.100} is no path of a tile")
        level = None if match["level"] == "entries" else int(match["level"])
        number = int(match["number"].replace("x", "").replace("/", ""))
        width = WIDTH if match["width"] is None else int(match["width"])
        if (level or 0) > LEVEL_MAX or number > SIZE_MAX >> HEIGHT or width > WIDTH:
            raise InvalidInputError(f"{path!r:.100} is beyond the largest log")
        tile = cls(level, number, width)
        if tile.path() != path:
            raise InvalidInputError(f"{path!r:.100} is not canonical: write {tile.path()}")
        return tile


class TileReader(Protocol):
    """Gives the contents of hash tiles."""

    def read_tiles(self, tiles: Sequence[Tile]) -> list[bytes]:
        """Return each tile's content, exactly ``width * 32`` bytes, in the order asked."""
        ...


class TileHashReader:
    """A ``tree.HashReader`` over the tiles of a log of a given size.

    It believes the tiles: a proof made from wrong ones fails when it is checked against the root.
    """

    def __init__(self, tiles: TileReader, size: int) -> None:
        """Read from ``tiles``, asking only for those that a log of ``size`` has."""
        self._tiles = tiles
        self._size = size

    def read_hashes(self, subtrees: Sequence[Subtree]) -> list[bytes]:
        """Return the hashes of perfect subtrees; each needed tile is read once."""
        wanted = [tile_of(subtree, size=self._size) for subtree in subtrees]
        distinct = list(dict.fromkeys(wanted))
        contents = dict(zip(distinct, self._tiles.read_tiles(distinct), strict=True))
        return [
            hash_in_tile(contents[tile], subtree)
            for tile, subtree in zip(wanted, subtrees, strict=True)
        ]


def tile_width(level: int, number: int, *, size: int) -> int:
    """Return how many hashes the tile has in a log of ``size``: 0 if it does not exist yet."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - number * WIDTH))


def tiles_of_size(size: int) -> list[Tile]:
    """Return the last tile of each level and the last bundle of a log of ``size``.

    Together with the full tiles before them they are all that the log consists of.
    """
    last = []
    level = 0
    while size >> (HEIGHT * level):
        number = ((size >> (HEIGHT * level)) - 1) // WIDTH
        last.append(Tile(level, number, tile_width(level, number, size=size)))
        level += 1
    if size:
        number = (size - 1) // WIDTH
        last.append(Tile(None, number, tile_width(0, number, size=size)))
    return last


def tile_of(subtree: Subtree, *, size: int) -> Tile:
    """Return the tile, in a log of ``size``, from which the subtree's hash is computed."""
    level, height = divmod(subtree.level, HEIGHT)
    number = (subtree.number << height) // WIDTH
    width = tile_width(level, number, size=size)
    assert ((subtree.number + 1) << height) - number * WIDTH <= width, "not yet in the tree"
    return Tile(level, number, width)


def hash_in_tile(content: bytes, subtree: Subtree) -> bytes:
    """Return the subtree's hash, computed from the content of its tile.

    Raises:
        InvalidInputError: The content is too short or no row of hashes.
    """
    height = subtree.level % HEIGHT
    start = (subtree.number << height) % WIDTH
    end = start + (1 << height)
    if len(content) % HASH_SIZE:
        raise InvalidInputError(f"tile of {len(content)} bytes holds no whole number of hashes")
    if len(content) < end * HASH_SIZE:
        raise InvalidInputError(f"tile of {len(content)} bytes is shorter than its width")
    return fold_perfect(content[start * HASH_SIZE : end * HASH_SIZE])


def fold_perfect(row: bytes) -> bytes:
    """Return the root over 2**h hashes that stand one after another."""
    # Not by node_hash: a proof folds some six hundred nodes, most of its processor time.
    sha256 = hashlib.sha256
    pair = 2 * HASH_SIZE
    while len(row) > HASH_SIZE:
        pairs = range(0, len(row), pair)
        row = b"".join([sha256(b"\x01" + row[at : at + pair]).digest() for at in pairs])
    return row


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the entries of a bundle, each after its big-endian u16 length."""
    parts = []
    for entry in entries:
        assert len(entry) <= ENTRY_BYTES_MAX
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_bundle(data: bytes, *, width: int) -> tuple[bytes, ...]:
    """Return exactly ``width`` entries.

    Raises:
        InvalidInputError: Another number of entries, or one that is cut off.
    """
    ends = _ends(data, width)
    if ends[-1] != len(data):
        raise InvalidInputError(f"bundle of {len(data)} bytes holds more than {width} entries")
    return tuple([data[start + 2 : end] for start, end in pairwise(ends)])


def cut_bundle(data: bytes, *, width: int) -> bytes:
    """Return the bundle of the first ``width`` entries of a wider one.

    Raises:
        InvalidInputError: There are fewer entries.
    """
    return data[: _ends(data, width)[-1]]


def entry_in_bundle(data: bytes, place: int) -> bytes:
    """Return the entry at a place, counted from 0; what stands behind it is not looked at.

    Raises:
        InvalidInputError: There are fewer entries.
    """
    start, end = _ends(data, place + 1)[-2:]
    return data[start + 2 : end]


def _ends(data: bytes, count: int) -> list[int]:
    """Return the 0 at which the first entry begins, and where each of ``count`` entries ends."""
    ends = [0]
    end = 0
    for _ in range(count):
        start = end + 2
        end = start + int.from_bytes(data[end:start], "big")
        if start > len(data) or end > len(data):
            raise InvalidInputError(
                f"bundle of {len(data)} bytes ends after {len(ends) - 1} of {count} entries"
            )
        ends.append(end)
    return ends
