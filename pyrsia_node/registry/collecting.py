"""When garbage is collected: by a timer and when somebody asks, one run at a time.

The runs themselves block and go on in a thread; the event loop only starts them and tells how far
they are. A run that fails (the disk is full) is reported and tried again at the next turn of the
timer: nothing is left half done that the next one does not finish.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pyrsia_node.model.errors import CorruptStateError, PyrsiaError, UnavailableError
from pyrsia_node.ports import Clock
from pyrsia_node.registry.collector import Collector, Tally
from pyrsia_node.schema.collection import CollectionReport, CollectionStatus

_LOG = logging.getLogger("pyrsia.gc")


class Collections:
    """The collections of one gateway. Belongs to one event loop."""

    def __init__(self, collector: Collector, clock: Clock, *, pause_s: float) -> None:
        """Collect with ``collector``; ``pause_s`` seconds between runs, 0 only when asked."""
        self._collector = collector
        self._clock = clock
        self._pause_s = pause_s
        self._number = 0
        self._tally = Tally()
        self._last: CollectionReport | None = None
        self._next_ms = 0
        self._running: asyncio.Task[CollectionReport] | None = None
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the timer, if there is to be one."""
        if self._pause_s > 0:
            self._timer = asyncio.create_task(self._turn())

    async def close(self) -> None:
        """Stop the timer and end a run under way after its next step."""
        self._collector.stop()
        if self._timer is not None:
            self._timer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._timer
        if self._running is not None:
            await asyncio.wait([self._running])

    def begin(self, *, dry_run: bool = False) -> CollectionStatus:
        """Begin a run and return at once.

        Raises:
            UnavailableError: One is under way.
        """
        if self._running is not None:
            raise UnavailableError(f"collection {self._number} is under way")
        self._number += 1
        self._tally = Tally(stage="uploads")
        self._running = asyncio.create_task(self._run(dry_run=dry_run))
        return self.status()

    def status(self) -> CollectionStatus:
        """Return what is under way and what the last run did."""
        return CollectionStatus(
            number=self._number,
            stage=self._tally.stage if self._running is not None else "idle",
            done=self._tally.done,
            next_ms=self._next_ms,
            last=self._last,
        )

    async def _turn(self) -> None:
        while True:
            self._next_ms = self._clock.now_ms() + int(self._pause_s * 1000)
            await asyncio.sleep(self._pause_s)
            if self._running is None:
                self.begin()
            if self._running is not None:
                await asyncio.wait([self._running])

    async def _run(self, *, dry_run: bool) -> CollectionReport:
        started_ms = self._clock.now_ms()
        try:
            report = await asyncio.to_thread(
                self._collector.run, self._number, self._tally, dry_run=dry_run
            )
        except PyrsiaError as error:
            level = logging.ERROR if isinstance(error, CorruptStateError) else logging.WARNING
            _LOG.log(level, "collection %d ended early: %s", self._number, error)
            report = CollectionReport(
                number=self._number,
                dry_run=dry_run,
                started_ms=started_ms,
                ended_ms=self._clock.now_ms(),
                error=str(error),
            )
        finally:
            self._running = None
        self._last = report
        if report.blobs or report.uploads:
            _LOG.info(
                "collection %d: %d blobs, %d bytes, %d uploads removed",
                report.number,
                report.blobs,
                report.bytes,
                report.uploads,
            )
        return report
