"""A height that others wait on: who follows the chain sleeps until it grows."""

from __future__ import annotations

import trio


class HeightWatch:
    """The newest committed height, and a way to wait for a newer one."""

    def __init__(self, height: int) -> None:
        """Start at ``height``, the tip found at boot."""
        self._height = height
        self._grown = trio.Event()

    @property
    def height(self) -> int:
        """The newest committed height."""
        return self._height

    def advance(self, height: int) -> None:
        """Say that ``height`` is committed and durable; wakes all who wait."""
        assert height > self._height, "heights only grow"
        self._height = height
        self._grown.set()
        self._grown = trio.Event()

    async def beyond(self, height: int) -> int:
        """Wait until the committed height exceeds ``height``; return it."""
        while self._height <= height:
            await self._grown.wait()
        return self._height
