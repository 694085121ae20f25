"""A lock for each key, which is there only while somebody holds it or waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator


class KeyedLocks:
    """Lets one task at a time work on a key; their number is that of the keys in use."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Wait for whoever works on ``key``, and work on it; who waits longest comes first."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        # Counted, because a lock that was released a moment ago does not tell of those who wait.
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
