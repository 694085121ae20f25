"""Notes which bytes of the write-ahead log a power cut could take: written, not yet synced.

Python imports this by itself where this folder is on PYTHONPATH; only the chaos harness puts it
there. Around each write to a ``.wal`` file the range goes into the file that PYRSIA_UNSYNCED names,
and is taken out once ``fdatasync`` returned. SIGKILL keeps the page cache, so without this a killed
process would be spared exactly what a power cut does. ``tests/chaos/power.py`` reads the note.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer  # in the standard library from Python 3.12 on

NOTE_BYTES = 4096
VARIABLE = "PYRSIA_UNSYNCED"


def _watch(note: Path) -> None:
    with note.open("r+b") as file:
        page = mmap.mmap(file.fileno(), NOTE_BYTES)
    write, sync = os.pwrite, os.fdatasync

    def set_note(text: bytes) -> None:
        # The first byte goes last, and out first: a half-written note is no note.
        page[:1] = b"\0"
        page[1 : len(text) + 2] = text + b"\0"
        page[:1] = b"\1" if text else b"\0"

    def pwrite(descriptor: int, content: Buffer, offset: int, /) -> int:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if path.endswith(".wal"):
            set_note(f"{offset} {memoryview(content).nbytes} {path}".encode())
        return write(descriptor, content, offset)

    def fdatasync(descriptor: int, /) -> None:
        sync(descriptor)
        set_note(b"")

    os.pwrite = pwrite
    os.fdatasync = fdatasync  # type: ignore[assignment] # ours takes a descriptor, as all callers do


if VARIABLE in os.environ:
    _watch(Path(os.environ[VARIABLE]))
