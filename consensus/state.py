"""What a replica knows of its working height, and nothing of what it should do about it.

``rules`` reads it, ``replica`` changes it; a fresh one is made for every height, so nothing can
leak from one height into the next. CONSENSUS 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from consensus.events import BodyChecked
from consensus.evidence import VoteBook
from consensus.quorum import History, faults, leader, quorum
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Digest,
    Height,
    MemberSet,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)

_FIRST_VIEW: Final = View(0)


@dataclass(slots=True)
class KeptBody:
    """A body that the state machine was asked about; ``verdict`` is None until it answered."""

    block: bytes
    block_hash: Digest
    verdict: BodyChecked | None = None


@dataclass(slots=True)
class KeptProposal:
    """The first proposal of a view's leader; ``is_refused`` when it can never be acceptable."""

    proposal: Proposal
    block_hash: Digest
    body_id: Digest
    is_refused: bool = False
    is_reported: bool = False


class BuildPhase(Enum):
    """Where the leader of the current view stands with its own block."""

    IDLE = "idle"
    ASKED = "asked"
    ANSWERED = "answered"


@dataclass(slots=True)
class Build:
    """The block that this leader asked its state machine for in the current view."""

    phase: BuildPhase = BuildPhase.IDLE
    has_new_work: bool = False
    """Work came while the answer was under way: an empty answer is asked again."""
    block: bytes | None = None


@dataclass(slots=True)
class HeightState:
    """Everything of one height. Fixed members first, then the view's, then what was collected."""

    me: NodeId
    height: Height
    tip: Digest
    members: MemberSet
    history: History

    view: View = _FIRST_VIEW
    is_armed: bool = False
    """The view timer of view 0 runs; every later view is armed on entry (R3)."""
    is_armed_by_work_alone: bool = False
    is_timed_out: bool = False
    has_asked_peers: bool = False
    is_holding: bool = False
    has_held: bool = False
    """The leader has given finalizations of the view before their time (R4)."""
    build: Build = field(default_factory=Build)

    can_sign: bool = True
    is_halted: bool = False
    """Two final certificates contradict each other: more than f traitors; do nothing more."""
    fork: tuple[Certificate, ...] = ()
    """Those two, where they are of this height, and all others known of it."""
    mine: dict[tuple[VoteKind, View], Vote] = field(default_factory=dict)
    refusals: set[tuple[VoteKind, View]] = field(default_factory=set)
    """Votes that the signer would not give; never asked for again."""
    own_proposals: dict[View, Proposal] = field(default_factory=dict)
    notarizations: dict[View, Certificate] = field(default_factory=dict)
    nullifications: dict[View, Certificate] = field(default_factory=dict)
    finalizations: dict[View, Certificate] = field(default_factory=dict)
    tallies: dict[tuple[VoteKind, View, Digest], dict[int, bytes]] = field(default_factory=dict)
    voices: set[int] = field(default_factory=set)
    """Members of whom a vote of this height was seen."""
    book: VoteBook = field(default_factory=VoteBook)

    proposals: dict[View, KeptProposal] = field(default_factory=dict)
    bodies: dict[Digest, KeptBody] = field(default_factory=dict)
    """By body id: asked about, or valid."""
    valid: dict[Digest, KeptBody] = field(default_factory=dict)
    """By block hash: the body under that header which the state machine found valid."""
    durable: set[Digest] = field(default_factory=set)
    """Block hashes whose body is in the write-ahead log."""

    n: int = field(init=False)
    quorum: int = field(init=False)
    """How many equal votes make a certificate."""
    faults: int = field(init=False)
    """How many members may be traitors."""
    my_index: int | None = field(init=False)
    """This node's position in the set, or None: then it only watches."""
    _leaders: dict[View, NodeId] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Work out what follows from the set."""
        self.n = len(self.members.members)
        self.quorum = quorum(self.n)
        self.faults = faults(self.n)
        self.my_index = self.members.index_of(self.me)

    def leader(self, view: View) -> NodeId:
        """Return the leader of a view of this height."""
        found = self._leaders.get(view)
        if found is None:
            found = leader(self.height, view, self.members, self.history)
            self._leaders[view] = found
        return found

    def has_cast(self, kind: VoteKind, view: View) -> bool:
        """Say whether this node has voted so, in this life or an earlier one."""
        return (kind, view) in self.mine

    def may_ask_for(self, kind: VoteKind, view: View) -> bool:
        """Say whether a vote of this kind can still be asked of the signer."""
        key = (kind, view)
        return (
            self.can_sign
            and self.my_index is not None
            and key not in self.mine
            and key not in self.refusals
        )

    def certificates(self, kind: VoteKind) -> dict[View, Certificate]:
        """Return the known certificates of a kind, by view."""
        match kind:
            case VoteKind.NOTARIZE:
                return self.notarizations
            case VoteKind.NULLIFY:
                return self.nullifications
            case VoteKind.FINALIZE:
                return self.finalizations

    def has_skipped(self, first: View, end: View) -> bool:
        """Say whether every view in [first, end) is known to be nullified."""
        return all(View(view) in self.nullifications for view in range(first, end))

    def nullifiers(self, view: View) -> set[NodeId]:
        """Return the members whose NULLIFY of a view was seen as a vote."""
        tally = self.tallies.get((VoteKind.NULLIFY, view, ZERO_DIGEST), {})
        return {self.members.members[voter].id for voter in tally}

    def missing_bodies(self) -> list[Digest]:
        """Return certified blocks without a valid body: final ones first, then newest view."""
        found: dict[Digest, None] = {}
        for known in (self.finalizations, self.notarizations):
            for view in sorted(known, reverse=True):
                name = known[view].block_hash
                if name not in self.valid:
                    found.setdefault(name)
        return list(found)

    def is_being_checked(self, block_hash: Digest) -> bool:
        """Say whether the state machine was asked about a body of this name and is silent yet."""
        return any(
            body.block_hash == block_hash and body.verdict is None for body in self.bodies.values()
        )

    def holders(self, block_hash: Digest) -> list[NodeId]:
        """Return the other members whose vote says that they hold this body durably."""
        indexes = {
            signer
            for known in (self.notarizations, self.finalizations)
            for certificate in known.values()
            if certificate.block_hash == block_hash
            for signer in certificate.signers
        }
        ids = (self.members.members[index].id for index in sorted(indexes))
        return [node for node in ids if node != self.me]
