"""One blob on its way from an upstream registry into the blob store, read while it comes.

What arrives is written to a file and hashed; clients that wait for it read that file. They never
get its end before the digest is known to be right: on a mismatch the connection is cut short of
the announced length, and nothing is stored. A cut connection is taken up by a range request, and
what a stopped process left is hashed and taken up again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pyrsia_node.artifacts.images.incoming_file import IncomingFile, NoRoomError
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
from pyrsia_node.store.pieces import ARTIFACT_BYTES_MAX

HELD_BACK_BYTES: Final = 256 * 1024
"""How much of a blob no client gets before the whole was checked."""

CUTS_MAX: Final = 200
"""How often one blob is taken up in all: an upstream must not trickle bytes for ever."""

Fetch = Callable[[int], AbstractAsyncContextManager[BlobStream]]
"""Opens the blob at the upstream from a position on."""

_T = TypeVar("_T")
_log: Final = logging.getLogger("pyrsia.artifacts.images")


@dataclass(frozen=True, slots=True)
class Way:
    """How a blob comes in.

    ``path`` takes it while it comes, on the file system of ``store``; ``keep`` puts it there;
    ``executor`` runs what blocks; ``patience`` bounds tries without a new byte.
    """

    path: Path
    store: BlobStore
    fetch: Fetch
    keep: Keep
    executor: Executor
    patience: Patience


class Intake:
    """Runs from :meth:`start` until :attr:`finished` is done; then it is of no more use."""

    def __init__(self, digest: OciDigest, way: Way, *, size: int | None = None) -> None:
        """Prepare to bring in a blob; nothing happens before :meth:`start`.

        Args:
            digest: What it must hash to.
            way: How it comes in.
            size: Its size in bytes if a manifest told it: anything else is refused.
        """
        loop = asyncio.get_running_loop()
        self.digest = digest
        self.size = size
        self.path = way.path
        self.finished: asyncio.Future[BlobInfo] = loop.create_future()
        self._way = way
        self._opened: asyncio.Future[None] = loop.create_future()
        self._changed = asyncio.Event()
        self._file: IncomingFile | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0
        self._is_given_up = False
        for future in (self.finished, self._opened):
            future.add_done_callback(_observe)

    @property
    def written(self) -> int:
        """Return how many bytes are here; they are not checked yet."""
        return 0 if self._file is None else self._file.written

    @property
    def is_joinable(self) -> bool:
        """Whether it still runs, so that others can wait for it, too."""
        return not self.finished.done() and not self._is_given_up

    def start(self) -> None:
        """Begin in a task of its own."""
        self._task = asyncio.create_task(self._run())

    async def cancel(self) -> None:
        """Stop; what is here stays for a later resume."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def wait(self) -> BlobInfo:
        """Return when the blob is in the store; raises as :meth:`open`."""
        with self.interest():
            return await asyncio.shield(self.finished)

    async def open(self) -> tuple[Reader, str]:
        """Return a reader and the blob's SHA-256, as soon as its size is sure.

        A small blob, or one that is not named by SHA-256, is waited for: errors come here then.

        Raises:
            NotFoundError: The upstream has none.
            UnavailableError: It cannot be had now, or the disk is full.
            VerificationError: The upstream sent other bytes.
        """
        with self.interest():
            if self.digest.algorithm == "sha256":
                either: list[asyncio.Future[Any]] = [self._opened, self.finished]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not self.finished.done() and (self.size or 0) > HELD_BACK_BYTES:
                    assert self._file is not None
                    return _IntakeReader(self, os.dup(self._file.handle)), self.digest.hex
            info = await asyncio.shield(self.finished)
        try:
            return BlobReader(self._way.store, info.sha256), info.sha256
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

    @contextmanager
    def interest(self) -> Iterator[None]:
        """Count as somebody who wants the blob.

        A fetch that has got something goes on without anybody; one that has nothing yet is given
        up when the last one leaves, so that who asks and goes does not keep sockets busy.
        """
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and not self.written and self.is_joinable:
                self._is_given_up = True
                if self._task is not None:
                    self._task.cancel()

    # ------------------------------------------------------------ the run

    async def _run(self) -> None:
        try:
            info = await self._bring()
        except asyncio.CancelledError:
            self.finished.set_exception(UnavailableError("nobody waits any more"))
            raise
        except PyrsiaError as error:
            self.finished.set_exception(error)
        except Exception:  # noqa: BLE001 - a task's last resort: readers must hear of it
            _log.exception("fetch of %s failed", self.digest)
            self.finished.set_exception(UnavailableError(f"fetch of {self.digest} failed inside"))
        else:
            self.finished.set_result(info)
        finally:
            self._wake()
            if self._file is not None:
                self._file.close()

    async def _bring(self) -> BlobInfo:
        path = self.path
        try:
            if path.exists():
                self._file = await self._in_thread(lambda: IncomingFile(path, self.digest))
            file = await self._receive_all()
            sha256, hashes = await self._in_thread(file.finish)
            # The store syncs the file, then renames it: a crash leaves the one or the other.
            return await self._in_thread(lambda: self._way.keep(str(path), sha256, hashes))
        except (VerificationError, NotFoundError, NoRoomError):
            path.unlink(missing_ok=True)
            raise

    async def _receive_all(self) -> IncomingFile:
        """Receive until the end, taking up what was cut as long as it goes forward."""
        cuts, failures, last = 0, 0, -1
        patience = self._way.patience
        while True:
            try:
                return await self._receive()
            except NoRoomError:
                raise
            except UnavailableError as error:
                failures = 1 if self.written > last else failures + 1
                cuts, last = cuts + 1, self.written
                if failures > patience.attempts or cuts > CUTS_MAX:
                    raise
                _log.info("%s was cut after %d bytes: %s", self.digest, self.written, error)
            await asyncio.sleep(min(0.1 * 2.0**failures, patience.pause_s_max))

    async def _receive(self) -> IncomingFile:
        """Receive from where the file ends; return it once it is whole."""
        if self._file is not None and self._file.written == self.size:
            return self._file
        async with self._way.fetch(self.written) as stream:
            file = await self._begun(stream)
            skip = file.written - stream.start
            async for chunk in stream.content.iter_any():
                part = chunk[skip:] if skip else chunk
                skip = max(0, skip - len(chunk))
                if file.written + len(part) > (self.size or ARTIFACT_BYTES_MAX):
                    raise VerificationError(f"the upstream sends more than {self.size} bytes")
                if part:
                    await self._in_thread(functools.partial(file.write, part))
                    self._wake()
        if self.size is None:
            self.size = file.written
        if file.written < self.size:
            raise UnavailableError(f"{self.digest} ended after {file.written} bytes")
        return file

    async def _begun(self, stream: BlobStream) -> IncomingFile:
        """Return the file, with room for the size that the upstream tells."""
        told = stream.size
        if told is not None and self.size is not None and told != self.size:
            raise VerificationError(f"{self.digest} has {told} bytes, not {self.size}")
        self.size = told if self.size is None else self.size
        if self._file is None:
            self._file = await self._in_thread(lambda: IncomingFile(self.path, self.digest))
        file = self._file
        if self.size is not None:
            if self.size > ARTIFACT_BYTES_MAX:
                raise VerificationError(f"{self.digest} of {self.size} bytes is too large")
            if file.written > self.size:
                raise VerificationError(f"{self.digest} has {self.size} bytes, not so many")
            await self._in_thread(functools.partial(file.check_room, self.size))
            if not self._opened.done():
                self._opened.set_result(None)
        return file

    async def _in_thread(self, act: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._way.executor, act)

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
        self._stack = ExitStack()
        self._stack.callback(os.close, handle)
        self._stack.enter_context(intake.interest())

    async def read(self, position: int, length: int) -> bytes | bytearray:
        end = await self._intake.wait_beyond(position)
        return await read_file(self._handle, position, min(length, end - position))

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        end = await self._intake.wait_beyond(position)
        return self._handle, min(length, end - position)

    def close(self) -> None:
        self._stack.close()


def _observe(future: asyncio.Future[BlobInfo] | asyncio.Future[None]) -> None:
    """Look at an error that perhaps nobody waits for, so that it is not reported as lost."""
    if not future.cancelled():
        future.exception()
