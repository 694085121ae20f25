"""Changes of the set and of the parameters: when one is valid, and what it changes.

All hold from the next height on: the block that orders a change is still decided by the set before
it. A block holds at most one. Specification: docs/spec/leaves.md, "Validity"; design:
docs/design/ledger.md 9.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from pyrsia_node.ledger.machine import approvals, records
from pyrsia_node.ledger.machine.context import (
    BlockContext,
    BlockState,
    History,
    NotYetValidError,
)
from pyrsia_node.ledger.machine.params import ParamsInForce
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import LEAF_BYTES_MAX, MEMBERS_MAX
from pyrsia_node.model.members import MemberRecord, SetLeaf, check_distinct
from pyrsia_node.model.membership import (
    JOIN_HEIGHTS_MAX,
    AddNode,
    JoinProof,
    MembershipOperation,
    RemoveNode,
    RotateKey,
    SetParam,
)


@dataclass(frozen=True, slots=True)
class SetChanged:
    """The set of the next height, with the operation that made it."""

    after: SetLeaf


@dataclass(frozen=True, slots=True)
class ParamChanged:
    """The parameters of the next height."""

    after: ParamsInForce


Changed = SetChanged | ParamChanged


def apply_change(
    state: BlockState,
    context: BlockContext,
    history: History,
    operation: MembershipOperation,
    *,
    transaction_id: Sha256,
    leaf: int,
) -> Changed:
    """Apply an operation, or refuse it and change nothing.

    Args:
        state: The state before it.
        context: The block, which holds no other change.
        history: What lies before the block, for the join proof.
        operation: What to do; the signatures inside it are the caller's to check.
        transaction_id: Its id.
        leaf: Index of its leaf.

    Raises:
        NotYetValidError: Approvals are missing, or the join proof is of a height to come.
        InvalidInputError: It breaks a rule; the text names it.
    """
    if operation.author not in context.members:
        raise InvalidInputError(f"{operation.author} is no authorized node")
    if state.view.has(records.change_key(transaction_id)):
        raise InvalidInputError(f"change {transaction_id} is in the log already")
    changed: Changed
    if isinstance(operation, SetParam):
        changed = ParamChanged(context.in_force.changed(operation.name, operation.value))
    else:
        changed = SetChanged(_next_set(state, context, history, operation))
    subject = operation.subject(context.network_id)
    approvals.check_approved(state, context, op=operation.kind, subject=subject)

    approvals.spend(state, context, op=operation.kind, subject=subject)
    state.view.put(records.change_key(transaction_id), leaf)
    match operation:
        case SetParam():
            state.view.put(records.param_key(operation.name), operation.value)
        case RemoveNode():
            record = _record_of(context.voters, operation.node)
            _hold_keys(state, record.keys.named().values(), holder=record.id)
        case RotateKey():
            before = _record_of(context.voters, operation.author).keys.named().values()
            kept = operation.member.record.keys.named().values()
            retired = [key for key in before if key not in kept]
            _hold_keys(state, retired, holder=records.RETIRED)
        case AddNode():
            pass
        case _:
            assert_never(operation)
    return changed


def _next_set(
    state: BlockState,
    context: BlockContext,
    history: History,
    operation: AddNode | RemoveNode | RotateKey,
) -> SetLeaf:
    """Return the set after an operation, if it and the operation break no rule."""
    after = _set_after(context.voters, _members_after(state, context, operation))
    if not isinstance(operation, RemoveNode):
        # Last, because it is the one rule here that time can satisfy.
        _check_proof(context, history, operation.proof)
    return after


def _members_after(
    state: BlockState, context: BlockContext, operation: AddNode | RemoveNode | RotateKey
) -> Iterable[MemberRecord]:
    members = {record.id: record for record in context.voters.members}
    match operation:
        case AddNode(member=member):
            record = member.record
            if record.id in members:
                raise InvalidInputError(f"{record.id} is an authorized node already")
            _check_keys(state, record)
            members[record.id] = record
        case RemoveNode(node=node):
            _record_of(context.voters, node)
            del members[node]
            if not members:
                raise InvalidInputError(f"{node} is the last authorized node")
        case RotateKey(member=member):
            record = member.record
            before = _record_of(context.voters, record.id)
            if record.label != before.label:
                raise InvalidInputError(
                    f"a rotation keeps the label: it is {before.label}, not {record.label}"
                )
            if record.keys == before.keys:
                raise InvalidInputError(f"the keys of {record.id} are these already")
            _check_keys(state, record)
            members[record.id] = record
        case _:
            assert_never(operation)
    return members.values()


def _set_after(before: SetLeaf, members: Iterable[MemberRecord]) -> SetLeaf:
    after = SetLeaf(
        epoch=before.epoch + 1,
        prev=before.digest(),
        members=tuple(sorted(members, key=lambda record: record.id)),
    )
    if len(after.members) > MEMBERS_MAX:
        raise InvalidInputError(f"a set has at most {MEMBERS_MAX} members")
    check_distinct(after.members)
    # A block that had to end with an illegal leaf would stop the log for ever.
    size = len(after.encode())
    if size > LEAF_BYTES_MAX:
        raise InvalidInputError(f"the set leaf would have {size} bytes, over {LEAF_BYTES_MAX}")
    return after


def _record_of(members: SetLeaf, node: str) -> MemberRecord:
    record = members.record_of(node)
    if record is None:
        raise InvalidInputError(f"{node} is no authorized node")
    return record


def _check_keys(state: BlockState, record: MemberRecord) -> None:
    """Check that no key was retired, or was another member's: a key means one member for ever."""
    for name, key in record.keys.named().items():
        holder = state.view.get(records.key_key(key))
        if holder not in (None, record.id):
            owner = f"was of member {holder}" if holder else "was retired by a rotation"
            raise InvalidInputError(f"key {name} of {record.id} ({key.hex()}) {owner}")


def _hold_keys(state: BlockState, keys: Iterable[bytes], *, holder: str) -> None:
    for key in keys:
        state.view.put(records.key_key(key), holder)


def _check_proof(context: BlockContext, history: History, proof: JoinProof) -> None:
    """Check that the proof names a recent head of this log."""
    oldest = context.height - JOIN_HEIGHTS_MAX
    if proof.height < oldest:
        raise InvalidInputError(
            f"the join proof is of height {proof.height}; at height {context.height} it must be "
            f"of {max(0, oldest)} or later"
        )
    head = history.head_at(proof.height) if proof.height < context.height else None
    if head is None:
        raise NotYetValidError(
            f"the join proof is of height {proof.height}, which is not committed here"
        )
    if (head.size, head.root) != (proof.size, proof.root):
        raise InvalidInputError(
            f"the join proof says size {proof.size} root {proof.root} at height {proof.height}; "
            f"the log has size {head.size} root {head.root}"
        )
