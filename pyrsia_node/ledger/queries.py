"""What was committed: the reads of a chain that every part of the node shares.

Nothing here writes. The chain's owner is ``ledger.chain.Chain``, which adds what may come next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyrsia_node.ledger.approvals import Approval, read_approvals
from pyrsia_node.ledger.blocks import Tip
from pyrsia_node.ledger.durable import read_tip
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.attestations import last_sequence
from pyrsia_node.ledger.machine.context import BlockState
from pyrsia_node.ledger.machine.sources import SourceRecord, all_sources, source_for
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.ledger.request_view import RequestView, read_request
from pyrsia_node.ledger.storage import BlockRecord, ChainReader, StateReader, parent_key
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import CorruptStateError, NotFoundError
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest, decode_transaction
from pyrsia_node.ports import KeyValueStore


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """Where a committed transaction stands in the log."""

    leaf: int
    height: int


class CommittedChain:
    """The committed chain in a store that holds at least height 0."""

    def __init__(self, store: KeyValueStore, *, network_id: bytes) -> None:
        """Read the tip.

        Raises:
            CorruptStateError: The store contradicts itself.
        """
        self._store = store
        self._network = network_id
        self._reader = ChainReader(store)
        self._state = StateReader(store)
        self._tip = read_tip(store)

    @property
    def tip(self) -> Tip:
        """The newest committed block."""
        return self._tip

    def due_ms(self) -> int | None:
        """Return the block time at which the next outcome falls due; None without one."""
        first = StateView(self._state).first(records.DUE_PREFIX)
        return None if first is None else records.parse_due_key(first)[0]

    def may_cosign(self, size: int, root: bytes) -> bool:
        """Tell whether this chain durably commits to ``root`` at ``size``.

        The guard is written in the commit's own batch, before a cosignature can leave.
        """
        height = self._reader.height_of_size(size)
        return height is not None and self._reader.record(height).root == root.hex()

    def decision(self, height: int) -> tuple[bytes, bytes] | None:
        """Return (block, certificate) of a committed height; None for 0 and beyond the tip."""
        return self._reader.decision(height) if 0 < height <= self._tip.height else None

    def certificates(self, height: int) -> tuple[bytes, bytes] | None:
        """Return a height's certificate and the one in its block; None as for ``decision``."""
        return self._reader.certificates(height) if 0 < height <= self._tip.height else None

    def certificate(self, height: int) -> bytes:
        """Return what finalized a committed block.

        Raises:
            NotFoundError: The height has none: it is 0 or beyond the tip.
        """
        found = self.certificates(height)
        if found is None:
            raise NotFoundError(f"no certificate of height {height}; the tip is {self._tip.height}")
        return found[0]

    def carried_certificate(self, height: int) -> bytes:
        """Return the certificate of a committed block that the block after it carries.

        It is the same on all nodes; ``certificate`` is the one that this node saw first.

        Raises:
            NotFoundError: No block after it is committed, or the height is 0.
            CorruptStateError: The chain database lacks it.
        """
        if not 0 < height < self._tip.height:
            raise NotFoundError(f"no block carries a certificate of height {height}")
        carried = self._store.get(parent_key(height + 1))
        if carried is None:
            raise CorruptStateError(f"the chain database lacks parent certificate {height + 1}")
        return carried

    def leaf(self, index: int) -> bytes:
        """Return a leaf.

        Raises:
            NotFoundError: The log is shorter.
        """
        self._check_index(index)
        return self._reader.leaf(index)

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end) of the log.

        Raises:
            NotFoundError: The log is shorter.
        """
        if end > start:
            self._check_index(start)
            self._check_index(end - 1)
        return self._reader.leaves(start, end)

    def block_of_leaf(self, index: int) -> tuple[int, int]:
        """Return (height, block time in ms) of the block that holds a leaf.

        Raises:
            NotFoundError: The log is shorter.
        """
        self._check_index(index)
        height = self._reader.height_of_leaf(index)
        return height, self._reader.record(height).time_ms

    def block(self, height: int) -> BlockRecord:
        """Return what is known of a committed block.

        Raises:
            NotFoundError: The chain is shorter.
        """
        if not 0 <= height <= self._tip.height:
            raise NotFoundError(f"height {height} is not committed; the tip is {self._tip.height}")
        return self._reader.record(height)

    def root_at(self, size: int) -> bytes:
        """Return the tree root at the end of a block.

        Raises:
            NotFoundError: No block ends at ``size``.
        """
        if size == self._tip.size:
            return self._tip.root  # what cosignatures ask about, some times for each block
        height = self._reader.height_of_size(size)
        if height is None:
            raise NotFoundError(f"no block ends at tree size {size}")
        return bytes.fromhex(self._reader.record(height).root)

    def members_at(self, height: int) -> SetLeaf:
        """Return the set that votes on a height: 1 to the one after the tip.

        Raises:
            NotFoundError: The height is 0, or nobody can know who votes on it yet.
        """
        return self.set_leaf_of(self.epoch_at(height))

    def epoch_at(self, height: int) -> int:
        """Return the epoch whose set votes on a height; costs no decoding of an old set.

        Raises:
            NotFoundError: As for ``members_at``.
        """
        found = self._reader.epoch_at(height)
        if found is None:
            raise NotFoundError(
                f"who votes on height {height} is not known; the tip is {self._tip.height}"
            )
        return found

    def set_leaf_of(self, epoch: int) -> SetLeaf:
        """Return the set of an epoch.

        Raises:
            NotFoundError: The chain has no such epoch.
        """
        found = self._reader.set_leaf(epoch)
        if found is None:
            raise NotFoundError(f"epoch {epoch} is not committed; the newest is {self._tip.epoch}")
        return found

    def is_retired(self, key: bytes) -> bool:
        """Say whether a rotation has replaced this key of some member; O(1)."""
        return StateView(self._state).get(records.key_key(key)) == records.RETIRED

    def approvals(self) -> list[Approval]:
        """Return the approvals that may count in the next block, by operation and subject."""
        return list(read_approvals(self._state, height=self._tip.height + 1))

    def source_for(self, purl: Purl) -> SourceMapping | None:
        """Return where the log says that the source of a package is; None where it says nothing.

        The longest pattern that fits counts, of equal ones the newest mapping. A look or two.
        """
        found = source_for(self._state, purl)
        return None if found is None else found.mapping

    def source_record(self, purl: Purl) -> SourceRecord | None:
        """Return the mapping of ``source_for`` with its leaf and who approved it."""
        return source_for(self._state, purl)

    def sources(self) -> list[SourceRecord]:
        """Return every mapping that counts, by pattern."""
        return sorted(all_sources(self._state), key=lambda each: each.mapping.pattern)

    def transaction_status(self, transaction_id: Sha256) -> TransactionStatus | None:
        """Return where a transaction was committed, or None."""
        leaf = self._reader.transaction_leaf(transaction_id)
        if leaf is None:
            return None
        return TransactionStatus(leaf=leaf, height=self._reader.height_of_leaf(leaf))

    def last_seq(self, member: str) -> int:
        """Return the number of a member's last committed batch; 0 before the first."""
        return last_sequence(BlockState(StateView(self._state)), member)

    def request(self, request_id: Sha256) -> RequestView | None:
        """Return what is known of a build request, or None."""
        leaf = self._reader.transaction_leaf(request_id)
        if leaf is None:
            return None
        body = decode_transaction(self._reader.leaf(leaf), network_id=self._network).body
        if not isinstance(body, BuildRequest):
            return None
        return read_request(self._state, request_id, body)

    def open_requests(self) -> list[RequestView]:
        """Return the open requests, those that fall due first at the front."""
        found = []
        for key, _ in self._state.scan(records.DUE_PREFIX.encode()):
            view = self.request(records.parse_due_key(key.decode())[1])
            assert view is not None
            found.append(view)
        return found

    def open_requests_count(self) -> int:
        """Return how many requests are open; reads no request, so it may be asked at any time."""
        return sum(1 for _ in self._state.scan(records.DUE_PREFIX.encode()))

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self._tip.size:
            raise NotFoundError(f"leaf {index} is not in the log, which has {self._tip.size}")
