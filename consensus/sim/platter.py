"""What is durable on one honest node, as the oracle sees it, and what may leave because of it.

Restates CONSENSUS.md 3.6.1: a vote leaves only after itself, the body that it notarizes, and the
certificates that it rests on are durable. Imports value types and the byte layout only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from consensus.effects import Record, RecordKind
from consensus.types import Digest, Height, NodeId, Proposal, View, Vote, VoteKind
from consensus.wire import (
    block_hash,
    certificate_height,
    decode_certificate,
    decode_proposal,
    decode_vote,
    proposal_height,
)

Statement = tuple[Height, View, VoteKind, Digest]


@dataclass(slots=True)
class Platter:
    """Records of one node, of heights that are not committed there."""

    votes: set[Statement] = field(default_factory=set)
    certificates: set[Statement] = field(default_factory=set)
    proposals: set[tuple[Height, View, Digest]] = field(default_factory=set)
    bodies: set[Digest] = field(default_factory=set)

    def write(self, records: tuple[Record, ...], size: Callable[[Height], int]) -> None:
        """Note records that a sync has made durable; ``size`` tells the set size of a height."""
        for record in records:
            payload = record.payload
            match record.kind:
                case RecordKind.BODY:
                    self.bodies.add(block_hash(payload))
                case RecordKind.CERTIFICATE:
                    held = decode_certificate(payload, n=size(certificate_height(payload)))
                    self.certificates.add((held.height, held.view, held.kind, held.block_hash))
                case RecordKind.PROPOSAL:
                    mine = decode_proposal(payload, n=size(proposal_height(payload)))
                    self.proposals.add((mine.height, mine.view, block_hash(mine.block)))
                    self.bodies.add(block_hash(mine.block))
                case RecordKind.VOTE:
                    vote = decode_vote(payload)
                    self.votes.add((vote.height, vote.view, vote.kind, vote.block_hash))

    def add(self, other: Platter) -> None:
        """Note all that ``other`` holds."""
        self.votes |= other.votes
        self.certificates |= other.certificates
        self.proposals |= other.proposals
        self.bodies |= other.bodies

    def lacks_for(self, vote: Vote) -> str:
        """Return what of all that ``vote`` rests on is not durable, or nothing."""
        if (vote.height, vote.view, vote.kind, vote.block_hash) not in self.votes:
            return "vote"
        if vote.kind is VoteKind.NOTARIZE and vote.block_hash not in self.bodies:
            return "body"
        if vote.kind is VoteKind.FINALIZE:
            notarization = (vote.height, vote.view, VoteKind.NOTARIZE, vote.block_hash)
            return "" if notarization in self.certificates else "notarization"
        return (
            "" if vote.view == 0 or self._has_ended(vote.height, vote.view - 1) else "certificate"
        )

    def _has_ended(self, height: Height, view: int) -> bool:
        """Say whether a certificate is here that ends ``view``."""
        return any(
            (one, at) == (height, view) and kind is not VoteKind.FINALIZE
            for one, at, kind, _ in self.certificates
        )

    def holds(self, proposal: Proposal, name: Digest) -> bool:
        """Say whether an own proposal is durable."""
        return (proposal.height, proposal.view, name) in self.proposals

    def lost_in(self, found: Platter, height: Height) -> list[str]:
        """Return what a restart at ``height`` did not find again."""
        lost: list[object] = [one for one in self.votes - found.votes if one[0] == height]
        lost += [one for one in self.certificates - found.certificates if one[0] == height]
        lost += [one for one in self.proposals - found.proposals if one[0] == height]
        notarized = {
            name for at, _, kind, name in found.votes if at == height and kind is VoteKind.NOTARIZE
        }
        return sorted(str(one) for one in (*lost, *((notarized & self.bodies) - found.bodies)))

    def forget_below(self, height: Height) -> None:
        """Drop what speaks of committed heights."""
        self.votes = {one for one in self.votes if one[0] >= height}
        self.certificates = {one for one in self.certificates if one[0] >= height}
        self.proposals = {one for one in self.proposals if one[0] >= height}


@dataclass(slots=True)
class Witnessed:
    """One honest node as seen from outside, over all its restarts."""

    chain: list[Digest] = field(default_factory=list)
    platter: Platter = field(default_factory=Platter)
    forgotten: Platter = field(default_factory=Platter)
    """What was durable when the log was damaged: votes in certificates may rest on it."""
    committed_once: int = 0
    """Greatest height committed before older files came back; ``platter`` forgot it at commit."""
    link_second: dict[NodeId, tuple[int, int]] = field(default_factory=dict)

    def expects(self, height: Height) -> bool:
        """Say whether what is durable of this height is known whole."""
        return height == len(self.chain) + 1 and height > self.committed_once
