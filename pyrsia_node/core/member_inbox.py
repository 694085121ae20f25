"""What members send beside consensus: transactions and cosignatures, within their senders' shares.

A transaction costs what its kind costs, from one signature check to six, and what its items cost;
so a member is charged the time that its frames took, and what comes when its share is used up is
dropped unread. A correct member that has more to say says it again. Consensus frames are the
driver's, which has a budget of its own for them. Why: docs/design/consensus.md 7.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from consensus.types import NodeId
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.replica.budget import TimeBudget
from pyrsia_node.replica.frames import FrameKind
from pyrsia_node.replica.pending import PendingTransactions

_LOG = logging.getLogger("pyrsia.core.member_inbox")


class MemberInbox:
    """Takes transactions and cosignatures of members.

    Attributes:
        on_cosignature: Called with the payload of each cosignature frame.
        dropped: Frames that came when their sender's share was used up.
    """

    def __init__(
        self,
        pending: PendingTransactions,
        *,
        n: int,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Hand transactions of ``n`` members to ``pending``; ``clock`` as in ``TimeBudget``."""
        self._pending = pending
        self._time = TimeBudget(n, clock=clock)
        self.on_cosignature: Callable[[bytes], None] = lambda _payload: None
        self.dropped = 0

    def resize(self, n: int) -> None:
        """Share among ``n`` members from now on."""
        self._time.resize(n)

    def take(self, member: NodeId, kind: FrameKind, payload: bytes, now_s: float) -> None:
        """Take a transaction or a cosignature of a member, unless it has had its share.

        Raises:
            PyrsiaError: A cosignature does not hold.
        """
        if self._time.is_spent(member, now_s):
            self.dropped += 1
            return
        with self._time.charged(member, now_s):
            if kind is not FrameKind.TRANSACTION:
                self.on_cosignature(payload)
                return
            try:
                self._pending.receive(payload)
            except (InvalidInputError, UnavailableError) as error:
                # Ordinary: the sender had not yet seen the block that holds it, or its author has
                # no room left here. It must not hide those that come behind it in one answer.
                _LOG.debug("transaction from %s is not wanted: %s", member, error)
