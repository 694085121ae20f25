"""Approvals: how members say yes to an operation, and when there are enough.

An approval counts while its member is in the set and until its expiry; it is spent by the
operation that it carried, so that nothing happens twice by one yes. What was spent stays known
until it expires, so that an old approval cannot be put in again.
Specification: docs/spec/leaves.md, "Validity"; design: docs/design/ledger.md 9.
"""

from __future__ import annotations

from typing import Final, cast

from consensus.quorum import quorum
from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import BlockContext, BlockState, NotYetValidError
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError

APPROVAL_HEIGHTS_MAX: Final = 100_000
"""How far its expiry may lie above the height of the block that orders an approval."""

APPROVALS_MAX: Final = 64
"""Approvals of one member that may be unexpired."""


def approve(state: BlockState, context: BlockContext, approval: Approve) -> None:
    """Take an approval, or refuse it and change nothing.

    Raises:
        NotYetValidError: The member has too many approvals that are not expired.
        InvalidInputError: It breaks a rule; the text names it.
    """
    by, expiry = approval.by, approval.expiry
    if by not in context.members:
        raise InvalidInputError(f"{by} is no authorized node, so it approves nothing")
    if not context.height <= expiry <= context.height + APPROVAL_HEIGHTS_MAX:
        raise InvalidInputError(
            f"approval expires at height {expiry}; at height {context.height} it must be "
            f"{context.height} to {context.height + APPROVAL_HEIGHTS_MAX}"
        )
    key = records.approval_key(approval.op, approval.subject, by)
    before = cast("JsonObject | None", state.view.get(key))
    live = state.integer(records.approvals_key(by)) or 0
    if before is None:
        if live >= APPROVALS_MAX:
            raise NotYetValidError(f"{by} has {live} approvals that are not expired")
        state.view.put(records.approvals_key(by), live + 1)
    else:
        known = cast("int", before["expiry"])
        if expiry <= known:
            raise InvalidInputError(
                f"{by} approved {approval.op} {approval.subject} already, up to height {known}"
            )
        state.view.delete(records.expiring_key(known, approval.op, approval.subject, by))
    state.view.put(key, {"expiry": expiry, "spent": False})
    state.view.put(records.expiring_key(expiry, approval.op, approval.subject, by), 1)


def approvers(
    state: BlockState, *, op: str, subject: Sha256, members: tuple[NodeId, ...], height: int
) -> list[NodeId]:
    """Return the members whose approval of an operation counts at a height, sorted."""
    prefix = records.approval_prefix(op, subject)
    found = []
    for key in state.view.keys(prefix, up_to=f"{prefix}~"):
        record = cast("JsonObject", state.view.get(key))
        member = NodeId(key.removeprefix(prefix))
        is_live = not record["spent"] and cast("int", record["expiry"]) >= height
        if is_live and member in members:
            found.append(member)
    return found


def check_approved(state: BlockState, context: BlockContext, *, op: str, subject: Sha256) -> None:
    """Check that a quorum of the current members approves.

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


def spend(state: BlockState, *, op: str, subject: Sha256) -> None:
    """Let no approval of an operation count again: it has happened."""
    prefix = records.approval_prefix(op, subject)
    for key in state.view.keys(prefix, up_to=f"{prefix}~"):
        record = cast("JsonObject", state.view.get(key))
        state.view.put(key, {"expiry": record["expiry"], "spent": True})


def forget_expired(state: BlockState, height: int) -> None:
    """Drop, at the end of the block of ``height``, what cannot count in a later one."""
    bound = records.expiring_bound(height)
    for key in state.view.keys(records.EXPIRING_PREFIX, up_to=bound):
        _, op, subject, member = records.parse_expiring_key(key)
        state.view.delete(key)
        state.view.delete(records.approval_key(op, subject, member))
        live = state.integer(records.approvals_key(member))
        assert live
        if live == 1:
            state.view.delete(records.approvals_key(member))
        else:
            state.view.put(records.approvals_key(member), live - 1)
