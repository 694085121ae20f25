"""A disk that keeps its promises exactly and no more.

Written bytes wait in pages until ``sync``; on power loss each waiting page reaches the platter
whole, not at all, or in some of its sectors, independently of the others and in any order. A new
or removed name survives only after ``sync_names``. It knows nothing of what is written to it; the
write-ahead log above it is the product's own codec (CONSENSUS.md 3.6.2).
"""

from __future__ import annotations

import random
from typing import Final

PAGE: Final = 4096
SECTOR: Final = 512


class DiskError(Exception):
    """The disk refuses: no room is left, or a sync failed and nobody knows what it wrote."""


class Disk:
    """Files by name. One object is the disk of one node and outlives its crashes."""

    __slots__ = ("_files", "_names", "can_sync", "has_room", "syncs")

    def __init__(self) -> None:
        self.has_room = True
        self.can_sync = True
        self._files: dict[str, _File] = {}
        self._names: frozenset[str] = frozenset()
        self.syncs = 0

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(name for name, file in self._files.items() if not file.is_removed)

    def allocate(self, name: str, size: int) -> None:
        """Make a file of ``size`` zero bytes, which are on the platter when this returns.

        An old file of that name is emptied, as by truncation; its name is as durable as it was.

        Raises:
            DiskError: there is no room; nothing has changed.
        """
        assert size % PAGE == 0, "files are whole pages"
        if not self.has_room:
            raise DiskError("no space left")
        self._files[name] = _File(size)

    def require_synced_write(self) -> None:
        """Pass if a synced write elsewhere on this disk, as of the node's store, would succeed.

        Raises:
            DiskError: it would not.
        """
        if not self.has_room:
            raise DiskError("no space left")
        if not self.can_sync:
            raise DiskError("a sync failed")

    def remove(self, name: str) -> None:
        """Remove a file; until ``sync_names`` a power loss brings it back."""
        if name not in self._names:
            del self._files[name]
        else:
            self._files[name].is_removed = True

    def sync_names(self) -> None:
        """Make creations and removals durable, as fsync of the folder does.

        Raises:
            DiskError: it failed; each of them is durable or not, as after a power loss.
        """
        if not self.can_sync:
            raise DiskError("a sync failed")
        for name in [name for name, file in self._files.items() if file.is_removed]:
            del self._files[name]
        self._names = frozenset(self._files)

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return len(self._files[name].platter)

    def read(self, name: str) -> bytes:
        """Return the whole content of a file as a process sees it, synced or not."""
        return self._files[name].content()

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write at a page boundary; nothing is durable before ``sync``."""
        self._files[name].write(offset, data)

    def sync(self, name: str) -> None:
        """Make everything that was written to a file durable, as fdatasync does.

        Raises:
            DiskError: it failed; each page is durable or not, as after a power loss.
        """
        self.syncs += 1
        if not self.can_sync:
            raise DiskError("a sync failed")
        self._files[name].sync()

    def cut_short(self, name: str, length: int) -> None:
        """Leave only the first ``length`` bytes of a file, durably, as damage does."""
        del self._files[name].platter[length:]
        self._files[name].pending.clear()

    def lose_power(self, chance: random.Random) -> None:
        """Forget what was not durable, page by page as ``chance`` decides."""
        for name in sorted(self._files):
            file = self._files[name]
            file.is_removed = file.is_removed and chance.random() < 0.5
            is_created = name in self._names or chance.random() < 0.5
            if file.is_removed or not is_created:
                del self._files[name]
                continue
            file.lose_power(chance)
        self._names = frozenset(self._files)


class _File:
    """Bytes on the platter, and pages written since the last sync."""

    __slots__ = ("is_removed", "pending", "platter")

    def __init__(self, size: int) -> None:
        self.platter = bytearray(size)
        self.pending: dict[int, bytes] = {}
        self.is_removed = False

    def content(self) -> bytes:
        if not self.pending:
            return bytes(self.platter)
        merged = bytearray(self.platter)
        for page, data in self.pending.items():
            merged[page * PAGE : page * PAGE + len(data)] = data
        return bytes(merged)

    def write(self, offset: int, data: bytes) -> None:
        assert offset % PAGE == 0, "the log writes from page boundaries"
        assert offset + len(data) <= len(self.platter), "the log never grows a file"
        for start in range(0, len(data), PAGE):
            page = (offset + start) // PAGE
            old = self.pending.get(page) or bytes(self.platter[page * PAGE : (page + 1) * PAGE])
            new = data[start : start + PAGE]
            self.pending[page] = new + old[len(new) :]

    def sync(self) -> None:
        for page, data in self.pending.items():
            self.platter[page * PAGE : (page + 1) * PAGE] = data
        self.pending.clear()

    def lose_power(self, chance: random.Random) -> None:
        for page, data in self.pending.items():
            fate = chance.randrange(4)
            if fate == 0:
                continue
            for start in range(0, PAGE, SECTOR):
                if fate == 1 or chance.random() < 0.5:
                    at = page * PAGE + start
                    self.platter[at : at + SECTOR] = data[start : start + SECTOR]
        self.pending.clear()
