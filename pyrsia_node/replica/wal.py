"""The write-ahead log on disk: preallocated files, one ``fdatasync`` a batch.

The byte layout and what a damaged file means are ``consensus.wal``'s; here is only the file work.
Files are ``<first batch number, 16 hex>.wal``, filled with zeros when made, so that an append
changes no metadata and ``fdatasync`` alone makes it durable. Files rotate by size, and are deleted
once every height in them is committed.

Crash points: a new file is made under another name, filled and fsynced, then renamed, then the
folder is fsynced, then the first batch goes in. A crash leaves a file that the next start removes,
or a whole file without a batch; so a file shorter than ``FILE_BYTES`` has lost something.
Files go oldest first, each removal durable before the next: a crash between two leaves a log that
starts later, never one with a gap. A log that is damaged keeps what was found, as evidence.

What is read is made durable before anybody acts on it. A process that is killed between a write and
its ``fdatasync`` leaves a batch in the page cache that the disk may not have; its successor repeats
those votes to everybody, and a power cut would then make it forget what it has said. After a failed
sync even the cache may hold what the disk never got. So each file is synced, and its clean pages
are dropped from the cache, before it is read.

A folder alone cannot show that its newest file is gone. So the number of the newest file is also
kept elsewhere, in an ``Anchor``, written after the file is there and before its first batch: a
crash between leaves a file that no anchor names, which is no loss.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from consensus import wire
from consensus.effects import Record, RecordKind
from consensus.errors import DecodeError
from consensus.wal import PAGE_BYTES, ScanState, encode_batch, scan
from pyrsia_node.model.errors import DiskError
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.store.files import sync_directory

FILE_BYTES: Final = 8 * 1024 * 1024
"""Size of a fresh file; a single larger batch gets a file of its own size."""

_ANCHOR_KEY: Final = b"replica/newest-log-file"

_DAMAGE_GAP: Final = 1 << 32
"""Batch numbers left out after damage: more than any file holds."""


class Anchor(Protocol):
    """Remembers, outside the folder and durably, which file of the log is the newest."""

    def newest(self) -> int:
        """Return the number of the newest file's first batch; 0 where there was never a file."""
        ...

    def moved(self, first_batch: int) -> None:
        """Note a new newest file; durable on return."""
        ...


class StoreAnchor:
    """The anchor in the core's own store: who loses the folder alone still has this."""

    def __init__(self, store: KeyValueStore) -> None:
        """Keep one row in ``store``."""
        self._store = store

    def newest(self) -> int:
        """Return the number of the newest file, 0 for none."""
        return int.from_bytes(self._store.get(_ANCHOR_KEY) or b"", "big")

    def moved(self, first_batch: int) -> None:
        """Note a new newest file."""
        self._store.write([(_ANCHOR_KEY, first_batch.to_bytes(8, "big"))], sync=True)


