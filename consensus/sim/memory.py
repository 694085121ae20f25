"""Keeps the signer of one simulated life silent until its node may vote (CONSENSUS.md 3.6.4).

What follows from the answers is the product's ``consensus.amnesia``; here are the questions and
answers, as frames on the simulated network, and the mark on disk that outlives a life. The log of
a node may have been damaged while it was down; then the mark is written first, and what is left of
the log is dropped, so that nothing rests on it by accident.

A power cut takes away whatever would vouch for the log. Where a node waits for want of that alone,
its operator vouches after a while, who knows whether an older image was put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consensus.amnesia import (
    Answer,
    Phase,
    Recollection,
    Restart,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    heights_to_look_through,
    newest_in,
    newest_of,
)
from consensus.errors import DecodeError
from consensus.events import Event, TimerFired, TimerKind
from consensus.ingress import verify_decision
from consensus.own_votes import foreign_vote
from consensus.signer import GENESIS, Signer
from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.frames import SideKind
from consensus.sim.oracle import Violation
from consensus.sim.world import Mark
from consensus.types import Decision, Height, MemberSet, Message, NodeId
from consensus.wire import (
    block_hash,
    certificate_height,
    decode_decision,
    encode_decision,
    split_decision,
)

if TYPE_CHECKING:
    from consensus.sim.life import Life

ASK_PAUSE_US: Final = 250 * MILLISECOND
ASK_PAUSE_US_MAX: Final = 5 * SECOND
"""Pauses between rounds of questions; they double from the first to the second."""

OPERATOR_US: Final = 10 * SECOND
"""How long after a start somebody looks why a node does not vote."""


class Memory:
    """What one life knows of its own votes, and of those of others."""

    def __init__(self, life: Life, signer: Signer) -> None:
        """Begin in silence; ``signer`` has been fed with what the log holds."""
        self._life = life
        self._signer = signer
        durable = life.durable
        mark = durable.mark
        forgot = mark.reason if mark is not None and mark.first_height is None else ""
        earlier = None if mark is None else mark.first_height
        self._start = Restart(
            durable.me,
            life.members(),
            committed=Height(durable.height - 1),
            votes=signer.votes(durable.height),
            forgot=forgot,
            is_whole=durable.is_new,
            silent_below=earlier or GENESIS,
        )
        durable.is_new = False
        if not durable.is_restored:
            life.later(OPERATOR_US, self._vouched)
        self._pause_us = ASK_PAUSE_US
        self._is_settled = False

    # -- voting -------------------------------------------------------------------------------

    def ask(self) -> list[Event]:
        """Ask those whose answer counts, again and again until this node may vote."""
        if self._is_settled:
            return []
        if self._settle():
            replica = self._life.replica
            return [TimerFired(TimerKind.RETRY, replica.height, replica.view)]
        if self._life.members().index_of(self._life.durable.me) is not None:
            for member in self._start.wanted():
                self._life.send(member, self._question())
        self._life.later(self._pause_us, self.ask)
        self._pause_us = min(2 * self._pause_us, ASK_PAUSE_US_MAX)
        return []

    def _vouched(self) -> list[Event]:
        self._start.vouch()
        return self.ask()

    def look_through(self, message: Message, members: MemberSet) -> None:
        """Look for own votes that the signer does not know, before the core acts on a message.

        Raises:
            Violation: there is one, though this node votes and its key is nowhere else.
        """
        me = self._life.durable.me
        vote = foreign_vote(message, me=me, members=members, has_cast=self._signer.has_cast)
        if vote is None:
            return
        first = self._first_height()
        if self._start.phase is Phase.VOTING:
            if first is not None and vote.height >= first:
                raise Violation("key called doubled", f"{me} does not know its {vote.kind.name}")
            return  # what was forgotten, and waited for
        self._signer.silence()
        self._start.foreign(vote)
        self._mark(None)

    def entered(self, members: MemberSet) -> None:
        """Note the set of a new working height."""
        self._start.entered(members, Height(self._life.durable.height - 1))

    def _question(self) -> bytes:
        if self._start.phase is Phase.FORGOT:
            return bytes([SideKind.TIP_ASKED])
        return bytes([SideKind.RECALL_ASKED]) + encode_question(self._start.began)

    def _settle(self) -> bool:
        first = self._first_height()
        if first is None:
            return False
        durable = self._life.durable
        if self._start.forgot:
            self._mark(first)
        elif durable.mark is not None and durable.height >= first:
            durable.mark = None
        self._signer.resume(first)
        self._is_settled = True
        return True

    def _first_height(self) -> Height | None:
        return self._start.first_height

    def _mark(self, first: Height | None) -> None:
        if first is None:
            self._life.note(f"has forgotten votes: {self._start.forgot}")
        self._life.durable.mark = Mark(self._start.forgot, first)

    # -- answers ------------------------------------------------------------------------------

    def take(self, source: NodeId, frame: bytes) -> list[Event]:
        """Take one frame of this business: a question to answer, or an answer."""
        try:
            match frame[0]:
                case SideKind.RECALL_ASKED if self._start.may_answer:
                    found = self._newest_of(source, decode_question(frame[1:]))
                    answer = encode_answer(Answer(Height(self._life.durable.height - 1), found))
                    self._life.send(source, bytes([SideKind.RECALL]) + answer)
                case SideKind.TIP_ASKED:
                    self._life.send(source, bytes([SideKind.TIP]) + self._tip())
                case SideKind.RECALL if self._start.phase is Phase.ASKING:
                    self._recalled(source, frame[1:])
                case SideKind.TIP if self._start.phase is Phase.FORGOT:
                    self._start.decided(source, self._proved_height(frame[1:]))
                case _:
                    pass
        except DecodeError:
            return []
        return self.ask() if not self._is_settled and self._first_height() is not None else []

    def _newest_of(self, member: NodeId, began: Height) -> Recollection | None:
        life = self._life
        vote = newest_of(life.replica.votes_of(member))
        if vote is not None:
            return Recollection(life.members().set_hash, vote)
        for height in heights_to_look_through(Height(life.durable.height - 1), began):
            members = life.durable.members_at(Height(height), life.world.machine)
            assert members is not None, "a committed height has a set"
            index, stored = members.index_of(member), life.durable.chain[height - 1]
            held = (stored.certificate, *(stored.transcript or ()))
            vote = None if index is None else newest_in(held, index)
            if vote is not None:
                return Recollection(members.set_hash, vote)
        return None

    def _recalled(self, member: NodeId, encoded: bytes) -> None:
        answer = decode_answer(encoded)
        found = answer.newest
        world, keys = self._life.world, self._life.durable.own_keys()
        if found is None or any(found.holds(key, world.chain_id, world.verify) for key in keys):
            self._start.recalled(member, answer.tip, None if found is None else found.vote)
            if self._start.forgot:
                self._mark(None)

    def _tip(self) -> bytes:
        durable = self._life.durable
        if not durable.chain:
            return b""
        members = durable.members_at(Height(durable.height - 1), self._life.world.machine)
        assert members is not None, "a committed height has a set"
        newest = durable.chain[-1]
        decision = Decision(newest.block, newest.certificate)
        return encode_decision(decision, n=len(members.members))

    def _proved_height(self, encoded: bytes) -> Height:
        """Return the height that a Decision proves to be committed; no bytes prove 0.

        Raises:
            DecodeError: malformed, or it does not hold by the set known here.
        """
        if not encoded:
            return Height(0)
        durable, world = self._life.durable, self._life.world
        block, certificate = split_decision(encoded)
        height = certificate_height(certificate)
        if 0 < height < durable.height:
            # Perhaps of another set, under which the rest would not even parse.
            if durable.chain[height - 1].name != block_hash(block):
                raise DecodeError(f"another block of height {height}")
            return height
        members = self._life.members()
        decision = decode_decision(encoded, n=len(members.members))
        if not verify_decision(decision, members, world.chain_id, world.verify):
            raise DecodeError(f"a decision of height {height} that does not hold")
        return height
