"""Transactions that wait to be committed: this node's own durably, everybody's in the mempool.

Own transactions are written under ``pending/`` before anybody hears of them and repeated until a
block holds them or the ledger says that they can never be valid; so a node that was killed after
saying "submitted" submits again by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.ports import Clock, KeyValueStore

_LOG = logging.getLogger("pyrsia.replica.pending")

_PREFIX: Final = b"pending/"


class PendingTransactions:
    """Admits transactions and forgets those that were committed or lapsed.

    ``push`` sends a transaction to the members; ``work`` is called when there is something new.
    """

    def __init__(
        self,
        *,
        store: KeyValueStore,
        chain: Chain,
        mempool: Mempool,
        clock: Clock,
        push: Callable[[bytes], None],
    ) -> None:
        """Read back what an earlier run left waiting."""
        self._store = store
        self._chain = chain
        self._mempool = mempool
        self._clock = clock
        self._push = push
        self.work: Callable[[], None] = lambda: None
        self._own: dict[str, bytes] = {
            key.removeprefix(_PREFIX).decode(): value for key, value in store.scan(_PREFIX)
        }
        self._readmit()

    async def submit(self, transaction: bytes) -> None:
        """Take a transaction of this node: durable on return, repeated until committed.

        Raises:
            InvalidInputError: it is not valid; the text names the rule.
            UnavailableError: the mempool is full.
        """
        info = self._chain.check_transaction(transaction, self._clock.now_ms())
        self._mempool.add(info, transaction)
        self._store.write([(_PREFIX + info.id.encode(), transaction)], sync=True)
        self._own[info.id] = transaction
        self._push(transaction)
        self.work()

    def receive(self, transaction: bytes) -> None:
        """Take a transaction that another member pushed.

        Raises:
            InvalidInputError: it is malformed, or not valid against the tip.
            UnavailableError: the mempool is full.
        """
        info = self._chain.check_transaction(transaction, self._clock.now_ms())
        if self._mempool.add(info, transaction):
            self.work()

    def is_pending(self, transaction_id: str) -> bool:
        """Return whether an own transaction still waits."""
        return transaction_id in self._own

    def committed(self, ids: Iterable[str]) -> None:
        """Forget what a block now holds, and own ones that became invalid by it."""
        settled = [each for each in ids if each in self._own]
        self._forget(settled)
        self._mempool.committed(list(ids))
        # What others sent may be invalid now, for instance a result that somebody else logged
        # first; it must not count as work, or views would time out on an idle network for ever.
        now_ms = self._clock.now_ms()
        self._mempool.review(lambda each: self._chain.check_transaction(each, now_ms))
        self._readmit()

    def repeat(self) -> None:
        """Push own transactions once more: a member may have been away."""
        for transaction in list(self._own.values()):
            self._push(transaction)

    def known(self) -> list[str]:
        """Return ids of the transactions in the mempool."""
        return self._mempool.ids()

    def others(self, known: frozenset[str], *, bytes_max: int) -> list[bytes]:
        """Return transactions that a peer who knows ``known`` lacks."""
        found: list[bytes] = []
        size = 0
        for transaction_id in self._mempool.ids():
            transaction = self._mempool.get(transaction_id)
            if transaction_id in known or transaction is None:
                continue
            size += len(transaction) + 4
            if size > bytes_max:
                break
            found.append(transaction)
        return found

    def _readmit(self) -> None:
        """Check own waiting transactions against the tip; drop those that can never be valid."""
        lapsed = []
        for transaction_id, transaction in self._own.items():
            try:
                info = self._chain.check_transaction(transaction, self._clock.now_ms())
            except InvalidInputError as error:
                _LOG.info("own transaction %s is dropped: %s", transaction_id, error)
                lapsed.append(transaction_id)
                continue
            self._mempool.add(info, transaction)
        self._forget(lapsed)

    def _forget(self, ids: list[str]) -> None:
        if ids:
            self._store.write([(_PREFIX + each.encode(), None) for each in ids], sync=False)
            for each in ids:
                del self._own[each]
