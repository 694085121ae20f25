"""The write-ahead log of one simulated node: the product's codec on a simulated disk.

It does what the driver does with real files (CONSENSUS.md 3.6.2): preallocated files of zeros, one
sync a batch, each batch from a page boundary, a new file after every start and when the old one is
full, old files removed when all they speak of is committed. Codec and scan are ``consensus.wal``;
only the file calls are simulated. ``step`` is called at each point at which the power may fail,
``tear`` at those at which something is written but not synced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consensus.effects import Record
from consensus.sim.disk import PAGE, Disk
from consensus.types import Height
from consensus.wal import ScanState, encode_batch, scan

FILE_SIZE: Final = 16 * PAGE
"""Small, so that runs of a few heights rotate; the product's files are larger."""


class DamageError(Exception):
    """The log has lost what was durable; the text says where it shows."""


class Journal:
    """Appends batches and reads them back after a power loss.

    ``load`` comes first, exactly once, also on an empty disk.
    """

    __slots__ = ("_disk", "_heights", "_name", "_next_number", "_offset", "_step", "_tear")

    def __init__(self, disk: Disk, step: Callable[[], None], tear: Callable[[], None]) -> None:
        self._disk = disk
        self._step = step
        self._tear = tear
        self._heights: dict[str, Height] = {}
        self._name = ""
        self._next_number = 1
        self._offset = 0

    def load(self, height: Height) -> tuple[Record, ...]:
        """Read every batch that is whole, oldest first, for a node that works at ``height``.

        Raises:
            DamageError: the log has lost what was durable.
        """
        records: list[Record] = []
        for position, name in enumerate(self._disk.names()):
            first = _first_batch(name)
            if position and first != self._next_number:
                raise DamageError(f"{name} follows a gap")
            content = self._disk.read(name)
            result = scan(content, first)
            if result.state is ScanState.AMNESIA or len(content) < FILE_SIZE:
                raise DamageError(f"{name} is damaged")
            records.extend(result.records)
            self._next_number = result.next_number
            self._heights[name] = height
        return tuple(records)

    def set_aside(self) -> None:
        """Drop a damaged log and begin a new one, whose batches count from 1 again."""
        for name in self._disk.names():
            self._disk.remove(name)
        self._disk.sync_names()
        self._heights.clear()
        self._next_number = 1

    def append(self, records: tuple[Record, ...], height: Height) -> None:
        """Write one batch and make it durable, with a chance to lose power at each step."""
        batch = encode_batch(self._next_number, records)
        if not self._name or self._offset + len(batch) > self._disk.size(self._name):
            self._rotate(len(batch))
        self._heights[self._name] = height
        self._step()
        self._disk.write(self._name, self._offset, batch)
        self._tear()
        self._disk.sync(self._name)
        self._offset += -(-len(batch) // PAGE) * PAGE
        self._next_number += 1

    def forget_below(self, height: Height) -> None:
        """Remove the files in which nothing speaks of ``height`` or above."""
        for name in sorted(name for name, last in self._heights.items() if last < height):
            if name != self._name:
                # Oldest first and durably, one by one: were a later removal to survive a power
                # loss that an earlier one does not, the gap would look like lost memory.
                self._disk.remove(name)
                self._step()
                self._disk.sync_names()
                del self._heights[name]

    def _rotate(self, size: int) -> None:
        # The new file is whole and named on the platter before anything is written to it, so a
        # power loss here leaves at worst an empty file, which reads as no batches and is made anew
        # under the same name by the next life.
        name = f"{self._next_number:012d}.wal"
        self._disk.allocate(name, max(FILE_SIZE, -(-size // PAGE) * PAGE))
        self._step()
        self._disk.sync_names()
        self._name, self._offset = name, 0


def _first_batch(name: str) -> int:
    return int(name.removesuffix(".wal"))
