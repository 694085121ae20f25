"""A bandwidth cap shared by all uploads of a node."""

from __future__ import annotations

import asyncio


class Pacer:
    """Delays senders so that together they stay under a rate; bursts of a quarter second pass.

    Senders are served in the order of their calls. A token bucket that may go into debt: who
    overdraws it sleeps until it is paid back.
    """

    def __init__(self, bytes_per_s: int) -> None:
        """Make a pacer; 0 means no limit."""
        self._rate = bytes_per_s
        self._paid_until = 0.0

    @property
    def is_unlimited(self) -> bool:
        """Whether no limit is set."""
        return not self._rate

    async def spend(self, count: int) -> None:
        """Account for ``count`` bytes that are about to be sent; may sleep."""
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        self._paid_until = max(self._paid_until, now - 0.25) + count / self._rate
        if self._paid_until > now:
            await asyncio.sleep(self._paid_until - now)
