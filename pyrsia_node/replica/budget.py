"""How much work one member may make us do: signature checks, answers, bytes, time.

Consensus messages of a member may cost 200 signature checks a second, and 200 more for every height
that is committed: a fast chain is no attack. What a member spends is what its frames really cost,
counted in the verifier; the last frame may overdraw, and is paid back before the next is read.
What has no such unit (a transaction may be one signature or six, and a hundred items) is paid for
in seconds of this thread. Pure but for that one clock, which callers may replace: they pass the
time of day. Why: docs/design/consensus.md 7.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from consensus.ed25519 import Verify
from consensus.quorum import faults
from consensus.types import NodeId

CHECKS_PER_S: Final = 200.0

MEMBER_SHARE_MAX: Final = 0.25
"""Most of this thread that the transactions and cosignatures of one member may take."""

TRAITORS_SHARE_MAX: Final = 0.5
"""Most of this thread that those of as many members may take as can be traitors."""

SHARE_BURST_S: Final = 2.0
"""Seconds whose share a member may save up."""


class Budget:
    """Units for each member: ``per_s`` are earned each second, at most ``burst`` are kept."""

    def __init__(self, *, per_s: float, burst: float) -> None:
        """Start everybody with ``burst``. Keys are members, so there are few."""
        self._per_s = per_s
        self._burst = burst
        self._left: dict[NodeId, tuple[float, float]] = {}

    def left(self, member: NodeId, now_s: float) -> float:
        """Return what ``member`` may spend now; zero or less is nothing."""
        left, at = self._left.get(member, (self._burst, now_s))
        return min(self._burst, left + (now_s - at) * self._per_s)

    def spend(self, member: NodeId, amount: float, now_s: float) -> None:
        """Take ``amount`` in any case; what is missing is owed."""
        self._left[member] = (self.left(member, now_s) - amount, now_s)

    def take(self, member: NodeId, now_s: float) -> bool:
        """Take one unit if there is one; say whether there was."""
        if self.left(member, now_s) < 1:
            return False
        self.spend(member, 1, now_s)
        return True

    def renew(self) -> None:
        """Give everybody the whole burst again."""
        self._left.clear()


class TimeBudget:
    """Seconds of this thread for each member, so that all traitors together cannot fill it.

    ``clock`` counts the seconds that this thread has worked; what it waits for is not charged.
    """

    def __init__(self, n: int, *, clock: Callable[[], float] = time.thread_time) -> None:
        """Share among ``n`` members."""
        self._clock = clock
        self._budget = _shares(n)

    def resize(self, n: int) -> None:
        """Share among ``n`` members from now on; nobody owes anything."""
        self._budget = _shares(n)

    def is_spent(self, member: NodeId, now_s: float) -> bool:
        """Say whether a member has had its share for now."""
        return self._budget.left(member, now_s) <= 0

    @contextmanager
    def charged(self, member: NodeId, now_s: float) -> Iterator[None]:
        """Charge what is done inside to a member, whatever becomes of it."""
        started = self._clock()
        try:
            yield
        finally:
            self._budget.spend(member, self._clock() - started, now_s)


def _shares(n: int) -> Budget:
    share = min(MEMBER_SHARE_MAX, TRAITORS_SHARE_MAX / max(1, faults(n)))
    return Budget(per_s=share, burst=share * SHARE_BURST_S)


class CheckCounter:
    """Counts calls of a verifier, so that the driver knows what a frame has cost."""

    def __init__(self, verify: Verify) -> None:
        """Count for ``verify``."""
        self._verify = verify
        self.count = 0

    def __call__(self, key: bytes, message: bytes, signature: bytes, /) -> bool:
        """Verify and count."""
        self.count += 1
        return self._verify(key, message, signature)

    def charge(self, checks: int) -> None:
        """Count work that is none of the verifier's, as so many checks."""
        self.count += checks


class SeldomLog:
    """Passes on one line a second for each member; a hostile one cannot fill the disk with them."""

    def __init__(self, write: Callable[[NodeId, str, int], None]) -> None:
        """Call ``write`` with member, text and how many lines were left out before it."""
        self._write = write
        self._budget = Budget(per_s=1.0, burst=5.0)
        self._left_out: dict[NodeId, int] = {}

    def line(self, member: NodeId, text: str, now_s: float) -> None:
        """Write the line, or count it."""
        if self._budget.take(member, now_s):
            self._write(member, text, self._left_out.pop(member, 0))
        else:
            self._left_out[member] = self._left_out.get(member, 0) + 1
