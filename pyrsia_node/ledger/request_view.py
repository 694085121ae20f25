"""What the ledger knows of one build request, for those who build and those who watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import BlockState
from pyrsia_node.ledger.machine.items import ItemRecord
from pyrsia_node.ledger.machine.records import Slots
from pyrsia_node.ledger.machine.sealing import has_committed
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.transactions import BuildRequest
from pyrsia_node.ports import KeyValueReader


@dataclass(frozen=True, slots=True)
class RequestView:
    """A build request as of the tip.

    Attributes:
        id: The request's transaction id.
        request: What was asked.
        leaf: Leaf index of the request.
        opened_ms: Block time at which it opened.
        deadline_ms: Block time from which it is over.
        k: Equal answers that accept.
        members: Who may answer, sorted.
        items: The latest word of each member that spoke.
        documents: Those of the results named by items whose document is in the log.
        slots: The revision slots, once they run.
        outcome: ``accepted``, ``diverged``, ``failed`` or ``expired``; None while open.
        outcome_leaf: Leaf index of the outcome; None while open.
        is_sealed: Whether members commit to their items before they show them.
        committed: Those who did, sorted.
        unsealed_leaf: Leaf index from which on a sealed request's items are shown; None before.
    """

    id: Sha256
    request: BuildRequest
    leaf: int
    opened_ms: int
    deadline_ms: int
    k: int
    members: tuple[NodeId, ...]
    items: Mapping[NodeId, ItemRecord]
    documents: frozenset[Sha256]
    slots: Slots | None
    outcome: str | None
    outcome_leaf: int | None
    is_sealed: bool = False
    committed: tuple[NodeId, ...] = ()
    unsealed_leaf: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is no outcome yet."""
        return self.outcome is None

    @property
    def takes_commits(self) -> bool:
        """Whether members commit to their items now."""
        return self.is_open and self.is_sealed and self.unsealed_leaf is None

    @property
    def documents_needed(self) -> tuple[Sha256, ...]:
        """Results that members name and whose document is not in the log, sorted."""
        named = {Sha256(item.result) for item in self.items.values() if item.is_built}
        return tuple(sorted(named - self.documents))


def read_request(
    state: KeyValueReader, request_id: Sha256, request: BuildRequest
) -> RequestView | None:
    """Return the view of a request, or None if the state does not know it."""
    block_state = BlockState(StateView(state))
    record = block_state.request(request_id)
    if record is None:
        return None
    tally = block_state.tally(request_id)
    spoken = ((member, block_state.item(request_id, member)) for member in record.members)
    items = {member: item for member, item in spoken if item is not None}
    named = {Sha256(item.result) for item in items.values() if item.is_built}
    return RequestView(
        id=request_id,
        request=request,
        leaf=record.leaf,
        opened_ms=record.opened_ms,
        deadline_ms=record.deadline_ms,
        k=record.k,
        members=record.members,
        items=items,
        documents=frozenset(
            each for each in named if block_state.view.has(records.document_key(each))
        ),
        slots=tally.slots,
        outcome=None if tally.state == records.OPEN else tally.state.lower(),
        outcome_leaf=tally.outcome,
        is_sealed=record.is_sealed,
        committed=tuple(
            member
            for member in record.members
            if record.is_sealed and has_committed(block_state, request_id, member)
        ),
        unsealed_leaf=tally.unsealed,
    )
