"""Changes of the set and of parameters, and approvals, short to write in a test."""

from __future__ import annotations

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.ledger.motions import Approvable
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.members import MemberKeys, MemberRecord, SignedMember
from pyrsia_node.model.membership import (
    AddNode,
    JoinProof,
    RemoveNode,
    RotateKey,
    SetParam,
    sign_join,
)
from tests.strategies.identities import Identity


def approve(
    by: NodeId,
    operation: Approvable,
    network_id: bytes,
    *,
    expiry: int,
    since: int = 0,
) -> Approve:
    """Return a member's yes to an operation."""
    subject = operation.subject(network_id)
    return Approve(by, operation.kind, subject, since=since, expiry=expiry)


def proof(one: Identity, network_id: bytes, *, height: int, head: Head) -> JoinProof:
    return sign_join(
        one.member.record,
        network_id=network_id,
        height=height,
        size=head.size,
        root=head.root,
        sign=one.sign["tx"],
    )


def add(by: NodeId, newcomer: Identity, network_id: bytes, *, height: int, head: Head) -> AddNode:
    """Return the operation that adds a newcomer, whose proof is of a head of the log."""
    return AddNode(by, newcomer.member, proof(newcomer, network_id, height=height, head=head))


def remove(by: NodeId, node: NodeId, *, nonce: int = 0) -> RemoveNode:
    return RemoveNode(by, node, f"{nonce:032x}")


def set_param(by: NodeId, name: str, value: int, *, nonce: int = 0) -> SetParam:
    return SetParam(by, name, value, f"{nonce:032x}")


def renewed(old: MemberRecord, fresh: Identity, *, label: str | None = None) -> Identity:
    """Return member ``old`` with the keys of ``fresh``: same id, same label, all signed anew."""
    keys: MemberKeys = fresh.member.record.keys
    record = MemberRecord(id=old.id, label=label or old.label, keys=keys)
    message = record.signed_bytes()
    signatures = tuple(fresh.sign[name](message) for name in keys.named())
    return Identity(SignedMember(record, signatures), fresh.sign)


def rotate(after: Identity, network_id: bytes, *, height: int, head: Head) -> RotateKey:
    """Return the operation that gives a member the keys of ``after``."""
    return RotateKey(after.member, proof(after, network_id, height=height, head=head))
