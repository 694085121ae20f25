"""Approvals as of the tip: what members said yes to and what has not happened yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.view import StateView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.ports import KeyValueReader


@dataclass(frozen=True, slots=True)
class Approval:
    """A member's yes to an operation that is not in the log yet.

    Whether it counts in a block depends on the set of its height: ``by`` must be a member then.

    Attributes:
        op: The operation's schema, such as ``add_node``.
        subject: What is approved: see ``subject`` of the operation's class.
        by: Who approves.
        expiry: The last height of a block in which it counts.
    """

    op: str
    subject: Sha256
    by: NodeId
    expiry: int


def read_approvals(state: KeyValueReader, *, height: int) -> Iterator[Approval]:
    """Yield what may count in a block of ``height``, by operation, subject and member."""
    view = StateView(state)
    for raw_key, _ in state.scan(records.APPROVAL_PREFIX.encode("ascii")):
        key = raw_key.decode("ascii")
        expiry = cast("int", view.get(key))
        if expiry >= height:
            op, subject, member = records.parse_approval_key(key)
            yield Approval(op, subject, member, expiry)
