"""One artifact on its way from several holders into the blob store.

Every piece is checked by ``store.partial`` before its bit is set, and readers get checked pieces
only, in order, while the rest arrives. A holder that fails costs one piece; a holder that lies is
left at once and remembered; the download fails only when nobody is left who may have the bytes.
It survives its first client's leaving and, through the partial file, a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from pyrsia_node.artifacts.inquiry import ASK_AGAIN_SECONDS, Inquiry
from pyrsia_node.artifacts.reading import read_file
from pyrsia_node.artifacts.schedule import PieceSchedule
from pyrsia_node.artifacts.values import Artifact, Surroundings, Tally
from pyrsia_node.model.errors import (
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import (
    PIECE_SIZE_BYTES,
    BlobInfo,
    Holder,
    PeerId,
)
from pyrsia_node.store.partial import Partial, known_pieces
from pyrsia_node.store.pieces import Bitmap, PieceList, piece_length

HOLDERS_MAX: Final = 8
"""Holders used at once by one download; the others are kept in reserve."""

LANES_PER_HOLDER: Final = 2
"""Requests to one holder at once: the second hides the round trip of the first."""

WRITEBACK_PIECES: Final = 32
"""After so many pieces the disk is asked to catch up, in the background."""

GUESS_SECONDS_MAX: Final = 3.0
"""A guess that takes longer was wrong: who trickles must not be first to be asked for long."""

LOOK_ROUND_SECONDS: Final = 10.0
"""How often a running download asks who else has the artifact by now."""

IDLE_SECONDS: Final = 0.25
IDLE_ROUNDS_MAX: Final = 8
"""A holder of everything that has nothing for us while nothing is under way is left."""

IDLE_ROUNDS_PARTIAL_MAX: Final = 120
"""One that is fetching itself is given half a minute to get something that we lack."""

_log = logging.getLogger("pyrsia.artifacts")
_T = TypeVar("_T")


class Download:
    """Runs from :meth:`start` until :attr:`finished` is done; then it is of no more use."""

    def __init__(self, artifact: Artifact, around: Surroundings) -> None:
        """Prepare; nothing happens before :meth:`start`."""
        self.artifact = artifact
        self.tally = Tally()
        self.partial: Partial | None = None
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[BlobInfo] = loop.create_future()
        self._around = around
        self._inquiry = Inquiry(artifact, around, self.tally)
        self._loop = loop
        self._opened: asyncio.Future[None] = loop.create_future()
        self._changed = asyncio.Event()
        self._schedule = PieceSchedule(Bitmap(0))
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._disk_error: UnavailableError | None = None
        self._task: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._unreached: dict[PeerId, Holder] = {}

    def start(self) -> None:
        """Begin in a task of its own."""
        self._task = self._loop.create_task(self._run())

    async def cancel(self) -> None:
        """Stop; what was checked stays on disk for a later resume."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def open(self) -> DownloadReader:
        """Return a reader once the size and the piece list are sure.

        Raises:
            UnavailableError: Nobody has it, or the disk is full.
            NotFoundError: The download ended this very moment; the store has the blob.
        """
        either: list[asyncio.Future[Any]] = [self._opened, self.finished]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self.finished.done() and self.finished.exception():
            raise _error_of(self.finished)
        if self.partial is None:
            raise NotFoundError(f"download of {self.artifact.sha256} has ended")
        return DownloadReader(self, self.partial)

    def has(self, index: int) -> bool:
        """Tell whether a piece is checked and written."""
        return self.partial is not None and index in self.partial.have

    async def wait_piece(self, index: int) -> None:
        """Wait until a piece is checked and written; it is fetched before all others.

        Raises:
            UnavailableError: The download failed.
        """
        if self.has(index):
            return
        if self.finished.done():
            raise _error_of(self.finished)
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.setdefault(index, []).append(waiter)
        self._schedule.want(index)
        self._wake()
        await waiter

    # ------------------------------------------------------------ the run

    async def _run(self) -> None:
        started = self._loop.time()
        try:
            info = await self._fetch()
        except asyncio.CancelledError:
            self._end(UnavailableError("the node is stopping"))
            raise
        except PyrsiaError as error:
            self._end(error)
        except Exception:  # noqa: BLE001 - a task's last resort: readers must hear of it
            _log.exception("download of %s failed", self.artifact.sha256)
            self._end(UnavailableError(f"download of {self.artifact.sha256} failed inside"))
        else:
            self.tally.seconds = self._loop.time() - started
            self.finished.set_result(info)
        finally:
            if self.partial is not None:
                self.partial.close()

    async def _fetch(self) -> BlobInfo:
        if 0 < self.artifact.size <= PIECE_SIZE_BYTES:
            info = await self._fetch_guessing()
            if info is not None:
                return info
        holders = await self._inquiry.holders()
        info = await self._fetch_small(holders)
        if info is not None:
            return info
        pieces = await self._piece_list(holders)
        around = self._around
        self.partial = partial = await self._in_thread(
            lambda: Partial(around.folder, self.artifact.sha256, pieces)
        )
        self.tally.resumed = len(partial.have)
        self._schedule = PieceSchedule(partial.have)
        for index in self._waiting:
            self._schedule.want(index)
        self._opened.set_result(None)
        self._wake_readers(range(pieces.count))
        await self._fill(partial, holders)
        hashes = await self._in_thread(partial.all_hashes)
        info = await self._in_thread(
            lambda: around.store.adopt_pieces(str(partial.path), self.artifact.sha256, hashes)
        )
        partial.finished()
        await self._inquiry.announce(complete=True)
        return info

    async def _fetch_guessing(self) -> BlobInfo | None:
        """Fetch a file of one piece from whoever is likely to have it; None if that fails."""
        memory = self._around.memory
        started = self._loop.time()
        holder = memory.guess(started)
        if holder is None:
            return None
        info = await self._fetch_small([holder])
        is_quick = self._loop.time() - started <= GUESS_SECONDS_MAX
        memory.guessed(well=info is not None and is_quick)
        return info

    async def _fetch_small(self, holders: list[Holder]) -> BlobInfo | None:
        """Fetch a file of one piece without what many pieces need; None if that does not do.

        One holder of everything is asked after the other, each once. Whatever is left to try is
        left to :meth:`_fill`.
        """
        size, root = self.artifact.size, self.artifact.pieces
        pieces = PieceList.of_single(size=size, root=root)
        if pieces is None or not size:
            return None
        memory = self._around.memory
        for holder in memory.usable(holders, self._loop.time())[:HOLDERS_MAX]:
            if not holder.complete or holder.peer in self._unreached:
                continue
            try:
                info = await self._small_from(holder, pieces)
            except NotFoundError:
                continue
            except (PeerMisbehaviorError, VerificationError) as error:
                self._lied(holder, error)
                continue
            if info is None:
                self._unreached[holder.peer] = holder
                continue
            memory.served(holder)
            self.tally.by_peer[holder.peer] = 1
            # The next small file does not wait for them; without another one they are tried again.
            for each in self._unreached.values():
                memory.failed(each, self._loop.time())
            # Nobody who wants the file waits until others have heard of it.
            self._announcing = self._loop.create_task(self._inquiry.announce(complete=True))
            return info
        return None

    async def _small_from(self, holder: Holder, pieces: PieceList) -> BlobInfo | None:
        """Fetch, check and keep the only piece; None if the holder cannot be reached."""
        async with self._around.buffers.lend() as buffer:
            piece = buffer[: pieces.size]
            try:
                await self._around.source.read_into(holder, self.artifact.sha256, 0, piece)
            except UnavailableError as error:
                _log.info("%s: %s", self.artifact.sha256, error)
                self.tally.refused += 1
                return None
            return await self._in_thread(lambda: self._keep_small(pieces, piece))

    def _keep_small(self, pieces: PieceList, piece: memoryview) -> BlobInfo:
        """Check the only piece and write it into the store. In a thread."""
        pieces.check_piece(0, piece)
        return self._around.store.adopt_single(piece, self.artifact.sha256, pieces.root)

    async def _piece_list(self, holders: list[Holder]) -> PieceList:
        size, root, sha256 = self.artifact.size, self.artifact.pieces, self.artifact.sha256
        single = PieceList.of_single(size=size, root=root)
        if single is not None:
            return single
        folder = self._around.folder
        known = await self._in_thread(lambda: known_pieces(folder, sha256, size=size, root=root))
        return known or await self._inquiry.piece_list(holders)

    async def _refresh(self, holder: Holder) -> bool:
        """Note which pieces a holder that is fetching too has by now; False if it is gone."""
        try:
            pieces = await self._inquiry.pieces_at(holder)
        except NotFoundError:
            self._schedule.drop_holder(holder.peer)
            return False
        self._schedule.add_holder(holder.peer, pieces)
        return True

    async def _fill(self, partial: Partial, holders: list[Holder]) -> None:
        """Fetch until no piece is missing, asking for new holders when all are spent."""
        waits = iter(ASK_AGAIN_SECONDS)
        progress = len(partial.have)
        writeback = self._loop.create_task(self._write_back(partial))
        lanes: set[asyncio.Task[None]] = set()
        try:
            while not self._schedule.is_done:
                lanes |= await self._add_lanes(partial, holders)
                if lanes:
                    done, lanes = await asyncio.wait(
                        lanes, timeout=LOOK_ROUND_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                    for lane in done:
                        lane.result()
                    if done:
                        continue
                else:
                    if len(partial.have) > progress:
                        waits, progress = iter(ASK_AGAIN_SECONDS), len(partial.have)
                    await self._wait_for_holders(next(waits, None))
                holders = await self._inquiry.holders()
        finally:
            # No lane may write into the file, or hold a buffer, after we have left.
            for task in (*lanes, writeback):
                task.cancel()
            await asyncio.wait((*lanes, writeback))

    async def _wait_for_holders(self, seconds: float | None) -> None:
        if self._disk_error is not None:
            raise self._disk_error
        await self._inquiry.wait(seconds)

    async def _add_lanes(self, partial: Partial, holders: list[Holder]) -> set[asyncio.Task[None]]:
        """Start using holders up to the limit."""
        lanes: set[asyncio.Task[None]] = set()
        if self._disk_error is not None:
            return lanes
        used = set(self._schedule.holders())
        usable = self._around.memory.usable(holders, self._loop.time())
        for holder in usable:
            if len(used) >= HOLDERS_MAX:
                break
            if holder.peer in used:
                continue
            used.add(holder.peer)
            # A holder of everything is used at once; another one first says what it has.
            pieces = None if holder.complete else Bitmap(partial.pieces.count)
            self._schedule.add_holder(holder.peer, pieces)
            if holder.complete or await self._refresh(holder):
                # A second lane to one holder is of use only if there is a second piece for it.
                count = min(LANES_PER_HOLDER, partial.pieces.count)
                lanes |= {self._loop.create_task(self._lane(holder)) for _ in range(count)}
        return lanes

    async def _lane(self, holder: Holder) -> None:
        """Fetch piece after piece from one holder until it has nothing more for us."""
        partial = self.partial
        assert partial is not None
        idle = 0
        while not self._schedule.is_done and self._disk_error is None:
            # A buffer first: a piece that is given out is then on its way at once.
            async with self._around.buffers.lend() as buffer:
                index = self._schedule.next(holder.peer, self._loop.time())
                if index is not None:
                    idle = 0
                    if not await self._one_piece(holder, partial, index, buffer):
                        break
                    continue
            idle += 1
            if not await self._worth_waiting(holder, idle):
                break
            await self._wait_change(IDLE_SECONDS)
        self._wake()

    async def _worth_waiting(self, holder: Holder, idle: int) -> bool:
        """Tell whether a holder that has nothing for us now may have something later."""
        if holder.peer not in self._schedule.holders():
            return False
        if not holder.complete and idle % 4 == 0 and not await self._refresh(holder):
            return False
        rounds_max = IDLE_ROUNDS_MAX if holder.complete else IDLE_ROUNDS_PARTIAL_MAX
        if idle < rounds_max or self._schedule.is_under_way:
            return True
        self._around.memory.failed(holder, self._loop.time())
        self._schedule.drop_holder(holder.peer)
        return False

    async def _one_piece(
        self, holder: Holder, partial: Partial, index: int, buffer: memoryview
    ) -> bool:
        """Fetch, check and keep a piece; tells whether the holder is still used."""
        piece = buffer[: piece_length(index, size=self.artifact.size)]
        start = index * PIECE_SIZE_BYTES
        try:
            await self._around.source.read_into(holder, self.artifact.sha256, start, piece)
            await self._in_thread(lambda: self._keep(partial, index, piece))
        except NotFoundError:
            self._schedule.lacks(holder.peer, index)
            return True
        except (PeerMisbehaviorError, VerificationError) as error:
            self._lied(holder, error)
            return False
        except UnavailableError as error:
            _log.info("piece %d of %s: %s", index, self.artifact.sha256, error)
            return self._failed(holder, index)
        if self._disk_error is not None:
            return False
        self._arrived(holder, partial, index)
        return True

    def _keep(self, partial: Partial, index: int, piece: memoryview) -> None:
        """Check and write a piece, telling a full disk from a wrong piece. In a thread."""
        try:
            partial.write_piece(index, piece)
        except UnavailableError as error:
            self._disk_error = error

    def _lied(self, holder: Holder, error: PyrsiaError) -> None:
        self.tally.wrong += 1
        _log.warning("leaving peer %s: %s", holder.peer, error)
        self._around.memory.lied(holder, self._loop.time())
        self._schedule.drop_holder(holder.peer)
        self._wake()

    def _failed(self, holder: Holder, index: int) -> bool:
        self.tally.refused += 1
        is_used = self._schedule.failed(holder.peer, index)
        if not is_used:
            self._around.memory.failed(holder, self._loop.time())
        self._wake()
        return is_used

    def _arrived(self, holder: Holder, partial: Partial, index: int) -> None:
        self._schedule.done(holder.peer, index, self._loop.time())
        self._around.memory.served(holder)
        self.tally.by_peer[holder.peer] = self.tally.by_peer.get(holder.peer, 0) + 1
        self._wake_readers([index])
        self._wake()
        if len(partial.have) == 1 and not partial.have.is_full:
            self._announcing = self._loop.create_task(self._inquiry.announce(complete=False))

    async def _write_back(self, partial: Partial) -> None:
        """Keep the disk busy, so that the sync at the end has little to do."""
        synced = len(partial.have)
        while True:
            await self._wait_change(None)
            if len(partial.have) - synced >= WRITEBACK_PIECES:
                synced = len(partial.have)
                await self._in_thread(partial.start_writeback)

    # ------------------------------------------------------------ inside

    def _end(self, error: PyrsiaError) -> None:
        self.finished.set_exception(error)
        self.finished.exception()  # read once: nobody may be waiting
        for waiters in self._waiting.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(_unavailable(error))
        self._waiting.clear()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_change(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _wake_readers(self, indices: Iterable[int]) -> None:
        assert self.partial is not None
        for index in indices:
            if index in self.partial.have:
                for waiter in self._waiting.pop(index, []):
                    if not waiter.done():
                        waiter.set_result(None)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Run blocking work to its end, even if we are cancelled meanwhile.

        The buffer that the work reads must not be lent to anybody else before it is through: a
        piece could change between its check and its write.
        """
        running = self._loop.run_in_executor(self._around.executor, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class DownloadReader:
    """Reads checked bytes of a download, waiting for those that are still to come."""

    def __init__(self, download: Download, partial: Partial) -> None:
        """Read from ``download``, whose file is open."""
        self.size = partial.pieces.size
        self._download = download
        self._handle = partial.duplicate()

    async def read(self, position: int, length: int) -> bytes | bytearray:
        """Return 1 to ``length`` bytes, none of them beyond the piece that ``position`` is in."""
        index = position // PIECE_SIZE_BYTES
        await self._download.wait_piece(index)
        end = min((index + 1) * PIECE_SIZE_BYTES, self.size)
        return await read_file(self._handle, position, min(length, end - position))

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        """Return the descriptor and how many checked bytes follow ``position`` without a gap."""
        index = position // PIECE_SIZE_BYTES
        await self._download.wait_piece(index)
        while (index + 1) * PIECE_SIZE_BYTES < position + length and self._download.has(index + 1):
            index += 1
        return self._handle, min(length, (index + 1) * PIECE_SIZE_BYTES - position)

    def close(self) -> None:
        """Close the file; the download goes on."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _error_of(finished: asyncio.Future[BlobInfo]) -> PyrsiaError:
    error = finished.exception()
    assert isinstance(error, PyrsiaError)
    return _unavailable(error)


def _unavailable(error: PyrsiaError) -> PyrsiaError:
    # A fresh object for each reader: one exception raised in several tasks grows its traceback.
    return UnavailableError(str(error)) if isinstance(error, UnavailableError) else error
