"""Makes an empty store the chain at some height without executing any block.

History counts by hashes, the state by its sums. The caller proves blocks (``replica.proving``) and
hands them over in order, with all their leaves; here the rows are written that committing them
would have written. The pairs of the state are checked against the bucket hashes under a header's
``snapshot_root`` (``ledger.bucket_intake``). The result is, row for row, the store of a node that
executed every block.

What is added waits in memory until there is enough of a kind (``ledger.waiting_rows``); whoever
adds then hands to ``write`` what ``take_full`` gives out.

Order of the durable steps, and what a crash leaves: the last write adds the genesis leaves and the
tip, and makes the store a chain. Each one before it is settled, that is in synced files of its own,
before the next begins: a synced write alone makes only LevelDB's current log file durable. A file
that could not be synced fails every later write, so the last one, too. A crash leaves a store
without a genesis leaf, which ``clear_unfinished`` empties at the next start, synced as well.
Specification: docs/spec/leaves.md, "Snapshot root"; design: docs/design/catchup.md, "Snapshots".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consensus import wire
from consensus.types import NodeId
from pyrsia_node.ledger import storage
from pyrsia_node.ledger.blocks import signers_of
from pyrsia_node.ledger.bucket_intake import BucketIntake
from pyrsia_node.ledger.commitment import snapshot_root
from pyrsia_node.ledger.durable import Rows, block_rows, height_zero, tip_rows
from pyrsia_node.ledger.storage import BlockRecord
from pyrsia_node.ledger.waiting_rows import WaitingRows
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.signing import TRANSACTION_TAG
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.ports import KeyValueStore
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, leaf_hash

DERIVED_KINDS: Final = frozenset(
    {"accepted", "diverged", "failed", "expired", "unsealed", "level", "late_divergence", "set"}
)
_SIGNATURE: Final = re.compile(
    rb',"sigs":\[\{"by":"[1-9A-HJ-NP-Za-km-z]{52}","sig":"[0-9a-f]{128}"\}\](?=,)'
)
_DERIVED_END: Final = re.compile(
    rb'"t":"(?:%s)","v":1\}\Z' % b"|".join(kind.encode() for kind in sorted(DERIVED_KINDS))
)
"""``t`` and ``v`` come last in every derived leaf, and no text can hold a bare quote."""

_CLEARED_AT_ONCE: Final = 10_000
_LAST_KEYS: Final = frozenset({storage.TIP_KEY, storage.FRONTIER_KEY, storage.GUARD_KEY})


@dataclass(frozen=True, slots=True)
class WholeBlock:
    """A proved block with all its leaves, those that are derived included."""

    header: Header
    certificate: bytes
    parent_certificate: bytes
    leaves: tuple[bytes, ...]


def is_unfinished(store: KeyValueStore) -> bool:
    """Tell whether a store holds parts of a chain that never became one."""
    if store.get(storage.leaf_key(0)) is not None:
        return False
    return next(store.scan(storage.PREFIX), None) is not None


def clear_unfinished(store: KeyValueStore) -> None:
    """Empty a store of what an interrupted adoption left; changes nothing in any other."""
    while is_unfinished(store):
        some = islice(store.scan(storage.PREFIX), _CLEARED_AT_ONCE)
        store.write([(key, None) for key, _ in some], sync=True)


class Adoption:
    """One adoption, into a store that holds no chain yet."""

    def __init__(
        self, store: KeyValueStore, genesis: Genesis, target: Header, buckets: Mapping[str, bytes]
    ) -> None:
        """Adopt the chain up to ``target``, a proved header that carries a snapshot root.

        Args:
            store: Holds no chain.
            genesis: The network's.
            target: The header of the height to reach.
            buckets: Names and hashes of its state's buckets, as somebody claims them.

        Raises:
            VerificationError: The buckets are not those under the header's root.
        """
        root = snapshot_root(each for _, each in sorted(buckets.items())).hex()
        if target.snapshot_root != root:
            raise VerificationError(
                f"the buckets have root {root}, header {target.height} says {target.snapshot_root}"
            )
        self._store = store
        self._waiting = WaitingRows()
        self._genesis = genesis
        self._target = target
        self._buckets = dict(buckets)
        self._missing = set(buckets)
        first = [genesis.encode(), genesis.set_leaf().encode()]
        self._frontier = EMPTY_FRONTIER.extend(map(leaf_hash, first))
        self._height = 0
        self._epoch_height = 0
        # What is made of genesis and set is kept: making it for each block would cost as much as
        # everything else that a block does.
        self._network = genesis.network_id
        self._set = genesis.set_leaf()
        self._set_digest = self._set.digest()
        self._members = self._voters = self._set.to_consensus()
        self._set_index = 1
        self._record: BlockRecord | None = None

    @property
    def height(self) -> int:
        """The greatest height whose rows are written or wait."""
        return self._height

    @property
    def missing(self) -> frozenset[str]:
        """Buckets whose pairs are not here yet."""
        return frozenset(self._missing)

    def begin_bucket(self, name: str) -> BucketIntake:
        """Begin to take in a bucket; it counts once ``finish_bucket`` has found it right."""
        return BucketIntake(name, self._buckets[name], self._waiting)

    def finish_bucket(self, name: str, intake: BucketIntake) -> None:
        """Count a bucket in whose pairs are all here.

        Raises:
            VerificationError: They are not the pairs that the header commits to.
        """
        intake.finish()
        self._missing.discard(name)

    def remove_bucket(self, intake: BucketIntake) -> bool:
        """Remove what was taken in of a bucket that is none, part by part; False at the end."""
        return intake.remove(self._store)

    def add_blocks(self, blocks: Sequence[WholeBlock]) -> None:
        """Take proved blocks that follow the last ones.

        Raises:
            VerificationError: One does not follow: it was not proved, or comes out of order.
        """
        for block in blocks:
            self._add_block(block)

    def take_full(self) -> list[Rows]:
        """Give out what is worth writing; the caller hands each batch to ``write``."""
        return self._waiting.take()

    def take_all(self) -> list[Rows]:
        """Give out everything that waits, as ``take_full``."""
        return self._waiting.take(bytes_min=0)

    def write(self, batches: Sequence[Rows]) -> None:
        """Write what was given out. Blocks on the disk; may run in a thread, one at a time."""
        for rows in batches:
            self._store.write(rows, sync=False)
            self._store.settle()

    def finish(self) -> None:
        """Write what waits, then make the store a chain, in one write.

        Raises:
            VerificationError: Blocks or buckets are missing.
        """
        if self._height != self._target.height or self._missing or self._record is None:
            raise VerificationError(
                f"adopted up to height {self._height} of {self._target.height}, with "
                f"{len(self._missing)} buckets missing"
            )
        self.write(self.take_all())
        first = [each for each in height_zero(self._genesis) if each[0] not in _LAST_KEYS]
        last = tip_rows(self._height, self._record, self._frontier)
        self._store.write([*first, *last], sync=True)

    # ------------------------------------------------------------ inside

    def _add_block(self, block: WholeBlock) -> None:
        header = block.header
        for name, found, expected in (
            ("height", header.height, self._height + 1),
            ("prev_size", header.prev_size, self._frontier.size),
            ("prev_root", header.prev_root, self._frontier.root().hex()),
            ("set", header.set, self._set_digest),
            ("prev_epoch_height", header.prev_epoch_height, self._epoch_height),
        ):
            if found != expected:
                raise VerificationError(
                    f"block {header.height}: {name} is {found}, expected {expected}"
                )
        signers = self._signers(block)
        before = self._set_index
        transactions = self._transactions(block)
        self._voters = self._members
        self._enter(block)
        self._frontier = self._frontier.extend(map(leaf_hash, block.leaves))
        record = BlockRecord(
            hash=Sha256(leaf_hash(block.leaves[0]).hex()),
            time_ms=header.time_ms,
            first_leaf=header.prev_size,
            size=header.size,
            root=Sha256(self._frontier.root().hex()),
            transactions=len(transactions),
            state_root=header.state_root,
            voters_leaf=before,
            set_leaf=self._set_index,
            epoch_height=self._epoch_height,
            signers=signers,
        )
        self._add_rows(block, record, transactions)
        self._height, self._record = header.height, record

    def _add_rows(self, block: WholeBlock, record: BlockRecord, transactions: list[Sha256]) -> None:
        """Keep the rows that committing the block would have written, kind by kind."""
        height, waiting, encoded = block.header.height, self._waiting, storage.encode_number
        first, end, *leaves = block_rows(height, record, block.leaves)
        waiting.add("block", [first])
        waiting.add("end", [end])
        waiting.add("leaf", leaves)
        waiting.add("parent", [(storage.parent_key(height), block.parent_certificate)])
        waiting.add("certificate", [(storage.certificate_key(height), block.certificate)])
        if self._epoch_height == height:
            waiting.add("epoch", [(storage.epoch_key(self._set.epoch), encoded(height))])
        index = block.header.prev_size + 1
        ids = [
            (storage.transaction_key(each), encoded(index + number))
            for number, each in enumerate(transactions)
        ]
        waiting.add("transaction", ids)

    def _enter(self, block: WholeBlock) -> None:
        """Take over the set that the block makes, if it makes one."""
        if block.header.next_set == block.header.set:
            return
        leaf = block.leaves[-1]
        if sha256_of(leaf) != block.header.next_set:
            raise VerificationError(f"block {block.header.height}: its set leaf is another")
        self._set = SetLeaf.decode(leaf)
        self._set_digest = block.header.next_set
        self._members = self._set.to_consensus()
        self._set_index = block.header.size - 1
        self._epoch_height = block.header.height

    def _signers(self, block: WholeBlock) -> tuple[NodeId, ...]:
        if self._height == 0:
            return ()
        count = len(self._voters.members)
        certificate = wire.decode_certificate(block.parent_certificate, n=count)
        return signers_of(certificate, self._voters)

    def _transactions(self, block: WholeBlock) -> list[Sha256]:
        """Return the ids of the transactions, which stand before what is derived."""
        found: list[Sha256] = []
        network = self._network
        for leaf in block.leaves[1:]:
            known = id_of(leaf, network_id=network)
            if known is None:
                if _DERIVED_END.search(leaf) is not None:
                    break
                known = decode_transaction(leaf, network_id=network).id
            found.append(known)
        return found


def id_of(leaf: bytes, *, network_id: bytes) -> Sha256 | None:
    """Return the id of a transaction of a certified block by cutting its signature out.

    Reading it in full costs fifty times as much, and finds nothing: its bytes are under a quorum's
    ``body_root``. None where the bytes do not hold exactly one signature in its canonical form.
    In canonical JSON a bare quote never stands inside a text, so what looks like the member is one;
    and nothing else that a leaf may hold, at whatever depth, is an array of such objects.
    """
    cuts = list(_SIGNATURE.finditer(leaf))
    if len(cuts) != 1:
        return None
    start, end = cuts[0].span()
    return sha256_of(TRANSACTION_TAG + network_id + leaf[:start] + leaf[end:])
