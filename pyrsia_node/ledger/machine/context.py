"""What a transaction is judged against: the block it stands in and the state before it.

``BlockState`` is the typed door to the state; only the modules of this package go through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.items import ItemRecord
from pyrsia_node.ledger.machine.params import ParamsInForce
from pyrsia_node.ledger.machine.records import RequestRecord, SponsorRecord, Tally
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import Params
from pyrsia_node.model.members import SetLeaf

CACHED_RECORDS_MAX: Final = 8_192
"""Records of one kind that a cache may hold; an item is about a kilobyte in memory."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log after a block: tree size and root."""

    size: int
    root: Sha256


class History(Protocol):
    """What lies before the block, the same on every node. Heights up to the parent's."""

    def leaf(self, index: int) -> bytes:
        """Return the bytes of a leaf that the log has."""
        ...

    def head_at(self, height: int) -> Head | None:
        """Return the log after a height; None if no block of that height is committed."""
        ...

    def voters_at(self, height: int) -> SetLeaf | None:
        """Return the set that votes on a height up to that of the block; None beyond it."""
        ...

    def set_hash_at(self, height: int) -> Sha256 | None:
        """Return the hash of the set of ``voters_at``, for less."""
        ...


class NotYetValidError(InvalidInputError):
    """The transaction breaks a rule that time or another transaction can satisfy.

    A block that holds it is invalid all the same; a mempool keeps it and asks again later.
    """


@dataclass(frozen=True, slots=True)
class BlockContext:
    """The block in which transactions stand.

    Attributes:
        network_id: The 32-byte id of the network.
        height: Its height.
        time_ms: Its block time.
        first_leaf: Leaf index of its header.
        voters: The set that votes on it.
        members: Ids of that set, sorted.
        in_force: The network's parameters in this block.
    """

    network_id: bytes
    height: int
    time_ms: int
    first_leaf: int
    voters: SetLeaf
    members: tuple[NodeId, ...]
    in_force: ParamsInForce

    @property
    def params(self) -> Params:
        """The parameters that the genesis has, as they are in this block."""
        return self.in_force.params


class RecordCache:
    """Decoded records of the committed state, by key; or those that a block has written.

    Whoever keeps one from block to block must ``forget`` what each committed block changes: a
    stale record would make this node execute another block than the others.
    """

    __slots__ = ("items", "requests", "silent", "tallies")

    def __init__(self) -> None:
        """Start empty."""
        self.requests: dict[str, RequestRecord] = {}
        self.tallies: dict[str, Tally] = {}
        self.items: dict[str, ItemRecord] = {}
        # Keys of items that nobody wrote yet: most members are silent most of the time.
        self.silent: set[str] = set()

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what was committed anew under ``keys``."""
        for key in keys:
            self.requests.pop(key, None)
            self.tallies.pop(key, None)
            self.items.pop(key, None)
            self.silent.discard(key)

    def trim(self) -> None:
        """Empty what grew too large; it fills again with what is in use."""
        for kind in (self.requests, self.tallies, self.items, self.silent):
            if len(kind) > CACHED_RECORDS_MAX:
                kind.clear()


class BlockState:
    """Typed reads and writes of one block."""

    __slots__ = ("_known", "_written", "view")

    def __init__(self, view: StateView, known: RecordCache | None = None) -> None:
        """Work on ``view``; ``known`` holds records of exactly the state below it."""
        self.view = view
        self._known = known if known is not None else RecordCache()
        self._known.trim()
        # Apart from what is known of the committed state: this block may never be committed.
        self._written = RecordCache()

    def request(self, request: str) -> RequestRecord | None:
        """Return a request's record, or None if no such request was ordered."""
        key = records.request_key(request)
        record = self._written.requests.get(key) or self._known.requests.get(key)
        if record is None:
            value = self.view.get(key)
            if value is None:
                return None
            record = self._known.requests[key] = RequestRecord.from_json(value)
        return record

    def put_request(self, request: str, record: RequestRecord) -> None:
        """Set a new request's record."""
        key = records.request_key(request)
        self._written.requests[key] = record
        self.view.put_record(key, record)

    def tally(self, request: str) -> Tally:
        """Return the tally of a request that exists."""
        key = records.tally_key(request)
        tally = self._written.tallies.get(key) or self._known.tallies.get(key)
        if tally is None:
            value = self.view.get(key)
            assert value is not None, f"request {request} has no tally"
            tally = self._known.tallies[key] = Tally.from_json(value)
        return tally

    def put_tally(self, request: str, tally: Tally) -> None:
        """Set a request's tally."""
        key = records.tally_key(request)
        self._written.tallies[key] = tally
        self.view.put_record(key, tally)

    def item(self, request: str, member: str) -> ItemRecord | None:
        """Return what a member said of a request, or None."""
        key = records.item_key(request, member)
        item = self._written.items.get(key) or self._known.items.get(key)
        if item is None:
            value = None if key in self._known.silent else self.view.get(key)
            if value is None:
                self._known.silent.add(key)
                return None
            item = self._known.items[key] = ItemRecord.from_json(value)
        return item

    def put_item(self, request: str, member: str, item: ItemRecord) -> None:
        """Set what a member says of a request."""
        key = records.item_key(request, member)
        self._written.items[key] = item
        self.view.put_record(key, item)

    def sponsor(self, sponsor: str) -> SponsorRecord | None:
        """Return a sponsor's limits, or None if it never asked."""
        value = self.view.get(records.sponsor_key(sponsor))
        return None if value is None else SponsorRecord.from_json(value)

    def put_sponsor(self, sponsor: str, record: SponsorRecord) -> None:
        """Set a sponsor's limits."""
        self.view.put_record(records.sponsor_key(sponsor), record)

    def integer(self, key: str) -> int | None:
        """Return a value that is an integer, or None if the key has none."""
        value = self.view.get(key)
        assert value is None or isinstance(value, int)
        return value
