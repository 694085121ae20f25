"""Cuts the leaves into blocks and holds every header against what stands before and after it.

Nothing is executed here: these are the rules that can be checked with hashes and arithmetic alone,
written once more and apart from the ledger's own. Specification: docs/spec/leaves.md, "Blocks".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from consensus.wire import BLOCK_BYTES_MAX, TRANSACTIONS_MAX
from pyrsia_node.audit.report import Report
from pyrsia_node.audit.tree import UnreadableError
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header, decode_outcome
from pyrsia_node.model.limits import LEAF_BYTES_MAX
from pyrsia_node.model.members import SetLeaf
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, Frontier, leaf_hash, root
from pyrsia_node.tlog.trust import Epoch

GENESIS_LEAVES: Final = 2
DERIVED: Final = frozenset(
    {"accepted", "diverged", "failed", "expired", "unsealed", "level", "late_divergence", "set"}
)
"""Schemas of leaves that nobody sends: every node derives them."""

_PREFIX_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Block:
    """One block as it stands in the log.

    Attributes:
        header: Its header, decoded; ``leaves[0]`` are its bytes.
        first_leaf: Index of the header.
        leaves: Header, transactions, derived leaves.
        values: What the leaves after the header mean; each is whole, or has no ``t``.
        transactions: How many of those are transactions.
        voters: The set that decides it.
        next_set: The set of the next height; the same object where it did not change.
    """

    header: Header
    first_leaf: int
    leaves: tuple[bytes, ...]
    values: tuple[JsonObject, ...]
    transactions: int
    voters: SetLeaf
    next_set: SetLeaf

    @property
    def height(self) -> int:
        """Its height."""
        return self.header.height

    @property
    def place(self) -> str:
        """How reports name it."""
        return f"block {self.height} (leaf {self.first_leaf})"

    def place_of(self, offset: int) -> str:
        """Return how reports name the leaf ``offset`` places after the header."""
        return f"block {self.height}, leaf {self.first_leaf + offset}"


class BlockAudit:
    """Yields the blocks of a log; reports what is wrong with headers, limits and set leaves."""

    def __init__(self, report: Report) -> None:
        """Report to ``report``."""
        self.report = report
        self._frontier: Frontier = EMPTY_FRONTIER
        self._parent = b""
        self._height = 0
        self._time_ms = 0
        self._epoch_height = 0
        self._root_differs = False
        self._members: SetLeaf | None = None
        self.genesis: Genesis | None = None
        self.epochs: list[Epoch] = []

    @property
    def size(self) -> int:
        """The size of the tree after the newest block."""
        return self._frontier.size

    @property
    def root(self) -> bytes:
        """The root of the tree after the newest block; costs a hash for each level."""
        return self._frontier.root()

    def blocks(self, leaves: Iterable[tuple[int, bytes]]) -> Iterator[Block]:
        """Yield block after block.

        Raises:
            UnreadableError: A block cannot be told apart from what follows; the report says which.
        """
        reader = iter(leaves)
        self._begin([leaf for _, leaf in _take(reader, GENESIS_LEAVES)])
        for index, leaf in reader:
            yield self._block(index, leaf, reader)

    def _begin(self, leaves: list[bytes]) -> None:
        try:
            self.genesis = Genesis.decode(leaves[0]) if leaves else None
        except InvalidInputError as error:
            self._stop("leaf 0", f"is no genesis: {error}")
        if self.genesis is None or len(leaves) < GENESIS_LEAVES:
            self._stop("leaf 0", "the log ends before its genesis and first set")
        assert self.genesis is not None
        self._members = self.genesis.set_leaf()
        if leaves[1] != self._members.encode():
            self.report.contradict("blocks", "leaf 1", "is not the member set of the genesis")
        self.epochs = [Epoch(members=self._members, after_size=0, height=0)]
        self._parent = leaf_hash(leaves[0])
        self._time_ms = self.genesis.time_ms
        self._frontier = EMPTY_FRONTIER.extend(map(leaf_hash, leaves))

    def _block(self, index: int, leaf: bytes, reader: Iterator[tuple[int, bytes]]) -> Block:
        try:
            header = Header.decode(leaf)
        except InvalidInputError as error:
            self._stop(f"leaf {index}", f"is no block header, one must stand there: {error}")
        body = [each for _, each in _take(reader, header.n_leaves)]
        place = f"block {header.height} (leaf {index})"
        if len(body) != header.n_leaves:
            self.report.contradict(
                "blocks", place, f"n_leaves is {header.n_leaves}, the log ends after {len(body)}"
            )
        self._check_header(place, header, index, body)
        values = tuple(
            self._value(f"{place}, leaf {at}", each) for at, each in enumerate(body, index + 1)
        )
        voters = self._members
        assert voters is not None
        self._follow_set(place, header, body, values)
        self._parent = leaf_hash(leaf)
        self._frontier = self._frontier.extend([self._parent, *map(leaf_hash, body)])
        self._height, self._time_ms = header.height, header.time_ms
        count = self._count_transactions(place, index, values)
        self._check_limits(place, leaf, body[:count])
        self.report.counted["blocks"] += 1
        assert self._members is not None
        return Block(header, index, (leaf, *body), values, count, voters, self._members)

    def _check_header(self, place: str, header: Header, index: int, body: list[bytes]) -> None:
        assert self.genesis is not None
        assert self._members is not None
        for name, found, expected in (
            ("network", header.network, self.genesis.network_id.hex()),
            ("height", header.height, self._height + 1),
            ("parent", header.parent, self._parent.hex()),
            ("prev_size", header.prev_size, index),
            ("prev_root", header.prev_root, self._frontier.root().hex()),
            ("body_root", header.body_root, root(map(leaf_hash, body)).hex()),
            ("set", header.set, self._members.digest()),
            ("prev_epoch_height", header.prev_epoch_height, self._epoch_height),
        ):
            if found == expected or (name == "prev_root" and self._root_differs):
                continue  # every later header commits to the same wrong past: said once
            self._root_differs |= name == "prev_root"
            self.report.contradict(
                "blocks", place, f"{name} is {found}, what stands around gives {expected}"
            )
        if header.time_ms <= self._time_ms:
            self.report.contradict(
                "blocks", place, f"time_ms is {header.time_ms}, its parent's is {self._time_ms}"
            )
        if self._members.record_of(header.proposer) is None:
            self.report.contradict(
                "blocks", place, f"proposer {header.proposer} is no member of its set"
            )

    def _value(self, place: str, leaf: bytes) -> JsonObject:
        """Return what a leaf means; of one that is malformed only its kind, if it tells one."""
        assert self.genesis is not None
        value: JsonObject = {}
        try:
            value = canonical.loads_object(leaf, bytes_max=LEAF_BYTES_MAX)
            kind = str(value.get("t"))
            if kind not in DERIVED:
                decode_transaction(leaf, network_id=self.genesis.network_id)
            elif kind != "set":  # that one is looked at where the set is followed
                decode_outcome(leaf)
        except InvalidInputError as error:
            self.report.contradict("blocks", place, f"is no leaf: {error}")
            return {"malformed": str(value.get("t"))}
        return value

    def _count_transactions(self, place: str, index: int, values: tuple[JsonObject, ...]) -> int:
        """Return where the derived leaves begin; a transaction after one is out of order."""
        is_derived = [value.get("t", value.get("malformed", "")) in DERIVED for value in values]
        count = is_derived.index(True) if True in is_derived else len(values)
        if not all(is_derived[count:]):
            late = count + is_derived[count:].index(False)
            self.report.contradict(
                "blocks",
                f"{place}, leaf {index + 1 + late}",
                f"{values[late].get('t')!r:.40} stands after derived leaves",
            )
        return count

    def _check_limits(self, place: str, header: bytes, transactions: list[bytes]) -> None:
        size = len(header) + sum(len(each) + _PREFIX_BYTES for each in transactions)
        if size > BLOCK_BYTES_MAX:
            self.report.contradict("blocks", place, f"has {size} bytes, over {BLOCK_BYTES_MAX}")
        if len(transactions) > TRANSACTIONS_MAX:
            self.report.contradict(
                "blocks", place, f"has {len(transactions)} transactions, over {TRANSACTIONS_MAX}"
            )

    def _follow_set(
        self, place: str, header: Header, body: list[bytes], values: tuple[JsonObject, ...]
    ) -> None:
        """Hold ``next_set`` against the set leaf, and go on with that set."""
        before = self._members
        assert before is not None
        last_is_set = bool(values) and values[-1].get("t") == "set"
        if header.next_set == header.set:
            if last_is_set:
                self.report.contradict("sets", place, "has a set leaf, and next_set does not move")
            return
        if not last_is_set:
            self._stop(place, f"next_set is {header.next_set}, and its last leaf is no set")
        try:
            after = SetLeaf.decode(body[-1])
        except PyrsiaError as error:
            self._stop(place, f"its set leaf is malformed: {error}")
        for name, found, expected in (
            ("digest", after.digest(), header.next_set),
            ("epoch", after.epoch, before.epoch + 1),
            ("prev", after.prev, before.digest()),
        ):
            if found != expected:
                self.report.contradict(
                    "sets", place, f"set leaf: {name} is {found}, not {expected}"
                )
        self._members = after
        self._epoch_height = header.height
        self.epochs.append(Epoch(members=after, after_size=header.size, height=header.height))

    def _stop(self, place: str, what: str) -> NoReturn:
        self.report.contradict("blocks", place, what)
        raise UnreadableError


def _take(reader: Iterator[tuple[int, bytes]], count: int) -> list[tuple[int, bytes]]:
    return [each for _, each in zip(range(count), reader, strict=False)]
