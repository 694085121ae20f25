"""Virtual time: a queue of what happens next, and the wrong clocks that nodes read.

Nothing here knows what an action does. Time moves only when an action is taken from the queue,
so a minute of simulated silence costs nothing. Actions of one instant run in the order in which
they were asked for, which makes a run a pure function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

Action = Callable[[], None]

MILLISECOND: Final = 1_000  # microseconds
SECOND: Final = 1_000_000  # microseconds


class Clock:
    """True time of a simulated world, in microseconds from its start."""

    __slots__ = ("_asked", "_queue", "events", "now_us")

    def __init__(self) -> None:
        self.now_us = 0
        self.events = 0
        self._asked = 0
        self._queue: list[tuple[int, int, Action]] = []

    def at(self, time_us: int, action: Action) -> None:
        """Run ``action`` when time has come to ``time_us`` (at once if that has passed)."""
        self._asked += 1
        heapq.heappush(self._queue, (max(time_us, self.now_us), self._asked, action))

    def after(self, delay_us: int, action: Action) -> None:
        """Run ``action`` in ``delay_us`` microseconds."""
        self.at(self.now_us + delay_us, action)

    def advance(self) -> bool:
        """Move to the next action and run it; return False when nothing is left to happen."""
        if not self._queue:
            return False
        self.now_us, _, action = heapq.heappop(self._queue)
        self.events += 1
        action()
        return True


class NodeClock:
    """What one node takes for the time: an offset, and a rate at which its timers run.

    The offset moves the wall clock that stamps and judges blocks; the rate stretches timers. No
    rule of the protocol may need either to be right before the network has settled.
    """

    __slots__ = ("_true", "offset_ms", "timer_permille")

    _EPOCH_MS: Final = 1_700_000_000_000

    def __init__(self, true: Clock, *, offset_ms: int, timer_permille: int) -> None:
        self._true = true
        self.offset_ms = offset_ms
        self.timer_permille = timer_permille

    def wall_ms(self) -> int:
        """Return the node's idea of the time of day, in milliseconds."""
        return self._EPOCH_MS + self._true.now_us // MILLISECOND + self.offset_ms

    def timer_us(self, delay_ms: int) -> int:
        """Return how long a timer of ``delay_ms`` really takes on this node, in microseconds."""
        return delay_ms * self.timer_permille
