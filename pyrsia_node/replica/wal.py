"""The write-ahead log on disk: preallocated files, one ``fdatasync`` a batch.

The byte layout and what a damaged file means are ``consensus.wal``'s; here is only the file work.
Files are ``<first batch number, 16 hex>.wal``, filled with zeros when made, so that an append
changes no metadata and ``fdatasync`` alone makes it durable. Files rotate by size, and are deleted
once every height in them is committed.

Crash points: a new file is made under another name, filled and fsynced, then renamed, then the
folder is fsynced, then the first batch goes in. A crash leaves a file that is ignored, or a whole
file without a batch; so a file shorter than ``FILE_BYTES`` has lost something.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from consensus.effects import Record
from consensus.wal import PAGE_BYTES, ScanState, encode_batch, scan

FILE_BYTES: Final = 8 * 1024 * 1024
"""Size of a fresh file; a single larger batch gets a file of its own size."""


class WriteAheadLog:
    """Appends batches of records; reads them all back at start.

    ``read`` comes first, exactly once; ``append`` may run in a worker thread, one at a time.
    """

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which must exist."""
        self._folder = folder
        self._fd: int | None = None
        self._offset = 0
        self._size = 0
        self._next_number = 1
        self._sealed: list[tuple[Path, int]] = []
        self._current: Path | None = None
        self._height_max = 0

    def read(self) -> tuple[list[Record], str]:
        """Return every record that was made durable, oldest first, and what is wrong, or "".

        A text means that batches are missing which later ones prove were there: this node may
        have forgotten votes, and must stay silent on this log.
        """
        assert self._fd is None, "read comes before the first append"
        records: list[Record] = []
        damage = ""
        for position, path in enumerate(sorted(self._folder.glob("*.wal"))):
            first = int(path.stem, 16)
            # A torn batch N was never sent: the next start dropped it and wrote another batch N
            # into a new file. Any other gap means that batches are gone.
            if position and first != self._next_number:
                damage = f"{path}: starts at batch {first}, batch {self._next_number} is missing"
            content = path.read_bytes()
            found = scan(content, first)
            if found.state is ScanState.AMNESIA or len(content) < FILE_BYTES:
                damage = f"{path}: damaged after batch {found.next_number - 1}, or cut short"
            records += found.records
            self._next_number = found.next_number
            # Nothing is appended to an old file: a torn tail stays behind in a file of its own.
            self._sealed.append((path, 0))
        return records, damage

    def append(self, records: Sequence[Record], *, height: int) -> None:
        """Make the records durable as one batch of working height ``height``.

        Raises:
            OSError: the disk failed; the caller must stop the process (never retry an fsync).
        """
        batch = encode_batch(self._next_number, records)
        if self._fd is None or self._offset + len(batch) > self._size:
            self._rotate(len(batch))
        assert self._fd is not None
        written = os.pwrite(self._fd, batch, self._offset)
        if written != len(batch):
            raise OSError(f"{self._current}: wrote {written} of {len(batch)} bytes")
        os.fdatasync(self._fd)
        self._offset += len(batch)
        self._next_number += 1
        self._height_max = max(self._height_max, height)

    def discard(self, committed: int) -> None:
        """Delete files in which every height is at most ``committed``."""
        keep: list[tuple[Path, int]] = []
        for path, height in self._sealed:
            if height <= committed and path != self._current:
                path.unlink(missing_ok=True)
            else:
                keep.append((path, height))
        self._sealed = keep

    def close(self) -> None:
        """Close the current file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _rotate(self, needed: int) -> None:
        if self._fd is not None and self._current is not None:
            os.close(self._fd)
            self._sealed.append((self._current, self._height_max))
        self._size = max(FILE_BYTES, -(-needed // PAGE_BYTES) * PAGE_BYTES)
        self._current = self._folder / f"{self._next_number:016x}.wal"
        fresh = self._current.with_suffix(".new")
        self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        zeros = bytes(1024 * 1024)
        for start in range(0, self._size, len(zeros)):
            os.pwrite(self._fd, zeros[: self._size - start], start)
        os.fsync(self._fd)
        fresh.rename(self._current)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._offset = 0
        self._height_max = 0
