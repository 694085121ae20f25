"""Values of the protocol: positions, member sets, votes, certificates, proposals.

Nothing here checks a signature or knows a byte layout: see ``ingress`` and ``wire``.
Formats: docs/spec/consensus-wire.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

NodeId = NewType("NodeId", str)
"""Member id: ASCII, fixed at admission, survives key rotation."""

Digest = NewType("Digest", bytes)
"""A SHA-256 digest, exactly 32 bytes."""

Height = NewType("Height", int)
"""Position of a block in the chain; genesis is 0, the first block 1."""

View = NewType("View", int)
"""Numbered attempt at one height, with one leader; starts at 0 for every height."""

ZERO_DIGEST: Final = Digest(bytes(32))
"""Stands in NULLIFY votes, which name no block, and for "nothing before"."""


class VoteKind(IntEnum):
    """The three votes of Simplex. The numbers are wire values."""

    NOTARIZE = 1
    NULLIFY = 2
    FINALIZE = 3


@dataclass(frozen=True, slots=True)
class Member:
    """One voter of a set: its fixed id and its Ed25519 vote key (32 bytes)."""

    id: NodeId
    vote_key: bytes


@dataclass(frozen=True, slots=True)
class MemberSet:
    """The voters of an epoch, sorted by id; a bitmap index is a position in ``members``.

    ``set_hash`` is SHA-256 of the set leaf; it is bound into every vote.
    """

    epoch: int
    members: tuple[Member, ...]
    set_hash: Digest

    def __post_init__(self) -> None:
        """Assert the order that bitmap positions rest on."""
        ids = [member.id for member in self.members]
        assert ids, "a member set is never empty"
        assert ids == sorted(set(ids)), "members are sorted by id and distinct"
        assert len(self.set_hash) == 32

    def index_of(self, node: NodeId) -> int | None:
        """Return the bitmap position of ``node``, or None if it is not a member."""
        for index, member in enumerate(self.members):
            if member.id == node:
                return index
        return None

    def vote_key_of(self, node: NodeId) -> bytes | None:
        """Return the vote key of ``node``, or None if it is not a member."""
        index = self.index_of(node)
        return None if index is None else self.members[index].vote_key


@dataclass(frozen=True, slots=True)
class Vote:
    """One signed vote. ``block_hash`` is ZERO_DIGEST for NULLIFY. ``voter`` is a bitmap index."""

    kind: VoteKind
    height: Height
    view: View
    block_hash: Digest
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum of equal votes. ``signers`` ascends; ``signatures`` is parallel to it."""

    kind: VoteKind
    height: Height
    view: View
    block_hash: Digest
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block for a view, with what justifies it.

    ``notarization`` is present exactly on a re-proposal of a block notarized in an earlier view.
    ``signature`` is the leader's over ``proposal_bytes``.
    """

    height: Height
    view: View
    block: bytes
    notarization: Certificate | None
    nullifications: tuple[Certificate, ...]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Decision:
    """A block and the certificate that makes it final. Also the unit of catch-up."""

    block: bytes
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Status:
    """What a node lacks at its working height (rule R8), so that others send just that.

    ``missing_views`` are closed ranges (first, last) of views without N or X certificate;
    ``missing_bodies`` are hashes of certified blocks whose body is not here.
    """

    height: Height
    view: View
    missing_views: tuple[tuple[View, View], ...]
    missing_bodies: tuple[Digest, ...]


Message = Vote | Certificate | Proposal | Decision | Status
