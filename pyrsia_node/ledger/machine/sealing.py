"""Sealed requests: members commit to their items before anybody shows one.

Commits are taken until an ``unsealed`` leaf stands in the log; only after it are items valid, and
only those that open a commit. So whoever waits to see what others say has nothing to open, and its
word is not counted. The border is a leaf and not a time, because clocks differ: a member that sees
the leaf knows that no commit can come any more.
Specification: docs/spec/leaves.md, "Validity" and "Outcomes"; design: docs/design/ledger.md 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import BlockContext, BlockState, NotYetValidError
from pyrsia_node.ledger.machine.records import RequestRecord, Tally
from pyrsia_node.ledger.machine.tally import Overdue, Unbuildable
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.sealing import commitment
from pyrsia_node.model.transactions import AttestCommit, Item

PATIENCE_SHARE: Final = 16
"""Part of the time class for which the slower members are waited for at least."""

REVEAL_SHARE: Final = 4
"""Part of the time class, at its end, that stays for the items."""


@dataclass(frozen=True, slots=True)
class Unseal:
    """Commits are over; these members made one."""

    committed: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class StillSealed:
    """Commits are taken on: until when, once k have come, and when something falls due."""

    seal_ends_ms: int | None
    due_ms: int


SealFinding = Unseal | StillSealed | Unbuildable | Overdue


def apply_commit(state: BlockState, context: BlockContext, commit: AttestCommit) -> None:
    """Take a commit, or refuse it and change nothing.

    Raises:
        NotYetValidError: The request is not here yet.
        InvalidInputError: It breaks a rule; the text names it.
    """
    voter, request = commit.voter, commit.request
    if voter not in context.members:
        raise InvalidInputError(f"voter {voter} is no authorized node")
    record = state.request(request)
    if record is None:
        raise NotYetValidError(f"no build request {request} is in the log")
    if not record.is_sealed:
        raise InvalidInputError(f"build request {request} is not sealed: it takes no commits")
    if voter not in record.members:
        raise InvalidInputError(f"{voter} was not authorized when request {request} opened")
    tally = state.tally(request)
    if tally.state != records.OPEN:
        raise InvalidInputError(f"build request {request} is closed")
    if tally.unsealed is not None:
        raise InvalidInputError(
            f"build request {request} takes no commits any more: it was unsealed at index "
            f"{tally.unsealed}"
        )
    if has_committed(state, request, voter):
        raise InvalidInputError(f"{voter} has committed to its item of request {request} already")
    state.view.put(records.commit_key(request, voter), commit.commit)


def has_committed(state: BlockState, request: str, member: str) -> bool:
    """Tell whether a member made a commit for a request."""
    return state.view.has(records.commit_key(request, member))


def check_opening(
    state: BlockState,
    context: BlockContext,
    record: RequestRecord,
    item: Item,
    *,
    voter: NodeId,
    is_first: bool,
) -> None:
    """Check that an item opens its voter's commit exactly where it must.

    That is the first item of a member that committed. Late, an item may come without a commit:
    it can show that its voter built something else, and nothing more.

    Raises:
        NotYetValidError: The request is sealed still, or open and the voter made no commit.
        InvalidInputError: The salt is missing, is too much, or opens another commit.
    """
    request = item.request
    commit = None
    if record.is_sealed and is_first:
        tally = state.tally(request)
        commit = state.view.get(records.commit_key(request, voter))
        if tally.state == records.OPEN and tally.unsealed is None:
            raise NotYetValidError(f"request {request} is sealed: members commit, nobody shows")
        if tally.state == records.OPEN and commit is None:
            raise NotYetValidError(f"{voter} made no commit for request {request} in its time")
    if commit is None:
        if item.salt:
            raise InvalidInputError(f"request {request}: the item's salt opens no commit")
        return
    if not item.salt:
        raise InvalidInputError(f"request {request}: the item lacks the salt of its commit")
    opened = commitment(item, voter=voter, network_id=context.network_id)
    if opened != commit:
        raise InvalidInputError(f"request {request}: the item opens {opened}, not {commit}")


def evaluate_seal(
    record: RequestRecord,
    tally: Tally,
    *,
    committed: tuple[NodeId, ...],
    missing: tuple[NodeId, ...],
    time_ms: int,
) -> SealFinding:
    """Return what a sealed OPEN request comes to at a block time.

    Once k commits have come, the others get as long again as the k-th took, so that a slow but
    honest member still counts; without a missing member nobody is waited for.

    Args:
        record: The request.
        tally: Its tally so far.
        committed: The members of V_open and of the next set that committed.
        missing: Those that did not.
        time_ms: Time of the block whose transactions have been counted.
    """
    if len(committed) + len(missing) < record.k:
        return Unbuildable(())
    if time_ms >= record.deadline_ms:
        return Overdue(missing)
    ends_ms = tally.seal_ends_ms
    if len(committed) < record.k:
        return StillSealed(ends_ms, record.deadline_ms)
    if ends_ms is None:
        patience_ms = max(time_ms - record.opened_ms, record.class_ms // PATIENCE_SHARE)
        latest_ms = record.deadline_ms - record.class_ms // REVEAL_SHARE
        ends_ms = min(time_ms + patience_ms, latest_ms)
    if not missing or time_ms >= ends_ms:
        return Unseal(committed)
    return StillSealed(ends_ms, ends_ms)
