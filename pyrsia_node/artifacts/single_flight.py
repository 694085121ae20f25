"""What many ask for at once is done once, and all get the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

_T = TypeVar("_T")


class SingleFlight:
    """Runs by key; use it inside a running event loop."""

    def __init__(self) -> None:
        """Start with nothing under way."""
        self._running: dict[object, asyncio.Task[object]] = {}

    async def run(self, key: object, act: Callable[[], Awaitable[_T]]) -> _T:
        """Return what ``act`` gives, or what it gives to whoever asked for ``key`` before.

        It goes on when those who wait for it leave.
        """
        task = cast("asyncio.Task[_T] | None", self._running.get(key))
        if task is None:
            task = asyncio.ensure_future(_run(act))
            self._running[key] = cast("asyncio.Task[object]", task)
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: object, task: asyncio.Task[_T]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits has it; if nobody does, nobody misses it


async def _run(act: Callable[[], Awaitable[_T]]) -> _T:
    return await act()
