"""Uploads of blobs: begun, continued, finished, cancelled, mounted. Knows no HTTP.

Bytes come as pieces from an asynchronous iterator and are hashed and written in a thread, one piece
while the next one is still coming; nothing here holds more than two of them. What a crash leaves is
said in ``registry.sessions``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports.registry import RepositoryBlob, Upload
from pyrsia_node.registry.errors import InterruptedBodyError
from pyrsia_node.registry.sessions import (
    ResumableSession,
    Session,
    SessionPorts,
    WholeSession,
)

Pieces = AsyncIterator[bytes | bytearray]
"""A request's body. Ends at its end, and raises if the client leaves before."""

MayRead = Callable[[str], bool]
"""Whether the client may pull from a repository."""

_SHA256: Final = "sha256:"
_T = TypeVar("_T")


class Uploads:
    """The upload half of the registry."""

    def __init__(self, ports: SessionPorts) -> None:
        """Work on these ports, which block: they are called from threads."""
        self._ports = ports

    async def begin(self, repository: str) -> Upload:
        """Begin an upload that outlives this process."""
        return await in_thread(self._begin, repository)

    def _begin(self, repository: str) -> Upload:
        now = self._ports.clock.now_ms()
        name = self._ports.uploads.begin()
        upload = Upload(name, repository, offset=0, started_ms=now, touched_ms=now)
        self._ports.db.begin_upload(upload)
        return upload

    def status(self, repository: str, upload_id: str) -> Upload:
        """Return where an upload stands; raises UploadUnknownError."""
        return self._ports.find_upload(repository, upload_id)

    async def append(
        self, repository: str, upload_id: str, pieces: Pieces, *, start: int | None
    ) -> int:
        """Add a body to an upload and return how many bytes are durable now.

        Args:
            repository: Where the upload was begun.
            upload_id: Its name.
            pieces: The body.
            start: Where the client says that it begins; None is where the upload stands.

        Raises:
            UploadUnknownError, OutOfOrderError, UnavailableError: As ``ResumableSession.append``.
            What ``pieces`` raises: What came before is durable then.
        """
        session = ResumableSession(self._ports, repository, upload_id, start)
        return await self._pour(session, pieces, session.pause)

    async def finish(
        self, repository: str, upload_id: str, pieces: Pieces, *, start: int | None, digest: str
    ) -> RepositoryBlob:
        """Add the last bytes, if any, and make the upload a blob; raises as its session."""
        session = ResumableSession(self._ports, repository, upload_id, start)
        return await self._pour(session, pieces, lambda last: session.commit(last, digest))

    async def put(self, repository: str, pieces: Pieces, *, digest: str) -> RepositoryBlob:
        """Store a blob that comes in one request; nothing stays if it does not come whole."""
        session = await in_thread(WholeSession, self._ports, repository)
        return await self._pour(session, pieces, lambda last: session.commit(last, digest))

    async def cancel(self, repository: str, upload_id: str) -> None:
        """Drop an upload; raises UploadUnknownError."""
        session = ResumableSession(self._ports, repository, upload_id, None)
        await in_thread(session.cancel)

    async def mount(
        self, repository: str, digest: str, *, source: str | None, may_read: MayRead
    ) -> RepositoryBlob | None:
        """Make a blob that is here already part of a repository, without its bytes being sent.

        Args:
            repository: Where it is wanted.
            digest: How it is named there.
            source: The repository that it is to come from; None is any.
            may_read: Only what the client may pull is mounted: else a digest would be a key.

        Returns:
            The blob, or None if there is nothing to mount and the client has to push.
        """
        return await in_thread(self._mount, repository, digest, source, may_read)

    def _mount(
        self, repository: str, digest: str, source: str | None, may_read: MayRead
    ) -> RepositoryBlob | None:
        db, store, clock = self._ports.db, self._ports.store, self._ports.clock
        for holder, blob in db.find_blob(digest):
            if source not in (None, holder) or not may_read(holder):
                continue
            if store.stat(blob.sha256) is None:
                continue
            mounted = db.mount_blob(holder, repository, digest, now_ms=clock.now_ms())
            if mounted is not None:
                self._ports.check_there(mounted.sha256)
                return mounted
        return self._mount_public(repository, digest)

    def _mount_public(self, repository: str, digest: str) -> RepositoryBlob | None:
        """Mount what the log or a public upstream vouches for: everybody may read that."""
        store, sha256 = self._ports.store, digest.removeprefix(_SHA256)
        if not digest.startswith(_SHA256) or not store.is_shared(sha256):
            return None
        self._ports.claim(sha256)
        try:
            store.keep_local(sha256)
        except NotFoundError:
            # Evicted a moment ago.
            return None
        info = store.stat(sha256)
        return None if info is None else self._ports.link(repository, digest, info)

    async def _pour(
        self, session: Session, pieces: Pieces, end: Callable[[bytes | bytearray], _T]
    ) -> _T:
        """Give all pieces to a session, the last one together with ``end``: one thread hop less."""
        try:
            return await in_thread(end, await _gather(session, pieces))
        except BaseException:
            await in_thread(session.close)
            raise


async def _gather(session: Session, pieces: Pieces) -> bytes | bytearray:
    """Give all pieces but the last to the session; return the last, empty if there was none."""
    held: bytes | bytearray = b""
    writing: asyncio.Future[None] | None = None
    loop = asyncio.get_running_loop()
    try:
        async for piece in pieces:
            if held:
                if writing is not None:
                    await _settled(writing)
                writing = loop.run_in_executor(None, session.append, held)
            held = piece
    except (InterruptedBodyError, asyncio.CancelledError):
        if writing is not None:
            await _settled(writing)
        await in_thread(session.pause, held)
        raise
    except BaseException:
        if writing is not None:
            await asyncio.wait([writing])
        raise
    if writing is not None:
        await _settled(writing)
    return held


async def in_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run a blocking call in a thread and wait for its end, even if cancelled meanwhile."""
    running = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    return await _settled(running)


async def _settled(running: asyncio.Future[_T]) -> _T:
    """Wait for a thread's result. A cancellation waits, too: the thread goes on in any case."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
