"""One member's two contradicting statements as a proof that needs nothing beside it (3.9).

Votes and proposals are cut down to what their signatures cover: a kind, a block hash, a signature.
Whoever has the chain id and the member's key of that set can check the pair; nobody has to be
trusted, and no honest member can be accused. The pair has one order and one encoding, so that two
finders of one crime tell the same bytes. What contradicts what: ``evidence``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from consensus.ed25519 import Verify
from consensus.errors import DecodeError
from consensus.reader import Reader
from consensus.types import ZERO_DIGEST, Digest, Height, NodeId, Proposal, View, Vote, VoteKind
from consensus.wire import HEIGHT_MAX, block_hash, proposal_bytes, vote_bytes

CULPRIT_BYTES_MAX: Final = 128
"""Longest member id in an encoded contradiction."""

_HEAD: Final = struct.Struct(">32sQI")
_STATEMENT: Final = struct.Struct(">B32s64s")


class StatementKind(IntEnum):
    """What was signed; votes keep their own numbers."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3
    PROPOSAL = 4


class Crime(Enum):
    """What a pair of statements convicts of. The values are names in the log."""

    TWO_NOTARIZATIONS = "two_notarizations"
    TWO_FINALIZATIONS = "two_finalizations"
    NOTARIZED_ANOTHER = "notarized_another"
    """Notarized one block and finalized another in the same view."""
    SKIPPED_AND_FINALIZED = "skipped_and_finalized"
    TWO_PROPOSALS = "two_proposals"


_CRIMES: Final = {
    (StatementKind.NOTARIZE, StatementKind.NOTARIZE): Crime.TWO_NOTARIZATIONS,
    (StatementKind.FINALIZE, StatementKind.FINALIZE): Crime.TWO_FINALIZATIONS,
    (StatementKind.NOTARIZE, StatementKind.FINALIZE): Crime.NOTARIZED_ANOTHER,
    (StatementKind.NULLIFY, StatementKind.FINALIZE): Crime.SKIPPED_AND_FINALIZED,
    (StatementKind.PROPOSAL, StatementKind.PROPOSAL): Crime.TWO_PROPOSALS,
}


@dataclass(frozen=True, slots=True)
class Statement:
    """The signed part of a vote or proposal; ``block_hash`` is ZERO_DIGEST for NULLIFY alone."""

    kind: StatementKind
    block_hash: Digest
    signature: bytes


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements of one member in one view, under the set that ``set_hash`` names.

    ``first`` comes before ``second`` by (kind, block hash).
    """

    culprit: NodeId
    set_hash: Digest
    height: Height
    view: View
    first: Statement
    second: Statement

    @property
    def crime(self) -> Crime:
        """Return what the pair convicts of."""
        return _CRIMES[self.first.kind, self.second.kind]

    def holds(self, vote_key: bytes, chain_id: Digest, verify: Verify) -> bool:
        """Say whether ``vote_key`` signed both statements on this chain. Two signature checks."""
        return all(
            verify(vote_key, self._signed(one, chain_id), one.signature)
            for one in (self.first, self.second)
        )

    def _signed(self, statement: Statement, chain_id: Digest) -> bytes:
        if statement.kind is StatementKind.PROPOSAL:
            return proposal_bytes(
                self.height,
                self.view,
                statement.block_hash,
                chain_id=chain_id,
                set_hash=self.set_hash,
            )
        return vote_bytes(
            VoteKind(statement.kind),
            self.height,
            self.view,
            statement.block_hash,
            chain_id=chain_id,
            set_hash=self.set_hash,
        )


def contradiction_of(
    culprit: NodeId, set_hash: Digest, one: Vote | Proposal, two: Vote | Proposal
) -> Contradiction:
    """Return the proof made of two verified statements that ``evidence`` found contradicting."""
    assert (one.height, one.view) == (two.height, two.view)
    return contradiction(
        culprit, set_hash, one.height, one.view, (_statement_of(one), _statement_of(two))
    )


def contradiction(
    culprit: NodeId,
    set_hash: Digest,
    height: Height,
    view: View,
    statements: tuple[Statement, Statement],
) -> Contradiction:
    """Return the pair in its one order.

    Raises:
        DecodeError: an honest member may sign both, or a statement names a block wrongly.
    """
    first, second = sorted(statements, key=lambda one: (one.kind, one.block_hash))
    for each in (first, second):
        if (each.kind is StatementKind.NULLIFY) != (each.block_hash == ZERO_DIGEST):
            raise DecodeError(f"{each.kind.name} statement names a block wrongly")
    if (first.kind, second.kind) not in _CRIMES or first.block_hash == second.block_hash:
        raise DecodeError(f"{first.kind.name} and {second.kind.name} do not contradict each other")
    return Contradiction(culprit, set_hash, height, view, first, second)


def _statement_of(signed: Vote | Proposal) -> Statement:
    if isinstance(signed, Proposal):
        name = block_hash(signed.block)
        return Statement(StatementKind.PROPOSAL, name, signed.signature)
    return Statement(StatementKind(signed.kind), signed.block_hash, signed.signature)


def encode_contradiction(proof: Contradiction) -> bytes:
    """Return the bytes of a proof: 238 and the culprit's id."""
    head = _HEAD.pack(proof.set_hash, proof.height, proof.view)
    statements = [
        _STATEMENT.pack(one.kind, one.block_hash, one.signature)
        for one in (proof.first, proof.second)
    ]
    return b"".join((head, *statements, proof.culprit.encode("ascii")))


def decode_contradiction(data: bytes) -> Contradiction:
    """Return the proof that ``data`` encodes. No signature is checked: see ``holds``.

    Raises:
        DecodeError: anything but the one encoding of a contradiction.
    """
    reader = Reader(data, "contradiction")
    set_hash, height, view = _HEAD.unpack(reader.take(_HEAD.size))
    first, second = (_read_statement(reader) for _ in range(2))
    culprit = reader.rest()
    if not 0 < len(culprit) <= CULPRIT_BYTES_MAX or not culprit.isascii():
        raise DecodeError(f"contradiction with a culprit of {len(culprit)} bytes")
    if height > HEIGHT_MAX:
        raise DecodeError(f"contradiction at height {height}")
    node = NodeId(culprit.decode("ascii"))
    proof = contradiction(node, Digest(set_hash), Height(height), View(view), (first, second))
    if proof.first != first:
        raise DecodeError("contradiction with its statements in the wrong order")
    return proof


def _read_statement(reader: Reader) -> Statement:
    kind, name, signature = _STATEMENT.unpack(reader.take(_STATEMENT.size))
    try:
        return Statement(StatementKind(kind), Digest(name), signature)
    except ValueError:
        raise DecodeError(f"statement of unknown kind {kind}") from None
