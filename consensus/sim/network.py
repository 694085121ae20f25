"""A seeded network: delay, loss, duplication, reordering and partitions until it settles.

Before the global stabilisation time (GST) anything may happen to a frame: it is lost, arrives
twice, late, or out of order, and links are cut in one or both directions, steadily or flapping.
From then on every frame arrives once, within ``SETTLED_US_MAX``. That is partial synchrony as the
protocol assumes it (CONSENSUS.md 3.1). Frames are opaque bytes; only how they begin, with the kind
of message and vote, may be used to jam some kinds and let others pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from consensus.sim.clock import Clock
from consensus.types import NodeId

Deliver = Callable[[NodeId, NodeId, bytes], None]
"""Called as ``deliver(source, target, frame)`` when a frame arrives."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How frames fare before the network settles. Probabilities are in per mille."""

    delay_us_min: int
    delay_us_mean: int
    loss: int
    duplicate: int
    straggle: int
    """Share of frames that take up to ``straggle_us_max`` instead."""
    straggle_us_max: int
    jammed: tuple[bytes, ...] = ()
    """How frames begin that never arrive before the network settles."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition: the directed ``links`` carry nothing from ``start_us`` to ``end_us``.

    With ``period_us`` above zero the cut flaps: it holds in every other period. It may hold only
    frames that begin in one of the ways ``jammed``, and ``is_delay`` lets them arrive at its end
    instead of never.
    """

    start_us: int
    end_us: int
    links: frozenset[tuple[NodeId, NodeId]]
    period_us: int = 0
    jammed: tuple[bytes, ...] = (b"",)
    is_delay: bool = False

    def holds(self, source: NodeId, target: NodeId, frame: bytes, now_us: int) -> bool:
        """Return whether a frame sent now on this link is held by this cut."""
        if not frame.startswith(self.jammed):
            return False
        if not self.start_us <= now_us < self.end_us or (source, target) not in self.links:
            return False
        return not self.period_us or ((now_us - self.start_us) // self.period_us) % 2 == 0


class Network:
    """Carries frames between nodes in virtual time."""

    __slots__ = ("_clock", "_cuts", "_deliver", "_random", "_weather", "frames", "gst_us", "lost")

    SETTLED_US_MIN = 500
    SETTLED_US_MAX = 60_000

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        deliver: Deliver,
        *,
        weather: Weather,
        cuts: tuple[Cut, ...],
        gst_us: int,
    ) -> None:
        self._clock = clock
        self._random = chance
        self._deliver = deliver
        self._weather = weather
        self._cuts = cuts
        self.gst_us = gst_us
        self.frames = 0
        self.lost = 0

    @property
    def settled(self) -> bool:
        """Whether the network has stabilised for good."""
        return self._clock.now_us >= self.gst_us

    def send(self, source: NodeId, target: NodeId, frame: bytes) -> None:
        """Put one frame on its way; whether and when it arrives is the seed's decision."""
        assert source != target
        self.frames += 1
        now_us = self._clock.now_us
        if now_us >= self.gst_us:
            delay_us = self._random.randint(self.SETTLED_US_MIN, self.SETTLED_US_MAX)
            self._clock.after(delay_us, partial(self._deliver, source, target, frame))
            return
        hold = next((one for one in self._cuts if one.holds(source, target, frame, now_us)), None)
        if self._is_lost(frame) or (hold is not None and not hold.is_delay):
            self.lost += 1
            return
        held_us = 0 if hold is None else hold.end_us - now_us
        copies = 2 if self._random.randrange(1000) < self._weather.duplicate else 1
        for _ in range(copies):
            delay_us = held_us + self._delay_us()
            self._clock.after(delay_us, partial(self._deliver, source, target, frame))

    def _is_lost(self, frame: bytes) -> bool:
        if self._random.randrange(1000) < self._weather.loss:
            return True
        return frame.startswith(self._weather.jammed)

    def _delay_us(self) -> int:
        weather = self._weather
        if self._random.randrange(1000) < weather.straggle:
            return self._random.randint(weather.delay_us_min, weather.straggle_us_max)
        return weather.delay_us_min + int(self._random.expovariate(1.0) * weather.delay_us_mean)
