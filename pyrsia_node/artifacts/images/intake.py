"""One blob on its way from an upstream registry into the blob store, read while it comes.

What arrives is written to a file and hashed; clients that wait for it read that file. They never
get its end before the digest is known to be right: on a mismatch the connection is cut short of
the announced length, and nothing is stored. A cut connection is taken up by a range request, and
what a stopped process left is hashed and taken up again. However many ask, it is fetched once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from pyrsia_node.artifacts.images.keeping import Keep
from pyrsia_node.artifacts.images.registry_client import BlobStream, Patience
from pyrsia_node.artifacts.reading import BlobReader, Reader, read_file
from pyrsia_node.model.errors import (
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.oci import OciDigest
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.store.pieces import ARTIFACT_BYTES_MAX, PieceHasher

HELD_BACK_BYTES: Final = 256 * 1024
"""How much of a blob no client gets before the whole was checked."""

NAMES_MAX: Final = 10_000
"""SHA-512 names that are remembered."""

_RESUME_BYTES: Final = 1024 * 1024
_log: Final = logging.getLogger("pyrsia.artifacts.images")
CUTS_MAX: Final = 200
"""How often one blob is taken up in all: an upstream must not trickle bytes for ever."""

Fetch = Callable[[int], AbstractAsyncContextManager[BlobStream]]
"""Opens the blob at the upstream from a position on."""


class _DiskError(UnavailableError):
    """It is not the upstream that fails: to ask it again would not help."""


class _Sink:
    """The file, and the hashes of what is in it. Used by one thread at a time."""

    def __init__(self, path: Path, digest: OciDigest) -> None:
        self.path = path
        self.written = 0
        self._digest = digest
        self._sha256 = hashlib.sha256()
        self._other = None if digest.algorithm == "sha256" else hashlib.new(digest.algorithm)
        self._pieces = PieceHasher()
        self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def take_up(self) -> None:
        """Hash what an earlier process left in the file."""
        while data := os.pread(self.handle, _RESUME_BYTES, self.written):
            self._hash(data)
            self.written += len(data)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            _DiskError: The disk refuses; the text names the path.
        """
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self.handle, view, self.written)
                self._hash(view[:count])
                self.written += count
                view = view[count:]
        except OSError as error:
            raise _DiskError(f"cannot write {self.path}: {error.strerror}") from error

    def check_room(self, size: int) -> None:
        """Refuse to begin what cannot end: _DiskError if the disk has too little room."""
        status = os.fstatvfs(self.handle)
        if status.f_bavail * status.f_frsize < size - self.written:
            raise _DiskError(f"cannot write {self.path} ({size} bytes needed): disk full")

    def finish(self) -> tuple[str, bytes]:
        """Return SHA-256 and piece hashes; raises VerificationError on another digest."""
        sha256 = self._sha256.hexdigest()
        found = sha256 if self._other is None else self._other.hexdigest()
        if found != self._digest.hex:
            raise VerificationError(
                f"the upstream sent {self._digest.algorithm}:{found} as {self._digest}"
            )
        return sha256, self._pieces.finish()

    def close(self) -> None:
        os.close(self.handle)

    def _hash(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)
        self._pieces.update(memoryview(data))


