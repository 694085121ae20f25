"""Looks at followed tags and has imported what they became: one authorized node's part.

Each node looks at its own times (its id decides where in the pause), so several nodes that follow
one tag do not ask the upstream together. Who sees something new waits its turn before it asks for
the import, and asks only if nobody else has: the turns follow from the node and the digest, so they
change from one image to the next. Nothing but a quorum of equal sightings moves a tag in the log.

A look that fails is tried again later and later. An import that fails is asked for again later and
later, too; beyond three times a day the ledger refuses (``ATTEMPTS_MAX``), and another node's turn
comes. An entry that was withdrawn is not imported again as long as the tag stays what it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.follow_records import FollowRecord, FollowRecords
from pyrsia_node.builds.images import image_of, pinned_digest
from pyrsia_node.builds.records import ENDED, BuildRecord, printable
from pyrsia_node.builds.sponsor import Wanted
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import CorruptStateError, NotFoundError, PyrsiaError
from pyrsia_node.model.purl import Purl

_LOG = logging.getLogger("pyrsia.builds.follower")

LOOK_INTERVAL_S: Final = 5.0
"""How often it is looked what is due."""

BACKOFF_MS_MAX: Final = 6 * 3_600_000
"""Longest pause between looks at an upstream that does not answer, unless more was asked for."""

RETRY_MS: Final = 10 * 60_000
"""Pause before an import that failed is asked for again; doubles each time."""

DOUBLINGS_MAX: Final = 8
TURN_MS: Final = 15_000
"""What each node before this one has to ask for the import of something new."""

LOOKS_MAX: Final = 4
"""Upstreams that are asked at the same time."""

Ask = Callable[[Wanted, str], BuildRecord]
"""Records a wish of this node, or of the peer that is named, and has it carried out."""


class Follower:
    """Looks until cancelled, while this node is an authorized one."""

    def __init__(
        self,
        context: BuildContext,
        records: FollowRecords,
        *,
        ask: Ask,
        state_of: Callable[[str], str],
    ) -> None:
        """Follow what ``records`` hold, and ``ask`` for what is new.

        ``state_of`` tells the state of a build by its id; it raises NotFoundError.
        """
        self._context = context
        self._records = records
        self._ask = ask
        self._state_of = state_of
        self._limiter = trio.CapacityLimiter(LOOKS_MAX)
        self._wanted = trio.Event()

    def wake(self) -> None:
        """Say that there is something new to follow."""
        self._wanted.set()

    async def run(self) -> None:
        """Look at what is due, for ever."""
        while True:
            self._wanted = trio.Event()
            if self._context.is_member():
                await self.look()
            with trio.move_on_after(LOOK_INTERVAL_S):
                await self._wanted.wait()

    async def look(self) -> None:
        """Look at every tag that is due, once for all who follow it, and ask for what is new."""
        due: dict[str, list[FollowRecord]] = {}
        for record in self._records.all():
            if self._is_due(record):
                due.setdefault(record.purl, []).append(record)
        async with trio.open_nursery() as nursery:
            for purl, records in due.items():
                nursery.start_soon(self._look_at, Purl.parse(purl), records)
        for record in self._records.all():
            self._ask_if_new(record)

    def _is_due(self, record: FollowRecord) -> bool:
        now_ms, every_ms = self._context.clock.now_ms(), record.every_s * 1000
        if record.failures:
            waits = every_ms << min(record.failures, DOUBLINGS_MAX)
            return now_ms >= record.looked_ms + max(every_ms, min(waits, BACKOFF_MS_MAX))
        if not record.looked_ms or now_ms < record.looked_ms:
            return True  # never looked, or the clock was put back
        # Every node has its own place in the pause, the same each time.
        place = _share(self._context.identity.me, record.purl) * every_ms // 256
        return (now_ms - place) // every_ms > (record.looked_ms - place) // every_ms

    async def _look_at(self, purl: Purl, records: list[FollowRecord]) -> None:
        name, tag, _ = image_of(purl)
        assert tag is not None
        now_ms = self._context.clock.now_ms()
        try:
            async with self._limiter:
                found = await self._context.mirror.look(str(name), tag)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.info("look at %s: %s", purl, error)
            for record in self._current(records):
                problem = printable(str(error), 2000)
                failures = min(record.failures + 1, DOUBLINGS_MAX)
                self._records.save(
                    replace(record, looked_ms=now_ms, failures=failures, problem=problem)
                )
            return
        for record in self._current(records):
            self._records.save(
                replace(
                    record,
                    looked_ms=now_ms,
                    failures=0,
                    problem="",
                    seen=found.digest,
                    seen_ms=now_ms if record.seen != found.digest else record.seen_ms,
                )
            )

    def _current(self, records: list[FollowRecord]) -> list[FollowRecord]:
        """Return the records as they are now: the wish may have changed or ended meanwhile."""
        found = (self._records.get(each.by, each.purl) for each in records)
        return [each for each in found if each is not None]

    def _ask_if_new(self, record: FollowRecord) -> None:
        purl = Purl.parse(record.purl)
        if not record.seen or self._is_known(purl, record.seen):
            return
        now_ms = self._context.clock.now_ms()
        if record.asked == record.seen:
            # Asked for already, and it came to nothing so far.
            pause_ms = RETRY_MS << min(record.asks - 1, DOUBLINGS_MAX)
            if now_ms < record.asked_ms + pause_ms or self._is_under_way(record):
                return
        elif now_ms < record.seen_ms + self._turn(record) * TURN_MS:
            return
        wanted = Wanted(purl, "", _platforms(record), record.seen)
        try:
            build = self._ask(wanted, record.by)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            self._records.save(replace(record, problem=printable(str(error), 2000)))
            return
        asks = record.asks + 1 if record.asked == record.seen else 1
        _LOG.info("%s is %s now: asked for its import", purl, record.seen)
        self._records.save(
            replace(record, asked=record.seen, asked_ms=now_ms, asks=asks, build_id=build.build_id)
        )

    def _is_known(self, purl: Purl, digest: str) -> bool:
        """Tell whether the log says that the tag is this digest, or is asked about it now."""
        newest = self._context.newest_image(purl)
        if newest is not None and newest.digest == digest:
            return True
        return any(
            view.request.purl == purl and str(pinned_digest(view.request.source)) == digest
            for view in self._context.chain.open_requests()
        )

    def _is_under_way(self, record: FollowRecord) -> bool:
        try:
            return self._state_of(record.build_id) not in ENDED
        except NotFoundError:
            return False

    def _turn(self, record: FollowRecord) -> int:
        """Return how many members ask before this one, by an order that each digest shuffles."""
        members = [each.id for each in self._context.chain.tip.members.members]
        order = sorted(members, key=lambda each: sha256_of(f"{each} {record.seen}".encode()))
        me = self._context.identity.me
        return order.index(me) if me in order else len(order)


def _share(me: str, purl: str) -> int:
    """Return where in a pause a node looks at a tag: 0 to 255, in 256ths of it."""
    return int(sha256_of(f"{me} {purl}".encode())[:2], 16)


def _platforms(record: FollowRecord) -> tuple[str, ...]:
    return tuple(record.platforms.split(",")) if record.platforms else ()
