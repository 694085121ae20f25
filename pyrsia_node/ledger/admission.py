"""Transactions at the door: read once, signature checked once, then remembered.

A transaction passes here when it enters the mempool, again in a proposal, again at commit. The
bytes are the key, by full SHA-256, so what was checked is exactly what is used.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.signing import Verify
from pyrsia_node.model.transactions import SignedTransaction, decode_transaction

CACHE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of encoded transactions, eight full blocks. Kept decoded, each takes five times that."""


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """A transaction that passed the door.

    ``waits`` says what it still waits for, if anything. ``sequence`` orders an author's
    transactions of one kind: the number of an attest batch, 0 for the others.
    """

    id: Sha256
    kind: str
    author: NodeId
    waits: str = ""
    sequence: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether a block after the tip may hold it."""
        return not self.waits


@dataclass(frozen=True, slots=True)
class _Checked:
    transaction: SignedTransaction
    key: bytes


class Admission:
    """Decodes and verifies transactions of one network under the current set."""

    def __init__(
        self, network_id: bytes, verify: Verify, *, cache_bytes_max: int = CACHE_BYTES_MAX
    ) -> None:
        """Start with nothing checked; remember at most so many bytes of transactions."""
        self._network_id = network_id
        self._verify = verify
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()
        self._bytes = 0
        self._bytes_max = cache_bytes_max

    def admit(self, data: bytes, members: SetLeaf) -> SignedTransaction:
        """Return the transaction, signed by its author's ``tx`` key in ``members``.

        Raises:
            InvalidInputError: Malformed, by no member, or the signature does not hold.
        """
        digest = hashlib.sha256(data).digest()
        known = self._checked.get(digest)
        transaction = (
            known.transaction if known else decode_transaction(data, network_id=self._network_id)
        )
        record = members.record_of(transaction.body.author)
        if record is None:
            raise InvalidInputError(
                f"transaction {transaction.id}: {transaction.body.author} is no authorized node"
            )
        # A member may have rotated its key since: what was checked is a key and a transaction.
        if known is None or known.key != record.keys.tx:
            try:
                transaction.verify(record.keys.tx, self._verify)
            except VerificationError as error:
                raise InvalidInputError(str(error)) from None
            self._remember(digest, _Checked(transaction, record.keys.tx))
        return transaction

    def _remember(self, digest: bytes, checked: _Checked) -> None:
        if digest not in self._checked:
            self._bytes += len(checked.transaction.encoded)
        self._checked[digest] = checked
        while self._bytes > self._bytes_max:
            _, oldest = self._checked.popitem(last=False)
            self._bytes -= len(oldest.transaction.encoded)
