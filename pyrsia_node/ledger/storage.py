"""How the chain lies in the key-value store, and the reads that need nothing but it.

Leaves are the truth: a block's bytes are put together again from its leaves and the parent
certificate it carried, so nothing is stored twice. Numbers in keys are u64 big-endian, so that
keys sort as numbers do.

==========================  ===========================================================
key under ``chain/``        value
==========================  ===========================================================
``leaf/<index>``            bytes of the leaf
``block/<height>``          ``BlockRecord``, canonical JSON
``parent/<height>``         the parent's certificate as the block carries it
``certificate/<height>``    the certificate that finalized the block
``end/<last leaf index>``   height
``transaction/<id>``        leaf index
``epoch/<number>``          height of the block that made the set; 0 for the first
``tip``                     height
``frontier``                frontier of the tree
``guard``                   canonical {root, size} that may be cosigned
``state/<key>``             the replicated state (``ledger.machine.records``)
``bucket/<name>``           sum over one bucket of the state (``ledger.commitment``)
==========================  ===========================================================
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from consensus import wire
from consensus.types import NodeId
from pyrsia_node.ledger import commitment
from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.ledger.machine.view import Change
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.model.limits import LEAF_BYTES_MAX
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.ports import KeyValueReader

PREFIX: Final = b"chain/"
STATE_PREFIX: Final = PREFIX + b"state/"
TIP_KEY: Final = PREFIX + b"tip"
FRONTIER_KEY: Final = PREFIX + b"frontier"
GUARD_KEY: Final = PREFIX + b"guard"
BUCKET_PREFIX: Final = PREFIX + b"bucket/"
_END_PREFIX: Final = PREFIX + b"end/"
_RECORD_BYTES_MAX: Final = 64_000

SETS_MEMBERS_MAX: Final = 4_096
"""Members, in sum, of the sets that a reader keeps decoded: about 4 MB."""


def encode_number(number: int) -> bytes:
    """Return the key form of a height or leaf index."""
    return number.to_bytes(8, "big")


def leaf_key(index: int) -> bytes:
    """Return the key of a leaf."""
    return PREFIX + b"leaf/" + encode_number(index)


def block_key(height: int) -> bytes:
    """Return the key of a block's record."""
    return PREFIX + b"block/" + encode_number(height)


def parent_key(height: int) -> bytes:
    """Return the key of the parent certificate inside a block."""
    return PREFIX + b"parent/" + encode_number(height)


def certificate_key(height: int) -> bytes:
    """Return the key of the certificate that finalized a block."""
    return PREFIX + b"certificate/" + encode_number(height)


def end_key(last_leaf: int) -> bytes:
    """Return the key that leads from a block's last leaf to its height."""
    return _END_PREFIX + encode_number(last_leaf)


def bucket_key(name: str) -> bytes:
    """Return the key of the sum over one bucket of the state."""
    return BUCKET_PREFIX + name.encode("ascii")


def transaction_key(transaction_id: Sha256) -> bytes:
    """Return the key of a transaction's leaf index."""
    return PREFIX + b"transaction/" + bytes.fromhex(transaction_id)


