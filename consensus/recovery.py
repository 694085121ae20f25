"""Rebuilds a replica from the records that its earlier life made durable.

Records of committed heights are dropped. Votes of any later height go to the signer, which must
never forget one; the rest matters for the working height alone, where everything was durable
before anything that rests on it left this node (CONSENSUS 3.6.1).

What others said was verified before it was written. What this node said is verified here, by the
set of the working height: a vote or proposal by another key than the set names counts for nobody,
so it is none, and a certificate that needed such a vote is none either (design, section 8).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from consensus import wire
from consensus.ed25519 import Verify
from consensus.effects import Effect, Record, RecordKind
from consensus.errors import DecodeError
from consensus.evidence import votes_of
from consensus.replica import Remembered, Replica, Start
from consensus.signer import Signer
from consensus.timing import Timing
from consensus.types import Certificate, Digest, MemberSet, NodeId, Proposal, Vote


def recover(
    records: Iterable[Record],
    *,
    me: NodeId,
    chain_id: Digest,
    start: Start,
    signer: Signer,
    timing: Timing,
    verify: Verify,
) -> tuple[Replica, list[Effect]]:
    """Return the replica as it stood, and its first effects (instead of ``begin``).

    Args:
        records: every record of the write-ahead log, oldest first.
        me: this node's member id.
        chain_id: hash of the genesis.
        start: the end of the committed chain, which may be ahead of the log.
        signer: a new signer; it is fed here. Give a silent one (``first_height=None``) when the
            log has a hole: it recovers everything and says nothing of its own.
        timing: bounds of the time-outs.
        verify: checks a signature.

    Raises:
        ValueError: a record that passed its checksum is malformed. The log is another chain's, or
            of another version; the process must not go on.
    """
    try:
        votes, remembered = _sort(list(records), start)
    except DecodeError as error:
        raise ValueError(f"write-ahead log: {error}") from error
    own = _OwnWord(me, start.members, chain_id, verify)
    remembered = own.kept_of(remembered)
    for vote in votes:
        # The set of a later height is not known yet: such votes bind in any case.
        if vote.height > start.height or own.has_vote(vote):
            signer.restore_vote(vote)
    for proposal in remembered.proposals:
        signer.restore_proposal(proposal.height, proposal.view, wire.block_hash(proposal.block))
    replica = Replica(me, chain_id, start, signer, timing)
    return replica, replica.begin(remembered)


@dataclass(frozen=True, slots=True)
class _OwnWord:
    """Tells which records of the working height others would take for this member's word."""

    me: NodeId
    members: MemberSet
    chain_id: Digest
    verify: Verify

    def kept_of(self, remembered: Remembered) -> Remembered:
        """Return what is remembered without what no other member would believe."""
        return replace(
            remembered,
            certificates=tuple(filter(self._allows, remembered.certificates)),
            proposals=tuple(filter(self._has_proposal, remembered.proposals)),
        )

    def has_vote(self, vote: Vote) -> bool:
        """Say whether the key that the set names for this member signed a vote."""
        return self._is_signed(
            wire.vote_bytes(
                vote.kind,
                vote.height,
                vote.view,
                vote.block_hash,
                chain_id=self.chain_id,
                set_hash=self.members.set_hash,
            ),
            vote.signature,
        )

    def _has_proposal(self, proposal: Proposal) -> bool:
        return self._is_signed(
            wire.proposal_bytes(
                proposal.height,
                proposal.view,
                wire.block_hash(proposal.block),
                chain_id=self.chain_id,
                set_hash=self.members.set_hash,
            ),
            proposal.signature,
        )

    def _allows(self, certificate: Certificate) -> bool:
        """Say whether this member's vote in a certificate holds, if one is there."""
        index = self.members.index_of(self.me)
        return all(self.has_vote(vote) for vote in votes_of(certificate) if vote.voter == index)

    def _is_signed(self, text: bytes, signature: bytes) -> bool:
        key = self.members.vote_key_of(self.me)
        return key is not None and self.verify(key, text, signature)


def _sort(records: list[Record], start: Start) -> tuple[list[Vote], Remembered]:
    n = len(start.members.members)
    votes: list[Vote] = []
    certificates: list[Certificate] = []
    proposals: list[Proposal] = []
    bodies: dict[Digest, bytes] = {}
    for record in records:
        match record.kind:
            case RecordKind.VOTE:
                vote = wire.decode_vote(record.payload)
                if vote.height >= start.height:
                    votes.append(vote)
            case RecordKind.CERTIFICATE:
                # Under another height's set the bytes would not even parse: look before decoding.
                if wire.certificate_height(record.payload) == start.height:
                    certificates.append(wire.decode_certificate(record.payload, n=n))
            case RecordKind.PROPOSAL:
                if wire.proposal_height(record.payload) == start.height:
                    proposals.append(wire.decode_proposal(record.payload, n=n))
            case RecordKind.BODY:
                bodies[wire.block_hash(record.payload)] = record.payload
    # A body has no height of its own here; what was written at this height is named by a vote or a
    # certificate of it, because a body is only ever written beside one.
    named = {vote.block_hash for vote in votes if vote.height == start.height}
    named |= {certificate.block_hash for certificate in certificates}
    wanted = tuple(block for name, block in bodies.items() if name in named)
    return votes, Remembered(tuple(certificates), tuple(proposals), wanted)
