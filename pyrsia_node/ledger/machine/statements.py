"""Statements about entries: withdraw, revoke, deprecate, vulnerable. When one is valid.

``withdraw`` and ``revoke`` close a door and need a quorum, so that no single member can take a
package from everybody. ``deprecate`` and ``vulnerable`` are one member's word: they advise and
close nothing; a limit a day keeps one member from flooding the log with them.
Specification: docs/spec/leaves.md, "Validity"; for admins: docs/guides/statements.md.
"""

from __future__ import annotations

from typing import Final, cast

from pyrsia_node.ledger.machine import approvals, records
from pyrsia_node.ledger.machine.context import (
    BlockContext,
    BlockState,
    History,
    NotYetValidError,
)
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.model.statements import Deprecate, Revoke, Statement, Vulnerable, Withdraw

ADVICE_PER_DAY_MAX: Final = 200
"""Pieces of advice of one member whose block times lie in the same day (UTC)."""

_DAY_MS: Final = 24 * 3_600_000


def apply_statement(
    state: BlockState,
    context: BlockContext,
    history: History,
    statement: Statement,
    *,
    transaction_id: Sha256,
    leaf: int,
) -> None:
    """Take a statement into the log, or refuse it and change nothing.

    Args:
        state: The state before it.
        context: The block.
        history: What lies before the block, for the entry that is withdrawn.
        statement: What is said.
        transaction_id: Its id.
        leaf: Index of its leaf.

    Raises:
        NotYetValidError: Approvals are missing, or the member has said enough for a day.
        InvalidInputError: It breaks a rule; the text names it.
    """
    if statement.by not in context.members:
        raise InvalidInputError(f"{statement.by} is no authorized node, so it states nothing")
    if state.view.has(records.statement_key(transaction_id)):
        raise InvalidInputError(f"statement {transaction_id} is in the log already")
    match statement:
        case Withdraw():
            _check_entry(context, history, statement)
            _close(state, context, statement, records.withdrawn_key(statement.entry), leaf=leaf)
        case Revoke():
            _close(state, context, statement, records.revoked_key(statement.sha256), leaf=leaf)
        case Deprecate() | Vulnerable():
            _advise(state, context, statement)
    state.view.put(records.statement_key(transaction_id), leaf)


def _check_entry(context: BlockContext, history: History, statement: Withdraw) -> None:
    """Check that there is such an entry; the index of a leaf alone says nothing to a reader."""
    if statement.entry >= context.first_leaf:
        raise NotYetValidError(f"there is no entry {statement.entry} before this block")
    try:
        entry = decode_outcome(history.leaf(statement.entry))
    except InvalidInputError:
        entry = None
    if not isinstance(entry, Accepted):
        raise InvalidInputError(f"entry {statement.entry} is no accepted build")
    if entry.document.purl != statement.purl:
        raise InvalidInputError(
            f"entry {statement.entry} is of {entry.document.purl}, not of {statement.purl}"
        )


def _close(
    state: BlockState, context: BlockContext, statement: Withdraw | Revoke, key: str, *, leaf: int
) -> None:
    before = state.integer(key)
    if before is not None:
        raise InvalidInputError(f"leaf {before} says {statement.kind} already")
    subject = statement.subject(context.network_id)
    approvals.check_approved(state, context, op=statement.kind, subject=subject)
    approvals.spend(state, context, op=statement.kind, subject=subject)
    state.view.put(key, leaf)


def _advise(state: BlockState, context: BlockContext, statement: Deprecate | Vulnerable) -> None:
    key, day = records.advice_key(statement.by), context.time_ms // _DAY_MS
    before = cast("JsonObject | None", state.view.get(key))
    count = cast("int", before["count"]) if before is not None and before["day"] == day else 0
    if count >= ADVICE_PER_DAY_MAX:
        raise NotYetValidError(
            f"{statement.by} has given {count} pieces of advice today; it may give"
            f" {ADVICE_PER_DAY_MAX} a day"
        )
    state.view.put(key, {"count": count + 1, "day": day})