def epoch_key(epoch: int) -> bytes:
    """Return the key of the height that made the set of an epoch."""
    return PREFIX + b"epoch/" + encode_number(epoch)


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What is known of a committed block beside its leaves.

    Attributes:
        hash: Leaf hash of its header; for height 0 of the genesis.
        time_ms: Block time.
        first_leaf: Index of its header.
        size: Tree size after it.
        root: Tree root after it.
        transactions: How many of its leaves are transactions.
        state_root: State root after it.
        voters_leaf: Leaf index of the set that decided it.
        set_leaf: Leaf index of the set of the next height.
        epoch_height: The last height at or below it that changed the set; 0 if none did.
        signers: Ids in the parent certificate that it carries.
    """

    hash: Sha256
    time_ms: int
    first_leaf: int
    size: int
    root: Sha256
    transactions: int
    state_root: Sha256
    voters_leaf: int
    set_leaf: int
    epoch_height: int
    signers: tuple[NodeId, ...]

    def encode(self) -> bytes:
        """Return the stored form."""
        signers: list[JsonValue] = list(self.signers)
        return canonical.dumps(
            {
                "epoch_height": self.epoch_height,
                "first_leaf": self.first_leaf,
                "hash": self.hash,
                "root": self.root,
                "set_leaf": self.set_leaf,
                "signers": signers,
                "size": self.size,
                "state_root": self.state_root,
                "time_ms": self.time_ms,
                "transactions": self.transactions,
                "voters_leaf": self.voters_leaf,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> BlockRecord:
        """Return the record that ``encode`` wrote."""
        value = canonical.loads_object(data, bytes_max=_RECORD_BYTES_MAX)
        texts = cast("dict[str, str]", value)
        numbers = cast("dict[str, int]", value)
        return cls(
            hash=Sha256(texts["hash"]),
            time_ms=numbers["time_ms"],
            first_leaf=numbers["first_leaf"],
            size=numbers["size"],
            root=Sha256(texts["root"]),
            transactions=numbers["transactions"],
            state_root=Sha256(texts["state_root"]),
            voters_leaf=numbers["voters_leaf"],
            set_leaf=numbers["set_leaf"],
            epoch_height=numbers["epoch_height"],
            signers=tuple(cast("dict[str, list[NodeId]]", value)["signers"]),
        )


class ChainReader:
    """Reads of a stored chain. Absence where a chain must have something is corruption."""

    def __init__(self, store: KeyValueReader) -> None:
        """Read from ``store``, which holds at least height 0."""
        self._store = store
        self._sets: OrderedDict[int, SetLeaf] = OrderedDict()  # by leaf index: they never change
        self._sets_members = 0

    def height(self) -> int:
        """Return the newest height."""
        return int.from_bytes(self._need(TIP_KEY, "tip"), "big")

    def leaf(self, index: int) -> bytes:
        """Return a leaf that the log has.

        Raises:
            CorruptStateError: It is not there.
        """
        return self._need(leaf_key(index), f"leaf {index}")

    def leaves(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the leaves [start, end), one read each.

        Raises:
            CorruptStateError: One is not there.
        """
        for index in range(start, end):
            yield self.leaf(index)

    def record(self, height: int) -> BlockRecord:
        """Return the record of a block that the chain has.

        Raises:
            CorruptStateError: It is not there.
        """
        return BlockRecord.decode(self._need(block_key(height), f"block {height}"))

    def decision(self, height: int) -> tuple[bytes, bytes] | None:
        """Return (block, certificate) of a height; None for 0 and for heights not committed."""
        certificate = self._store.get(certificate_key(height))
        if certificate is None:
            return None
        record = self.record(height)
        first = record.first_leaf
        block = wire.encode_block(
            self.leaf(first),
            self._need(parent_key(height), f"parent certificate {height}"),
            [*self.leaves(first + 1, first + 1 + record.transactions)],
        )
        return block, certificate

    def certificates(self, height: int) -> tuple[bytes, bytes] | None:
        """Return what finalized a height, and the parent's certificate that its block carries.

        None for 0 and for heights not committed. Two reads, whatever the size of the block.
        """
        certificate = self._store.get(certificate_key(height))
        if certificate is None:
            return None
        return certificate, self._need(parent_key(height), f"parent certificate {height}")

    def height_of_leaf(self, index: int) -> int:
        """Return the height of the block that holds a leaf of the log.

        Raises:
            CorruptStateError: No block ends at or after it.
        """
        after = end_key(index - 1) if index else b""
        for _, height in self._store.scan(_END_PREFIX, after=after):
            return int.from_bytes(height, "big")
        raise CorruptStateError(f"no block of the chain holds leaf {index}")

    def height_of_size(self, size: int) -> int | None:
        """Return the height after which the tree has ``size`` leaves, or None."""
        height = self._store.get(end_key(size - 1)) if size else None
        return None if height is None else int.from_bytes(height, "big")

    def head_at(self, height: int) -> Head | None:
        """Return the log after a height; None if it is not committed."""
        if height < 0 or self._store.get(block_key(height)) is None:
            return None
        record = self.record(height)
        return Head(record.size, record.root)

    def epoch_height(self, epoch: int) -> int | None:
        """Return the height that made the set of an epoch; None if there is no such epoch."""
        found = self._store.get(epoch_key(epoch))
        return None if found is None else int.from_bytes(found, "big")

    def set_leaf(self, epoch: int) -> SetLeaf | None:
        """Return the set of an epoch; None if there is no such epoch.

        Raises:
            CorruptStateError: The leaf is not there, or is no set.
        """
        height = self.epoch_height(epoch)
        return None if height is None else self._set_made_by(height)

    def voters_at(self, height: int) -> SetLeaf | None:
        """Return the set that votes on a height from 1 to the next one; None beyond.

        Costs as ``epoch_at``, and a set decoded if it was not at hand.
        """
        epoch = self.epoch_at(height)
        return None if epoch is None else self._set_made_by(self._need_epoch(epoch))

    def set_hash_at(self, height: int) -> Sha256 | None:
        """Return the hash of the set that votes on a height, as ``voters_at``; decodes no old set.

        Whoever asks for the set itself only after this hash is the right one makes no stranger's
        guess cost a decoding.
        """
        epoch = self.epoch_at(height)
        if epoch is None:
            return None
        return sha256_of(self.leaf(self.record(self._need_epoch(epoch)).set_leaf))

    def epoch_at(self, height: int) -> int | None:
        """Return the epoch whose set votes on a height from 1 to the next one; None beyond.

        Costs a read for each halving of the epochs.
        """
        tip = self.height()
        if not 1 <= height <= tip + 1:
            return None
        low, high = 0, self._set_made_by(self.record(tip).epoch_height).epoch
        while low < high:
            middle = (low + high + 1) // 2
            # A block that makes a set was itself decided by the one before.
            if self._need_epoch(middle) < height:
                low = middle
            else:
                high = middle - 1
        return low

    def _need_epoch(self, epoch: int) -> int:
        return int.from_bytes(self._need(epoch_key(epoch), f"epoch {epoch}"), "big")

    def _set_made_by(self, height: int) -> SetLeaf:
        index = self.record(height).set_leaf
        known = self._sets.get(index)
        if known is not None:
            self._sets.move_to_end(index)
            return known
        try:
            found = SetLeaf.decode(self.leaf(index))
        except InvalidInputError as error:
            raise CorruptStateError(f"the chain database: leaf {index}: {error}") from None
        self._keep_set(index, found)
        return found

    def _keep_set(self, index: int, found: SetLeaf) -> None:
        self._sets[index] = found
        self._sets_members += len(found.members)
        while self._sets_members > SETS_MEMBERS_MAX:
            _, oldest = self._sets.popitem(last=False)
            self._sets_members -= len(oldest.members)

    def transaction_leaf(self, transaction_id: Sha256) -> int | None:
        """Return the leaf index of a committed transaction, or None."""
        found = self._store.get(transaction_key(transaction_id))
        return None if found is None else int.from_bytes(found, "big")

    def _need(self, key: bytes, what: str) -> bytes:
        value = self._store.get(key)
        if value is None:
            raise CorruptStateError(f"the chain database lacks {what}")
        return value


