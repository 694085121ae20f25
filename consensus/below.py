"""What the chain below the working height tells: its last certificate and who has been signing.

The next proposer carries every FINALIZE vote that it knows for the block below, also those that
came after the commit, because the chain itself says who leads view 0 (reputation, CONSENSUS 3.4);
what a node knows beyond the chain never counts, since it differs from node to node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from consensus.quorum import History, history_blocks
from consensus.types import Certificate, MemberSet, NodeId, Vote, VoteKind
from consensus.wire import decode_certificate, split_block


@dataclass(frozen=True, slots=True)
class Below:
    """The block under the working height.

    Attributes:
        members: the set that decided it.
        certificate: every vote known for it; None where it is the genesis.
        history: signers inside the newest blocks, oldest first (see ``Start``).
    """

    members: MemberSet
    certificate: Certificate | None
    history: History

    def with_vote(self, vote: Vote) -> Below:
        """Return the same with a late finalization; another vote changes nothing."""
        certificate = self.certificate
        if certificate is None or (vote.kind, vote.height, vote.view, vote.block_hash) != (
            VoteKind.FINALIZE,
            certificate.height,
            certificate.view,
            certificate.block_hash,
        ):
            return self
        return replace(self, certificate=merged(certificate, {vote.voter: vote.signature}))

    def signers_inside(self, block: bytes) -> tuple[NodeId, ...]:
        """Return who signed the certificate of this block that a valid successor carries."""
        encoded = split_block(block).parent_certificate
        if not encoded:
            return ()
        certificate = decode_certificate(encoded, n=len(self.members.members))
        return tuple(self.members.members[index].id for index in certificate.signers)

    def after(
        self,
        members: MemberSet,
        certificate: Certificate,
        signers: tuple[NodeId, ...],
        *,
        next_set: MemberSet,
    ) -> Below:
        """Return what the next height stands on, once ``members`` have decided this one."""
        keep = history_blocks(len(next_set.members))
        return Below(members, certificate, (*self.history, signers)[-keep:])


def merged(certificate: Certificate, votes: dict[int, bytes]) -> Certificate:
    """Return the certificate with further equal votes; those that it has stay as they are."""
    every = {**votes, **dict(zip(certificate.signers, certificate.signatures, strict=True))}
    signers = tuple(sorted(every))
    signatures = tuple(every[voter] for voter in signers)
    return replace(certificate, signers=signers, signatures=signatures)
