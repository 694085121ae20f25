"""Evidence against a member: when it is valid.

Specification: docs/spec/leaves.md, "Validity".
"""

from __future__ import annotations

from pyrsia_node.ledger.machine.context import BlockContext, BlockState, History
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.evidence import Evidence
from pyrsia_node.model.signing import Verify


def apply_evidence(
    state: BlockState,
    context: BlockContext,
    history: History,
    evidence: Evidence,
    *,
    leaf: int,
    verify: Verify,
) -> None:
    """Take evidence into the log, or refuse it and change nothing.

    Args:
        state: The state before it.
        context: The block.
        history: Who voted at the height that it speaks of.
        evidence: The pair.
        leaf: Index of its leaf.
        verify: The signature check.

    Raises:
        NotYetValidError: The block has as much evidence as it may hold.
        InvalidInputError: It breaks a rule; the text names it.
    """
    del state, context, history, leaf, verify
    raise InvalidInputError(f"{evidence.kind} is not valid in this network yet")