class BucketReader:
    """The sums over the state's buckets, and what a block's changes make of them."""

    def __init__(self, store: KeyValueReader) -> None:
        """Read from ``store``."""
        self._store = store
        self._state = StateReader(store)

    def after(self, changes: Iterable[Change]) -> dict[str, bytes]:
        """Return the new sums of the buckets that ``changes`` touch."""
        return commitment.changed_sums(
            changes,
            read_value=lambda key: self._state.get(key.encode("ascii")),
            read_sum=lambda name: self._store.get(bucket_key(name)),
        )

    def sums(self) -> dict[str, bytes]:
        """Return the sums of all buckets that are not empty, by name."""
        start = len(BUCKET_PREFIX)
        found = self._store.scan(BUCKET_PREFIX)
        return {key[start:].decode("ascii"): value for key, value in found}

    def root_after(self, changes: Iterable[Change]) -> Sha256:
        """Return the snapshot root over the state after ``changes``."""
        return Sha256(commitment.root_of_sums(self.sums() | self.after(changes)).hex())


class StateReader(KeyValueReader):
    """The replicated state inside the store: the same map without the prefix."""

    def __init__(self, store: KeyValueReader) -> None:
        """Read the state from ``store``."""
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self._store.get(STATE_PREFIX + key)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) under ``prefix`` in key order, keys > ``after``."""
        start = STATE_PREFIX + after if after else b""
        for key, value in self._store.scan(STATE_PREFIX + prefix, after=start):
            yield key[len(STATE_PREFIX) :], value


assert LEAF_BYTES_MAX == wire.LEAF_BYTES_MAX  # two packages, one rule
