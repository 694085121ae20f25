"""Approvals: how members say yes to an operation, and when there are enough.

An approval counts while its member is in the set and until its expiry. The operation that it
carries spends it: the row goes, and the height at which the operation happened stays for as long
as an approval can live that was signed before. So nothing happens twice by one yes, whoever kept
it back, and what was carried no longer takes up the room of what is to come.
Specification: docs/spec/leaves.md, "Validity"; design: docs/design/ledger.md 9.
"""

from __future__ import annotations

from typing import Final

from consensus.quorum import quorum
from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import BlockContext, BlockState, NotYetValidError
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError

APPROVAL_HEIGHTS_MAX: Final = 100_000
"""How far its expiry may lie above the height at which an approval was signed."""

APPROVALS_MAX: Final = 64
"""Approvals of one member that may be neither expired nor spent."""


def approve(state: BlockState, context: BlockContext, approval: Approve) -> None:
    """Take an approval, or refuse it and change nothing.

    Raises:
        NotYetValidError: The member has too many approvals that may still count, or it knew a
            height that is to come.
        InvalidInputError: It breaks a rule; the text names it.
    """
    by, op, subject, expiry = approval.by, approval.op, approval.subject, approval.expiry
    if by not in context.members:
        raise InvalidInputError(f"{by} is no authorized node, so it approves nothing")
    _check_heights(state, context, approval)
    key = records.approval_key(op, subject, by)
    known = state.integer(key)
    if known is None:
        live = state.integer(records.approvals_key(by)) or 0
        if live >= APPROVALS_MAX:
            raise NotYetValidError(f"{by} has {live} approvals that are not expired and not used")
        state.view.put(records.approvals_key(by), live + 1)
    else:
        if expiry <= known:
            raise InvalidInputError(f"{by} approved {op} {subject} already, up to height {known}")
        state.view.delete(records.expiring_key(known, op, subject, by))
    state.view.put(key, expiry)
    state.view.put(records.expiring_key(expiry, op, subject, by), 1)


def _check_heights(state: BlockState, context: BlockContext, approval: Approve) -> None:
    since, expiry = approval.since, approval.expiry
    highest = since + APPROVAL_HEIGHTS_MAX
    if not context.height <= expiry <= highest:
        raise InvalidInputError(
            f"approval expires at height {expiry}; signed at height {since}, it must be "
            f"{context.height} to {highest} in the block of height {context.height}"
        )
    if since >= context.height:
        raise NotYetValidError(f"approval is of height {since}, which is not committed here")
    happened = state.integer(records.happened_key(approval.op, approval.subject))
    if happened is not None and since < happened:
        raise InvalidInputError(
            f"{approval.by} approved {approval.op} {approval.subject} at height {since} already; "
            f"it happened at height {happened}"
        )


def approvers(
    state: BlockState, *, op: str, subject: Sha256, members: tuple[NodeId, ...], height: int
) -> list[NodeId]:
    """Return the members whose approval of an operation counts at a height, sorted."""
    prefix = records.approval_prefix(op, subject)
    found = []
    for key in state.view.keys(prefix, up_to=f"{prefix}~"):
        expiry = state.integer(key)
        member = NodeId(key.removeprefix(prefix))
        if expiry is not None and expiry >= height and member in members:
            found.append(member)
    return found


def check_approved(
    state: BlockState, context: BlockContext, *, op: str, subject: Sha256
) -> list[NodeId]:
    """Check that a quorum of the current members approves; return who does, sorted.

    Raises:
        NotYetValidError: Approvals are missing; the text names the members that have not.
    """
    members = context.members
    given = approvers(state, op=op, subject=subject, members=members, height=context.height)
    needed = quorum(len(members))
    if len(given) < needed:
        missing = [member for member in members if member not in given]
        raise NotYetValidError(
            f"{op} {subject} has {len(given)} of {needed} approvals; not yet by "
            f"{', '.join(missing)}"
        )
    return given


def spend(state: BlockState, context: BlockContext, *, op: str, subject: Sha256) -> None:
    """Let no approval that was signed so far count again: the operation has happened."""
    prefix = records.approval_prefix(op, subject)
    for key in state.view.keys(prefix, up_to=f"{prefix}~"):
        expiry = state.integer(key)
        assert expiry is not None
        _drop(state, expiry, op=op, subject=subject, member=NodeId(key.removeprefix(prefix)))
    happened = records.happened_key(op, subject)
    before = state.integer(happened)
    if before is not None:
        state.view.delete(records.guarded_key(before + APPROVAL_HEIGHTS_MAX, op, subject))
    state.view.put(happened, context.height)
    # Whatever was signed before has expired after that many heights.
    state.view.put(records.guarded_key(context.height + APPROVAL_HEIGHTS_MAX, op, subject), 1)


def forget_expired(state: BlockState, height: int) -> None:
    """Drop, at the end of the block of ``height``, what says nothing in a later one."""
    for key in state.view.keys(records.EXPIRING_PREFIX, up_to=records.expiring_bound(height)):
        expiry, op, subject, member = records.parse_expiring_key(key)
        _drop(state, expiry, op=op, subject=subject, member=member)
    for key in state.view.keys(records.GUARDED_PREFIX, up_to=records.guarded_bound(height)):
        op, subject = records.parse_guarded_key(key)
        state.view.delete(key)
        state.view.delete(records.happened_key(op, subject))


def _drop(state: BlockState, expiry: int, *, op: str, subject: Sha256, member: NodeId) -> None:
    """Forget an approval that counts no more."""
    state.view.delete(records.expiring_key(expiry, op, subject, member))
    state.view.delete(records.approval_key(op, subject, member))
    live = state.integer(records.approvals_key(member))
    assert live
    if live == 1:
        state.view.delete(records.approvals_key(member))
    else:
        state.view.put(records.approvals_key(member), live - 1)
