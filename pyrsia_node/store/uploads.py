"""Bytes on their way to a digest: one file for each upload, hashed while it grows.

Implements ``ports.registry.BlobUploads`` on the file system of the blob store, so that a finished
upload becomes a blob by a rename. Which uploads there are, and how far a client was told that one
is, stands in the registry's database; here are bytes alone, and nothing of them is believed: the
hash of an upload is kept in memory while the process lives and computed anew after a restart.
Format and order of durable steps: docs/design/storage.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.ports.registry_blobs import UploadWriter
from pyrsia_node.store.blob_files import sync_file, unavailable
from pyrsia_node.store.files import sync_directory

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_COPY_BYTES: Final = 1024 * 1024
_SHA256: Final = "sha256"


class _Progress:
    """What is known of an upload's bytes without reading them again."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_over = False
        """Whether there is no such upload any more."""
        self.is_entered = False
        """Whether the file's name is durable."""
        self.hashed = 0
        self.whole = hashlib.sha256()
        self._settled = 0, hashlib.sha256()
        self.names: set[str] = set()
        """Digests that the first ``hashed`` bytes were found to have."""

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Hash the next bytes."""
        self.whole.update(data)
        self.hashed += len(data)
        self.names.clear()

    def settle(self) -> None:
        """Remember this state: an upload that is cut off goes on from the last one settled."""
        self._settled = self.hashed, self.whole.copy()

    def go_back(self, offset: int) -> None:
        """Forget what was hashed beyond ``offset``, and all of it if need be."""
        if self.hashed <= offset:
            return
        settled, whole = self._settled
        self.hashed, self.whole = (settled, whole.copy()) if settled <= offset else (0, _empty())
        self.names.clear()


class FileBlobUploads:
    """Implements ``ports.registry.BlobUploads``; see there for the contract of each method."""

    def __init__(self, folder: Path, store: BlobStore) -> None:
        """Take uploads in ``folder``, which is made if absent; they become blobs of ``store``.

        The folder must be on the store's file system, and outside of what the store empties.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._progress: dict[str, _Progress] = {}

    def begin(self) -> str:
        """Return the name of a new, empty upload (22 characters of base64url, unguessable).

        Raises:
            UnavailableError: The disk is full.
        """
        name = secrets.token_urlsafe(16)
        path = self._folder / name
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise unavailable(error, str(path)) from error
        with self._lock:
            self._progress[name] = _Progress()
        return name

    @contextlib.contextmanager
    def open(self, name: str, *, offset: int | None = None) -> Iterator[UploadWriter]:
        """Open an upload for appending, dropping bytes beyond ``offset``, that were never told.

        After a restart it first reads what is there, to hash it (about 1 GB/s).

        Raises:
            NotFoundError: There is none, or it has lost bytes that were told to be durable.
            UnavailableError: Another request is writing to it, or the disk failed.
        """
        with self._taken(name) as (path, handle, progress):
            size = os.fstat(handle).st_size
            position = size if offset is None else offset
            if size < position:
                raise NotFoundError(f"upload {name} has {size} bytes of {position}: begin anew")
            try:
                os.ftruncate(handle, position)
                progress.go_back(position)
                _hash_rest(handle, progress)
            except OSError as error:
                raise unavailable(error, str(path)) from error
            yield _Writer(path, handle, progress)

    def check(self, name: str, digest: str) -> str:
        """Return the SHA-256 of an upload that has this digest; ``commit`` hashes nothing again.

        Raises:
            NotFoundError: There is none.
            VerificationError: The bytes hash to something else; the upload stays.
            UnavailableError: Another request is writing to it, or the disk failed.
        """
        with self._taken(name) as (path, handle, progress):
            sha256 = _check(path, handle, progress, digest)
            _synced(path)
            return sha256

    def commit(self, name: str, digest: str) -> BlobInfo:
        """Move a finished upload into the blob store, as local content; durable on return.

        Raises:
            NotFoundError: There is none.
            VerificationError: The bytes hash to something else; the upload stays.
            UnavailableError: Another request is writing to it, or the disk failed.
        """
        with self._taken(name) as (path, handle, progress):
            sha256 = _check(path, handle, progress, digest)
            # The store syncs the bytes before its rename makes them a blob. No piece hashes:
            # peers do not get local content.
            info = self._store.adopt_pieces(str(path), sha256, b"", local=True)
            progress.is_over = True
            # Only now: an upload that stays an upload must be writable for who goes on.
            os.fchmod(handle, 0o444)
            return info

    def cancel(self, name: str) -> None:
        """Drop an upload; absent is no error. Who is writing to it can not commit it any more."""
        if not _NAME.fullmatch(name):
            return
        (self._folder / name).unlink(missing_ok=True)
        with self._lock:
            progress = self._progress.get(name)
            if progress is not None and not progress.is_open:
                del self._progress[name]
            elif progress is not None:
                progress.is_over = True

    def names(self, *, before_ms: int) -> list[str]:
        """Return every upload not written to since, for garbage collection."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
                    touched_ms = entry.stat(follow_symlinks=False).st_mtime_ns // 1_000_000
                    if touched_ms < before_ms and not self.is_open(entry.name):
                        found.append(entry.name)
        return sorted(found)

    def is_open(self, name: str) -> bool:
        """Tell whether a request is writing to an upload just now."""
        with self._lock:
            progress = self._progress.get(name)
            return progress is not None and progress.is_open

    @contextlib.contextmanager
    def _taken(self, name: str) -> Iterator[tuple[Path, int, _Progress]]:
        """Take an upload for one request alone, and open its file."""
        # The name comes from a client: nothing but what ``begin`` makes may become a path.
        if not _NAME.fullmatch(name):
            raise NotFoundError(f"there is no upload {name!r:.40}")
        path = self._folder / name
        progress = self._take(name)
        try:
            # Opened only by who has taken the name: a commit renames the file into the store, and
            # a descriptor that somebody else had opened before would be one of a blob.
            handle = _open_file(path, progress)
            try:
                yield path, handle, progress
            finally:
                os.close(handle)
        finally:
            self._give_back(name, progress)

    def _take(self, name: str) -> _Progress:
        with self._lock:
            progress = self._progress.setdefault(name, _Progress())
            if progress.is_open:
                raise UnavailableError(f"another request is writing to upload {name}")
            progress.is_open = True
            return progress

    def _give_back(self, name: str, progress: _Progress) -> None:
        with self._lock:
            progress.is_open = False
            if progress.is_over and self._progress.get(name) is progress:
                del self._progress[name]


class _Writer:
    """Implements ``ports.registry.UploadWriter``."""

    def __init__(self, path: Path, handle: int, progress: _Progress) -> None:
        self._path = path
        self._handle = handle
        self._progress = progress
        self._failed: UnavailableError | None = None
        os.lseek(handle, progress.hashed, os.SEEK_SET)

    @property
    def offset(self) -> int:
        return self._progress.hashed

    def append(self, data: bytes | bytearray | memoryview) -> None:
        if self._failed is not None:
            raise self._failed
        view = memoryview(data)
        try:
            written = 0
            while written < len(view):
                written += os.write(self._handle, view[written:])
        except OSError as error:
            self._failed = unavailable(error, str(self._path))
            # What came half is dropped, so that file and hash agree for who goes on later.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self.offset)
            raise self._failed from error
        self._progress.update(view)

    def sync(self) -> None:
        try:
            os.fdatasync(self._handle)
            if not self._progress.is_entered:
                sync_directory(self._path.parent)
                self._progress.is_entered = True
        except OSError as error:
            self._failed = unavailable(error, str(self._path))
            raise self._failed from error
        self._progress.settle()


def _open_file(path: Path, progress: _Progress) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        progress.is_over = True
        raise NotFoundError(f"there is no upload {path.name}") from error


def _empty() -> hashlib._Hash:
    return hashlib.sha256()


def _check(path: Path, handle: int, progress: _Progress, digest: str) -> str:
    wanted = OciDigest.parse(digest)
    try:
        if os.fstat(handle).st_size != progress.hashed:
            progress.go_back(0)
            _hash_rest(handle, progress)
        if digest not in progress.names:
            found = progress.whole.hexdigest()
            if wanted.algorithm != _SHA256:
                found = _hash_file(handle, wanted.algorithm)
            if found != wanted.hex:
                raise VerificationError(
                    f"the {progress.hashed} bytes of the upload hash to"
                    f" {wanted.algorithm}:{found}, not {digest}"
                )
            progress.names.add(digest)
    except OSError as error:
        raise unavailable(error, str(path)) from error
    return progress.whole.hexdigest()


def _hash_rest(handle: int, progress: _Progress) -> None:
    buffer = bytearray(_COPY_BYTES)
    view = memoryview(buffer)
    while count := os.preadv(handle, [buffer], progress.hashed):
        progress.update(view[:count])


def _hash_file(handle: int, algorithm: str) -> str:
    whole, position = hashlib.new(algorithm), 0
    buffer = bytearray(_COPY_BYTES)
    view = memoryview(buffer)
    while count := os.preadv(handle, [buffer], position):
        whole.update(view[:count])
        position += count
    return whole.hexdigest()


def _synced(path: Path) -> None:
    try:
        sync_file(str(path))
    except OSError as error:
        raise unavailable(error, str(path)) from error
