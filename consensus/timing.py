"""Time-outs of views and retries, in whole milliseconds, without a clock and without randomness.

Delta estimates one message delay with room to spare; T0 = 3 Delta is the patience with a leader of
view 0, and every failed view makes the next one longer (CONSENSUS 3.4). Jitter is a hash of who
asks and where, so that nodes do not retry in step and a run still repeats exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from consensus.types import Height, NodeId, View

_EWMA_WEIGHT: Final = 8
"""A new measurement moves the mean by an eighth of its distance."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Bounds of the time-outs, in milliseconds."""

    delta_start_ms: int = 1_000
    delta_min_ms: int = 300
    delta_max_ms: int = 10_000
    view_max_ms: int = 60_000

    def __post_init__(self) -> None:
        """Assert the order that clamping rests on."""
        assert 0 < self.delta_min_ms <= self.delta_start_ms <= self.delta_max_ms
        assert 3 * self.delta_min_ms <= self.view_max_ms


class Pace:
    """The time-outs of one replica, adapting to how long deciding views take."""

    __slots__ = ("_elapsed_scaled", "_me", "_timing")

    def __init__(self, me: NodeId, timing: Timing) -> None:
        """Start at ``timing.delta_start_ms``; ``me`` seeds the jitter."""
        self._me = me
        self._timing = timing
        # Delta is four times the mean, so the mean starts at a quarter; kept scaled by the weight
        # so that integer division does not swallow small steps.
        self._elapsed_scaled = timing.delta_start_ms * _EWMA_WEIGHT // 4

    @property
    def delta_ms(self) -> int:
        """Clamp four times the mean time of a deciding view."""
        delta = 4 * self._elapsed_scaled // _EWMA_WEIGHT
        return max(self._timing.delta_min_ms, min(delta, self._timing.delta_max_ms))

    def measured(self, elapsed_ms: int) -> None:
        """Take in how long a deciding view took from proposal to commit.

        Only deciding views count: were failed views measured, one dead leader would lengthen the
        time-out that its own death costs, and so on without end.
        """
        elapsed = max(0, min(elapsed_ms, self._timing.delta_max_ms))
        self._elapsed_scaled += elapsed - self._elapsed_scaled // _EWMA_WEIGHT

    def view_ms(self, view: View) -> int:
        """Return T_view: T0 times 1.5 to the power of ``view``, at most ``view_max_ms``."""
        # 1.5 ** 32 exceeds every bound; the cap keeps the integers small.
        power = min(view, 32)
        stretched = 3 * self.delta_ms * int(3**power) >> power
        return min(stretched, self._timing.view_max_ms)

    def retry_ms(self, height: Height, view: View, attempt: int) -> int:
        """Return T_retry: T0 give or take a fifth."""
        seed = f"{self._me}/{height}/{view}/{attempt}".encode()
        draw = int.from_bytes(hashlib.blake2b(seed, digest_size=4).digest())
        base = 3 * self.delta_ms
        return base * 4 // 5 + draw % (base * 2 // 5 + 1)
