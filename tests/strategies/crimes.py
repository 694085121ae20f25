"""Statements that no honest member signs together, with real signatures."""

from __future__ import annotations

from consensus import wire
from consensus.contradiction import Contradiction, Statement, StatementKind, contradiction
from consensus.types import ZERO_DIGEST, Digest, Height, View, VoteKind
from pyrsia_node.model.members import SetLeaf
from tests.strategies.identities import Identity

A, B = Digest(b"a" * 32), Digest(b"b" * 32)
PAIRS: dict[str, tuple[StatementKind, StatementKind]] = {
    "two_notarizations": (StatementKind.NOTARIZE, StatementKind.NOTARIZE),
    "two_finalizations": (StatementKind.FINALIZE, StatementKind.FINALIZE),
    "notarized_another": (StatementKind.NOTARIZE, StatementKind.FINALIZE),
    "skipped_and_finalized": (StatementKind.NULLIFY, StatementKind.FINALIZE),
    "two_proposals": (StatementKind.PROPOSAL, StatementKind.PROPOSAL),
}


def said(
    culprit: Identity,
    kind: StatementKind,
    name: Digest,
    *,
    network_id: bytes,
    voters: SetLeaf,
    height: int,
    view: int,
) -> Statement:
    """Return one statement, signed by the culprit's vote key."""
    name = ZERO_DIGEST if kind is StatementKind.NULLIFY else name
    chain_id, set_hash = Digest(network_id), Digest(bytes.fromhex(voters.digest()))
    at = (Height(height), View(view))
    if kind is StatementKind.PROPOSAL:
        signed = wire.proposal_bytes(*at, name, chain_id=chain_id, set_hash=set_hash)
    else:
        signed = wire.vote_bytes(VoteKind(kind), *at, name, chain_id=chain_id, set_hash=set_hash)
    return Statement(kind, name, culprit.sign["vote"](signed))


def crime(
    culprit: Identity,
    name: str = "two_notarizations",
    *,
    network_id: bytes,
    voters: SetLeaf,
    height: int = 1,
    view: int = 0,
) -> Contradiction:
    """Return a proof of a crime that ``culprit`` committed."""
    first, second = PAIRS[name]
    statements = [
        said(culprit, kind, block, network_id=network_id, voters=voters, height=height, view=view)
        for kind, block in ((first, A), (second, B))
    ]
    return contradiction(
        culprit.id,
        Digest(bytes.fromhex(voters.digest())),
        Height(height),
        View(view),
        (statements[0], statements[1]),
    )
