"""Transactions that wait to be committed: this node's own durably, everybody's in the mempool.

Own transactions are written under ``pending/`` before anybody hears of them and repeated until a
block holds them or the ledger says that they can never be valid; so a node that was killed after
saying "submitted" submits again by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports import Clock, KeyValueStore

_LOG = logging.getLogger("pyrsia.replica.pending")

REPEAT_BYTES_MAX: Final = 256 * 1024
"""Bytes of own transactions that one ``repeat`` pushes: more would crowd out votes."""

READMIT_MAX: Final = 16
"""Own transactions outside the mempool that one review checks anew."""

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
        self._readmit(len(self._own))

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

    def committed(self, ids: Sequence[str]) -> None:
        """Forget what a block now holds, and own ones that became invalid by it."""
        settled = [each for each in ids if each in self._own]
        self._forget(settled)
        self._mempool.committed(ids)
        self.review()

    def review(self) -> None:
        """Drop what can no longer be valid, after a block or because time has passed.

        What others sent may be invalid now, for instance a result that somebody else logged first,
        and what nobody ordered in time lapses. It must not count as work, or views would time out
        on an idle network for ever. Cost: a few checks for each lane, however much waits.
        """
        now_ms = self._clock.now_ms()
        dropped = self._mempool.review(lambda each: self._chain.check_transaction(each, now_ms))
        lapsed = [each for each in dropped if each in self._own]
        for each in lapsed:
            _LOG.info("own transaction %s is dropped: it can not become valid any more", each)
        self._forget(lapsed)
        self._readmit(READMIT_MAX)

    def repeat(self) -> None:
        """Push the next few own transactions once more: a member may have been away."""
        size = 0
        for transaction_id, transaction in list(self._own.items()):
            size += len(transaction)
            if size > REPEAT_BYTES_MAX:
                return
            self._push(transaction)
            # To the end of the line, so that the next call goes on with those behind it.
            self._own[transaction_id] = self._own.pop(transaction_id)

    def known(self, count_max: int | None = None) -> list[str]:
        """Return ids of transactions in the mempool; of ``count_max`` by authors in turn."""
        if count_max is None:
            return self._mempool.ids()
        return [each for each, _ in islice(self._mempool.in_turns(), count_max)]

    def others(self, known: frozenset[str], *, bytes_max: int) -> list[bytes]:
        """Return transactions that a peer who knows ``known`` lacks, by authors in turn.

        The peer may have no room for more of one author, and lack that author's for ever.
        """
        found: list[bytes] = []
        size = 0
        for transaction_id, transaction in self._mempool.in_turns():
            if transaction_id in known:
                continue
            size += len(transaction) + 4
            if size > bytes_max:
                break
            found.append(transaction)
        return found

    def _readmit(self, count_max: int) -> None:
        """Put own transactions that the mempool lacks into it; drop what can never be valid."""
        missing = (each for each in self._own.items() if self._mempool.get(each[0]) is None)
        lapsed = []
        for transaction_id, transaction in list(islice(missing, count_max)):
            try:
                info = self._chain.check_transaction(transaction, self._clock.now_ms())
                self._mempool.add(info, transaction)
            except InvalidInputError as error:
                _LOG.info("own transaction %s is dropped: %s", transaction_id, error)
                lapsed.append(transaction_id)
            except UnavailableError as error:
                # No room now: it stays in the store, and the next review tries again.
                _LOG.debug("own transaction %s waits outside: %s", transaction_id, error)
                break
        self._forget(lapsed)

    def _forget(self, ids: list[str]) -> None:
        if ids:
            self._store.write([(_PREFIX + each.encode(), None) for each in ids], sync=False)
            for each in ids:
                del self._own[each]
