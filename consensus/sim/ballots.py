"""What the oracle has heard at one height: votes, proposals and certificates of every life.

A record, not a judge: ``oracle`` fills it and says what may not stand in it together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.types import Digest, MemberSet, NodeId, View, VoteKind


@dataclass(slots=True)
class Ballots:
    """Everything that was said at one height, by whomever, in any life of the sayer."""

    members: MemberSet
    traitors: int
    cast: dict[tuple[NodeId, View], dict[VoteKind, Digest]] = field(default_factory=dict)
    notarized: dict[View, dict[Digest, NodeId]] = field(default_factory=dict)
    finalizers: dict[tuple[View, Digest], set[NodeId]] = field(default_factory=dict)
    decidable: dict[View, Digest] = field(default_factory=dict)
    """Blocks that honest finalizations and the traitors' together could have decided."""
    certified: dict[tuple[VoteKind, View], Digest] = field(default_factory=dict)
    verified: set[bytes] = field(default_factory=set)
    proposed: dict[tuple[NodeId, View], Digest] = field(default_factory=dict)

    @property
    def quorum(self) -> int:
        """Return n - f for this height, f being the most that 3f + 1 <= n allows."""
        n = len(self.members.members)
        return n - (n - 1) // 3
