"""What must happen at last: after the network settles, every honest node commits all work.

The deadline is simulated time after GST. It is a sum, not a guess: the views that may still fail
times the longest patience, the resends that repair what was lost before, and the heights that the
pending work needs. A run that misses it is a stall, and as serious as a fork.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from consensus.sim.clock import SECOND
from consensus.sim.machine import BUSY_US_MAX
from consensus.types import NodeId

VIEW_US_MAX: Final = 60 * SECOND
"""The longest patience with one leader (CONSENSUS.md 3.4)."""

RETRY_US_MAX: Final = 36 * SECOND
"""The longest pause between resends: three times the longest Delta, and its jitter."""


HEIGHTS_US: Final = 120 * SECOND
"""For the heights that are left: nine at most, each with short views that traitors may lose."""


def deadline_us(traitors: int) -> int:
    """Return how long after GST the pending work may take.

    What a node began to build or to judge while it was slow, just before GST, is over after
    ``BUSY_US_MAX``. Two rounds of resends bring everybody into one view; then at most ``traitors``
    views fail in a row before an honest leader's succeeds: building a full block, judging it and
    four messages take less than the shortest patience. Patience starts again from the short end
    at each height, so only the first height can cost the longest views.
    """
    return BUSY_US_MAX + 2 * RETRY_US_MAX + (traitors + 2) * VIEW_US_MAX + HEIGHTS_US


@dataclass(slots=True)
class Work:
    """Transactions that clients wait for, and which honest nodes have not yet committed them."""

    honest: tuple[NodeId, ...]
    waiting: dict[bytes, set[NodeId]] = field(default_factory=dict)
    acknowledged: set[bytes] = field(default_factory=set)

    def submit(self, transaction: bytes) -> None:
        """Note a transaction that some client wants; asking twice changes nothing."""
        if transaction not in self.acknowledged:
            self.waiting.setdefault(transaction, set(self.honest))

    def commit(self, node: NodeId, transactions: tuple[bytes, ...]) -> None:
        """Note that ``node`` has committed ``transactions``: from now on they may not vanish."""
        for transaction in transactions:
            self.acknowledged.add(transaction)
            nodes = self.waiting.get(transaction)
            if nodes is not None:
                nodes.discard(node)
                if not nodes:
                    del self.waiting[transaction]

    @property
    def is_done(self) -> bool:
        """Whether every honest node has committed everything that was asked for."""
        return not self.waiting

    def story(self) -> str:
        """Describe what is missing, for the report of a stall."""
        lacking = sorted({node for nodes in self.waiting.values() for node in nodes})
        return f"{len(self.waiting)} transactions wait, not committed by {', '.join(lacking)}"
