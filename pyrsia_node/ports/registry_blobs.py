"""Bytes of the node-local registry: on their way to a digest, and as garbage collection sees them.

``BlobUploads`` takes what clients push until it is a blob of the ``BlobStore``; ``BlobCensus`` is
what collections ask a blob store beyond ``BlobStore``. How bytes and rows come together is said in
:mod:`pyrsia_node.ports.registry`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pyrsia_node.ports import BlobInfo


class UploadWriter(Protocol):
    """The bytes of one upload, open for appending by one client at a time."""

    @property
    def offset(self) -> int:
        """How many bytes there are."""
        ...

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; raises UnavailableError (disk full) and then takes no more."""
        ...

    def sync(self) -> None:
        """Return when everything appended is durable."""
        ...


class BlobUploads(Protocol):
    """Space for uploads, which survive a restart. Names were made by ``begin``, never by clients.

    May be called from any thread and may block on the disk.
    """

    def begin(self) -> str:
        """Return the name of a new, empty upload (22 characters of base64url, unguessable)."""
        ...

    def open(self, name: str, *, offset: int | None = None) -> AbstractContextManager[UploadWriter]:
        """Open an upload for appending, dropping bytes beyond ``offset``, that were never told.

        Raises:
            NotFoundError: There is none.
            UnavailableError: Another request is writing to it.
        """
        ...

    def check(self, name: str, digest: str) -> str:
        """Return the SHA-256 of an upload that has this digest; ``commit`` hashes nothing again.

        The bytes are durable on return.

        Raises:
            NotFoundError: There is none.
            VerificationError: The bytes hash to something else; the upload stays.
        """
        ...

    def commit(self, name: str, digest: str) -> BlobInfo:
        """Move a finished upload into the blob store, as local content; durable on return.

        Raises:
            NotFoundError: There is none.
            VerificationError: The bytes hash to something else; the upload stays.
        """
        ...

    def cancel(self, name: str) -> None:
        """Drop an upload; absent is no error."""
        ...

    def is_open(self, name: str) -> bool:
        """Tell whether a request is writing to an upload just now."""
        ...

    def names(self, *, before_ms: int) -> list[str]:
        """Return every upload not written to since, for garbage collection."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A blob as the store sees it; ``used_ms`` is when it was last read or written."""

    sha256: str
    size: int
    used_ms: int
    is_shared: bool
    is_local: bool
    is_pinned: bool
    is_leased: bool

    @property
    def is_evictable(self) -> bool:
        """Whether the cache may drop it once nobody reads it."""
        return self.is_shared and not self.is_local and not self.is_pinned


class BlobCensus(Protocol):
    """What garbage collection asks a blob store beyond ``BlobStore``.

    May be called from any thread and may block on the disk.
    """

    def local_digests(self) -> list[str]:
        """Return the digests of all local blobs."""
        ...

    def standing(self, sha256: str) -> Standing | None:
        """Return how the store sees a blob, or None."""
        ...

    def evictable(self) -> list[Standing]:
        """Return the blobs that the cache may drop, least recently used first."""
        ...
