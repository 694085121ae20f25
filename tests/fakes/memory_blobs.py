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
from pyrsia_node.ports.registry_blobs import Standing
from pyrsia_node.store.pieces import piece_hash, piece_root


class MemoryBlobStore:
    """Keeps bytes in a dictionary; ``folder`` only lends paths to those who need one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs: dict[str, bytes] = {}
        self._leases: dict[str, int] = {}
        self._shared: set[str] = set()
        self._local: set[str] = set()
        self.pinned: set[str] = set()
        self.used_ms: dict[str, int] = {}
        """When blobs were last used; tests set it, 0 is long ago."""

    def stat(self, sha256: str) -> BlobInfo | None:
        data = self._blobs.get(sha256)
        if data is None:
            return None
        root = piece_root(self.piece_hashes(sha256)) if self.is_shared(sha256) else None
        return BlobInfo(sha256, len(data), root)

    def is_shared(self, sha256: str) -> bool:
        return sha256 in self._shared

    def path(self, sha256: str) -> str:
        path = self._folder / sha256
        path.write_bytes(self._data(sha256))
        return str(path)

    def piece_hashes(self, sha256: str) -> bytes:
        data = self._data(sha256)
        starts = range(0, len(data), PIECE_SIZE_BYTES)
        return b"".join(piece_hash(data[start : start + PIECE_SIZE_BYTES]) for start in starts)

    def local_digests(self) -> list[str]:
        return sorted(self._local)

    def standing(self, sha256: str) -> Standing | None:
        if sha256 not in self._blobs:
            return None
        return Standing(
            sha256,
            len(self._blobs[sha256]),
            self.used_ms.get(sha256, 0),
            sha256 in self._shared,
            sha256 in self._local,
            sha256 in self.pinned,
            self._leases.get(sha256, 0) > 0,
        )

    def evictable(self) -> list[Standing]:
        found = [each for name in self._blobs if (each := self.standing(name)) is not None]
        return sorted((each for each in found if each.is_evictable), key=lambda each: each.used_ms)

    def adopt(self, path: str, sha256: str, *, local: bool = False) -> BlobInfo:
        source = Path(path)
        if not is_hex(sha256, size=32) or source.is_symlink() or not source.is_file():
            raise InvalidInputError(f"cannot adopt {path} as {sha256}")
        data = source.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise VerificationError(f"{path} hashes to {found}, not {sha256}")
        return self._keep(source, sha256, data, local=local)

    def adopt_pieces(
        self, path: str, sha256: str, piece_hashes: bytes, *, local: bool = False
    ) -> BlobInfo:
        source = Path(path)
        return self._keep(source, sha256, source.read_bytes(), local=local)

    def adopt_single(self, data: memoryview, sha256: str, pieces: str) -> BlobInfo:
        self._blobs[sha256] = bytes(data)
        self._shared.add(sha256)
        return BlobInfo(sha256, len(data), pieces)

    def share(self, sha256: str) -> None:
        self._data(sha256)
        self._shared.add(sha256)

    def keep_local(self, sha256: str) -> None:
        self._data(sha256)
        self._local.add(sha256)

    def drop_local(self, sha256: str) -> None:
        self._drop(sha256, self._local)

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
        self._drop(sha256, self._shared)

    def _drop(self, sha256: str, kind: set[str]) -> None:
        if sha256 in kind and self._leases.get(sha256):
            raise UnavailableError(f"blob {sha256} is being read")
        kind.discard(sha256)
        if sha256 not in self._shared | self._local:
            self._blobs.pop(sha256, None)
            self.pinned.discard(sha256)

    def _keep(self, source: Path, sha256: str, data: bytes, *, local: bool) -> BlobInfo:
        self._blobs[sha256] = data
        (self._local if local else self._shared).add(sha256)
        source.unlink()
        info = self.stat(sha256)
        assert info is not None
        return info

    def _data(self, sha256: str) -> bytes:
        if sha256 not in self._blobs:
            raise NotFoundError(f"blob {sha256} is not stored here")
        return self._blobs[sha256]
