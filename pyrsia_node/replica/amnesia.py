"""Keeps a member's signer silent until it may vote, and says in words why and for how long.

On every start the other members are asked which votes of ours they know (``recall``); what follows
from their answers is ``consensus.amnesia``'s. Here are the questions, the checks of the answers,
and the mark on disk that makes a silence outlive the process. Any number of answers may be lies:
a vote counts by our own signature, a height by a Decision that holds.

Order of durable steps when votes were forgotten: the mark goes to disk first, without a height;
once q others have proved where they work, the mark gets the height; then the damaged files are set
aside; then the signer resumes. A crash between any two repeats the questions, never forgets them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from consensus import ed25519, wire
from consensus.amnesia import (
    ANSWER_BYTES_MAX,
    Phase,
    Recollection,
    Restart,
    decode_answer,
    encode_question,
)
from consensus.effects import Record
from consensus.errors import DecodeError
from consensus.ingress import verify_decision
from consensus.own_votes import foreign_vote
from consensus.signer import GENESIS, Signer
from consensus.types import Digest, Height, MemberSet, Message, NodeId, Vote
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import CorruptStateError, PyrsiaError, VerificationError
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.replica.silence import Silence, SilenceFile
from pyrsia_node.replica.wal import height_in

_LOG = logging.getLogger("pyrsia.replica.amnesia")

ASK_TIMEOUT_S: Final = 3.0
ASK_TIMEOUT_MAX_S: Final = 20.0
"""How long a round of questions waits; it doubles, so that slow members answer in the end, too."""
ASK_INTERVAL_S: Final = 0.25
ASK_INTERVAL_MAX_S: Final = 5.0
"""Pauses between rounds of questions; they double from the first to the second."""

HEED_INTERVAL_S: Final = 1.0
"""How often it looks whether somebody vouches for the log."""

PATIENCE_ROUNDS: Final = 5
"""Rounds of questions after which people are told what would end the wait: some ten seconds."""

_GUIDE: Final = "docs/guides/recover.md"


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask and how; all of it made by the composition root.

    ``labels`` names members in words. ``set_aside`` moves the damaged files of the log away.
    ``is_vouched_for`` says whether something outside of every image knows the log to be the newest
    there is; it is asked again and again. ``settled`` hears that it is, from now on.
    """

    chain: Chain
    requests: PeerRequests
    peer_of: Callable[[NodeId], PeerId]
    labels: Callable[[], Mapping[str, str]]
    set_aside: Callable[[], None]
    is_vouched_for: Callable[[], bool]
    settled: Callable[[], None]


