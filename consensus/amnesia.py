"""When a member that has just started may vote (CONSENSUS 3.6.4). Pure: others ask and verify.

A node cannot know by itself that its log of votes is whole: an image may have been restored, or
its key may be running elsewhere. So on every start it asks the others for the newest vote that
carries its signature, and votes once enough of them have answered and nothing newer than its log
was among the answers. Their word alone counts for nothing: only the signature does, so a liar
cannot silence it. How many are enough depends on whether something outside the image vouches for
the log; docs/design/consensus.md 8 has the argument, and says what no number of answers can show.

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
from consensus.evidence import votes_of
from consensus.quorum import faults, quorum
from consensus.signer import GENESIS
from consensus.types import Certificate, Digest, Height, MemberSet, NodeId, Vote
from consensus.wire import decode_vote, encode_vote, vote_bytes

HEIGHTS_LOOKED_THROUGH_MAX: Final = 32
"""Committed heights, the newest, in which an answerer looks for votes of the asker."""

_HEIGHT: Final = struct.Struct(">Q")
_RECOLLECTION_BYTES: Final = 32 + 111
"""A set hash and a vote."""

ANSWER_BYTES_MAX: Final = _HEIGHT.size + _RECOLLECTION_BYTES


def answers_needed(n: int, *, is_whole: bool) -> int:
    """Return how many others of a set of ``n`` must have answered before a start votes.

    Args:
        n: members, the asker among them.
        is_whole: something that no image of this disk holds says that the log is the newest one.
            Then nothing was forgotten, and the question only looks for a second machine that votes
            with the same key: q - 1, the most that can be waited for with f members down. Else f
            of the answers may be lies, and f honest members may have missed what was forgotten:
            2f + 1, of which one at least is neither.
    """
    fewest = quorum(n) - 1
    return fewest if is_whole else min(n - 1, max(fewest, 2 * faults(n) + 1))


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
        is_whole: bool = False,
        silent_below: Height = GENESIS,
    ) -> None:
        """Begin a start; nobody has answered yet.

        Args:
            me: this node.
            members: the set of the working height; ``entered`` tells of later ones.
            committed: the tip as the store had it at start. What is newer was learned since.
            votes: own votes of heights above it, as the log had them at start.
            forgot: why votes may be missing, in words, where the log itself shows it.
            is_whole: see ``answers_needed``; ``vouch`` says it later.
            silent_below: first height to vote at by what an earlier start found out.
        """
        self._me = me
        self._members = members
        self._began = self._committed = committed
        self._known = frozenset(map(_name_of, votes))
        self._is_whole = is_whole
        self._silent_below = silent_below
        self._recalled: dict[NodeId, Height] = {}
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
            first = Height(newest + 3 if self.forgot else 0)
            self._resumed = max(first, self._silent_below)
        return self._resumed

    @property
    def began(self) -> Height:
        """Return the height that was committed at start: votes above it are asked for."""
        return self._began

    @property
    def needed(self) -> int:
        """Return how many members have still to answer."""
        return self._lacking(is_whole=self._is_whole)

    @property
    def lacks_only_word(self) -> bool:
        """Say whether ``vouch`` would end the wait: enough for a log that is known to be whole."""
        asks = self.phase is Phase.ASKING
        return asks and self.needed > 0 and self._lacking(is_whole=True) == 0

    @property
    def lacks_only_heights(self) -> bool:
        """Say whether enough have answered, and it is this node that has to catch up with them."""
        if self.phase is not Phase.ASKING or self.needed == 0:
            return False
        enough = answers_needed(len(self._members.members), is_whole=self._is_whole)
        return len(self._recalled.keys() & self._others()) >= enough

    @property
    def may_answer(self) -> bool:
        """Say whether this member's memory of its working height can vouch for votes of others.

        One that is still asking answers, or a network that lost power as a whole would ask itself
        for ever. One that has forgotten does not until all it forgot is committed, whatever starts
        lie between.
        """
        if self.doubled is not None:
            return False
        first = self.first_height if self.forgot else self._silent_below
        return first is not None and self._committed + 1 >= first

    @property
    def is_hopeless(self) -> bool:
        """Say whether the set has too few others to ever bring back forgotten votes (n <= 3)."""
        return bool(self.forgot) and len(self._others()) < quorum(len(self._members.members))

    def wanted(self) -> list[NodeId]:
        """Return the members whose answer still counts, by id; nobody once it is settled."""
        if self.phase in (Phase.VOTING, Phase.DOUBLED):
            return []
        return sorted(self._others() - self._answered())

    def _lacking(self, *, is_whole: bool) -> int:
        n = len(self._members.members)
        enough = quorum(n) if self.forgot else answers_needed(n, is_whole=is_whole)
        return max(0, enough - len(self._answered() & self._others()))

    def _answered(self) -> set[NodeId]:
        if self.forgot:
            return set(self._decided)
        # Who has committed a height no longer remembers every vote of it. Once we have committed
        # it too, what we forgot there is nothing any more: the signer refuses such heights.
        return {member for member, tip in self._recalled.items() if tip <= self._committed}

    def _others(self) -> set[NodeId]:
        return {member.id for member in self._members.members if member.id != self._me}

    # -- what happens ----------------------------------------------------------------------------

    def entered(self, members: MemberSet, committed: Height) -> None:
        """Note the set of a new working height, above ``committed``: only its answers count."""
        self._members = members
        self._committed = committed

    def vouch(self) -> None:
        """Note that somebody who knows says that no older image was restored here."""
        self._is_whole = True

    def recalled(self, member: NodeId, tip: Height, vote: Vote | None) -> None:
        """Take the answer of ``member``: the newest vote of ours that it knows, verified.

        Args:
            member: who answers.
            tip: the height that it says to have committed. It counts once we have, too.
            vote: above ``began``; None if it knows none. An answer that comes late is left out:
                it may name a vote cast since.
        """
        if self.phase is not Phase.ASKING:
            return
        if vote is not None and not self._remembers(vote):
            self.foreign(vote)
        else:
            self._recalled[member] = tip

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
        """Say whether a vote is no news: decided at start, forgotten long since, or in the log."""
        is_past = vote.height <= self._began or vote.height < self._silent_below
        return is_past or _name_of(vote) in self._known


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a member says to another's start question."""

    tip: Height
    """The height that the answerer has committed."""
    newest: Recollection | None
    """Of what it knows above the height asked about: of its working height, or of the newest
    ``HEIGHTS_LOOKED_THROUGH_MAX`` that it has committed."""


