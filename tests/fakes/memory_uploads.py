"""Uploads as their port's contract reads, in memory."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.ports.registry_blobs import UploadWriter


@dataclass
class _Upload:
    data: bytearray
    touched_ms: int
    is_open: bool = False


class MemoryBlobUploads:
    """Implements ``ports.registry.BlobUploads``; ``folder`` lends the store a path."""

    def __init__(self, folder: Path, store: BlobStore) -> None:
        self._folder = folder
        self._store = store
        self._uploads: dict[str, _Upload] = {}

    def begin(self) -> str:
        name = secrets.token_urlsafe(16)
        self._uploads[name] = _Upload(bytearray(), _now_ms())
        return name

    @contextlib.contextmanager
    def open(self, name: str, *, offset: int | None = None) -> Iterator[UploadWriter]:
        upload = self._find(name)
        if offset is not None and offset > len(upload.data):
            raise NotFoundError(f"upload {name} has lost bytes")
        if offset is not None:
            del upload.data[offset:]
        upload.is_open = True
        try:
            yield _MemoryWriter(upload)
        finally:
            upload.is_open = False

    def check(self, name: str, digest: str) -> str:
        data = self._find(name).data
        wanted = OciDigest.parse(digest)
        found = hashlib.new(wanted.algorithm, data).hexdigest()
        if found != wanted.hex:
            raise VerificationError(f"the upload hashes to {found}, not {digest}")
        return hashlib.sha256(data).hexdigest()

    def commit(self, name: str, digest: str) -> BlobInfo:
        sha256 = self.check(name, digest)
        path = self._folder / name
        path.write_bytes(self._uploads.pop(name).data)
        return self._store.adopt_pieces(str(path), sha256, b"", local=True)

    def cancel(self, name: str) -> None:
        self._uploads.pop(name, None)

    def is_open(self, name: str) -> bool:
        upload = self._uploads.get(name)
        return upload is not None and upload.is_open

    def names(self, *, before_ms: int) -> list[str]:
        return sorted(
            name
            for name, upload in self._uploads.items()
            if upload.touched_ms < before_ms and not upload.is_open
        )

    def _find(self, name: str) -> _Upload:
        upload = self._uploads.get(name)
        if upload is None:
            raise NotFoundError(f"there is no upload {name}")
        if upload.is_open:
            raise UnavailableError(f"another request is writing to upload {name}")
        return upload


class _MemoryWriter:
    def __init__(self, upload: _Upload) -> None:
        self._upload = upload

    @property
    def offset(self) -> int:
        return len(self._upload.data)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        self._upload.data += data
        self._upload.touched_ms = _now_ms()

    def sync(self) -> None:
        pass


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
