"""Content-addressed blob store over plain files, and the cache that keeps it under its limit.

A digest that is present is complete and was verified: bytes come in through :meth:`adopt`, which
re-hashes them, or :meth:`adopt_pieces` and :meth:`adopt_single`, whose caller checked every piece.
Layout under the root:

* ``sha256/ab/<hex>``: shared blobs, immutable; peers may have them, the cache may drop them;
* ``local/ab/<hex>``: local blobs, the same way; a blob that is both is one file with two names;
* ``pieces/ab/<hex>``: concatenated piece hashes, derived; every large shared blob has them;
* ``pins/<hex>``: empty files that name blobs which are never evicted;
* ``incoming/``: temporary files, emptied at start.

The store does not decide what a name means and takes no name from outside but a checked digest.
One process opens it. Crash order of an adoption: temporary file synced, piece list written, blob
renamed, folder synced (a single piece's list is written first, and its folder is not synced before
somebody relies on it). A crash in between leaves a temporary file (emptied at the next start) or a
piece list without a blob (deleted by the scrub): never a digest with wrong or missing bytes, and
never a local blob under a shared name. Format: docs/design/storage.md.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.ports import BlobInfo
from pyrsia_node.ports.registry_blobs import Standing
from pyrsia_node.store.blob_files import (
    BlobFiles,
    check_digest,
    hash_stream,
    sync_file,
    unavailable,
)
from pyrsia_node.store.files import sync_directory
from pyrsia_node.store.pieces import PIECE_HASH_BYTES, piece_count, piece_hash, piece_root

LISTLESS_BYTES_MAX: Final = 256 * 1024
"""Up to this size a blob needs no list of pieces: its one hash is computed when asked for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds; a blob that is shared and local counts once.

    ``cached_bytes`` counts evictable blobs alone, ``local_bytes`` all that are local.
    """

    blobs: int
    bytes: int
    cached_bytes: int
    cached_bytes_max: int
    local_bytes: int
    pinned: int


@dataclass(slots=True)
class _Entry:
    size: int
    pinned: bool = False
    shared: bool = False
    local: bool = False
    leases: int = 0
    root: str | None = None
    """The piece root, once somebody asked for it."""

    @property
    def is_evictable(self) -> bool:
        return self.shared and not self.local and not self.pinned


class FileBlobStore:
    """Implements ``ports.BlobStore`` and ``ports.registry.BlobCensus``; see there for contracts."""

    def __init__(self, root: Path, *, cached_bytes_max: int, low_percent: int = 100) -> None:
        """Open the store at ``root``, creating its folders.

        Args:
            root: The ``blobs`` folder of a data directory.
            cached_bytes_max: Above this many bytes of evictable blobs the least recently used go.
            low_percent: Down to this share of it, so that not every new blob costs an old one.
        """
        self._files = BlobFiles(root)
        self._cached_bytes_max = cached_bytes_max
        self._cached_bytes_low = cached_bytes_max * low_percent // 100
        self._lock = threading.RLock()
        # Least recently used first. The only index; the files are the truth.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._cached_bytes = 0
        self._load()

    # ------------------------------------------------------------ reading

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return what is stored under the digest, or None."""
        entry = self._entries.get(sha256)
        if entry is None:
            return None
        if entry.root is None and entry.shared:
            # Outside of the lock: a lost list means reading the whole blob.
            try:
                entry.root = piece_root(self.piece_hashes(sha256))
            except NotFoundError:
                return None  # evicted meanwhile
        return BlobInfo(sha256, entry.size, entry.root)

    def has(self, sha256: str) -> bool:
        """Tell whether the blob is stored; cheaper than :meth:`stat`."""
        return sha256 in self._entries

    def is_shared(self, sha256: str) -> bool:
        """Tell whether peers may have the blob; False if it is absent."""
        entry = self._entries.get(sha256)
        return entry is not None and entry.shared

    def is_local(self, sha256: str) -> bool:
        """Tell whether a repository holds the blob; False if it is absent."""
        entry = self._entries.get(sha256)
        return entry is not None and entry.local

    def path(self, sha256: str) -> str:
        """Return the file's path; raises NotFoundError."""
        with self._lock:
            return str(self._path(sha256, self._present(sha256)))

    def piece_hashes(self, sha256: str) -> bytes:
        """Return the concatenated piece hashes, computing them if no whole list of them is kept.

        Raises:
            NotFoundError: The blob is not stored here, or was evicted meanwhile.
        """
        with self._lock:
            entry = self._present(sha256)
            path = self._path(sha256, entry)
        listed = self._files.pieces(sha256)
        try:
            hashes = listed.read_bytes()
        except FileNotFoundError:
            hashes = b""
        if len(hashes) == piece_count(entry.size) * PIECE_HASH_BYTES:
            return hashes
        try:
            with path.open("rb") as blob:
                _, hashes = hash_stream(blob.fileno(), None)
        except FileNotFoundError:
            raise _absent(sha256) from None
        if entry.size > LISTLESS_BYTES_MAX:
            self._files.write_small(listed, hashes)
        return hashes

    @contextlib.contextmanager
    def lease(self, sha256: str) -> Iterator[str]:
        """Keep a blob from being removed while the context lives; gives the path."""
        with self._lock:
            entry = self._present(sha256)
            entry.leases += 1
            self._entries.move_to_end(sha256)
            path = self._files.blob_text(sha256, local=not entry.shared)
        # The file's time carries the order of use over a restart; losing it costs nothing.
        with contextlib.suppress(OSError):
            os.utime(path)
        try:
            yield path
        finally:
            with self._lock:
                entry.leases -= 1

    def digests(self) -> list[str]:
        """Return every digest stored, least recently used first."""
        with self._lock:
            return list(self._entries)

    def local_digests(self) -> list[str]:
        """Return the digests of all local blobs."""
        with self._lock:
            return [sha256 for sha256, entry in self._entries.items() if entry.local]

    def standing(self, sha256: str) -> Standing | None:
        """Return how the cache sees a blob, or None."""
        with self._lock:
            entry = self._entries.get(sha256)
            return None if entry is None else self._standing(sha256, entry)

    def evictable(self) -> list[Standing]:
        """Return the blobs that the cache may drop, least recently used first."""
        with self._lock:
            entries = [item for item in self._entries.items() if item[1].is_evictable]
        return [self._standing(sha256, entry) for sha256, entry in entries]

    def usage(self) -> Usage:
        """Return what the store holds now."""
        with self._lock:
            entries = list(self._entries.values())
            return Usage(
                blobs=len(entries),
                bytes=sum(entry.size for entry in entries),
                cached_bytes=self._cached_bytes,
                cached_bytes_max=self._cached_bytes_max,
                local_bytes=sum(entry.size for entry in entries if entry.local),
                pinned=sum(entry.pinned for entry in entries),
            )

    # ------------------------------------------------------------ writing

    def adopt(self, path: str, sha256: str, *, local: bool = False) -> BlobInfo:
        """Copy a file in while hashing it, then delete the original.

        It is copied, not renamed: whoever made the file may still hold it open for writing.

        Raises:
            InvalidInputError: ``sha256`` is no digest, or ``path`` no regular file.
            VerificationError: The file hashes to something else; the original stays.
            UnavailableError: The disk is full; the text names the path.
        """
        check_digest(sha256)
        temporary, found, hashes = self._files.copy_in(path)
        try:
            if found != sha256:
                raise VerificationError(f"{path} hashes to {found}, not {sha256}")
            info = self.adopt_pieces(temporary, sha256, hashes, local=local)
        finally:
            Path(temporary).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(path).unlink()
        return info

    def adopt_pieces(
        self, path: str, sha256: str, piece_hashes: bytes, *, local: bool = False
    ) -> BlobInfo:
        """Move in a file on the same file system whose every piece the caller has checked.

        A local blob may come with no piece hashes: they are computed when it becomes shared.

        Raises:
            UnavailableError: The disk is full or failed; the text names the path.
        """
        check_digest(sha256)
        with _naming(path):
            size = sync_file(path)
            root = piece_root(piece_hashes) if piece_hashes or not local else None
            if root is not None and size > LISTLESS_BYTES_MAX:
                self._files.write_small(self._files.pieces(sha256), piece_hashes)
        return self._move_in(path, BlobInfo(sha256, size, root), local=local)

    def adopt_single(self, data: memoryview, sha256: str, pieces: str) -> BlobInfo:
        """Write a shared blob of one piece, which the caller checked; ``pieces`` is its root.

        A power cut may lose it, whole: it can be fetched again, unless it is pinned meanwhile.

        Raises:
            UnavailableError: The disk is full or failed; the text names the path.
        """
        check_digest(sha256)
        with _naming(str(self._files.incoming)):
            if len(data) > LISTLESS_BYTES_MAX:
                self._files.write_small(self._files.pieces(sha256), piece_hash(data))
            temporary = self._files.write_temporary(data)
        try:
            info = BlobInfo(sha256, len(data), pieces)
            return self._move_in(temporary, info, local=False, is_durable=False)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def share(self, sha256: str) -> None:
        """Make a local blob shared as well; reads it once if its pieces are not known.

        Raises:
            NotFoundError: It is not stored here.
            UnavailableError: The disk is full or failed; the text names the path.
        """
        self.piece_hashes(sha256)  # first: a large shared blob always has its list
        self._add_class(sha256, local=False)
        self.evict()

    def keep_local(self, sha256: str) -> None:
        """Make a shared blob local as well.

        Raises:
            NotFoundError: It is not stored here.
            UnavailableError: The disk is full or failed; the text names the path.
        """
        self._add_class(sha256, local=True)

    def drop_local(self, sha256: str) -> None:
        """End that a blob is local; it goes unless it is shared. Absent is no error.

        Raises:
            UnavailableError: It is being read.
        """
        self._drop_class(sha256, local=True)
        self.evict()

    def pin(self, sha256: str) -> None:
        """Never evict this blob, across restarts; raises NotFoundError."""
        with self._lock:
            entry = self._present(sha256)
            if not entry.pinned:
                sync_directory(self._path(sha256, entry).parent)
                pin = self._files.pin(sha256)
                self._files.write_small(pin, b"")
                sync_directory(pin.parent)  # else a power cut could still lose the pin
                with self._changing(entry):
                    entry.pinned = True

    def remove(self, sha256: str) -> None:
        """Forget a shared blob; absent is no error. A leased digest raises UnavailableError."""
        self._drop_class(sha256, local=False)

    def evict(self) -> list[str]:
        """Drop evictable blobs that nobody reads, least recently used first.

        Starts above the limit and ends at the low mark. The most recently used one always stays:
        an artifact larger than the whole limit is served to whom asked for it and goes when the
        next one comes.
        """
        evicted: list[str] = []
        with self._lock:
            if self._cached_bytes <= self._cached_bytes_max:
                return evicted
            for sha256 in [key for key, entry in self._entries.items() if entry.is_evictable][:-1]:
                if self._entries[sha256].leases:
                    continue
                self._forget(sha256)
                evicted.append(sha256)
                if self._cached_bytes <= self._cached_bytes_low:
                    break
        return evicted

    def scrub(self) -> Iterator[tuple[str, str]]:
        """Re-hash every blob; delete and yield (digest, what was wrong) for each bad one.

        Piece lists without a blob are deleted silently. Cost: one read of the whole store.
        """
        for sha256 in self.digests():
            try:
                with self.lease(sha256) as path:
                    found, hashes = _hash_file(path)
            except NotFoundError:
                continue  # evicted meanwhile
            listed = self._files.pieces(sha256)
            if found != sha256:
                with self._lock:
                    self._forget(sha256)
                yield sha256, f"{path}: {found}"
            elif listed.exists() and self.piece_hashes(sha256) != hashes:
                self._files.write_small(listed, hashes)
                yield sha256, f"{listed}: did not match the blob; written anew"
        for listed in self._files.piece_lists():
            if listed.name not in self._entries:
                listed.unlink(missing_ok=True)

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        pinned = self._files.pinned()
        found: dict[str, tuple[os.stat_result, _Entry]] = {}
        for file in self._files.blobs(local=False):
            status = file.stat()
            entry = _Entry(size=status.st_size, pinned=file.name in pinned, shared=True)
            found[file.name] = status, entry
        for file in self._files.blobs(local=True):
            status = file.stat()
            entry = _Entry(size=status.st_size, pinned=file.name in pinned)
            shared, entry = found.setdefault(file.name, (status, entry))
            entry.local = True
            if shared.st_ino != status.st_ino:
                # A crash in the middle of adopting it again: both are whole; one is enough.
                self._files.link(self._files.blob(file.name, local=False), file)
        for name, (_, entry) in sorted(found.items(), key=lambda it: (it[1][0].st_mtime_ns, it[0])):
            self._entries[name] = entry
            self._cached_bytes += entry.size if entry.is_evictable else 0

    def _move_in(
        self, path: str, info: BlobInfo, *, local: bool, is_durable: bool = True
    ) -> BlobInfo:
        """Give a synced file of ours its name."""
        target = self._files.blob(info.sha256, local=local)
        with _naming(str(target)):
            with self._lock:
                # A rename over an equal blob is harmless: open readers keep the old file.
                self._files.move_in(path, target)
                entry = self._add(info.sha256, info.size, local=local)
                entry.root = info.pieces or entry.root
                if entry.shared and entry.local:
                    self._files.link(target, self._files.blob(info.sha256, local=not local))
            if is_durable:
                sync_directory(target.parent)
        self.evict()
        return replace(info, pieces=entry.root)

    def _path(self, sha256: str, entry: _Entry) -> Path:
        return self._files.blob(sha256, local=not entry.shared)

    def _present(self, sha256: str) -> _Entry:
        entry = self._entries.get(sha256)
        if entry is None:
            raise _absent(sha256)
        return entry

    def _standing(self, sha256: str, entry: _Entry) -> Standing:
        try:
            used_ms = self._path(sha256, entry).stat().st_mtime_ns // 1_000_000
        except OSError:
            used_ms = 0  # dropped meanwhile
        return Standing(
            sha256, entry.size, used_ms, entry.shared, entry.local, entry.pinned, entry.leases > 0
        )

    @contextlib.contextmanager
    def _changing(self, entry: _Entry) -> Iterator[None]:
        """Keep the count of cached bytes right over a change of what the entry is."""
        before = entry.size if entry.is_evictable else 0
        yield
        self._cached_bytes += (entry.size if entry.is_evictable else 0) - before

    def _add(self, sha256: str, size: int, *, local: bool) -> _Entry:
        entry = self._entries.setdefault(sha256, _Entry(size=size))
        self._entries.move_to_end(sha256)
        with self._changing(entry):
            entry.local, entry.shared = entry.local or local, entry.shared or not local
        return entry

    def _add_class(self, sha256: str, *, local: bool) -> None:
        target = self._files.blob(sha256, local=local)
        with _naming(str(target)):
            with self._lock:
                entry = self._present(sha256)
                if not (entry.local if local else entry.shared):
                    self._files.link(self._path(sha256, entry), target)
                self._add(sha256, entry.size, local=local)
            sync_directory(target.parent)

    def _drop_class(self, sha256: str, *, local: bool) -> None:
        with self._lock:
            entry = self._entries.get(sha256)
            if entry is None or not (entry.local if local else entry.shared):
                return
            if entry.leases:
                raise UnavailableError(f"blob {sha256} is being read")
            if not (entry.local and entry.shared):
                self._forget(sha256)
                return
            self._unlink(self._files.blob(sha256, local=local))
            with self._changing(entry):
                entry.local, entry.shared = not local, local

    def _unlink(self, path: Path) -> None:
        with _naming(str(path)):
            path.unlink(missing_ok=True)

    def _forget(self, sha256: str) -> None:
        # The blob goes first: without it, list and pin mean nothing.
        for local in (False, True):
            self._unlink(self._files.blob(sha256, local=local))
        self._unlink(self._files.pieces(sha256))
        self._unlink(self._files.pin(sha256))
        entry = self._entries.pop(sha256, None)
        if entry is not None and entry.is_evictable:
            self._cached_bytes -= entry.size


def _absent(sha256: str) -> NotFoundError:
    return NotFoundError(f"blob {sha256[:64]} is not stored here")


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turn what the disk refuses into the error that names the path."""
    try:
        yield
    except OSError as error:
        raise unavailable(error, path) from error


def _hash_file(path: str) -> tuple[str, bytes]:
    """Return SHA-256 and piece hashes of a file; why it cannot be read in place of the first."""
    try:
        with Path(path).open("rb") as blob:
            return hash_stream(blob.fileno(), None)
    except OSError as error:
        return str(error), b""