class VotingGate:
    """One member's permission to vote, from its start to its end."""

    def __init__(
        self,
        *,
        me: NodeId,
        vote_key: bytes,
        signer: Signer,
        file: SilenceFile,
        asking: Asking,
        damage: str,
    ) -> None:
        """Judge this start by what the disk shows.

        Args:
            me: this node's member id.
            vote_key: public key of its votes.
            signer: silent, and fed with what the log holds.
            file: the mark of a silence that an earlier life began.
            asking: how to reach the others.
            damage: what is wrong with the log of votes, or "".
        """
        self._me = me
        self._vote_key = vote_key
        self._signer = signer
        self._file = file
        self._asking = asking
        self._chain_id = Digest(asking.chain.genesis.network_id)
        self._earlier = file.read(vote_key)
        tip = asking.chain.tip
        earlier = self._earlier
        is_unfinished = earlier is not None and earlier.first_height is None
        forgot = damage or (earlier.reason if earlier is not None and is_unfinished else "")
        self._start = Restart(
            me,
            tip.members,
            committed=Height(tip.height),
            votes=signer.votes(Height(tip.height + 1)),
            forgot=forgot,
            is_whole=asking.is_vouched_for(),
            silent_below=(earlier.first_height if earlier is not None else None) or GENESIS,
        )
        self._rounds = 0
        self._round = trio.CancelScope()
        self._is_doubled = earlier is not None and earlier.is_doubled
        self.resumed: Callable[[], None] = lambda: None
        if forgot and not self._is_doubled:
            self._note_forgotten()

    # ------------------------------------------------------------ what others may know

    @property
    def may_answer(self) -> bool:
        """Whether this node's memory is whole enough to vouch for the votes of others."""
        return self._start.may_answer and not self._is_doubled

    @property
    def words(self) -> str:
        """Why this member does not vote, and what ends that; "" where there is nothing to say."""
        if self._asking.chain.tip.members.index_of(self._me) is None:
            return ""
        if self._is_doubled:
            return self._words_doubled()
        match self._start.phase:
            case Phase.VOTING:
                return self._words_waiting_height()
            case Phase.ASKING if self._start.lacks_only_heights:
                return (
                    "the others have said which of its votes they know; it votes once it has"
                    f" caught up with them: it has height {self._asking.chain.tip.height}"
                )
            case Phase.ASKING if self._start.lacks_only_word and self._rounds > PATIENCE_ROUNDS:
                return self._words_unvouched()
            case Phase.ASKING:
                return (
                    f"after its start it votes once {self._start.needed} more of"
                    f" {self._names(self._start.wanted())} have said which of its votes they know"
                )
            case _:
                return self._words_forgot()

    def _words_unvouched(self) -> str:
        return (
            "nothing outside this disk shows that its log of votes is the newest one, and"
            f" {self._names(self._start.wanted())} cannot be asked. It votes once"
            f" {self._start.needed} more of them answered. If you are certain that no older copy"
            f" of the data directory was put back, say so: 'pyrsia-node vouch' ({_GUIDE},"
            " 'A start that nobody vouches for')"
        )

    def _words_waiting_height(self) -> str:
        first, height = self._start.first_height, self._asking.chain.tip.height
        if first is None or height + 1 >= first:
            return ""
        return (
            f"it has forgotten votes and votes again by itself once height {first - 1} is"
            f" committed; the log is at {height}. Nothing is to be done"
        )

    def _words_forgot(self) -> str:
        reason = f"this node may have forgotten votes: {self._start.forgot}"
        if self._start.is_hopeless:
            n = len(self._asking.chain.tip.members.members)
            return (
                f"{reason}. A log of {n} authorized nodes needs its vote, and nobody can say how"
                " far it went: it stays silent. Put the files back from this machine's own disk,"
                f" or found a continuation of the log by hand ({_GUIDE},"
                " 'Continuing by hand')"
            )
        return (
            f"{reason}. It votes again by itself after {self._start.needed} more of"
            f" {self._names(self._start.wanted())} have shown how far they are and the log has gone"
            f" on from there. Let it run ({_GUIDE})"
        )

    def _words_doubled(self) -> str:
        return (
            f"KEY IN USE TWICE: {self._reason()}. Stop the other machine that runs with this key,"
            " then 'pyrsia rotate-key'. If you are certain that no other runs, stop this node,"
            f" remove {self._file.path}, and start it ({_GUIDE})"
        )

    def _reason(self) -> str:
        if self._start.doubled is not None:
            return _why_doubled(self._start.doubled)
        return self._earlier.reason if self._earlier is not None else ""

    def _names(self, members: list[NodeId]) -> str:
        labels = self._asking.labels()
        return ", ".join(labels.get(member, member) for member in members) or "nobody"

    # ------------------------------------------------------------ what the driver sees

    def look_through(self, message: Message, members: MemberSet) -> None:
        """Look for votes of ours that we did not cast, before the core acts on a message.

        Args:
            message: of the working height, with every signature verified.
            members: the set of that height.
        """
        vote = foreign_vote(message, me=self._me, members=members, has_cast=self._signer.has_cast)
        if vote is None or self._is_doubled:
            return
        # Certificates of a range that is proved by its newest one are not checked one by one.
        ours = Recollection(members.set_hash, vote)
        if ours.holds(self._vote_key, self._chain_id, ed25519.verify):
            self._found(vote)

    def entered(self, members: MemberSet) -> None:
        """Note the set of a new working height."""
        self._start.entered(members, Height(self._asking.chain.tip.height))

    def _found(self, vote: Vote) -> None:
        was_voting = self._start.phase is Phase.VOTING
        first = self._start.first_height
        if was_voting and first is not None and vote.height < first:
            # What we forgot, and waited for: a silence that is not over yet expects such votes.
            return
        self._signer.silence()
        had_forgotten = bool(self._start.forgot)
        self._start.foreign(vote)
        if was_voting:
            self._is_doubled = True
            reason = _why_doubled(vote)
            self._file.write(Silence(self._vote_key, reason, None, is_doubled=True))
            _LOG.error("SILENT in consensus: %s", self.words)
        elif not had_forgotten:
            self._note_forgotten()

    def _note_forgotten(self) -> None:
        self._file.write(Silence(self._vote_key, self._start.forgot, None))
        _LOG.error("SILENT in consensus: %s", self.words)

    # ------------------------------------------------------------ asking

    async def run(self) -> None:
        """Ask until this node may vote, or can never by itself."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed)
            await self._ask_around()
            nursery.cancel_scope.cancel()

    async def _ask_around(self) -> None:
        pause, timeout_s = ASK_INTERVAL_S, ASK_TIMEOUT_S
        while not self._settle():
            with self._round:
                async with trio.open_nursery() as nursery:
                    for member in self._start.wanted():
                        nursery.start_soon(self._ask, member, timeout_s, nursery.cancel_scope)
                if self._settle():
                    return
                await trio.sleep(pause)
            self._round = trio.CancelScope()
            self._rounds += 1
            pause = min(2 * pause, ASK_INTERVAL_MAX_S)
            timeout_s = min(2 * timeout_s, ASK_TIMEOUT_MAX_S)

    async def _heed(self) -> None:
        """Hear somebody who vouches for the log, also while members that are down are asked."""
        while True:
            await trio.sleep(HEED_INTERVAL_S)
            if self._asking.is_vouched_for():
                self._start.vouch()
                if self._start.first_height is not None:
                    self._round.cancel()

    def _settle(self) -> bool:
        """Resume the signer if the answers allow it; True when there is nothing more to ask."""
        if self._is_doubled:
            return True
        first = self._start.first_height
        if first is None:
            return False
        if self._start.forgot:
            self._file.write(Silence(self._vote_key, self._start.forgot, first))
            self._asking.set_aside()
            _LOG.warning("consensus: %s", self.words or f"votes again from height {first} on")
        elif self._earlier is not None and self._asking.chain.tip.height + 1 >= first:
            self._file.remove()
        # Only now: while it asks, another start must ask as well.
        self._asking.settled()
        self._signer.resume(first)
        self.resumed()
        return True

    async def _ask(self, member: NodeId, timeout_s: float, others: trio.CancelScope) -> None:
        try:
            if self._start.phase is Phase.FORGOT:
                await self._ask_tip(member, timeout_s)
            else:
                await self._ask_recall(member, timeout_s)
            if self._start.phase is Phase.VOTING:
                others.cancel()  # Who is down must not hold up what enough have answered.
        except CorruptStateError:
            raise
        except (PyrsiaError, DecodeError) as error:
            _LOG.debug("start question to %s: %s", member, error)

    async def _ask_recall(self, member: NodeId, timeout_s: float) -> None:
        answer = await self._asking.requests.ask(
            self._asking.peer_of(member),
            "recall",
            encode_question(self._start.began),
            timeout_s=timeout_s,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        found = decode_answer(answer)
        newest = found.newest
        if newest is not None and not self._is_ours(newest):
            raise VerificationError(f"{member} names a vote of ours that we never signed")
        had_forgotten = bool(self._start.forgot)
        self._start.recalled(member, found.tip, None if newest is None else newest.vote)
        if self._start.forgot and not had_forgotten:
            self._note_forgotten()

    def _is_ours(self, found: Recollection) -> bool:
        """Say whether a vote was signed with our key: today's, or that of its height."""
        chain, height = self._asking.chain, found.vote.height
        keys = [self._vote_key]
        if 0 < height <= chain.tip.height:
            keys.append(chain.members_at(height).to_consensus().vote_key_of(self._me) or b"")
        return any(found.holds(key, self._chain_id, ed25519.verify) for key in keys if key)

    async def _ask_tip(self, member: NodeId, timeout_s: float) -> None:
        answer = await self._asking.requests.ask(
            self._asking.peer_of(member),
            "tip",
            b"",
            timeout_s=timeout_s,
            answer_bytes_max=wire.FRAME_BYTES_MAX,
        )
        self._start.decided(member, proved_height(self._asking.chain, answer))


