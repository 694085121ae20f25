"""What members send beside consensus: transactions and cosignatures, within their senders' shares.

A transaction costs what its kind costs, from one signature check to six, and what its items cost;
so a member is charged the time that its frames took, and what comes when its share is used up is
dropped unread. A correct member that has more to say says it again. Consensus frames are the
driver's, which has a budget of its own for them. Why: docs/design/consensus.md 7.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import trio

from consensus.types import NodeId
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.replica.budget import TimeBudget
from pyrsia_node.replica.frames import FrameKind
from pyrsia_node.replica.pending import PendingTransactions

_LOG = logging.getLogger("pyrsia.core.member_inbox")

NO_ROOM_MAX: Final = 64
"""Transactions of one answer that may be checked though there is no room for them."""


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

    async def take_pulled(self, member: NodeId, transactions: Sequence[bytes]) -> None:
        """Take what a member answered to a pull, in order; give way after each.

        A transaction whose author has no room left here hides none of those behind it, but many
        such ones would be checked in vain at each pull. Answers go by authors in turn, so what
        comes before the 64th has several of every author.
        """
        refused = 0
        for transaction in transactions:
            await trio.lowlevel.checkpoint()
            refused += not self.take(
                member, FrameKind.TRANSACTION, transaction, trio.current_time()
            )
            if refused == NO_ROOM_MAX:
                return

    def take(self, member: NodeId, kind: FrameKind, payload: bytes, now_s: float) -> bool:
        """Take a transaction or a cosignature of a member, unless it has had its share.

        Returns:
            False where a good transaction finds no room left here.

        Raises:
            PyrsiaError: A cosignature does not hold.
        """
        if self._time.is_spent(member, now_s):
            self.dropped += 1
            return True
        with self._time.charged(member, now_s):
            if kind is not FrameKind.TRANSACTION:
                self.on_cosignature(payload)
                return True
            try:
                self._pending.receive(payload)
            except InvalidInputError as error:
                # Ordinary: the sender had not yet seen the block that holds it.
                _LOG.debug("transaction from %s is not wanted: %s", member, error)
            except UnavailableError as error:
                _LOG.debug("transaction from %s finds no room: %s", member, error)
                return False
        return True
