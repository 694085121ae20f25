"""The gateway's real clock; the core has its own, because the two processes share no code."""

from __future__ import annotations

import time


class SystemClock:
    """Unix time and a monotonic counter of the machine."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return time.perf_counter()
