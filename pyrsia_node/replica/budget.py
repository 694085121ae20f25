"""How much work one member may make us do: signature checks, answers, bytes.

Consensus messages of a member may cost 200 signature checks a second, and 200 more for every height
that is committed: a fast chain is no attack. What a member spends is what its frames really cost,
counted in the verifier; the last frame may overdraw, and is paid back before the next is read.
Pure: callers pass the time in seconds. Why: docs/design/consensus.md 7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consensus.ed25519 import Verify
from consensus.types import NodeId

CHECKS_PER_S: Final = 200.0


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
