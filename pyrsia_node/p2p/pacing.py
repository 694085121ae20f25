"""Token buckets and retry delays. Pure: the caller passes the time and the randomness.

A bucket bounds how often one peer may make us work; a back-off bounds how often we knock at a
door that stays shut. Neither sleeps.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_PEERS_MAX: Final = 4096


class TokenBucket:
    """Allows ``rate_per_s`` events on average and ``burst`` at once."""

    def __init__(self, *, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at = now_s

    def take(self, amount: float, now_s: float) -> bool:
        """Take ``amount`` tokens if they are there; say whether they were."""
        self._refill(now_s)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now_s: float) -> float:
        """Take ``amount`` tokens in any case; return the seconds to wait until they are earned."""
        self._refill(now_s)
        self._tokens -= amount
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, now_s: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now_s - self._at) * self._rate)
        self._at = now_s


class PeerBuckets:
    """One bucket per peer, the least recently used forgotten first."""

    def __init__(self, *, rate_per_s: float, burst: float, peers_max: int = _PEERS_MAX) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._peers_max = peers_max
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, peer: str, now_s: float) -> bool:
        """Take one token of the peer's bucket; say whether there was one."""
        bucket = self._buckets.pop(peer, None)
        if bucket is None:
            bucket = TokenBucket(rate_per_s=self._rate, burst=self._burst, now_s=now_s)
            if len(self._buckets) >= self._peers_max:
                self._buckets.popitem(last=False)
        self._buckets[peer] = bucket
        return bucket.take(1, now_s)


def backoff_s(failures: int, *, first_s: float, last_s: float, chance: float) -> float:
    """Return the delay after the n-th failure in a row: doubling, capped, with jitter.

    Args:
        failures: How many attempts have failed, at least 1.
        first_s: Upper bound of the first delay.
        last_s: Upper bound of every delay.
        chance: Uniform in [0, 1); spreads nodes that failed together over half to the whole of
            the bound, so that they do not come back together.
    """
    bound = min(last_s, first_s * 2.0 ** min(failures - 1, 32))
    return bound * (0.5 + chance / 2)
