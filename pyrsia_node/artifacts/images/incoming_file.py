"""The file of a blob that is on its way: written and hashed in one pass, taken up after a stop.

And the room for such files: none is begun that the disk has no room for, and what failed fetches
left behind is kept within a bound, the oldest first to go. Everything here blocks on the disk.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import UnavailableError, VerificationError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.store.pieces import PieceHasher

RESERVE_BYTES_MAX: Final = 1024**3
RESERVE_PERCENT: Final = 5
"""Fetches leave this much of the disk free, or ``RESERVE_BYTES_MAX`` if that is less: the node's
own database needs room while a client pulls."""

LEFT_FILES_MAX: Final = 64
_READ_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"image-(?:shared|local)-sha(?:256|512)-[0-9a-f]{64,128}\.data")


class NoRoomError(UnavailableError):
    """The disk refuses: it is not the upstream that fails, and to ask that again would not help."""


def incoming_path(folder: Path, digest: OciDigest, *, local: bool) -> Path:
    """Return the file of a digest; its ending lets a start delete it when it is a week old."""
    kind = "local" if local else "shared"
    return folder / f"image-{kind}-{digest.algorithm}-{digest.hex}.data"


class IncomingFile:
    """The file, and the hashes of what is in it. Used by one thread at a time."""

    def __init__(self, path: Path, digest: OciDigest) -> None:
        """Open it; what an earlier process left is hashed and counts as written.

        Raises:
            NoRoomError: The disk refuses; the text names the path.
        """
        self.path = path
        self.written = 0
        self._digest = digest
        self._sha256 = hashlib.sha256()
        self._other = None if digest.algorithm == "sha256" else hashlib.new(digest.algorithm)
        self._pieces = PieceHasher()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise _refused(path, error) from error
        try:
            self._take_up()
        except OSError as error:
            os.close(self.handle)
            raise _refused(path, error) from error

    def write(self, data: bytes) -> None:
        """Append bytes; raises NoRoomError."""
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self.handle, view, self.written)
                self._hash(view[:count])
                self.written += count
                view = view[count:]
        except OSError as error:
            raise _refused(self.path, error) from error

    def check_room(self, size: int) -> None:
        """Refuse to begin what cannot end: NoRoomError if a blob of ``size`` bytes has no room."""
        status = os.fstatvfs(self.handle)
        whole, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        reserve = min(RESERVE_BYTES_MAX, whole * RESERVE_PERCENT // 100)
        if free - reserve < size - self.written:
            raise NoRoomError(
                f"cannot write {self.path}: {size} bytes needed, {free} free, of which {reserve}"
                " stay free"
            )

    def finish(self) -> tuple[str, bytes]:
        """Return SHA-256 and piece hashes; raises VerificationError on another digest."""
        sha256 = self._sha256.hexdigest()
        found = sha256 if self._other is None else self._other.hexdigest()
        if found != self._digest.hex:
            raise VerificationError(
                f"the upstream sent {self._digest.algorithm}:{found} as {self._digest}"
            )
        return sha256, self._pieces.finish()

    def close(self) -> None:
        """Close it; the file stays."""
        os.close(self.handle)

    def _take_up(self) -> None:
        while data := os.pread(self.handle, _READ_BYTES, self.written):
            self._hash(data)
            self.written += len(data)

    def _hash(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)
        self._pieces.update(memoryview(data))


def sweep(folder: Path, *, bytes_max: int, in_use: Collection[Path]) -> list[Path]:
    """Delete the oldest files that failed fetches left, until few and small ones are left."""
    left: list[tuple[int, int, Path]] = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and path not in in_use:
            status = path.stat()
            left.append((status.st_mtime_ns, status.st_size, path))
    left.sort()
    total = sum(size for _, size, _ in left)
    removed: list[Path] = []
    for _, size, path in left:
        if total <= bytes_max and len(left) - len(removed) <= LEFT_FILES_MAX:
            break
        path.unlink(missing_ok=True)
        total -= size
        removed.append(path)
    return removed


def _refused(path: Path, error: OSError) -> NoRoomError:
    return NoRoomError(f"cannot write {path}: {error.strerror}")
