"""Reads all entries of a log in order, and holds every tile and the root against them.

One pass, one bundle in memory: leaf hashes come from the entries, each upper tile from the tiles
below it. So a tile that differs is named by its path, whatever the root says.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from pyrsia_node.audit.report import Report
from pyrsia_node.audit.source import LogSource
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError
from pyrsia_node.tlog.checkpoint import Checkpoint
from pyrsia_node.tlog.tile import WIDTH, Tile, decode_bundle, fold_perfect, tile_width
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, HASH_SIZE, leaf_hash


class UnreadableError(Exception):
    """The entries cannot be followed any further; the report says why."""


def bundle(source: LogSource, number: int, *, size: int) -> tuple[bytes, ...]:
    """Return the entries of a bundle of a log of ``size``.

    Raises:
        NotFoundError: It is missing.
        CorruptStateError: It is malformed.
        UnavailableError: It cannot be read.
    """
    width = tile_width(0, number, size=size)
    try:
        return decode_bundle(source.tile(Tile(None, number, width)), width=width)
    except InvalidInputError as error:
        raise CorruptStateError(str(error)) from None


class TreeAudit:
    """Yields the leaves of a log; reports what is wrong with its files as it goes."""

    def __init__(self, source: LogSource, head: Checkpoint, report: Report) -> None:
        """Read the log up to ``head``."""
        self._source = source
        self._head = head
        self._report = report
        self._frontier = EMPTY_FRONTIER
        self._levels: list[list[bytes]] = [[]]

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Yield (index, leaf); then check what remains: partial tiles and the root.

        Raises:
            UnreadableError: A bundle is missing or malformed; the report names it.
            UnavailableError: The source cannot be read any more.
        """
        size = self._head.size
        for number in range(-(-size // WIDTH)):
            entries = self._entries(number)
            self._take([leaf_hash(leaf) for leaf in entries])
            yield from enumerate(entries, start=number * WIDTH)
        for level, hashes in enumerate(self._levels):
            if hashes:
                self._compare(Tile(level, size >> (8 * (level + 1)), len(hashes)), hashes)
        self._check_root()

    def _entries(self, number: int) -> tuple[bytes, ...]:
        width = tile_width(0, number, size=self._head.size)
        path = Tile(None, number, width).path()
        try:
            entries = bundle(self._source, number, size=self._head.size)
        except (NotFoundError, CorruptStateError) as error:
            self._report.contradict("tree", path, _told(error))
            raise UnreadableError from None
        self._report.counted["tree"] += 1
        return entries

    def _take(self, hashes: list[bytes]) -> None:
        self._frontier = self._frontier.extend(hashes)
        self._levels[0] = hashes
        level = 0
        while len(self._levels[level]) == WIDTH:
            number = (self._frontier.size >> (8 * (level + 1))) - 1
            self._compare(Tile(level, number), self._levels[level])
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(fold_perfect(b"".join(self._levels[level])))
            self._levels[level] = []
            level += 1

    def _compare(self, tile: Tile, hashes: list[bytes]) -> None:
        """Hold a tile's file against what the files below it give."""
        self._report.counted["tree"] += 1
        try:
            data = self._source.tile(tile)
        except (NotFoundError, CorruptStateError) as error:
            self._report.contradict("tree", tile.path(), _told(error))
            return
        found = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
        for place, (theirs, ours) in enumerate(zip_longest(found, hashes, fillvalue=b"")):
            if theirs != ours:
                below = "the entry" if tile.level == 0 else "the tile below"
                self._report.contradict(
                    "tree",
                    tile.path(),
                    f"hash {place} is {theirs.hex() or 'missing'}, {below} gives "
                    f"{ours.hex() or 'none'}",
                )
                return

    def _check_root(self) -> None:
        found = self._frontier.root()
        if found != self._head.root:
            self._report.contradict(
                "tree",
                "checkpoint",
                f"root is {self._head.root.hex()} at size {self._head.size}, the entries lead to "
                f"{found.hex()}",
            )


def _told(error: Exception) -> str:
    return f"cannot be read: {str(error).partition(': run ')[0]}"
