"""Statements about entries: withdraw, revoke, deprecate, vulnerable. When one is valid.

Specification: docs/spec/leaves.md, "Validity".
"""

from __future__ import annotations

from pyrsia_node.ledger.machine.context import BlockContext, BlockState
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.statements import Statement


def apply_statement(
    state: BlockState,
    context: BlockContext,
    statement: Statement,
    *,
    transaction_id: Sha256,
    leaf: int,
) -> None:
    """Take a statement into the log, or refuse it and change nothing.

    Args:
        state: The state before it.
        context: The block.
        statement: What is said.
        transaction_id: Its id.
        leaf: Index of its leaf.

    Raises:
        NotYetValidError: Approvals are missing.
        InvalidInputError: It breaks a rule; the text names it.
    """
    del state, context, transaction_id, leaf
    raise InvalidInputError(f"{statement.kind} is not valid in this network yet")
