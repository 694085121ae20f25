"""What a power cut does to a write-ahead log: takes what was written and not yet synced.

The processes note each such range (``hooks/sitecustomize.py``); a note that is set when they were
killed is a batch whose ``fdatasync`` had not returned, so that nothing that depends on it was sent.
Of such a range a disk may have kept all, nothing, or some pages in any order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

from tests.chaos.hooks.sitecustomize import NOTE_BYTES

PAGE_BYTES: Final = 4096

Fate = Literal["kept", "lost", "torn"]


@dataclass(frozen=True, slots=True)
class Unsynced:
    """Bytes that may not have reached the disk."""

    path: Path
    offset: int
    length: int


def make_note(path: Path) -> None:
    """Make an empty note."""
    path.write_bytes(bytes(NOTE_BYTES))


def read_note(path: Path) -> Unsynced | None:
    """Return the range that was not synced when the process died; None if all was."""
    content = path.read_bytes()
    if content[:1] != b"\1":
        return None
    offset, length, name = content[1:].split(b"\0")[0].decode().split(" ", 2)
    return Unsynced(Path(name), int(offset), int(length))


def cut_power(unsynced: Unsynced, fate: Fate, rng: Random) -> None:
    """Leave on the disk what a power cut would: the pages that it kept, and zeros."""
    if fate == "kept" or not unsynced.path.exists():
        return
    pages = range(unsynced.offset, unsynced.offset + unsynced.length, PAGE_BYTES)
    lost = [*pages] if fate == "lost" else rng.sample([*pages], rng.randint(1, len(pages)))
    end = min(unsynced.path.stat().st_size, unsynced.offset + unsynced.length)
    descriptor = os.open(unsynced.path, os.O_WRONLY)
    try:
        for start in lost:
            os.pwrite(descriptor, bytes(max(0, min(PAGE_BYTES, end - start))), start)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