def proved_height(chain: Chain, decision: bytes) -> Height:
    """Return the height that an encoded Decision proves to be committed; no bytes prove 0.

    Raises:
        DecodeError: malformed.
        VerificationError: it does not hold by the set of our tip, nor is it a block of our chain.
    """
    if not decision:
        return Height(0)
    block, certificate = wire.split_decision(decision)
    height, tip = wire.certificate_height(certificate), chain.tip
    if height <= tip.height:
        if bytes.fromhex(chain.block(height).hash) != wire.block_hash(block):
            raise VerificationError(f"another block of height {height} than ours")
        return height
    found = wire.decode_decision(decision, n=len(tip.members.members))
    chain_id = Digest(chain.genesis.network_id)
    if not verify_decision(found, tip.members, chain_id, ed25519.verify):
        raise VerificationError(f"decision of height {height} does not hold by the set we know")
    return height


def what_the_chain_lacks(records: Sequence[Record], tip: int) -> str:
    """Return what is wrong when a log of votes is ahead of the chain beside it, or "".

    A batch of height h + 1 is written only after height h was committed and synced. So records of
    a later height mean that the chain database was put back to an older state, and that the log no
    longer has the votes between.
    """
    newest = height_in(records)
    if newest <= tip + 1:
        return ""
    return (
        f"the log of votes has reached height {newest}, the chain beside it only {tip}: the chain"
        " database is an older copy"
    )


def _why_doubled(vote: Vote) -> str:
    return (
        f"a vote with this node's signature that it did not cast ({vote.kind.name} of height"
        f" {vote.height}, view {vote.view}) is in the network"
    )
