"""Attest batches and results: when one is valid, and what it changes.

A member has one first item per request, f + 1 revisions while it is open, and one late item
after; its own roots never change. What a sealed request asks on top is in ``sealing``.
Specification: docs/spec/leaves.md, "Validity".
"""

from __future__ import annotations

from dataclasses import replace

from consensus.quorum import faults
from consensus.types import NodeId
from pyrsia_node.ledger.machine import records, sealing
from pyrsia_node.ledger.machine.context import BlockContext, BlockState, NotYetValidError
from pyrsia_node.ledger.machine.items import ItemRecord, Position
from pyrsia_node.ledger.machine.records import RequestRecord
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import BUILD_CLAIMS, Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.image_files import root_of
from pyrsia_node.model.limits import SEEN_SLACK_MS
from pyrsia_node.model.transactions import (
    BUILT,
    AttestBatch,
    BuiltItem,
    FailedItem,
    Item,
    Result,
)


def apply_batch(
    state: BlockState, context: BlockContext, batch: AttestBatch, *, leaf: int
) -> list[Sha256]:
    """Count the items of a batch, or refuse the whole batch and change nothing.

    Returns:
        The requests spoken of.

    Raises:
        NotYetValidError: An earlier batch or a request is not here yet.
        InvalidInputError: It breaks a rule; the text names it.
    """
    if batch.voter not in context.members:
        raise InvalidInputError(f"voter {batch.voter} is no authorized node")
    _check_sequence(last_sequence(state, batch.voter), batch.seq)
    # All items are judged before the first is written: a batch counts whole or not at all.
    counted = [
        (item.request, _next_item(state, context, batch.voter, item, (leaf, number)))
        for number, item in enumerate(batch.items)
    ]
    for request, item in counted:
        state.put_item(request, batch.voter, item)
    state.view.put(records.sequence_key(batch.voter), batch.seq)
    return [request for request, _ in counted]


def last_sequence(state: BlockState, member: str) -> int:
    """Return the number of a member's last batch; 0 before the first."""
    return state.integer(records.sequence_key(member)) or 0


def apply_result(state: BlockState, context: BlockContext, result: Result, *, leaf: int) -> None:
    """Take a document into the log, or refuse it and change nothing.

    Raises:
        NotYetValidError: The request or the voter's item that names the document is not here yet.
        InvalidInputError: It breaks a rule; the text names it.
    """
    if result.voter not in context.members:
        raise InvalidInputError(f"voter {result.voter} is no authorized node")
    digest = result.document.digest()
    record = state.request(result.request)
    if record is None:
        raise NotYetValidError(f"no build request {result.request} is in the log")
    if state.tally(result.request).state != records.OPEN:
        raise InvalidInputError(f"build request {result.request} is closed")
    _check_voter(record, result.request, result.voter)
    if state.view.has(records.document_key(digest)):
        raise InvalidInputError(f"document {digest} is in the log already")
    misfit = why_unfit(record, result.document)
    if misfit:
        raise InvalidInputError(misfit)
    item = state.item(result.request, result.voter)
    if item is None or item.result != digest:
        raise NotYetValidError(f"no counted item of {result.voter} names document {digest}")
    state.view.put(records.document_key(digest), leaf)


def why_unfit(record: RequestRecord, document: Document) -> str:
    """Return why the document is no answer to the request; empty if it is one."""
    if str(document.purl) != record.purl:
        return f"document is about {document.purl}, the request about {record.purl}"
    # A document says of its files what was asked for, and of none that it is more.
    claimed = {entry.claim for entry in document.files}
    if any((claim in claimed) != (record.claim == claim) for claim in BUILD_CLAIMS):
        return f"the document's claims do not fit the request's claim {record.claim!r}"
    if record.root and root_of(document.files).sha256 != record.root:
        return f"the document's root is not the one of the request, {record.root}"
    return ""


def _check_sequence(last: int, sequence: int) -> None:
    if sequence <= last:
        raise InvalidInputError(f"batch {sequence} of this voter is in the log already")
    if sequence > last + 1:
        raise NotYetValidError(f"batch {last + 1} of this voter must come before {sequence}")


