"""A pull of an image that nobody knows asks the authorized nodes to import it.

Off unless the operator wants it (``docker.request_on_miss``): whoever can reach the node then
makes the network work. So there is a limit in all, an image is asked for once while that is under
way, and the client is told at once; it never waits for an import.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final

from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.model.oci import ImageName, is_digest

HOUR_SECONDS: Final = 3600.0
REMEMBERED_SECONDS: Final = 600.0
"""How long an image that was asked for is not asked for again."""

REMEMBERED_MAX: Final = 1000
Ask = Callable[[ImageName, str], Awaitable[None]]
"""Asks the core for the import of a tag or digest."""

_log: Final = logging.getLogger("pyrsia.artifacts.images")


class ImportRequests:
    """Turns misses into wishes, within a limit."""

    def __init__(self, ask: Ask, *, per_hour: int) -> None:
        """Ask through ``ask`` at most ``per_hour`` times; make it inside an event loop."""
        self._ask = ask
        self._per_hour = per_hour
        self._loop = asyncio.get_running_loop()
        self._times: deque[float] = deque()
        self._asked: OrderedDict[tuple[ImageName, str], float] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def ask(self, name: ImageName, reference: str) -> str:
        """Ask for an import in the background; return the sentence that tells the client."""
        now = self._loop.time()
        image = f"{name}@{reference}" if is_digest(reference) else f"{name}:{reference}"
        asked = self._asked.get((name, reference))
        if asked is not None and now - asked < REMEMBERED_SECONDS:
            return f"an import of {image} was asked for {now - asked:.0f} s ago; try again later"
        while self._times and now - self._times[0] >= HOUR_SECONDS:
            self._times.popleft()
        if len(self._times) >= self._per_hour:
            wait = HOUR_SECONDS - (now - self._times[0])
            return (
                f"pulls asked for {self._per_hour} imports within an hour, which is the limit of "
                f"this node; try again in {wait:.0f} s"
            )
        self._times.append(now)
        self._asked[name, reference] = now
        self._asked.move_to_end((name, reference))
        if len(self._asked) > REMEMBERED_MAX:
            self._asked.popitem(last=False)
        task = asyncio.create_task(self._request(name, reference))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return f"the authorized nodes were asked to import {image}; try again later"

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _request(self, name: ImageName, reference: str) -> None:
        try:
            await self._ask(name, reference)
        except PyrsiaError as error:
            _log.warning("import of %s %s cannot be asked for: %s", name, reference, error)
            # The next pull may try again, but it counts: a failing core is not asked for ever.
            self._asked.pop((name, reference), None)
