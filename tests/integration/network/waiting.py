"""Waiting for what other processes do: each wait has a deadline and says what never came."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_POLL_S: Final = 0.02


def until(is_so: Callable[[], bool], what: str, timeout_s: float = 30.0) -> float:
    """Wait until a condition holds; return the seconds that it took.

    Raises:
        AssertionError: it did not hold in time.
    """
    started_s = time.perf_counter()
    while not is_so():
        waited_s = time.perf_counter() - started_s
        assert waited_s < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(_POLL_S)
    return time.perf_counter() - started_s
