"""When a member that has just started may vote (CONSENSUS 3.6.4). Pure: others ask and verify.

A node cannot know by itself that its log of votes is whole: an image may have been restored, or
its key may be running elsewhere. So on every start it asks the others for the newest vote that
carries its signature, and votes once q - 1 of them have answered and nothing newer than its log
was among the answers. Their word alone counts for nothing: only the signature does, so a liar
cannot silence it.

A node that has forgotten votes learns from q others, by their newest Decision, where the network
works: W is one more than the greatest of these heights. It may have voted up to there and a height
beyond, never higher, so it votes again only when a height greater than W is committed. Comparing
committed tips, or taking a claimed height, forks with one traitor of four.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from consensus.ed25519 import Verify
from consensus.errors import DecodeError
from consensus.quorum import quorum
from consensus.types import Digest, Height, MemberSet, NodeId, Vote
from consensus.wire import decode_vote, encode_vote, vote_bytes

RECOLLECTION_BYTES_MAX: Final = 32 + 111
"""A set hash and a vote."""

_QUESTION: Final = struct.Struct(">Q")


class Phase(Enum):
    """Where a start stands."""

    ASKING = "asking"
    FORGOT = "forgot"
    VOTING = "voting"
    DOUBLED = "doubled"
    """Votes of ours that we did not cast came while we voted: the key runs elsewhere too."""


class Restart:
    """One start of one member: what the others said, and what follows for its signer.

    It only ever goes ASKING -> VOTING, or by way of FORGOT; and from VOTING to DOUBLED.
    """

    def __init__(
        self,
        me: NodeId,
        members: MemberSet,
        *,
        committed: Height,
        votes: Iterable[Vote],
        forgot: str = "",
    ) -> None:
        """Begin a start; nobody has answered yet.

        Args:
            me: this node.
            members: the set of the working height; ``entered`` tells of later ones.
            committed: the tip as the store had it at start. What is newer was learned since.
            votes: own votes of heights above it, as the log had them at start.
            forgot: why votes may be missing, in words, where the log itself shows it.
        """
        self._me = me
        self._members = members
        self._committed = committed
        self._known = frozenset(map(_name_of, votes))
        self._recalled: set[NodeId] = set()
        self._decided: dict[NodeId, Height] = {}
        self._resumed: Height | None = None
        self.forgot = forgot
        self.doubled: Vote | None = None

    # -- what follows ----------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Return where this start stands."""
        if self.doubled is not None:
            return Phase.DOUBLED
        if self.first_height is not None:
            return Phase.VOTING
        return Phase.FORGOT if self.forgot else Phase.ASKING

    @property
    def first_height(self) -> Height | None:
        """Return the first height to vote at, as for ``Signer.resume``; None is silence."""
        if self.doubled is not None:
            return None
        if self._resumed is None and self.needed == 0:
            newest = max(self._decided.values(), default=Height(0))
            # W is newest + 1. Voting starts when W + 1 is committed, so at W + 2.
            self._resumed = Height(newest + 3 if self.forgot else 0)
        return self._resumed

    @property
    def needed(self) -> int:
        """Return how many members have still to answer."""
        q = quorum(len(self._members.members))
        answers, wanted = (set(self._decided), q) if self.forgot else (self._recalled, q - 1)
        return max(0, wanted - len(answers & self._others()))

    @property
    def is_hopeless(self) -> bool:
        """Say whether the set has too few others to ever bring back forgotten votes (n <= 3)."""
        return bool(self.forgot) and len(self._others()) < quorum(len(self._members.members))

    def wanted(self) -> list[NodeId]:
        """Return the members whose answer still counts, by id; nobody once it is settled."""
        if self.phase in (Phase.VOTING, Phase.DOUBLED):
            return []
        answered: set[NodeId] = set(self._decided) if self.forgot else self._recalled
        return sorted(self._others() - answered)

    def _others(self) -> set[NodeId]:
        return {member.id for member in self._members.members if member.id != self._me}

    # -- what happens ----------------------------------------------------------------------------

    def entered(self, members: MemberSet) -> None:
        """Note the set of a new working height: only its members' answers count."""
        self._members = members

    def recalled(self, member: NodeId, vote: Vote | None) -> None:
        """Take the answer of ``member``: the newest vote of ours that it knows, verified.

        An answer that comes late is left out: it may name a vote cast since.
        """
        if self.phase is not Phase.ASKING:
            return
        if vote is not None and not self._remembers(vote):
            self.foreign(vote)
        else:
            self._recalled.add(member)

    def decided(self, member: NodeId, height: Height) -> None:
        """Note that ``member`` proved, by a Decision that holds, to have committed ``height``."""
        if self.forgot and self._resumed is None:
            self._decided[member] = max(height, self._decided.get(member, Height(0)))

    def foreign(self, vote: Vote) -> None:
        """Note a vote with our signature that our signer does not know.

        Before voting it means that we have forgotten it; once we vote, that somebody else casts
        votes with our key.
        """
        if self.phase is Phase.VOTING:
            self.doubled = vote
        elif not self.forgot:
            self.forgot = (
                f"another member knows our vote {vote.kind.name} of height {vote.height},"
                f" view {vote.view}, and our log does not"
            )

    def _remembers(self, vote: Vote) -> bool:
        return vote.height <= self._committed or _name_of(vote) in self._known


def _name_of(vote: Vote) -> tuple[int, int, int, bytes]:
    return vote.height, vote.view, vote.kind, vote.block_hash


# -- the question and its answer -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recollection:
    """The newest vote of the asker that somebody knows, and the set it was cast under."""

    set_hash: Digest
    vote: Vote

    def holds(self, vote_key: bytes, chain_id: Digest, verify: Verify) -> bool:
        """Say whether the asker's key made this vote."""
        vote = self.vote
        signed = vote_bytes(
            vote.kind,
            vote.height,
            vote.view,
            vote.block_hash,
            chain_id=chain_id,
            set_hash=self.set_hash,
        )
        return verify(vote_key, signed, vote.signature)


def encode_question(committed: Height) -> bytes:
    """Return the question: what of mine is newer than this committed height?"""
    return _QUESTION.pack(committed)


def decode_question(data: bytes) -> Height:
    """Undo ``encode_question``.

    Raises:
        DecodeError: another length.
    """
    if len(data) != _QUESTION.size:
        raise DecodeError(f"question of {len(data)} bytes, {_QUESTION.size} expected")
    return Height(int(_QUESTION.unpack(data)[0]))


def encode_recollection(found: Recollection | None) -> bytes:
    """Return the answer; nothing known is no bytes."""
    return b"" if found is None else found.set_hash + encode_vote(found.vote)


def decode_recollection(data: bytes) -> Recollection | None:
    """Undo ``encode_recollection``. The signature is for ``Recollection.holds``.

    Raises:
        DecodeError: anything but the one encoding.
    """
    if not data:
        return None
    if len(data) != RECOLLECTION_BYTES_MAX:
        raise DecodeError(f"recollection of {len(data)} bytes, {RECOLLECTION_BYTES_MAX} expected")
    return Recollection(Digest(data[:32]), decode_vote(data[32:]))


def newest_of(votes: Iterable[Vote]) -> Vote | None:
    """Return the vote of the greatest height, view and kind."""
    return max(votes, key=lambda vote: (vote.height, vote.view, vote.kind), default=None)
