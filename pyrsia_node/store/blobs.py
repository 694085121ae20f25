"""Content-addressed blob store over plain files, and the cache that keeps it under its limit.

A digest that is present is complete and was verified: bytes come in through :meth:`adopt`, which
re-hashes them, or :meth:`adopt_pieces`, whose caller checked every piece. Layout under the root:

* ``sha256/ab/<hex>``: the blobs, immutable;
* ``pieces/ab/<hex>``: their concatenated piece hashes, derived;
* ``pins/<hex>``: empty files that name blobs which are never evicted;
* ``incoming/``: temporary files, emptied at start.

The store does not decide what a name means and takes no name from outside but a checked digest.
One process opens it. Crash order of an adoption: temporary file synced, piece list written, blob
renamed, folder synced. A crash in between leaves a temporary file (emptied at the next start) or a
piece list without a blob (deleted by the scrub): never a digest with wrong or missing bytes.
Format: docs/design/storage.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.model.digest import is_hex
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import BlobInfo
from pyrsia_node.store.files import sync_directory
from pyrsia_node.store.pieces import PIECE_HASH_BYTES, PieceHasher, piece_count, piece_root

_COPY_BYTES: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds. ``cached_bytes`` counts evictable blobs alone."""

    blobs: int
    bytes: int
    cached_bytes: int
    cached_bytes_max: int
    pinned: int


@dataclass(slots=True)
class _Entry:
    size: int
    pinned: bool
    leases: int = 0
    root: str | None = None
    """The piece root, once somebody asked for it."""