def _check_voter(record: RequestRecord, request: str, voter: str) -> None:
    if voter not in record.members:
        raise InvalidInputError(f"{voter} was not authorized when request {request} opened")


def _next_item(
    state: BlockState, context: BlockContext, voter: NodeId, item: Item, at: Position
) -> ItemRecord:
    record = state.request(item.request)
    if record is None:
        raise NotYetValidError(f"no build request {item.request} is in the log")
    _check_voter(record, item.request, voter)
    before = state.item(item.request, voter)
    if record.is_sealed or item.salt:
        is_first = before is None
        sealing.check_opening(state, context, record, item, voter=voter, is_first=is_first)
    _check_sighting(context, record, item)
    is_open = state.tally(item.request).state == records.OPEN
    if before is None:
        return _first_item(item, at, is_late=not is_open)
    if isinstance(item, BuiltItem) and before.own and item.own != before.own:
        raise InvalidInputError(f"request {item.request}: the roots of the own build changed")
    if not is_open:
        return _late_item(before, item, at)
    return _revised_item(record, before, item, at)


def _check_sighting(context: BlockContext, record: RequestRecord, item: Item) -> None:
    """Check that who speaks of a tag says when it saw it, and nobody else speaks of sightings.

    Members' clocks decide nothing, but a sighting of another year is none of this request.

    Raises:
        InvalidInputError: A sighting is missing, or is none.
    """
    has_moved = isinstance(item, FailedItem) and bool(item.moved)
    if item.seen_ms is None:
        if record.is_sighting and isinstance(item, BuiltItem):
            raise InvalidInputError(
                f"request {item.request} is about a tag: a BUILT item says when it was seen"
            )
    elif not record.is_sighting:
        what = "MOVED is no answer" if has_moved else "nothing is seen"
        raise InvalidInputError(f"request {item.request} is about no tag: {what}")
    elif not (record.opened_ms - SEEN_SLACK_MS <= item.seen_ms <= context.time_ms + SEEN_SLACK_MS):
        raise InvalidInputError(
            f"request {item.request}: the tag was seen at {item.seen_ms} ms, more than"
            f" {SEEN_SLACK_MS} ms before it opened or after the block"
        )


def _first_item(item: Item, at: Position, *, is_late: bool) -> ItemRecord:
    if isinstance(item, BuiltItem):
        return ItemRecord(
            outcome=BUILT,
            at=at,
            first_at=at,
            result=item.result,
            first_result=item.result,
            level=item.level,
            own=item.own,
            is_late=is_late,
        )
    return ItemRecord(
        outcome=item.outcome,
        at=at,
        first_at=at,
        cause=item.cause,
        is_late=is_late,
        moved=item.moved,
        seen_ms=item.seen_ms if item.moved else None,
    )


def _revised_item(
    record: RequestRecord, before: ItemRecord, item: Item, at: Position
) -> ItemRecord:
    # A revision names another result or level for the same build. What failed stays failed while
    # the request is open: otherwise a member could wait with its roots until it saw others'.
    if not isinstance(item, BuiltItem) or not before.is_built:
        raise InvalidInputError(
            f"request {item.request}: only a BUILT item can be revised, and only to BUILT"
        )
    revisions_max = faults(len(record.members)) + 1
    if before.revisions >= revisions_max:
        raise InvalidInputError(
            f"request {item.request}: this voter has used its {revisions_max} revisions"
        )
    return replace(
        before, at=at, result=item.result, level=item.level, revisions=before.revisions + 1
    )


def _late_item(before: ItemRecord, item: Item, at: Position) -> ItemRecord:
    if before.is_late:
        raise InvalidInputError(f"request {item.request}: this voter has used its late item")
    if not isinstance(item, BuiltItem):
        if before.is_built:
            raise InvalidInputError(f"request {item.request}: a BUILT item cannot be taken back")
        late = _first_item(item, at, is_late=True)
        return replace(late, first_at=before.first_at, revisions=before.revisions)
    return replace(
        before,
        at=at,
        outcome=BUILT,
        result=item.result,
        level=item.level,
        own=item.own,
        cause="",
        is_late=True,
        moved="",
        seen_ms=None,
    )
