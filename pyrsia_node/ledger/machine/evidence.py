"""Evidence against a member: when it is valid.

It is valid by itself: the two statements, the culprit's key in the set of that height, the chain.
Who reports it does not matter, and a member cannot be accused twice of one kind in one epoch, so
that a traitor's thousand votes cost the log a few leaves.
Specification: docs/spec/leaves.md, "Validity"; what a pair proves: docs/design/consensus.md 10.
"""

from __future__ import annotations

from typing import Final

from consensus.contradiction import Contradiction, Statement, StatementKind, contradiction
from consensus.errors import DecodeError
from consensus.types import Digest, Height, NodeId, View
from pyrsia_node.ledger.machine.context import (
    BlockContext,
    BlockState,
    History,
    NotYetValidError,
)
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.evidence import Evidence, SignedStatement
from pyrsia_node.model.signing import Verify

EVIDENCE_PREFIX: Final = "evidence/"

EVIDENCE_PER_BLOCK_MAX: Final = 8
"""Each costs two signature checks in every node."""

_KINDS: Final = {kind.name.lower(): kind for kind in StatementKind}


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
    if evidence.by not in context.members:
        raise InvalidInputError(f"{evidence.by} is no authorized node, so it reports nothing")
    proof = contradiction_in(evidence)
    # In order of cost: anybody can make up statements, and each is looked at by every node.
    expected = history.set_hash_at(evidence.height)
    if expected is None:
        raise InvalidInputError(
            f"evidence of height {evidence.height} in a block of height {context.height}"
        )
    if expected != evidence.set:
        raise InvalidInputError(f"the set of height {evidence.height} is not {evidence.set}")
    voters = history.voters_at(evidence.height)
    assert voters is not None, "a height with a set hash has a set"
    culprit = voters.record_of(evidence.culprit)
    if culprit is None:
        raise InvalidInputError(f"{evidence.culprit} had no vote at height {evidence.height}")
    key = evidence_key(evidence.culprit, proof.crime.value, voters.epoch)
    known = state.integer(key)
    if known is not None:
        raise InvalidInputError(
            f"{evidence.culprit} is convicted of {proof.crime.value} in epoch {voters.epoch}"
            f" already, by leaf {known}"
        )
    if _count_in_block(state, context) >= EVIDENCE_PER_BLOCK_MAX:
        raise NotYetValidError(f"the block holds {EVIDENCE_PER_BLOCK_MAX} pieces of evidence")
    if not proof.holds(culprit.keys.vote, Digest(context.network_id), verify):
        raise InvalidInputError(f"{evidence.culprit} did not sign both statements")
    state.view.put(key, leaf)


def evidence_key(culprit: str, crime: str, epoch: int) -> str:
    """Return the key of the leaf that convicted a member of a crime in an epoch."""
    return f"{EVIDENCE_PREFIX}{culprit}/{crime}/{epoch}"


def contradiction_in(evidence: Evidence) -> Contradiction:
    """Return the pair as consensus knows it. No signature is checked.

    Raises:
        InvalidInputError: The two do not contradict each other, or stand in the wrong order.
    """
    first = _statement(evidence.first)
    try:
        proof = contradiction(
            evidence.culprit,
            Digest(bytes.fromhex(evidence.set)),
            Height(evidence.height),
            View(evidence.view),
            (first, _statement(evidence.second)),
        )
    except DecodeError as error:
        raise InvalidInputError(f"evidence: {error}") from None
    if proof.first != first:
        raise InvalidInputError("evidence: first and second stand in the wrong order")
    return proof


def evidence_of(proof: Contradiction, *, by: str) -> Evidence:
    """Return the transaction body that reports a pair."""
    return Evidence(
        by=NodeId(by),
        culprit=proof.culprit,
        height=proof.height,
        view=proof.view,
        set=Sha256(proof.set_hash.hex()),
        first=_signed(proof.first),
        second=_signed(proof.second),
    )


def _statement(signed: SignedStatement) -> Statement:
    return Statement(_KINDS[signed.kind], Digest(bytes.fromhex(signed.block)), signed.signature)


def _signed(statement: Statement) -> SignedStatement:
    return SignedStatement(
        statement.kind.name.lower(), Sha256(statement.block_hash.hex()), statement.signature
    )


def _count_in_block(state: BlockState, context: BlockContext) -> int:
    """Count by the rows: there are few, and those of this block name its leaves."""
    rows = state.view.keys(EVIDENCE_PREFIX, up_to=f"{EVIDENCE_PREFIX}~")
    leaves = [state.integer(key) or 0 for key in rows]
    return sum(leaf >= context.first_leaf for leaf in leaves)