class FileBlobStore:
    """Implements ``ports.BlobStore``; see there for the contract of each method."""

    def __init__(self, root: Path, *, cached_bytes_max: int) -> None:
        """Open the store at ``root``, creating its folders.

        Args:
            root: The ``blobs`` folder of a data directory.
            cached_bytes_max: Evict the least recently used unpinned blobs above this many bytes.
        """
        self._root = root
        self._cached_bytes_max = cached_bytes_max
        self._lock = threading.RLock()
        # Least recently used first. The only index; the files are the truth.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._cached_bytes = 0
        for folder in ("sha256", "pieces", "pins", "incoming"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for leftover in (root / "incoming").iterdir():
            leftover.unlink()
        self._load()

    # ------------------------------------------------------------ reading

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return what is stored under the digest, or None."""
        with self._lock:
            entry = self._entries.get(sha256)
            if entry is None:
                return None
            if entry.root is None:
                entry.root = piece_root(self.piece_hashes(sha256))
            return BlobInfo(sha256, entry.size, entry.root)

    def has(self, sha256: str) -> bool:
        """Tell whether the blob is stored; cheaper than :meth:`stat`."""
        return sha256 in self._entries

    def path(self, sha256: str) -> str:
        """Return the file's path; raises NotFoundError."""
        with self._lock:
            self._present(sha256)
            return str(self._blob(sha256))

    def piece_hashes(self, sha256: str) -> bytes:
        """Return the concatenated piece hashes, computing them anew if their file is damaged."""
        with self._lock:
            size = self._present(sha256).size
        try:
            hashes = self._list(sha256).read_bytes()
        except FileNotFoundError:
            hashes = b""
        if len(hashes) == piece_count(size) * PIECE_HASH_BYTES:
            return hashes
        with self._blob(sha256).open("rb") as blob:
            _, hashes = _hash_stream(blob.fileno(), None)
        self._write_small(self._list(sha256), hashes)
        return hashes

    @contextlib.contextmanager
    def lease(self, sha256: str) -> Iterator[str]:
        """Keep a blob from being removed while the context lives; gives the path."""
        with self._lock:
            entry = self._present(sha256)
            entry.leases += 1
            self._entries.move_to_end(sha256)
            path = self._blob(sha256)
        # The file's time carries the order of use over a restart; losing it costs nothing.
        with contextlib.suppress(OSError):
            os.utime(path)
        try:
            yield str(path)
        finally:
            with self._lock:
                entry.leases -= 1

    def digests(self) -> list[str]:
        """Return every digest stored, least recently used first."""
        with self._lock:
            return list(self._entries)

    def usage(self) -> Usage:
        """Return what the store holds now."""
        with self._lock:
            sizes = [entry.size for entry in self._entries.values()]
            return Usage(
                blobs=len(sizes),
                bytes=sum(sizes),
                cached_bytes=self._cached_bytes,
                cached_bytes_max=self._cached_bytes_max,
                pinned=sum(entry.pinned for entry in self._entries.values()),
            )

    # ------------------------------------------------------------ writing

    def adopt(self, path: str, sha256: str) -> BlobInfo:
        """Copy a local file in while hashing it, then delete the original.

        It is copied, not renamed: whoever made the file may still hold it open for writing.

        Raises:
            InvalidInputError: ``sha256`` is no digest, or ``path`` no regular file.
            VerificationError: The file hashes to something else; the original stays.
            UnavailableError: The disk is full; the text names the path.
        """
        _checked(sha256)
        temporary, found, hashes = self._copy_in(path)
        try:
            if found != sha256:
                raise VerificationError(f"{path} hashes to {found}, not {sha256}")
            info = self.adopt_pieces(temporary, sha256, hashes)
        finally:
            Path(temporary).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(path).unlink()
        return info

    def adopt_pieces(self, path: str, sha256: str, piece_hashes: bytes) -> BlobInfo:
        """Move in a file on the same file system whose every piece the caller has checked.

        Raises:
            UnavailableError: The disk is full or failed; the text names the path.
        """
        _checked(sha256)
        target = self._blob(sha256)
        try:
            size = _sync_file(path)
            self._write_small(self._list(sha256), piece_hashes)
            target.parent.mkdir(exist_ok=True)
            with self._lock:
                # A rename over an equal blob is harmless: open readers keep the old file.
                Path(path).rename(target)
                self._add(sha256, _Entry(size=size, pinned=False))
            sync_directory(target.parent)
        except OSError as error:
            raise _unavailable(error, str(target)) from error
        self.evict()
        return BlobInfo(sha256, size, piece_root(piece_hashes))

    def pin(self, sha256: str) -> None:
        """Never evict this blob, across restarts; raises NotFoundError."""
        with self._lock:
            entry = self._present(sha256)
            if not entry.pinned:
                self._write_small(self._root / "pins" / sha256, b"")
                sync_directory(self._root / "pins")  # else a power cut could still lose the pin
                entry.pinned = True
                self._cached_bytes -= entry.size

    def remove(self, sha256: str) -> None:
        """Forget a blob; absent is no error. A leased digest raises UnavailableError."""
        with self._lock:
            entry = self._entries.get(sha256)
            if entry is None:
                return
            if entry.leases:
                raise UnavailableError(f"blob {sha256} is being read")
            self._drop(sha256)

    def evict(self) -> list[str]:
        """Remove unpinned, unleased blobs, least recently used first, down to the limit.

        The most recently used blob always stays: an artifact larger than the whole limit is
        served to whom asked for it and goes when the next one comes.
        """
        evicted: list[str] = []
        with self._lock:
            if self._cached_bytes <= self._cached_bytes_max:
                return evicted
            for sha256 in list(self._entries)[:-1]:
                entry = self._entries[sha256]
                if entry.pinned or entry.leases:
                    continue
                self._drop(sha256)
                evicted.append(sha256)
                if self._cached_bytes <= self._cached_bytes_max:
                    break
        return evicted

    def scrub(self) -> Iterator[tuple[str, str]]:
        """Re-hash every blob; delete and yield (digest, what was wrong) for each bad one.

        Piece lists without a blob are deleted silently. Cost: one read of the whole store.
        """
        for sha256 in self.digests():
            try:
                with self.lease(sha256) as path, Path(path).open("rb") as blob:
                    found, hashes = _hash_stream(blob.fileno(), None)
            except NotFoundError:
                continue  # evicted meanwhile
            except OSError as error:
                found, hashes = str(error), b""
            if found != sha256:
                with self._lock:
                    self._drop(sha256)
                yield sha256, f"{self._blob(sha256)}: {found}"
            elif self.piece_hashes(sha256) != hashes:
                self._write_small(self._list(sha256), hashes)
                yield sha256, f"{self._list(sha256)}: did not match the blob; written anew"
        for listed in (self._root / "pieces").glob("??/*"):
            if listed.name not in self._entries:
                listed.unlink(missing_ok=True)

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        pins = {pin.name for pin in (self._root / "pins").iterdir()}
        found: list[tuple[int, str, int]] = []
        for folder in (self._root / "sha256").iterdir():
            for file in folder.iterdir():
                if is_hex(file.name, size=32):
                    status = file.stat()
                    found.append((status.st_mtime_ns, file.name, status.st_size))
        for _, name, size in sorted(found):
            self._add(name, _Entry(size=size, pinned=name in pins))

    def _blob(self, sha256: str) -> Path:
        return self._root / "sha256" / sha256[:2] / sha256

    def _list(self, sha256: str) -> Path:
        return self._root / "pieces" / sha256[:2] / sha256

    def _present(self, sha256: str) -> _Entry:
        entry = self._entries.get(sha256)
        if entry is None:
            raise NotFoundError(f"blob {sha256[:64]} is not stored here")
        return entry

    def _add(self, sha256: str, entry: _Entry) -> None:
        if self._entries.setdefault(sha256, entry) is entry and not entry.pinned:
            self._cached_bytes += entry.size
        self._entries.move_to_end(sha256)

    def _drop(self, sha256: str) -> None:
        # The blob goes first: without it, list and pin mean nothing.
        for path in (self._blob(sha256), self._list(sha256), self._root / "pins" / sha256):
            path.unlink(missing_ok=True)
        entry = self._entries.pop(sha256, None)
        if entry is not None and not entry.pinned:
            self._cached_bytes -= entry.size

    def _copy_in(self, path: str) -> tuple[str, str, bytes]:
        source = _open_regular(path)
        target, temporary = tempfile.mkstemp(dir=self._root / "incoming")
        try:
            reserve(target, os.fstat(source).st_size, temporary)
            found, hashes = _hash_stream(source, target)
            # The file may have shrunk since: drop what was reserved beyond its end.
            os.ftruncate(target, os.lseek(target, 0, os.SEEK_CUR))
            os.fchmod(target, 0o644)
        except OSError as error:
            Path(temporary).unlink()
            raise _unavailable(error, f"{temporary} from {path}") from error
        except UnavailableError:
            Path(temporary).unlink()
            raise
        finally:
            os.close(source)
            os.close(target)
        return temporary, found, hashes

    def _write_small(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self._root / "incoming")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).rename(path)


