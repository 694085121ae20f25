"""Operations that members have yet to approve: could approvals make this one valid?

An ``approve`` in the log names a digest, so the ledger cannot judge what it is for. Whoever holds
the content can, before anybody's yes is spent on it. Specification: docs/spec/leaves.md,
"Validity".
"""

from __future__ import annotations

from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.execute import Machine
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.membership import AddNode, MembershipOperation, RotateKey
from pyrsia_node.model.signing import SIGNATURE_BYTES, Verify
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.model.transactions import sign_transaction

Approvable = MembershipOperation | Withdraw | Revoke | AddSource
"""What needs the approvals of a quorum."""


def check_motion(
    machine: Machine, operation: Approvable, *, network_id: bytes, size: int, verify: Verify
) -> None:
    """Judge an operation by every rule but the one that asks for approvals.

    Args:
        machine: Of the next block, empty; it is used up.
        operation: By a member. A join proof of a height to come leaves it to be judged by its
            other rules.
        network_id: The 32-byte id of the network.
        size: Leaves in the log: what is withdrawn must be one of them.
        verify: The check of the signatures inside a member record.

    Raises:
        InvalidInputError: No approval would make it valid; the text names the rule.
    """
    if isinstance(operation, Withdraw) and operation.entry >= size:
        raise InvalidInputError(f"there is no entry {operation.entry}: the log has {size} leaves")
    try:
        if isinstance(operation, AddNode):
            operation.member.verify(verify)
        elif isinstance(operation, RotateKey):
            operation.member.verify_keys(verify)
        # Nobody has signed it yet, and the machine leaves that signature to its callers.
        machine.apply(
            sign_transaction(
                operation, network_id=network_id, sign=lambda _message: bytes(SIGNATURE_BYTES)
            )
        )
    except VerificationError as error:
        raise InvalidInputError(str(error)) from None
    except NotYetValidError:
        return
