"""Approvals: what a quorum of members must sign before an operation counts.

An operation is valid with the approvals of a quorum, all of the same subject, none expired. A
member never says no: its absence is the no, so that validity stays a function of the log.
Specification: docs/spec/leaves.md, "Approvals"; design: docs/design/ledger.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from consensus.types import NodeId
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.signing import OPERATION_TAG

APPROVED_OPERATIONS: Final = (
    "add_node",
    "add_source",
    "remove_node",
    "revoke",
    "rotate_key",
    "set_param",
    "withdraw",
)
"""Operations that need a quorum of approvals."""


def operation_subject(network_id: bytes, content: JsonObject) -> Sha256:
    """Return what members approve: SHA-256(tag | network id | canonical content).

    Args:
        network_id: The 32-byte id of the network.
        content: The operation without submitter and nonce, with member ``op``.
    """
    return sha256_of(OPERATION_TAG + network_id + canonical.dumps(content))


@dataclass(frozen=True, slots=True)
class Approve:
    """One member's yes to one operation.

    ``subject`` is the digest that the operation's class returns. ``since`` is the height up to
    which the member knew the log when it signed: a yes that is older than the last time that the
    operation happened was for that time. ``expiry`` is the last height of a block in which the
    approval counts.
    """

    kind: ClassVar[str] = "approve"
    by: NodeId
    op: str
    subject: Sha256
    since: int
    expiry: int

    @property
    def author(self) -> NodeId:
        """The member who must sign."""
        return self.by

    def to_json(self) -> JsonObject:
        """Return the transaction without signatures."""
        return {
            "by": self.by,
            "expiry": self.expiry,
            "op": self.op,
            "since": self.since,
            "subject": self.subject,
            "t": "approve",
            "v": 1,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Approve:
        """Return the approval that the object (without ``sigs``) spells.

        Raises:
            InvalidInputError: Not a legal approval.
        """
        got = Fields(value, "approve", _MEMBERS)
        got.schema("approve")
        return cls(
            by=parse_member_id(got, "by"),
            op=got.one_of("op", APPROVED_OPERATIONS),
            subject=got.sha256("subject"),
            since=got.integer("since", low=0, high=INTEGER_MAX),
            expiry=got.integer("expiry", low=1, high=INTEGER_MAX),
        )


_MEMBERS: Final = frozenset({"by", "expiry", "op", "since", "subject", "t", "v"})