def reserve(handle: int, size: int, path: str) -> None:
    """Reserve ``size`` bytes of disk for an open file.

    Raises:
        UnavailableError: There is no room; the text names ``path``.
    """
    if size == 0:
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _unavailable(error, path, needed=size) from error


def _hash_stream(source: int, target: int | None) -> tuple[str, bytes]:
    """Return SHA-256 and piece hashes of the rest of ``source``, copying it to ``target``."""
    whole, pieces = hashlib.sha256(), PieceHasher()
    buffer = bytearray(_COPY_BYTES)
    view = memoryview(buffer)
    while count := os.readv(source, [buffer]):
        whole.update(view[:count])
        pieces.update(view[:count])
        written = 0
        while target is not None and written < count:
            written += os.write(target, view[written:count])
    return whole.hexdigest(), pieces.finish()


def _open_regular(path: str) -> int:
    # Not through a link, and never waiting for the other end of a pipe: builds are hostile.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(f"cannot adopt {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InvalidInputError(f"cannot adopt {path}: not a regular file")
    return handle


def _sync_file(path: str) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(handle)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _checked(sha256: str) -> None:
    # The digest becomes a path: nothing but 64 lowercase hex digits may pass.
    if not is_hex(sha256, size=32):
        raise InvalidInputError(f"digest {sha256!r:.80} is not 64 lowercase hex digits")


def _unavailable(error: OSError, path: str, needed: int = 0) -> UnavailableError:
    wanted = f" ({needed} bytes needed)" if needed else ""
    return UnavailableError(f"cannot write {path}{wanted}: {error.strerror}")
