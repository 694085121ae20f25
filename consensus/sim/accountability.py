"""Who must be a traitor, if a height was decided twice: an audit of the certificates alone.

With more than f traitors no protocol can keep agreement; this one names at least f + 1 of them,
and never an honest node (CONSENSUS.md 3.9). The audit uses only certificates that honest nodes
passed on, as any outsider could. It restates what contradicts what, and imports value types only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.types import Certificate, Digest, Height, MemberSet, NodeId, View, VoteKind

_Votes = dict[tuple[NodeId, View], set[tuple[VoteKind, Digest]]]


@dataclass(slots=True)
class Transcript:
    """Every certificate of every height that any honest node has passed on."""

    _votes: dict[Height, _Votes] = field(default_factory=dict)

    def add(self, certificate: Certificate, members: MemberSet) -> None:
        """Note a certificate whose signatures hold under ``members``."""
        votes = self._votes.setdefault(certificate.height, {})
        for index in certificate.signers:
            said = votes.setdefault((members.members[index].id, certificate.view), set())
            said.add((certificate.kind, certificate.block_hash))

    def culprits(self, height: Height) -> tuple[NodeId, ...]:
        """Return the members whose votes in some view of ``height`` contradict each other."""
        votes = self._votes.get(height, {})
        return tuple(sorted({node for (node, _), said in votes.items() if _contradict(said)}))


def _contradict(said: set[tuple[VoteKind, Digest]]) -> bool:
    """Say whether one member cannot honestly have voted all of this in one view."""
    kinds = {kind for kind, _ in said}
    if {VoteKind.NULLIFY, VoteKind.FINALIZE} <= kinds:
        return True
    return len({name for kind, name in said if kind is not VoteKind.NULLIFY}) > 1
