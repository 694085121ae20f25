"""Downloads in progress: a reserved file, and a map of the pieces that were checked.

:class:`Partial` is the gate between peers and the store: a piece is written only after its hash
was found right, and only written pieces are ever read back. It knows nothing of peers.

``<hex>.data`` holds the bytes, ``<hex>.map`` a header, the piece hashes and the bitmap. Neither is
trusted after a restart: the piece list must again be the one that the log commits to, and every
piece that the bitmap claims is hashed again. So nothing needs to be synced while downloading, and
a crash or power cut costs at most the pieces that did not reach the disk.
Format: docs/design/storage.md.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.store.blob_files import reserve
from pyrsia_node.store.pieces import (
    ARTIFACT_BYTES_MAX,
    PIECE_LIST_BYTES_MAX,
    Bitmap,
    PieceList,
    piece_hash,
    piece_length,
)

_MAGIC: Final = b"pyrsia/partial/1\n"
_HEADER: Final = struct.Struct(">17sQI32s")
_MAP_BYTES_MAX: Final = _HEADER.size + PIECE_LIST_BYTES_MAX + PIECE_LIST_BYTES_MAX // 256


class Partial:
    """One download in progress. Methods that touch pieces may be called from any thread."""

    def __init__(self, folder: Path, sha256: str, pieces: PieceList) -> None:
        """Resume the download in ``folder`` if there is one, else reserve space for a new one.

        Blocks: hashes what an earlier run left behind (about 2 GB/s).

        Raises:
            InvalidInputError: ``sha256`` is no digest, or the artifact is too large.
            UnavailableError: The disk is full; the text names the path.
        """
        if not is_hex(sha256, size=32):
            raise InvalidInputError(f"digest {sha256!r:.80} is not 64 lowercase hex digits")
        if pieces.size > ARTIFACT_BYTES_MAX:
            raise InvalidInputError(
                f"artifact of {pieces.size} bytes exceeds the limit of {ARTIFACT_BYTES_MAX}"
            )
        self.sha256 = sha256
        self.pieces = pieces
        self.path = folder / f"{sha256}.data"
        self._map_path = folder / f"{sha256}.map"
        self._lock = threading.Lock()
        claimed = _read_map(self._map_path, pieces)
        self._data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._map = -1
        try:
            resumed = claimed is not None and os.fstat(self._data).st_size == pieces.size
            self.have = self._recheck(claimed) if claimed and resumed else Bitmap(pieces.count)
            if not resumed:
                os.ftruncate(self._data, 0)
            reserve(self._data, pieces.size, str(self.path))
            self._map = self._create_map()
        except OSError as error:
            self.discard()
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from error
        except UnavailableError:
            self.discard()
            raise

    def write_piece(self, index: int, data: bytes | bytearray | memoryview) -> None:
        """Check one piece and keep it. Blocks; cost is one hash and one copy.

        Raises:
            VerificationError: Not the piece that the log commits to; nothing was written.
            UnavailableError: The disk failed; the text names the path.
        """
        self.pieces.check_piece(index, data)
        try:
            _write_all(self._data, memoryview(data), index * PIECE_SIZE_BYTES)
            # Only now may the bit be set: a reader serves whatever has its bit.
            with self._lock:
                self.have.add(index)
                position, byte = self.have.byte(index)
                os.pwrite(self._map, byte, self._bitmap_start() + position)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from error

    def has_range(self, start: int, length: int) -> bool:
        """Tell whether all of these bytes were checked."""
        return next(self.missing_in(start, length), None) is None

    def missing_in(self, start: int, length: int) -> Iterator[int]:
        """Yield the pieces of a byte range that are not there yet, in order."""
        first = start // PIECE_SIZE_BYTES
        last = (start + length - 1) // PIECE_SIZE_BYTES if length else first - 1
        return (index for index in range(first, last + 1) if index not in self.have)

    def read(self, start: int, length: int) -> bytes:
        """Return checked bytes; the caller made sure that they are there."""
        assert self.has_range(start, length)
        return os.pread(self._data, length, start)

    def all_hashes(self) -> bytes:
        """Return the piece hashes of a complete download, for the store. Blocks."""
        assert self.have.is_full
        if self.pieces.hashes is None:
            return piece_hash(os.pread(self._data, self.pieces.size, 0))
        return self.pieces.hashes

    def duplicate(self) -> int:
        """Return another descriptor of the data file; the caller closes it.

        Raises:
            NotFoundError: The download has ended.
        """
        if self._data < 0:
            raise NotFoundError(f"download of {self.sha256} has ended")
        return os.dup(self._data)

    def start_writeback(self) -> None:
        """Let the disk catch up, so that the sync at the end has little to do. Blocks."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._data)

    def close(self) -> None:
        """Close the files and leave them for a later resume. A second call does nothing."""
        for handle in (self._data, self._map):
            if handle >= 0:
                os.close(handle)
        self._data = self._map = -1

    def finished(self) -> None:
        """Forget the map after the data file was moved into the blob store.

        The descriptor stays open for readers of this download until :meth:`close`.
        """
        self._map_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Close and delete the files."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._map_path.unlink(missing_ok=True)

    # ------------------------------------------------------------ inside

    def _recheck(self, claimed: Bitmap) -> Bitmap:
        checked = Bitmap(self.pieces.count)
        for index in range(self.pieces.count):
            if index not in claimed:
                continue
            length = piece_length(index, size=self.pieces.size)
            with contextlib.suppress(VerificationError):
                self.pieces.check_piece(
                    index, os.pread(self._data, length, index * PIECE_SIZE_BYTES)
                )
                checked.add(index)
        return checked

    def _create_map(self) -> int:
        hashes = self.pieces.hashes or b""
        header = _HEADER.pack(
            _MAGIC, self.pieces.size, len(hashes), bytes.fromhex(self.pieces.root)
        )
        handle = os.open(
            self._map_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        )
        _write_all(handle, memoryview(header + hashes + bytes(self.have)), 0)
        return handle

    def _bitmap_start(self) -> int:
        return _HEADER.size + len(self.pieces.hashes or b"")


