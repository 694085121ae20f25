"""How far what nodes derive lags behind what they have committed, while they work.

The lag is the age of the oldest committed leaf that the index, or the published head, lacks. Nodes
are looked at from outside, now and then; a leaf that is new at a look counts from the look before,
so the lag is told too high by up to the pause between two looks, and never too low.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.ledger.reader import IndexReader

LOOK_S: Final = 0.25
"""Pause between two looks. Each costs a node one question and its index one read."""

DERIVED_MAX_S: Final = 300.0
"""How long nodes may take, after a load, to derive what is left."""


@dataclass
class Lag:
    """The lag of one derived size behind one committed size."""

    worst_s: float = 0.0
    _size: int = -1
    _looked_s: float = 0.0
    _lacking: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, at_s: float, *, committed: int, derived: int) -> None:
        """Note both sizes, in leaves. Neither a size nor the time ever goes back."""
        if self._size < 0:
            self._looked_s = at_s
        if committed > self._size:
            self._lacking.append((self._looked_s, committed))
            self._size = committed
        # What has been derived since the last look may have been lacking until just now.
        if self._lacking:
            self.worst_s = max(self.worst_s, at_s - self._lacking[0][0])
        while self._lacking and self._lacking[0][1] <= derived:
            self._lacking.popleft()
        self._looked_s = at_s


class NodeLag:
    """What one node lacks: in its index, and under the head that it publishes."""

    def __init__(self, link: LinkClient, root: Path) -> None:
        """Ask the core by ``link``; read the index below the data directory ``root``."""
        self.index = Lag()
        self.published = Lag()
        self.size = 0
        self._link = link
        self._reader = IndexReader(root)

    async def look(self) -> bool:
        """Note the sizes; return whether all that is committed is derived and published."""
        status: dict[str, Any] = await self._link.call("status", {})
        indexed, published = self._reader.applied_size(), int(status["published_size"])
        self.size, at_s = int(status["size"]), time.perf_counter()
        self.index.look(at_s, committed=self.size, derived=indexed)
        self.published.look(at_s, committed=self.size, derived=published)
        return min(indexed, published) >= self.size

    def close(self) -> None:
        """Close the index."""
        self._reader.close()


async def watched(load: Callable[[], Awaitable[float]], nodes: Sequence[NodeLag]) -> float:
    """Look at ``nodes`` during ``load`` and until each has derived all that any has committed.

    Returns:
        What ``load`` returns.
    """
    returned: list[float] = []

    async def work() -> None:
        returned.append(await load())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        while not returned:
            await _all_derived(nodes)
            await trio.sleep(LOOK_S)
        with trio.fail_after(DERIVED_MAX_S):
            while not await _all_derived(nodes):
                await trio.sleep(LOOK_S)
    return returned[0]


async def _all_derived(nodes: Sequence[NodeLag]) -> bool:
    derived = [await node.look() for node in nodes]
    return all(derived) and len({node.size for node in nodes}) == 1