def heights_to_look_through(tip: Height, began: Height) -> range:
    """Return the committed heights in which to look for votes of an asker, newest first."""
    return range(tip, max(began, tip - HEIGHTS_LOOKED_THROUGH_MAX), -1)


def newest_in(certificates: Iterable[Certificate], voter: int) -> Vote | None:
    """Return the newest vote of a member that certificates of one height hold.

    Not only of the one that finalized the block: a NULLIFY that was forgotten is in none of those.
    """
    held = (vote for one in certificates if voter in one.signers for vote in votes_of(one))
    return newest_of(vote for vote in held if vote.voter == voter)


def encode_question(began: Height) -> bytes:
    """Return the question: what of mine is newer than the height that I started with?"""
    return _HEIGHT.pack(began)


def decode_question(data: bytes) -> Height:
    """Undo ``encode_question``.

    Raises:
        DecodeError: another length.
    """
    if len(data) != _HEIGHT.size:
        raise DecodeError(f"question of {len(data)} bytes, {_HEIGHT.size} expected")
    return Height(int(_HEIGHT.unpack(data)[0]))


def encode_answer(answer: Answer) -> bytes:
    """Return the answer's one encoding; where nothing is known it ends after the tip."""
    found = answer.newest
    known = b"" if found is None else found.set_hash + encode_vote(found.vote)
    return _HEIGHT.pack(answer.tip) + known


def decode_answer(data: bytes) -> Answer:
    """Undo ``encode_answer``. The signature is for ``Recollection.holds``.

    Raises:
        DecodeError: anything but the one encoding.
    """
    if len(data) not in (_HEIGHT.size, ANSWER_BYTES_MAX):
        raise DecodeError(
            f"answer of {len(data)} bytes, {_HEIGHT.size} or {ANSWER_BYTES_MAX} expected"
        )
    tip = Height(int(_HEIGHT.unpack_from(data)[0]))
    if len(data) == _HEIGHT.size:
        return Answer(tip, None)
    set_hash = Digest(data[_HEIGHT.size : _HEIGHT.size + 32])
    return Answer(tip, Recollection(set_hash, decode_vote(data[_HEIGHT.size + 32 :])))


def newest_of(votes: Iterable[Vote]) -> Vote | None:
    """Return the vote of the greatest height, view and kind."""
    return max(votes, key=lambda vote: (vote.height, vote.view, vote.kind), default=None)
