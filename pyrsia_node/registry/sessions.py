"""One upload as a thread sees it: bytes are appended, made durable, and become a blob.

Everything here blocks; ``registry.uploads`` calls it from threads. Order of durable steps, and what
a crash leaves:

1. bytes of the upload, then its offset in the database: a crash between them leaves bytes that
   nobody was told of; the next ``open`` drops them.
2. a claim on the digest, the blob in the store (``BlobUploads.commit``), then its row together with
   the end of the upload: a crash between them leaves a blob that only the claim names, which
   garbage collection removes after its grace. The client begins that blob anew.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.ports import BlobInfo, BlobStore, Clock
from pyrsia_node.ports.registry import QuotaExceededError, RegistryDb, RepositoryBlob, Upload
from pyrsia_node.ports.registry_blobs import BlobUploads, UploadWriter
from pyrsia_node.registry.errors import DigestMismatchError, OutOfOrderError, UploadUnknownError
from pyrsia_node.registry.room import Room

DURABLE_BYTES: Final = 32 * 1024 * 1024
"""After so many bytes of one request the offset is made durable: a crash loses no more."""

REMOVAL_TRIES: Final = 100
REMOVAL_PAUSE_S: Final = 0.02


class Session(Protocol):
    """Where the bytes of a request go. One thread at a time."""

    def append(self, data: bytes | bytearray) -> None:
        """Add bytes; the first call opens the upload."""
        ...

    def commit(self, data: bytes | bytearray, digest: str) -> RepositoryBlob:
        """Add the last bytes and make the whole a blob of the repository."""
        ...

    def pause(self, data: bytes | bytearray) -> int:
        """Add the last bytes of a request that ends here; return how many are durable."""
        ...

    def close(self) -> None:
        """Let go of the upload after an error."""
        ...


class ResumableSession:
    """An upload with a row in the database: it survives the request and a restart."""

    def __init__(
        self, ports: SessionPorts, repository: str, upload_id: str, start: int | None
    ) -> None:
        """Prepare to append at ``start``, which must be where the upload stands; None is there."""
        self._ports = ports
        self._repository = repository
        self._id = upload_id
        self._room = ports.room(repository)
        self._start = start
        self._stack = ExitStack()
        self._writer: UploadWriter | None = None
        self._durable = 0

    def append(self, data: bytes | bytearray) -> None:
        """Add bytes, and every ``DURABLE_BYTES`` make them durable.

        Raises:
            UploadUnknownError: There is no such upload in this repository.
            OutOfOrderError: It stands elsewhere.
            QuotaExceededError: Its namespace has no room for it; the upload ends.
            UnavailableError: Another request is writing to it, or the disk is full.
        """
        writer = self._writer or self._open()
        try:
            self._room.check(writer.offset + len(data), more=len(data))
        except QuotaExceededError:
            # It can never be finished; its bytes would only be in others' way.
            self._stack.close()
            self._forget()
            raise
        writer.append(data)
        if writer.offset - self._durable >= DURABLE_BYTES:
            self._settle(writer)

    def commit(self, data: bytes | bytearray, digest: str) -> RepositoryBlob:
        """Add the last bytes and make the whole a blob; a wrong digest ends the upload.

        Raises:
            DigestMismatchError: The bytes hash to something else; nothing is stored.
            QuotaExceededError: The namespace would hold more than it may.
            UnavailableError: As ``append``; or the same blob is just being removed.
        """
        self.append(data)
        self._stack.close()
        try:
            info = self._ports.adopt(self._id, digest)
        except DigestMismatchError:
            self._forget()
            raise
        return self._ports.link(self._repository, digest, info, upload_id=self._id)

    def pause(self, data: bytes | bytearray) -> int:
        """Make what came durable, so that the client can go on from there; return the offset."""
        try:
            self.append(data)
            assert self._writer is not None
            self._settle(self._writer)
            return self._durable
        finally:
            self._stack.close()

    def close(self) -> None:
        """Let go of the upload; bytes that were not made durable are dropped later."""
        self._stack.close()

    def cancel(self) -> None:
        """Drop the upload; raises UploadUnknownError."""
        self._row()
        self._forget()

    def _forget(self) -> None:
        # The row first: without it nobody can write to the bytes, which collection finds.
        self._ports.db.end_upload(self._id)
        self._ports.uploads.cancel(self._id)

    def _row(self) -> Upload:
        return self._ports.find_upload(self._repository, self._id)

    def _open(self) -> UploadWriter:
        row = self._row()
        if self._start is not None and self._start != row.offset:
            raise OutOfOrderError(row.offset, self._start)
        try:
            opened = self._ports.uploads.open(self._id, offset=row.offset)
            writer = self._stack.enter_context(opened)
        except NotFoundError as error:
            raise UploadUnknownError(str(error)) from error
        self._writer, self._durable = writer, row.offset
        return writer

    def _settle(self, writer: UploadWriter) -> None:
        if writer.offset == self._durable:
            return
        writer.sync()
        self._ports.db.advance_upload(
            self._id, offset=writer.offset, now_ms=self._ports.clock.now_ms()
        )
        self._durable = writer.offset


class WholeSession:
    """A blob that comes in one request: no row, nothing to resume, nothing left if it fails."""

    def __init__(self, ports: SessionPorts, repository: str) -> None:
        """Prepare to take one blob for a repository."""
        self._ports = ports
        self._repository = repository
        self._id = ports.uploads.begin()
        self._room = ports.room(repository)
        self._stack = ExitStack()
        self._writer: UploadWriter | None = None

    def append(self, data: bytes | bytearray) -> None:
        """Add bytes; raises QuotaExceededError, UnavailableError (the disk is full)."""
        if self._writer is None:
            self._writer = self._stack.enter_context(self._ports.uploads.open(self._id))
        self._room.check(self._writer.offset + len(data), more=len(data))
        self._writer.append(data)

    def commit(self, data: bytes | bytearray, digest: str) -> RepositoryBlob:
        """Add the last bytes and make the whole a blob; raises as ``ResumableSession.commit``."""
        info = self.store(data, digest)
        return self._ports.link(self._repository, digest, info)

    def store(self, data: bytes | bytearray, digest: str) -> BlobInfo:
        """Add the last bytes and put the whole into the store, without a row in the database."""
        self.append(data)
        self._stack.close()
        return self._ports.adopt(self._id, digest)

    def pause(self, data: bytes | bytearray) -> int:
        """Drop everything: nobody was told a name to go on under."""
        del data
        self.close()
        return 0

    def close(self) -> None:
        """Drop everything that is not a blob by now."""
        self._stack.close()
        self._ports.uploads.cancel(self._id)


class SessionPorts:
    """What sessions stand on, and the two steps that all of them share."""

    def __init__(
        self,
        db: RegistryDb,
        uploads: BlobUploads,
        store: BlobStore,
        clock: Clock,
        *,
        folder: Path,
    ) -> None:
        """Take the ports; uploads lie on the disk of ``folder``. Nothing happens yet."""
        self._folder = folder
        self.db = db
        self.uploads = uploads
        self.store = store
        self.clock = clock

    def room(self, repository: str) -> Room:
        """Return what tells whether an upload to a repository may go on."""
        return Room(self.db, self._folder, repository)

    def find_upload(self, repository: str, upload_id: str) -> Upload:
        """Return an upload of this repository; raises UploadUnknownError."""
        row = self.db.upload(upload_id)
        # An upload belongs to one repository: with another's name in the path it is not found,
        # so nobody writes where he has no right to push.
        if row is None or row.repository != repository:
            raise UploadUnknownError(f"no upload {upload_id} is under way in {repository}")
        return row

    def adopt(self, upload_name: str, digest: str) -> BlobInfo:
        """Move an upload's bytes into the store, as local content that a claim keeps for now.

        Raises:
            DigestMismatchError: They hash to something else; the upload stays.
            UploadUnknownError: There are no such bytes.
            UnavailableError: Garbage collection does not come to an end with an older copy.
        """
        try:
            self.claim(self.uploads.check(upload_name, digest))
            return self.uploads.commit(upload_name, digest)
        except VerificationError as error:
            raise DigestMismatchError(str(error)) from error
        except NotFoundError as error:
            raise UploadUnknownError(str(error)) from error

    def claim(self, sha256: str) -> None:
        """Keep collection away from bytes that are about to be stored; raises UnavailableError."""
        for _ in range(REMOVAL_TRIES):
            try:
                self.db.claim(sha256, now_ms=self.clock.now_ms())
            except UnavailableError:
                # An older copy is being unlinked: that takes milliseconds. This is a thread.
                time.sleep(REMOVAL_PAUSE_S)
            else:
                return
        self.db.claim(sha256, now_ms=self.clock.now_ms())

    def link(
        self, repository: str, digest: str, info: BlobInfo, *, upload_id: str | None = None
    ) -> RepositoryBlob:
        """Make a stored blob part of a repository and end its upload.

        Raises:
            QuotaExceededError: The namespace would hold more than it may.
            UnavailableError: The process slept so long that the claim lapsed; push it again.
        """
        blob = RepositoryBlob(digest=digest, sha256=info.sha256, size=info.size)
        try:
            self.db.add_blob(repository, blob, now_ms=self.clock.now_ms(), upload_id=upload_id)
        except QuotaExceededError:
            if upload_id is not None:
                self.db.end_upload(upload_id)
            raise
        self.check_there(info.sha256)
        return blob

    def check_there(self, sha256: str) -> None:
        """Return if bytes are in the store, after a row that keeps them; else UnavailableError."""
        if self.store.stat(sha256) is None:
            raise UnavailableError(f"{sha256} was just removed as nobody needed it; push it again")
