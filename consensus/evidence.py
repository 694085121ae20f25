"""Finds two signed statements of one member that contradict each other (CONSENSUS 3.9).

An honest member never signs, in one view of one height, two different blocks, a nullification
beside a finalization, or two proposals. Each pair that does is proof by itself: both signatures
hold for the same chain and set. What is kept is bounded: two votes per voter, kind and view, one
proposal per view; a further contradiction of the same member and view adds nothing.
"""

from __future__ import annotations

from consensus.types import Certificate, Digest, Proposal, View, Vote, VoteKind

VotePair = tuple[Vote, Vote]

DISTINCT_VOTES_MAX = 2
"""Votes kept per voter, kind and view: the second already convicts."""


class VoteBook:
    """Every distinct vote of one height, by voter and view."""

    __slots__ = ("_reported", "_votes")

    def __init__(self) -> None:
        """Start with an empty book."""
        self._votes: dict[tuple[int, View], list[Vote]] = {}
        self._reported: set[tuple[int, View, VoteKind, VoteKind]] = set()

    def add(self, vote: Vote) -> list[VotePair]:
        """Note a verified vote; return the contradictions that it makes, each reported once."""
        known = self._votes.setdefault((vote.voter, vote.view), [])
        same_kind = [one for one in known if one.kind is vote.kind]
        if any(one.block_hash == vote.block_hash for one in same_kind):
            return []
        if len(same_kind) == DISTINCT_VOTES_MAX:
            return []
        pairs = [
            (one, vote) for one in known if contradicts(one, vote) and self._is_news(one, vote)
        ]
        known.append(vote)
        return pairs

    def add_certificate(self, certificate: Certificate) -> list[VotePair]:
        """Note every vote of a verified certificate."""
        return [pair for vote in votes_of(certificate) for pair in self.add(vote)]

    def votes_of(self, voter: int) -> list[Vote]:
        """Return every vote of one member that is in the book."""
        return [vote for (by, _), votes in self._votes.items() if by == voter for vote in votes]

    def has(self, voter: int, view: View, kind: VoteKind, block_hash: Digest) -> bool:
        """Say whether this very statement is in the book."""
        known = self._votes.get((voter, view), ())
        return any(one.kind is kind and one.block_hash == block_hash for one in known)

    def _is_news(self, one: Vote, two: Vote) -> bool:
        kinds = sorted((one.kind, two.kind))
        key = (one.voter, one.view, kinds[0], kinds[1])
        if key in self._reported:
            return False
        self._reported.add(key)
        return True


def contradicts(one: Vote, two: Vote) -> bool:
    """Say whether no honest member can have signed both votes of one view.

    N/N, F/F and N/F with different blocks, and X/F. A nullification after a notarization is legal
    (R6), and so is a finalization of the block that was notarized.
    """
    if (one.voter, one.height, one.view) != (two.voter, two.height, two.view):
        return False
    kinds = {one.kind, two.kind}
    if VoteKind.NULLIFY in kinds:
        return VoteKind.FINALIZE in kinds
    return one.block_hash != two.block_hash


def proposals_contradict(one: Digest, two: Digest) -> bool:
    """Say whether two blocks that a leader signed for one view convict it.

    The same block with another justification, or with other bytes under the same header, does not:
    the signature covers the header alone.
    """
    return one != two


def votes_of(certificate: Certificate) -> list[Vote]:
    """Return the votes that a certificate is made of, by ascending voter."""
    return [
        Vote(
            certificate.kind,
            certificate.height,
            certificate.view,
            certificate.block_hash,
            voter,
            signature,
        )
        for voter, signature in zip(certificate.signers, certificate.signatures, strict=True)
    ]


Statement = Vote | Proposal
"""What evidence is made of."""
