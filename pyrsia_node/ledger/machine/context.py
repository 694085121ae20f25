"""What a transaction is judged against: the block it stands in and the state before it.

``BlockState`` is the typed door to the state; only the modules of this package go through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.records import ItemRecord, RequestRecord, SponsorRecord, Tally
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import Params

LeafReader = Callable[[int], bytes]
"""Returns the bytes of a leaf of the log that lies before the block."""


class NotYetValidError(InvalidInputError):
    """The transaction breaks a rule that time or another transaction can satisfy.

    A block that holds it is invalid all the same; a mempool keeps it and asks again later.
    """


@dataclass(frozen=True, slots=True)
class BlockContext:
    """The block in which transactions stand.

    Attributes:
        time_ms: Its block time.
        first_leaf: Leaf index of its header.
        members: Ids of the set that votes on it, sorted.
        next_members: Ids of the set of the next height, sorted.
        params: The network's parameters.
    """

    time_ms: int
    first_leaf: int
    members: tuple[NodeId, ...]
    next_members: tuple[NodeId, ...]
    params: Params


class BlockState:
    """Typed reads and writes of one block. Decoded records are kept for the block's length."""

    __slots__ = ("_items", "_requests", "_tallies", "view")

    def __init__(self, view: StateView) -> None:
        """Work on ``view``."""
        self.view = view
        self._requests: dict[str, RequestRecord] = {}
        self._tallies: dict[str, Tally] = {}
        self._items: dict[tuple[str, str], ItemRecord] = {}

    def request(self, request: str) -> RequestRecord | None:
        """Return a request's record, or None if no such request was ordered."""
        record = self._requests.get(request)
        if record is None:
            value = self.view.get(records.request_key(request))
            if value is None:
                return None
            record = self._requests[request] = RequestRecord.from_json(value)
        return record

    def put_request(self, request: str, record: RequestRecord) -> None:
        """Set a new request's record."""
        self._requests[request] = record
        self.view.put(records.request_key(request), record.to_json())

    def tally(self, request: str) -> Tally:
        """Return the tally of a request that exists."""
        tally = self._tallies.get(request)
        if tally is None:
            value = self.view.get(records.tally_key(request))
            assert value is not None, f"request {request} has no tally"
            tally = self._tallies[request] = Tally.from_json(value)
        return tally

    def put_tally(self, request: str, tally: Tally) -> None:
        """Set a request's tally."""
        self._tallies[request] = tally
        self.view.put(records.tally_key(request), tally.to_json())

    def item(self, request: str, member: str) -> ItemRecord | None:
        """Return what a member said of a request, or None."""
        item = self._items.get((request, member))
        if item is None:
            value = self.view.get(records.item_key(request, member))
            if value is None:
                return None
            item = self._items[request, member] = ItemRecord.from_json(value)
        return item

    def put_item(self, request: str, member: str, item: ItemRecord) -> None:
        """Set what a member says of a request."""
        self._items[request, member] = item
        self.view.put(records.item_key(request, member), item.to_json())

    def sponsor(self, sponsor: str) -> SponsorRecord | None:
        """Return a sponsor's limits, or None if it never asked."""
        value = self.view.get(records.sponsor_key(sponsor))
        return None if value is None else SponsorRecord.from_json(value)

    def put_sponsor(self, sponsor: str, record: SponsorRecord) -> None:
        """Set a sponsor's limits."""
        self.view.put(records.sponsor_key(sponsor), record.to_json())

    def integer(self, key: str) -> int | None:
        """Return a value that is an integer, or None if the key has none."""
        value = self.view.get(key)
        assert value is None or isinstance(value, int)
        return value
