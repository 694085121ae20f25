"""The blob store as its contract reads, without cache, crash safety or speed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PIECE_SIZE_BYTES, BlobInfo
from pyrsia_node.store.pieces import piece_hash, piece_root


class MemoryBlobStore:
    """Keeps bytes in a dictionary; ``folder`` only lends paths to those who need one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs: dict[str, bytes] = {}
        self._leases: dict[str, int] = {}
        self.pinned: set[str] = set()

    def stat(self, sha256: str) -> BlobInfo | None:
        data = self._blobs.get(sha256)
        if data is None:
            return None
        return BlobInfo(sha256, len(data), piece_root(self.piece_hashes(sha256)))

    def path(self, sha256: str) -> str:
        path = self._folder / sha256
        path.write_bytes(self._data(sha256))
        return str(path)

    def piece_hashes(self, sha256: str) -> bytes:
        data = self._data(sha256)
        starts = range(0, len(data), PIECE_SIZE_BYTES)
        return b"".join(piece_hash(data[start : start + PIECE_SIZE_BYTES]) for start in starts)

    def adopt(self, path: str, sha256: str) -> BlobInfo:
        source = Path(path)
        if not is_hex(sha256, size=32) or source.is_symlink() or not source.is_file():
            raise InvalidInputError(f"cannot adopt {path} as {sha256}")
        data = source.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise VerificationError(f"{path} hashes to {found}, not {sha256}")
        return self._keep(source, sha256, data)

    def adopt_pieces(self, path: str, sha256: str, piece_hashes: bytes) -> BlobInfo:
        source = Path(path)
        return self._keep(source, sha256, source.read_bytes())

    @contextlib.contextmanager
    def lease(self, sha256: str) -> Iterator[str]:
        path = self.path(sha256)
        self._leases[sha256] = self._leases.get(sha256, 0) + 1
        try:
            yield path
        finally:
            self._leases[sha256] -= 1

    def pin(self, sha256: str) -> None:
        self._data(sha256)
        self.pinned.add(sha256)

    def remove(self, sha256: str) -> None:
        if self._leases.get(sha256):
            raise UnavailableError(f"blob {sha256} is being read")
        self._blobs.pop(sha256, None)

    def _keep(self, source: Path, sha256: str, data: bytes) -> BlobInfo:
        self._blobs[sha256] = data
        source.unlink()
        info = self.stat(sha256)
        assert info is not None
        return info

    def _data(self, sha256: str) -> bytes:
        if sha256 not in self._blobs:
            raise NotFoundError(f"blob {sha256} is not stored here")
        return self._blobs[sha256]
