"""What tags mean at their upstreams: asked with HEAD, believed for a while, used stale when down.

A tag that is known never keeps a client waiting for long: while it is fresh it is answered from
memory, towards the end of that time it is asked again in the background, after it an answer is
waited for briefly. However many ask, there is one request for a tag. What was seen survives a
restart. A tag's absence is believed for a short time only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.artifacts.images.registry_client import RemoteTag
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.ports import Clock
from pyrsia_node.ports.registry import RegistryDb, UpstreamTag

TAGS_MAX: Final = 10_000
HOSTS_MAX: Final = 1_000
WAIT_SECONDS_MAX: Final = 2.0
"""How long a client waits for news of a tag that is known already."""

AHEAD: Final = 0.75
"""From this part of its time on, a tag that is asked for is looked at again in the background."""

DOWN_SECONDS: Final = 10.0
"""After a failure nobody waits for the registry again for this long, if a tag is known."""

ABSENT_SECONDS_MAX: Final = 30.0
Look = Callable[[ImageName, str], Awaitable[RemoteTag]]
_Key = tuple[ImageName, str]
_log: Final = logging.getLogger("pyrsia.artifacts.images")


@dataclass(frozen=True, slots=True)
class KnownTag:
    """What a tag was when it was last seen; ``is_stale``: too long ago to be believed."""

    digest: OciDigest
    checked_ms: int
    is_stale: bool = False


class Absences:
    """What upstreams were asked for in vain lately."""

    def __init__(self, seconds: float) -> None:
        """Remember each absence for ``seconds``."""
        self._seconds = seconds
        self._until: OrderedDict[object, tuple[float, str]] = OrderedDict()

    def check(self, key: object) -> None:
        """Raise the NotFoundError again that was noted for the key, while it counts."""
        until, text = self._until.get(key, (0.0, ""))
        if until > asyncio.get_running_loop().time():
            raise NotFoundError(text)

    def note(self, key: object, error: NotFoundError) -> None:
        """Remember an absence."""
        until = asyncio.get_running_loop().time() + self._seconds
        self._until[key] = (until, str(error))
        self._until.move_to_end(key)
        if len(self._until) > TAGS_MAX:
            self._until.popitem(last=False)


class TagBook:
    """Tags of all upstreams."""

    def __init__(
        self,
        look: Look,
        db: RegistryDb,
        clock: Clock,
        *,
        fresh_seconds: int,
        is_offline: bool = False,
    ) -> None:
        """Keep a book.

        Args:
            look: Asks an upstream what a tag is.
            db: Where it is written down.
            clock: Unix time: what was seen before a restart has an age.
            fresh_seconds: How long a tag is believed without asking.
            is_offline: Never ask.
        """
        self._look = look
        self._db = db
        self._clock = clock
        self._fresh_ms = fresh_seconds * 1000
        self._is_offline = is_offline
        self._known: OrderedDict[_Key, KnownTag] = OrderedDict()
        self._absent = Absences(min(ABSENT_SECONDS_MAX, float(fresh_seconds)))
        self._asking: dict[_Key, asyncio.Task[KnownTag]] = {}
        self._down_until: dict[str, float] = {}

    async def resolve(self, name: ImageName, tag: str) -> KnownTag:
        """Return what a tag means.

        Raises:
            NotFoundError: The upstream says that there is none.
            UnavailableError: The tag is not known, and the upstream cannot be asked now.
            VerificationError: The upstream contradicts itself.
        """
        key = (name, tag)
        known = self._known.get(key) or await self._load(key)
        if known is not None:
            age_ms = self._clock.now_ms() - known.checked_ms
            # A clock that was set back says nothing about the tag's age.
            if 0 <= age_ms < self._fresh_ms:
                if age_ms > AHEAD * self._fresh_ms and not self._is_offline:
                    self._ask_once(key)
                return known
        if self._is_offline:
            if known is None:
                raise UnavailableError(f"{name}:{tag} is not here, and docker.offline is set")
            return replace(known, is_stale=True)
        return await self._news(key, known)

    def knows(self, name: ImageName) -> bool:
        """Tell whether any tag of a repository is in memory."""
        return any(key[0] == name for key in self._known)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ inside

    async def _news(self, key: _Key, known: KnownTag | None) -> KnownTag:
        """Ask the upstream; what is known is used if there is no answer soon."""
        self._absent.check(key)
        host = key[0].host
        now = asyncio.get_running_loop().time()
        if known is not None and self._down_until.get(host, 0.0) > now:
            return replace(known, is_stale=True)
        task = self._ask_once(key)
        if known is None:
            return await asyncio.shield(task)
        await asyncio.wait([task], timeout=WAIT_SECONDS_MAX)
        if not task.done():
            return replace(known, is_stale=True)
        try:
            return task.result()
        except UnavailableError:
            return replace(known, is_stale=True)

    def _ask_once(self, key: _Key) -> asyncio.Task[KnownTag]:
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        return task

    def _ended(self, key: _Key, task: asyncio.Task[KnownTag]) -> None:
        self._asking.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, PyrsiaError):
            _log.error("look at %s:%s failed", key[0], key[1], exc_info=error)

    async def _ask(self, key: _Key) -> KnownTag:
        name, tag = key
        loop = asyncio.get_running_loop()
        try:
            found = await self._look(name, tag)
        except NotFoundError as error:
            self._known.pop(key, None)
            self._absent.note(key, error)
            raise
        except (UnavailableError, VerificationError):
            self._down_until[name.host] = loop.time() + DOWN_SECONDS
            if len(self._down_until) > HOSTS_MAX:
                del self._down_until[next(iter(self._down_until))]
            raise
        self._down_until.pop(name.host, None)
        known = KnownTag(found.digest, self._clock.now_ms())
        self._remember(key, known)
        seen = UpstreamTag(
            host=name.host,
            repository=name.repository,
            tag=tag,
            digest=str(found.digest),
            media=found.media,
            size=found.size,
            checked_ms=known.checked_ms,
        )
        await asyncio.to_thread(self._db.note_upstream_tag, seen)
        return known

    async def _load(self, key: _Key) -> KnownTag | None:
        """Return what was written down before a restart."""
        name, tag = key
        row = await asyncio.to_thread(self._db.upstream_tag, name.host, name.repository, tag)
        if row is None:
            return None
        try:
            known = KnownTag(OciDigest.parse(row.digest), row.checked_ms)
        except InvalidInputError:
            return None
        self._remember(key, known)
        return known

    def _remember(self, key: _Key, known: KnownTag) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > TAGS_MAX:
            self._known.popitem(last=False)