def known_pieces(folder: Path, sha256: str, *, size: int, root: str) -> PieceList | None:
    """Return the piece list that an interrupted download left, if it is the right one."""
    if not is_hex(sha256, size=32):
        raise InvalidInputError(f"digest {sha256!r:.80} is not 64 lowercase hex digits")
    parsed = _parse_map(folder / f"{sha256}.map")
    if parsed is None:
        return None
    with contextlib.suppress(VerificationError):
        return PieceList.check(parsed[2], size=size, root=root)
    return None


def remove_stale(folder: Path, *, before_s: float) -> list[str]:
    """Delete interrupted downloads last written before a Unix time; returns their names."""
    removed: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix in {".data", ".map"} and path.stat().st_mtime < before_s:
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _read_map(path: Path, pieces: PieceList) -> Bitmap | None:
    parsed = _parse_map(path)
    if parsed is None:
        return None
    size, root, hashes, bits = parsed
    if (size, root, hashes) != (pieces.size, pieces.root, pieces.hashes or b""):
        return None
    return Bitmap(pieces.count, bits)


def _parse_map(path: Path) -> tuple[int, str, bytes, bytes] | None:
    """Return (size, root, hashes, bitmap bytes), or None for anything that is not a map."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAP_BYTES_MAX + 1)
    except OSError:
        return None
    if len(data) < _HEADER.size or len(data) > _MAP_BYTES_MAX:
        return None
    magic, size, hashes_length, root = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) < _HEADER.size + hashes_length:
        return None
    hashes = data[_HEADER.size : _HEADER.size + hashes_length]
    return size, root.hex(), hashes, data[_HEADER.size + hashes_length :]


def _write_all(handle: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written
