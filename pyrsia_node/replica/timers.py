"""Timers of the consensus core: one deadline a kind, handed out in order of time.

A later ``SetTimer`` of one kind replaces the earlier one, so there is one deadline a kind. The
core drops stale (height, view) by itself; nothing is cancelled here.
"""

from __future__ import annotations

import math

import trio

from consensus.effects import SetTimer
from consensus.events import TimerFired, TimerKind


class Timers:
    """Turns ``SetTimer`` into ``TimerFired`` after its delay."""

    def __init__(self) -> None:
        """Start with no deadline."""
        self._deadlines: dict[TimerKind, tuple[float, SetTimer]] = {}
        self._changed = trio.Event()

    def set(self, effect: SetTimer) -> None:
        """Arm ``effect``'s kind anew."""
        deadline = trio.current_time() + effect.delay_ms / 1000
        self._deadlines[effect.kind] = (deadline, effect)
        self._changed.set()

    async def next(self) -> TimerFired:
        """Wait for the earliest deadline, forget it and return its event."""
        while True:
            if self._changed.is_set():
                self._changed = trio.Event()
            deadline = min((entry[0] for entry in self._deadlines.values()), default=math.inf)
            with trio.move_on_at(deadline):
                await self._changed.wait()
            for kind, (due, effect) in list(self._deadlines.items()):
                if due <= trio.current_time():
                    del self._deadlines[kind]
                    return TimerFired(effect.kind, effect.height, effect.view)
