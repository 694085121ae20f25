"""Interfaces between services and what implements them. No third-party type crosses here.

``core`` wires ``p2p`` and ``store`` into ``replica``, ``builds`` and ``ledger``; ``gateway`` wires
``store``, ``transfer`` and the control link into ``artifacts``. Each port has one conformance
suite in tests/conformance, run on the fake in tests/fakes and on the real driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NewType, Protocol

PeerId = NewType("PeerId", str)
"""Base58 text of a libp2p peer id."""


class Clock(Protocol):
    """Where time comes from; only composition roots make a real one."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...


# ---------------------------------------------------------------- store (LevelDB)


class KeyValueReader(Protocol):
    """A consistent view of an ordered map of bytes to bytes."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        ...

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) under ``prefix`` in key order, keys > ``after``."""
        ...


class KeyValueStore(KeyValueReader, Protocol):
    """The core's durable map. One process opens it; it is never shared across a fork."""

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """Apply all changes or none; None deletes. With ``sync`` durable on return."""
        ...

    def settle(self) -> None:
        """Put what was written into files of its own, so that later writes are not merged with it.

        For filling a store: everything written before is durable once a later synced write returns.
        """
        ...

    def snapshot(self) -> AbstractContextManager[KeyValueReader]:
        """Return a view that later writes do not change; close it by leaving the context."""
        ...


# ---------------------------------------------------------------- blobs and pieces (gateway)

PIECE_SIZE_BYTES = 4 * 1024 * 1024
"""Size of every piece but the last; each is hashed alone with BLAKE3."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob. ``sha256`` is lowercase hex; ``pieces`` the hex piece root, if computed.

    It always is for shared blobs.
    """

    sha256: str
    size: int
    pieces: str | None


class BlobStore(Protocol):
    """Content-addressed immutable files. A digest that is present is complete and verified.

    A blob is *shared* (public: the log or a public upstream vouches for it, peers may have it, and
    it may be evicted unless pinned), *local* (pushed, or fetched with credentials: never offered
    to peers, never evicted, removed by the registry's garbage collection alone), or both.
    Every method may be called from any thread and may block on the disk.
    """

    def stat(self, sha256: str) -> BlobInfo | None:
        """Return what is stored under the digest, or None."""
        ...

    def path(self, sha256: str) -> str:
        """Return the file's path; raises NotFoundError."""
        ...

    def piece_hashes(self, sha256: str) -> bytes:
        """Return the concatenated 32-byte piece hashes; raises NotFoundError."""
        ...

    def adopt(self, path: str, sha256: str, *, local: bool = False) -> BlobInfo:
        """Re-hash a file and move it in; raises VerificationError on another digest."""
        ...

    def adopt_pieces(
        self, path: str, sha256: str, piece_hashes: bytes, *, local: bool = False
    ) -> BlobInfo:
        """Move in a file of ours whose every piece was checked already; nothing is re-hashed.

        A local blob may come with b"" for its piece hashes: they are computed when it is shared.
        """
        ...

    def adopt_single(self, data: memoryview, sha256: str, pieces: str) -> BlobInfo:
        """Write a shared blob of one piece, which the caller checked, with its piece root."""
        ...

    def share(self, sha256: str) -> None:
        """Make a local blob shared as well: somebody vouches for it; raises NotFoundError.

        May read the whole blob, to compute its piece hashes.
        """
        ...

    def keep_local(self, sha256: str) -> None:
        """Make a shared blob local as well: a repository holds it; raises NotFoundError."""
        ...

    def drop_local(self, sha256: str) -> None:
        """End that a blob is local; it goes unless it is shared. Absent is no error.

        A leased digest raises UnavailableError.
        """
        ...

    def is_shared(self, sha256: str) -> bool:
        """Tell whether peers may have the blob; False if it is absent."""
        ...

    def lease(self, sha256: str) -> AbstractContextManager[str]:
        """Keep a blob from being removed while the context lives; gives the path.

        Raises NotFoundError. Counts as a use for the order of eviction.
        """
        ...

    def pin(self, sha256: str) -> None:
        """Never evict this blob, across restarts; raises NotFoundError."""
        ...

    def remove(self, sha256: str) -> None:
        """Forget a shared blob; absent is no error. A leased digest raises UnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """A peer that may have an artifact; a hint, never trusted for integrity."""

    peer: PeerId
    data_url: str | None
    fingerprint: str | None
    complete: bool


class Router(Protocol):
    """Answers "who has it"."""

    async def holders(self, sha256: str) -> list[Holder]:
        """Return holders, the likeliest first: attesters, then peers that were served lately."""
        ...

    async def announce(self, sha256: str, *, complete: bool) -> None:
        """Tell that this node has (part of) the artifact."""
        ...


class PieceSource(Protocol):
    """Fetches byte ranges of one artifact from one holder. Bytes are not yet verified."""

    async def read_into(self, holder: Holder, sha256: str, start: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``start``.

        Raises UnavailableError, NotFoundError (the holder lacks these bytes now) or
        PeerMisbehaviorError. After an error or cancellation ``buffer`` holds anything.
        """
        ...

    async def piece_hashes(self, holder: Holder, sha256: str, *, count: int) -> bytes:
        """Return the holder's ``count`` 32-byte piece hashes (the caller checks their root)."""
        ...

    async def have(self, holder: Holder, sha256: str) -> bytes | None:
        """Return the bitmap of pieces the holder has now; None means all of them."""
        ...


# ---------------------------------------------------------------- network (core, trio)

RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one request; raising a PyrsiaError sends its text, anything else "internal error"."""


class MemberLinks(Protocol):
    """One long-lived stream per ordered pair of members. Peers that are no members are refused."""

    def set_members(self, peers: Iterable[PeerId]) -> None:
        """Replace whom this node keeps links with; others' streams are closed."""
        ...

    def send(self, to: PeerId, frame: bytes) -> bool:
        """Queue a frame (at most 2 MiB) without waiting; False if the queue was full."""
        ...

    def frames(self) -> AsyncIterator[tuple[PeerId, bytes]]:
        """Yield frames with the authenticated sender. Ends when the network closes."""
        ...


class PeerRequests(Protocol):
    """Request and answer between any two nodes of the same network."""

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        """Return the answer.

        Raises UnavailableError (not reachable, timeout, refused) or PeerMisbehaviorError.
        """
        ...

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        """Answer ``method`` with ``handler``; call before the network starts."""
        ...

    def connected(self) -> list[PeerId]:
        """Return peers with a live connection, in id order."""
        ...


@dataclass(frozen=True, slots=True)
class Hint:
    """Something new may exist: ``topic`` says what kind; the receiver pulls it."""

    topic: str
    source: PeerId
    payload: bytes


class Hints(Protocol):
    """Gossip. May lose, repeat and reorder; nothing depends on it (tests run with it off)."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue a hint of at most 4 KiB; never waits."""
        ...

    def hints(self) -> AsyncIterator[Hint]:
        """Yield hints from others."""
        ...
