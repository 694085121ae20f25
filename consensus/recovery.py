"""Rebuilds a replica from the records that its earlier life made durable.

Records of committed heights are dropped. Votes of any later height go to the signer, which must
never forget one; the rest matters for the working height alone, where everything was durable
before anything that rests on it left this node (CONSENSUS 3.6.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from consensus import wire
from consensus.effects import Effect, Record, RecordKind
from consensus.errors import DecodeError
from consensus.replica import Remembered, Replica, Start
from consensus.signer import Signer
from consensus.timing import Timing
from consensus.types import Certificate, Digest, NodeId, Proposal, Vote


def recover(
    records: Iterable[Record],
    *,
    me: NodeId,
    chain_id: Digest,
    start: Start,
    signer: Signer,
    timing: Timing,
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

    Raises:
        ValueError: a record that passed its checksum is malformed. The log is another chain's, or
            of another version; the process must not go on.
    """
    try:
        votes, remembered = _sort(list(records), start)
    except DecodeError as error:
        raise ValueError(f"write-ahead log: {error}") from error
    for vote in votes:
        signer.restore_vote(vote)
    for proposal in remembered.proposals:
        signer.restore_proposal(proposal.height, proposal.view, wire.block_hash(proposal.block))
    replica = Replica(me, chain_id, start, signer, timing)
    return replica, replica.begin(remembered)


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