class Intake:
    """Runs from :meth:`start` until :attr:`finished` is done; then it is of no more use."""

    def __init__(
        self,
        digest: OciDigest,
        path: Path,
        store: BlobStore,
        fetch: Fetch,
        keep: Keep,
        *,
        patience: Patience,
        size: int | None = None,
    ) -> None:
        """Prepare to bring in a blob; nothing happens before :meth:`start`.

        Args:
            digest: What it must hash to.
            path: Takes it while it comes; on the file system of ``store``.
            store: Where it is read from at the end.
            fetch: Opens it at the upstream.
            keep: Puts it into the store.
            patience: How often a cut is taken up without a new byte in between.
            size: Its size in bytes if a manifest told it: anything else is refused.
        """
        loop = asyncio.get_running_loop()
        self.digest = digest
        self.size = size
        self.finished: asyncio.Future[BlobInfo] = loop.create_future()
        self._path = path
        self._store = store
        self._fetch = fetch
        self._keep = keep
        self._patience = patience
        self._opened: asyncio.Future[None] = loop.create_future()
        self._changed = asyncio.Event()
        self._sink: _Sink | None = None
        self._task: asyncio.Task[None] | None = None
        for future in (self.finished, self._opened):
            future.add_done_callback(_observe)

    @property
    def written(self) -> int:
        """Return how many bytes are here; they are not checked yet."""
        return 0 if self._sink is None else self._sink.written

    def start(self) -> None:
        """Begin in a task of its own, which does not depend on who waits for it."""
        self._task = asyncio.create_task(self._run())

    async def cancel(self) -> None:
        """Stop; what is here stays for a later resume."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def open(self) -> tuple[Reader, str]:
        """Return a reader and the blob's SHA-256, as soon as its size is sure.

        A small blob, or one that is not named by SHA-256, is waited for: errors come here then.

        Raises:
            NotFoundError: The upstream has none.
            UnavailableError: It cannot be had now, or the disk is full.
            VerificationError: The upstream sent other bytes.
        """
        if self.digest.algorithm == "sha256":
            either: list[asyncio.Future[Any]] = [self._opened, self.finished]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self.finished.done() and (self.size or 0) > HELD_BACK_BYTES:
                assert self._sink is not None
                return _IntakeReader(self, os.dup(self._sink.handle)), self.digest.hex
        info = await asyncio.shield(self.finished)
        try:
            return BlobReader(self._store, info.sha256), info.sha256
        except (NotFoundError, FileNotFoundError) as error:
            raise UnavailableError(f"{self.digest} left the cache at once; try again") from error

    async def wait_beyond(self, position: int) -> int:
        """Return how many bytes may be given away, once that is more than ``position``.

        Raises:
            PyrsiaError: The fetch failed.
        """
        while True:
            if self.finished.done():
                error = self.finished.exception()
                if error is not None:
                    raise error
                return self.written
            free = min(self.written, (self.size or 0) - HELD_BACK_BYTES)
            if free > position:
                return free
            await self._changed.wait()

    # ------------------------------------------------------------ the run

    async def _run(self) -> None:
        try:
            info = await self._bring()
        except asyncio.CancelledError:
            self._end(UnavailableError("the node is stopping"))
            raise
        except PyrsiaError as error:
            self._end(error)
        except Exception:  # noqa: BLE001 - a task's last resort: readers must hear of it
            _log.exception("fetch of %s failed", self.digest)
            self._end(UnavailableError(f"fetch of {self.digest} failed inside"))
        else:
            self.finished.set_result(info)
        finally:
            self._wake()
            if self._sink is not None:
                self._sink.close()

    def _end(self, error: PyrsiaError) -> None:
        self.finished.set_exception(error)

    async def _bring(self) -> BlobInfo:
        path = self._path
        try:
            self._sink = sink = _Sink(path, self.digest)
        except OSError as error:
            raise _DiskError(f"cannot write {path}: {error.strerror}") from error
        try:
            await asyncio.to_thread(sink.take_up)
            await self._receive_all(sink)
            sha256, hashes = await asyncio.to_thread(sink.finish)
            # The store syncs the file, then renames it: a crash leaves the one or the other.
            return await asyncio.to_thread(self._keep, str(path), sha256, hashes)
        except (VerificationError, NotFoundError, _DiskError):
            path.unlink(missing_ok=True)
            raise

    async def _receive_all(self, sink: _Sink) -> None:
        """Receive until the end, taking up what was cut as long as it goes forward."""
        cuts, failures, last = 0, 0, -1
        while self.size is None or sink.written < self.size:
            try:
                await self._receive(sink)
            except _DiskError:
                raise
            except UnavailableError as error:
                failures = 1 if sink.written > last else failures + 1
                cuts, last = cuts + 1, sink.written
                if failures > self._patience.attempts or cuts > CUTS_MAX:
                    raise
                _log.info("%s was cut after %d bytes: %s", self.digest, sink.written, error)
                pause = min(0.1 * 2.0**failures, self._patience.pause_s_max)
                await asyncio.sleep(pause)
            else:
                return
        if sink.written > self.size:
            raise VerificationError(f"{self.digest} is longer than its {self.size} bytes")

    async def _receive(self, sink: _Sink) -> None:
        async with self._fetch(sink.written) as stream:
            self._note_size(sink, stream.size)
            skip = sink.written - stream.start
            async for chunk in stream.content.iter_any():
                part = chunk[skip:] if skip else chunk
                skip = max(0, skip - len(chunk))
                if sink.written + len(part) > (self.size or ARTIFACT_BYTES_MAX):
                    raise VerificationError(f"the upstream sends more than {self.size} bytes")
                if part:
                    await asyncio.to_thread(sink.write, part)
                    self._wake()
        if self.size is None:
            self.size = sink.written
        if sink.written < self.size:
            raise UnavailableError(f"{self.digest} ended after {sink.written} bytes")

    def _note_size(self, sink: _Sink, told: int | None) -> None:
        if told is not None and self.size is not None and told != self.size:
            raise VerificationError(f"{self.digest} has {told} bytes, not {self.size}")
        self.size = told if self.size is None else self.size
        if self.size is None:
            return
        if self.size > ARTIFACT_BYTES_MAX:
            raise VerificationError(f"{self.digest} of {self.size} bytes is too large")
        sink.check_room(self.size)
        if not self._opened.done():
            self._opened.set_result(None)

    def _wake(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()


class _IntakeReader:
    """Reads the file of an intake, up to where it may be given away."""

    def __init__(self, intake: Intake, handle: int) -> None:
        assert intake.size is not None
        self.size = intake.size
        self._intake = intake
        self._handle = handle
        self._is_open = True

    async def read(self, position: int, length: int) -> bytes | bytearray:
        end = await self._intake.wait_beyond(position)
        return await read_file(self._handle, position, min(length, end - position))

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        end = await self._intake.wait_beyond(position)
        return self._handle, min(length, end - position)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._handle)


class Intakes:
    """The intakes that run, one for each digest and class of storage."""

    def __init__(self, store: BlobStore, folder: Path) -> None:
        """Bring blobs into ``store``; ``folder`` takes them while they come."""
        self._store = store
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._running: dict[tuple[OciDigest, bool], Intake] = {}
        self._sha256: OrderedDict[str, str] = OrderedDict()

    def sha256_of(self, digest: OciDigest) -> str | None:
        """Return the SHA-256 of a digest, if it is one or it was brought in since the start."""
        return digest.hex if digest.algorithm == "sha256" else self._sha256.get(str(digest))

    def note_sha256(self, digest: OciDigest, sha256: str) -> None:
        """Remember the SHA-256 of what was checked against another digest."""
        if digest.algorithm != "sha256":
            self._sha256[str(digest)] = sha256
            if len(self._sha256) > NAMES_MAX:
                self._sha256.popitem(last=False)

    def running(self, digest: OciDigest, *, local: bool) -> Intake | None:
        """Return the intake of a digest if there is one."""
        return self._running.get((digest, local))

    def begin(
        self,
        digest: OciDigest,
        fetch: Fetch,
        keep: Keep | None = None,
        *,
        patience: Patience,
        size: int | None = None,
    ) -> Intake:
        """Return the running intake of a digest, or a new one; arguments as of ``Intake``.

        Without ``keep`` the blob becomes shared; what is kept otherwise is fetched apart.
        """
        key = (digest, keep is not None)
        intake = self._running.get(key)
        if intake is None or intake.finished.done():
            kind = "shared" if keep is None else "local"
            # The ending lets a start delete it when it is a week old (store.partial).
            path = self._folder / f"image-{kind}-{digest.algorithm}-{digest.hex}.data"
            keep = keep or self._share
            intake = Intake(digest, path, self._store, fetch, keep, patience=patience, size=size)
            self._running[key] = intake
            intake.finished.add_done_callback(lambda _: self._ended(key, intake))
            intake.start()
        return intake

    async def close(self) -> None:
        """Stop all; what is here stays for a later resume."""
        for intake in list(self._running.values()):
            with contextlib.suppress(asyncio.CancelledError):
                await intake.cancel()

    def _share(self, path: str, sha256: str, hashes: bytes) -> BlobInfo:
        return self._store.adopt_pieces(path, sha256, hashes)

    def _ended(self, key: tuple[OciDigest, bool], intake: Intake) -> None:
        if self._running.get(key) is intake:
            del self._running[key]
        if not intake.finished.cancelled() and intake.finished.exception() is None:
            self.note_sha256(intake.digest, intake.finished.result().sha256)


def _observe(future: asyncio.Future[BlobInfo] | asyncio.Future[None]) -> None:
    """Look at an error that perhaps nobody waits for, so that it is not reported as lost."""
    if not future.cancelled():
        future.exception()
