"""What a commit writes and a start reads: the one batch of changes, and the tip made from it.

Pure but for the reads: the write itself is the caller's, so that it stays visibly one call.
Layout: ``ledger.storage``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from consensus.types import Digest, NodeId
from pyrsia_node.ledger import storage
from pyrsia_node.ledger.blocks import ExecutedBlock, Tip
from pyrsia_node.ledger.commitment import is_empty
from pyrsia_node.ledger.machine.view import ZERO_ROOT, state_root
from pyrsia_node.ledger.storage import BlockRecord, ChainReader
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Outcome
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.ports import KeyValueReader
from pyrsia_node.tlog import tree
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, Frontier

Changes = list[tuple[bytes, bytes | None]]
"""What ``KeyValueStore.write`` takes."""

Rows = list[tuple[bytes, bytes]]
"""Changes that delete nothing."""

_SET_LEAF_OF_GENESIS: Final = 1


@dataclass(frozen=True, slots=True)
class Committed:
    """A block that is durable.

    Attributes:
        tip: The tip that it makes.
        first_leaf: Leaf index of its header.
        leaves: Its leaves: header, transactions, outcomes, then the set leaf if there is one.
        outcomes: What the state machine derived.
        transaction_ids: Ids of its transactions, in order.
        parent_signers: Member ids in the parent certificate that it carries.
        next_set: The set of the next height, if the block changed it; else None.
    """

    tip: Tip
    first_leaf: int
    leaves: tuple[bytes, ...]
    outcomes: tuple[Outcome, ...]
    transaction_ids: tuple[Sha256, ...]
    parent_signers: tuple[NodeId, ...]
    next_set: SetLeaf | None = None


def height_zero(genesis: Genesis) -> Changes:
    """Return what makes an empty store the chain of ``genesis`` at height 0."""
    leaves = [genesis.encode(), genesis.set_leaf().encode()]
    frontier = EMPTY_FRONTIER.extend(tree.leaf_hash(leaf) for leaf in leaves)
    record = BlockRecord(
        hash=Sha256(tree.leaf_hash(leaves[0]).hex()),
        time_ms=genesis.time_ms,
        first_leaf=0,
        size=len(leaves),
        root=Sha256(frontier.root().hex()),
        transactions=0,
        state_root=Sha256(state_root(ZERO_ROOT, ()).hex()),
        voters_leaf=_SET_LEAF_OF_GENESIS,
        set_leaf=_SET_LEAF_OF_GENESIS,
        epoch_height=0,
        signers=(),
    )
    changes = block_changes(0, record, frontier, leaves)
    changes.append((storage.epoch_key(0), storage.encode_number(0)))
    return changes


def commit_changes(
    tip: Tip, executed: ExecutedBlock, certificate: bytes, *, sums: Mapping[str, bytes]
) -> Changes:
    """Return all that committing a block after ``tip`` changes.

    ``sums`` are the new sums of the buckets of the state that the block touches.
    """
    header = executed.header
    leaves = executed.leaves()
    frontier = tip.frontier.extend(tree.leaf_hash(leaf) for leaf in leaves)
    assert frontier.size == header.size
    # The set leaf is the last leaf of the block that changes the set.
    next_set = executed.execution.next_set
    record = BlockRecord(
        hash=Sha256(tree.leaf_hash(executed.header_bytes).hex()),
        time_ms=header.time_ms,
        first_leaf=header.prev_size,
        size=header.size,
        root=Sha256(frontier.root().hex()),
        transactions=len(executed.transactions),
        state_root=header.state_root,
        voters_leaf=tip.set_index,
        set_leaf=tip.set_index if next_set is None else header.size - 1,
        epoch_height=tip.epoch_height if next_set is None else header.height,
        signers=executed.parent_signers,
    )
    changes = block_changes(header.height, record, frontier, list(leaves))
    changes.append((storage.parent_key(header.height), executed.parent_certificate))
    changes.append((storage.certificate_key(header.height), certificate))
    if next_set is not None:
        height = storage.encode_number(header.height)
        changes.append((storage.epoch_key(next_set.epoch), height))
    for number, transaction in enumerate(executed.transactions):
        index = storage.encode_number(header.prev_size + 1 + number)
        changes.append((storage.transaction_key(transaction.id), index))
    for change in executed.execution.changes:
        changes.append((storage.STATE_PREFIX + change.key.encode("ascii"), change.value))
    for name, value in sums.items():
        changes.append((storage.bucket_key(name), None if is_empty(value) else value))
    return changes


def read_tip(store: KeyValueReader) -> Tip:
    """Return the newest committed block.

    Raises:
        CorruptStateError: Parts of the chain database contradict each other.
    """
    reader = ChainReader(store)
    height = reader.height()
    record = reader.record(height)
    try:
        frontier = Frontier.decode(store.get(storage.FRONTIER_KEY) or b"")
        set_leaf = SetLeaf.decode(reader.leaf(record.set_leaf))
        voters = SetLeaf.decode(reader.leaf(record.voters_leaf))
    except InvalidInputError as error:
        raise CorruptStateError(f"the chain database at height {height}: {error}") from None
    if (frontier.size, frontier.root().hex()) != (record.size, record.root):
        raise CorruptStateError(
            f"the chain database at height {height}: the tree has size {frontier.size} and root "
            f"{frontier.root().hex()}, the block says {record.size} and {record.root}"
        )
    return Tip(
        height=height,
        block_hash=Digest(bytes.fromhex(record.hash)),
        time_ms=record.time_ms,
        size=record.size,
        root=bytes.fromhex(record.root),
        members=set_leaf.to_consensus(),
        set_leaf=set_leaf,
        set_index=record.set_leaf,
        voters=voters.to_consensus(),
        state_root=bytes.fromhex(record.state_root),
        epoch_height=record.epoch_height,
        frontier=frontier,
    )


def block_changes(
    height: int, record: BlockRecord, frontier: Frontier, leaves: list[bytes]
) -> Changes:
    """Return the rows of a block that is the tip: its leaves, its record, the tree's edge."""
    return [*block_rows(height, record, leaves), *tip_rows(height, record, frontier)]


def block_rows(height: int, record: BlockRecord, leaves: Sequence[bytes]) -> Rows:
    """Return the rows of a block that stay when others follow: its leaves and its record."""
    first = record.first_leaf
    return [
        (storage.block_key(height), record.encode()),
        (storage.end_key(record.size - 1), storage.encode_number(height)),
        *((storage.leaf_key(first + offset), leaf) for offset, leaf in enumerate(leaves)),
    ]


def tip_rows(height: int, record: BlockRecord, frontier: Frontier) -> Rows:
    """Return the rows that each block replaces: the tip, the tree's edge, what may be cosigned."""
    guard = canonical.dumps({"root": record.root, "size": record.size})
    return [
        (storage.FRONTIER_KEY, frontier.encode()),
        (storage.GUARD_KEY, guard),
        (storage.TIP_KEY, storage.encode_number(height)),
    ]