class WriteAheadLog:
    """Appends batches of records; reads them all back at start.

    ``read`` comes first, exactly once; ``append`` may run in a worker thread, one at a time.
    """

    def __init__(self, folder: Path, anchor: Anchor) -> None:
        """Use ``folder``, which must exist."""
        self._folder = folder
        self._anchor = anchor
        self._found: list[Path] = []
        self._fd: int | None = None
        self._offset = 0
        self._size = 0
        self._next_number = 1
        self._sealed: list[tuple[Path, int]] = []
        self._current: Path | None = None
        self._height_max = 0
        self.moved: Callable[[], None] = lambda: None
        """Hears each time that a batch is durable, in the thread of append."""
        # The gate sets files aside while the first append of a start may be in its thread.
        self._turn = threading.Lock()

    @property
    def next_batch(self) -> int:
        """Return the number of the batch that comes next; it never falls."""
        return self._next_number

    def read(self) -> tuple[list[Record], str]:
        """Return every record that was made durable, oldest first, and what is wrong, or "".

        A text means that batches are missing which later ones prove were there: this node may
        have forgotten votes, and must stay silent on this log.

        Raises:
            DiskError: a file cannot be read, or what is in it cannot be made durable.
        """
        assert self._fd is None, "read comes before the first append"
        records: list[Record] = []
        damage = ""
        for unfinished in self._folder.glob("*.new"):
            with _told(unfinished):
                unfinished.unlink()
        self._found = sorted(self._folder.glob("*.wal"))
        for position, path in enumerate(self._found):
            first = int(path.stem, 16)
            # A torn batch N was never sent: the next start dropped it and wrote another batch N
            # into a new file. Any other gap means that batches are gone.
            if position and first != self._next_number:
                damage = f"{path}: starts at batch {first}, batch {self._next_number} is missing"
            content = _read_durable(path)
            found = scan(content, first)
            if found.state is ScanState.AMNESIA or len(content) < FILE_BYTES:
                damage = f"{path}: damaged after batch {found.next_number - 1}, or cut short"
            records += found.records
            self._next_number = found.next_number
            # Nothing is appended to an old file: a torn tail stays behind in a file of its own.
            self._sealed.append((path, height_in(found.records)))
        damage = damage or self._what_is_gone()
        if damage:
            self.leave_gap(self._anchor.newest())
        return records, damage

    def leave_gap(self, beyond: int = 0) -> None:
        """Go on with a number far above this log's own and ``beyond``, after damage.

        Evidence is neither deleted nor written over, and the hole in the numbers tells every later
        start that this log has lost something.
        """
        assert self._fd is None, "gaps are left before the first append"
        self._sealed.clear()
        self._next_number = max(self._next_number, beyond) + _DAMAGE_GAP

    def append(self, records: Sequence[Record], *, height: int) -> None:
        """Make the records durable as one batch of working height ``height``.

        Raises:
            DiskError: the disk failed; the caller must stop the process (never retry an fsync).
        """
        with self._turn:
            self._append(records, height)
        self.moved()

    def discard(self, committed: int) -> None:
        """Delete the oldest files, as long as every height in them is at most ``committed``.

        Raises:
            DiskError: the disk failed; the caller must stop the process.
        """
        with self._turn:
            # The newest file stays, whatever is in it: an empty folder is a log that was lost.
            spare = 0 if self._fd is not None else 1
            while len(self._sealed) > spare and self._sealed[0][1] <= committed:
                path, _ = self._sealed[0]
                with _told(path):
                    path.unlink(missing_ok=True)
                    sync_directory(self._folder)
                del self._sealed[0]

    def set_aside(self) -> None:
        """Move the files that ``read`` found into a folder of their own, as evidence.

        For a log with damage, once nothing in it matters any more. A crash on the way leaves a
        log that still shows a gap. The new names are durable before the old ones are gone, and the
        folder before anything is in it: whenever the power fails, each file is in one of the two.

        Raises:
            DiskError: the disk failed; the caller must stop the process.
        """
        with self._turn:
            self._set_aside()

    def close(self) -> None:
        """Close the current file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _append(self, records: Sequence[Record], height: int) -> None:
        batch = encode_batch(self._next_number, records)
        if self._fd is None or self._offset + len(batch) > self._size:
            with _told(self._folder):
                self._rotate(len(batch))
        assert self._fd is not None
        assert self._current is not None
        with _told(self._current):
            written = os.pwrite(self._fd, batch, self._offset)
            if written != len(batch):
                raise OSError(f"the disk took {written} of {len(batch)} bytes")
            os.fdatasync(self._fd)
        self._offset += len(batch)
        self._next_number += 1
        self._height_max = max(self._height_max, height)

    def _set_aside(self) -> None:
        here = [path for path in self._found if path.exists() and path != self._current]
        if here:
            aside = self._folder / f"forgotten-{self._next_number:016x}"
            with _told(aside):
                aside.mkdir(mode=0o700, exist_ok=True)
                sync_directory(self._folder)
                for path in here:
                    path.rename(aside / path.name)
                sync_directory(aside)
                sync_directory(self._folder)
        self._sealed = [each for each in self._sealed if each[0] not in here]
        if self._current is None:
            # A file of its own, though empty: the next start goes on with the same number.
            with _told(self._folder):
                self._rotate(0)

    def _what_is_gone(self) -> str:
        """Return what the anchor knows of and the folder has not, or ""."""
        newest = self._anchor.newest()
        if newest and (not self._found or int(self._found[-1].stem, 16) < newest):
            return f"{self._folder}: the file {newest:016x}.wal, the newest, is gone"
        return ""

    def _rotate(self, needed: int) -> None:
        if self._fd is not None and self._current is not None:
            os.close(self._fd)
            self._sealed.append((self._current, self._height_max))
        if self._sealed and self._sealed[-1][0].stem == f"{self._next_number:016x}":
            # The last start left a file without a whole batch: the new one takes its place.
            del self._sealed[-1]
        self._size = max(FILE_BYTES, -(-needed // PAGE_BYTES) * PAGE_BYTES)
        self._current = self._folder / f"{self._next_number:016x}.wal"
        fresh = self._current.with_suffix(".new")
        self._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        zeros = bytes(1024 * 1024)
        for start in range(0, self._size, len(zeros)):
            part = zeros[: self._size - start]
            if os.pwrite(self._fd, part, start) != len(part):
                raise OSError(f"the disk took less than {self._size} bytes")
        os.fsync(self._fd)
        fresh.rename(self._current)
        sync_directory(self._folder)
        self._anchor.moved(self._next_number)
        self._offset = 0
        self._height_max = 0


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn an error of the disk into ours, which names the path and stops the process."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(
            f"{path}: the disk refuses ({reason}). Nothing that depends on it has left this node;"
            " it goes on once the disk works again"
        ) from error


def _read_durable(path: Path) -> bytes:
    """Return the content of a file as the disk has it, all of it durable."""
    with _told(path), path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def height_in(records: Sequence[Record]) -> int:
    """Return the greatest height that a vote, certificate or proposal among the records names.

    A body is only ever written beside one of them. What does not decode is the recovery's to judge.
    """
    found = 0
    for record in records:
        try:
            match record.kind:
                case RecordKind.VOTE:
                    found = max(found, wire.decode_vote(record.payload).height)
                case RecordKind.CERTIFICATE:
                    found = max(found, wire.certificate_height(record.payload))
                case RecordKind.PROPOSAL:
                    found = max(found, wire.proposal_height(record.payload))
                case RecordKind.BODY:
                    pass
        except DecodeError:
            continue
    return found
