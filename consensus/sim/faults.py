"""Traitors as small named classes, each one way of breaking the protocol with real keys.

An actor hears every honest word when it is spoken (``overheard``), learns when a view begins
(``view_began``), is asked for bodies, and is woken once a second (``tick``). It acts through its
``Hand`` alone. These follow the formats and break the rules; ``forgers`` break the formats, and
``twin`` runs the honest core twice under one key. ``roster`` names them all.
"""

from __future__ import annotations

from consensus.sim.hand import Hand, VoteKey
from consensus.sim.machine import TransactionKind, swap_transactions, transaction
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Message,
    NodeId,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import block_hash


class Actor:
    """A traitor that does nothing of its own accord and gives true answers."""

    def __init__(self, me: NodeId, hand: Hand) -> None:
        self.me = me
        self.hand = hand

    def start(self) -> None:
        """Time begins."""

    def overheard(self, message: Message) -> None:
        """An honest node lets go of ``message``; it need not be meant for this traitor."""

    def view_began(self, height: Height, view: View) -> None:
        """Some honest node has entered a view that nobody was seen in before."""

    def tick(self) -> None:
        """A second has passed."""

    def received(self, source: NodeId, frame: bytes) -> None:
        """A frame arrives that was really sent to this traitor."""

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Return what to answer to a request for a body; None is silence."""
        return self.hand.knowledge.at(height).blocks.get(name)

    def decisions_for(self, first: Height) -> list[Decision] | None:
        """Return what to answer to a request for decisions; None is silence."""
        decisions = self.hand.knowledge.decisions
        return [decisions[at] for at in map(Height, range(first, first + 4)) if at in decisions]

    def denies_memories(self) -> bool:
        """Say whether to answer a member that asks for its own votes, with "none that I know"."""
        return True

    def vote_as_expected(self, message: Message) -> None:
        """Vote like an honest member, so that the votes of this traitor are counted on."""
        hand = self.hand
        if isinstance(message, Proposal):
            name = block_hash(message.block)
            vote = hand.vote(self.me, VoteKind.NOTARIZE, message.height, message.view, name)
            hand.say(self.me, vote, hand.honest)
        elif isinstance(message, Certificate) and message.kind is VoteKind.NOTARIZE:
            vote = hand.vote(
                self.me, VoteKind.FINALIZE, message.height, message.view, message.block_hash
            )
            hand.say(self.me, vote, hand.honest)

    def justification(self, height: Height, view: View) -> tuple[Certificate, ...]:
        """Return the overheard nullifications of all views before ``view``, with gaps or not."""
        found = (self.hand.certificate(VoteKind.NULLIFY, height, View(at)) for at in range(view))
        return tuple(one for one in found if one is not None)[-64:]


class Silent(Actor):
    """Never says a word: a member that has died."""

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Say nothing."""
        del height, name
        return None

    def decisions_for(self, first: Height) -> list[Decision] | None:
        """Say nothing."""
        del first
        return None

    def denies_memories(self) -> bool:
        """Say nothing."""
        return False


class Equivocator(Actor):
    """Shows different blocks to different nodes, and votes for everything that anybody likes."""

    def __init__(self, me: NodeId, hand: Hand) -> None:
        super().__init__(me, hand)
        self._voted: set[tuple[Height, View, Digest]] = set()

    def view_began(self, height: Height, view: View) -> None:
        """Propose one block to each half and notarize both."""
        hand = self.hand
        if not hand.leads(self.me, height, view):
            return
        sides = hand.halves()
        if hand.chance.random() < 0.5:
            sides = (list(hand.honest), list(hand.honest))
        for side in sides:
            block = hand.block(self.me, height, view)
            nullifications = self.justification(height, view)
            proposal = hand.proposal(self.me, height, view, block, nullifications=nullifications)
            hand.say(self.me, proposal, side)
            self._vote(height, view, block_hash(block), side)

    def overheard(self, message: Message) -> None:
        """Add every kind of vote to the first that an honest node casts for a block."""
        if not isinstance(message, Vote) or message.kind is not VoteKind.NOTARIZE:
            return
        key = (message.height, message.view, message.block_hash)
        if key not in self._voted:
            self._voted.add(key)
            self._vote(*key, self.hand.some())

    def _vote(self, height: Height, view: View, name: Digest, targets: list[NodeId]) -> None:
        hand = self.hand
        for kind, block in (
            (VoteKind.NOTARIZE, name),
            (VoteKind.FINALIZE, name),
            (VoteKind.NULLIFY, ZERO_DIGEST),
        ):
            if kind is VoteKind.NOTARIZE or hand.chance.random() < 0.5:
                hand.say(self.me, hand.vote(self.me, kind, height, view, block), targets)


class Conspirator(Actor):
    """Shows each half of the honest nodes a block of its own, and all traitors' votes for it.

    Or it helps the second half to skip the view. With more than f traitors, and the halves kept
    apart, each half then decides a block of its own, in one view or in two.
    """

    def view_began(self, height: Height, view: View) -> None:
        """As leader, have all traitors vote for one thing to each half."""
        hand = self.hand
        if not hand.leads(self.me, height, view):
            return
        first, second = hand.even_halves()
        self._decide(height, view, first)
        if hand.chance.random() < 0.5:
            self._decide(height, view, second)
        else:
            self._vote(VoteKind.NULLIFY, height, view, ZERO_DIGEST, second)

    def overheard(self, message: Message) -> None:
        """Vote as expected, and help the second half to skip what it wants to skip."""
        self.vote_as_expected(message)
        if isinstance(message, Vote) and message.kind is VoteKind.NULLIFY:
            side = self.hand.even_halves()[1]
            self._vote(VoteKind.NULLIFY, message.height, message.view, ZERO_DIGEST, side)

    def _decide(self, height: Height, view: View, side: tuple[NodeId, ...]) -> None:
        block = self.hand.block(self.me, height, view)
        nullifications = self.justification(height, view)
        proposal = self.hand.proposal(self.me, height, view, block, nullifications=nullifications)
        self.hand.say(self.me, proposal, side)
        for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
            self._vote(kind, height, view, block_hash(block), side)

    def _vote(
        self, kind: VoteKind, height: Height, view: View, name: Digest, side: tuple[NodeId, ...]
    ) -> None:
        for traitor in self.hand.traitors:
            self.hand.say(traitor, self.hand.vote(traitor, kind, height, view, name), side)


class WithholdingLeader(Actor):
    """Proposes good blocks to a few nodes only, keeps the bodies, votes like everybody else."""

    def view_began(self, height: Height, view: View) -> None:
        """Propose to some nodes, with the right justification."""
        hand = self.hand
        if not hand.leads(self.me, height, view):
            return
        nullifications = self.justification(height, view)
        if len(nullifications) < view:
            return
        block = hand.block(self.me, height, view)
        proposal = hand.proposal(self.me, height, view, block, nullifications=nullifications)
        hand.say(self.me, proposal, hand.some())
        vote = hand.vote(self.me, VoteKind.NOTARIZE, height, view, block_hash(block))
        hand.say(self.me, vote, hand.honest)

    def overheard(self, message: Message) -> None:
        """Vote as expected."""
        self.vote_as_expected(message)

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Keep the bodies."""
        del height, name
        return None


class StaleVoter(Actor):
    """Votes in views long past or not yet begun, and repeats what others have said."""

    def overheard(self, message: Message) -> None:
        """Vote as expected, so that the stale votes come on top of useful ones."""
        if self.hand.chance.random() < 0.5:
            self.vote_as_expected(message)

    def tick(self) -> None:
        """Send votes for random views around the present one, and an old frame."""
        hand, knowledge = self.hand, self.hand.knowledge
        known = knowledge.at(knowledge.height)
        names = [*known.blocks, Digest(hand.chance.randbytes(32))]
        for _ in range(3):
            kind = hand.chance.choice(tuple(VoteKind))
            name = ZERO_DIGEST if kind is VoteKind.NULLIFY else hand.chance.choice(names)
            view = View(hand.chance.randint(0, known.top + 18))
            vote = hand.vote(self.me, kind, knowledge.height, view, name)
            hand.say(self.me, vote, hand.some())
        if knowledge.frames:
            hand.raw(self.me, hand.chance.choice(knowledge.frames), hand.some())


class CertificateCompleter(Actor):
    """Turns votes into certificates as early as its own votes allow, and shows each to one side.

    A notarization goes to one half and the nullification of the same view to the other. At a
    random moment it falls silent for good, so that nobody can ask for them again: what honest
    nodes did not write down is then lost (CONSENSUS.md 3.6.1).
    """

    def __init__(self, me: NodeId, hand: Hand) -> None:
        super().__init__(me, hand)
        self._sides: dict[tuple[Height, View], tuple[list[NodeId], list[NodeId]]] = {}
        self._shown: set[tuple[Height, VoteKey]] = set()
        silence_us = hand.chance.randint(0, 40_000_000)
        self._silent_from_us = silence_us if hand.chance.random() < 0.5 else None

    def overheard(self, message: Message) -> None:
        """Complete what can be completed with this vote."""
        if not isinstance(message, Vote) or self._is_silent():
            return
        key = (message.kind, message.view, message.block_hash)
        if (message.height, key) in self._shown or message.height != self.hand.knowledge.height:
            return
        certificate = self.hand.complete(message.height, key)
        if certificate is None:
            return
        self._shown.add((message.height, key))
        self.hand.say(self.me, certificate, self._side(message))

    def view_began(self, height: Height, view: View) -> None:
        """Nullify every view at once, so that nullifications need fewer honest votes."""
        if not self._is_silent() and self.hand.chance.random() < 0.5:
            vote = self.hand.vote(self.me, VoteKind.NULLIFY, height, view, ZERO_DIGEST)
            self.hand.say(self.me, vote, self.hand.some())

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Keep the bodies once silent."""
        return None if self._is_silent() else super().body_for(height, name)

    def _is_silent(self) -> bool:
        now_us = self.hand.world.clock.now_us
        return self._silent_from_us is not None and now_us >= self._silent_from_us

    def _side(self, vote: Vote) -> list[NodeId]:
        sides = self._sides.setdefault((vote.height, vote.view), self.hand.halves())
        return sides[1] if vote.kind is VoteKind.NULLIFY else sides[0]


class WrongBody(Actor):
    """Sends other transactions under true headers: in proposals, in answers, in decisions."""

    def view_began(self, height: Height, view: View) -> None:
        """Propose the true body to one part, often the smallest that will do; swap the rest's."""
        hand = self.hand
        if not hand.leads(self.me, height, view):
            return
        block = hand.block(self.me, height, view)
        nullifications = self.justification(height, view)
        sides = hand.just_enough(height) if hand.chance.random() < 0.7 else hand.halves()
        for body, side in ((block, sides[0]), (self._swap(block), sides[1])):
            proposal = hand.proposal(self.me, height, view, body, nullifications=nullifications)
            hand.say(self.me, proposal, side)
        name = block_hash(block)
        hand.knowledge.at(height).blocks[name] = block
        hand.say(self.me, hand.vote(self.me, VoteKind.NOTARIZE, height, view, name), hand.honest)

    def overheard(self, message: Message) -> None:
        """Vote for proposals, finalize nothing, and send decisions on with swapped content."""
        if isinstance(message, Proposal):
            self.vote_as_expected(message)
        if isinstance(message, Certificate) and message.kind is VoteKind.FINALIZE:
            block = self.hand.knowledge.at(message.height).blocks.get(message.block_hash)
            if block is not None:
                decision = Decision(self._swap(block), message)
                self.hand.say(self.me, decision, self.hand.some())

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Answer with the right name and the wrong content."""
        block = super().body_for(height, name)
        return None if block is None else self._swap(block)

    def decisions_for(self, first: Height) -> list[Decision] | None:
        """Answer with true certificates over the wrong content."""
        true = super().decisions_for(first) or []
        return [Decision(self._swap(one.block), one.certificate) for one in true]

    def _swap(self, block: bytes) -> bytes:
        number = self.hand.chance.randrange(1_000_000)
        return swap_transactions(block, (transaction(TransactionKind.PLAIN, number),))


class UnjustifiedLeader(Actor):
    """Proposes what no rule allows: without nullifications, too old, invalid, out of turn."""

    def view_began(self, height: Height, view: View) -> None:
        """Propose something wrong, to everybody or some, and vote for it."""
        hand = self.hand
        if not hand.leads(self.me, height, view) and hand.chance.random() < 0.8:
            return
        proposal = self._proposal(height, view)
        targets = list(hand.honest) if hand.chance.random() < 0.7 else hand.some()
        hand.say(self.me, proposal, targets)
        name = block_hash(proposal.block)
        for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
            hand.say(self.me, hand.vote(self.me, kind, height, view, name), hand.honest)

    def overheard(self, message: Message) -> None:
        """Help the views of others along, so that there is something to contradict."""
        self.vote_as_expected(message)

    def _proposal(self, height: Height, view: View) -> Proposal:
        hand = self.hand
        wrong = hand.chance.randrange(6)
        full = self.justification(height, view)
        if wrong == 0:  # no reason why earlier views may be skipped
            return hand.proposal(self.me, height, view, hand.block(self.me, height, view))
        if wrong == 1:  # one reason is missing
            block = hand.block(self.me, height, view)
            some = tuple(one for one in full if hand.chance.random() < 0.5)
            return hand.proposal(self.me, height, view, block, nullifications=some)
        if wrong == 2:  # an old notarization, though a newer one may exist
            return self._repeat(height, view)
        if wrong == 3:  # made in the far past, or in the future
            late_ms = hand.chance.choice((-60_000, -12_000, 12_000, 60_000, 30 * 86_400_000))
            block = hand.block(self.me, height, view, late_ms=late_ms)
        elif wrong == 4:  # a transaction that is never valid
            block = hand.block(self.me, height, view, kind=TransactionKind.INVALID)
        else:  # made for another view
            block = hand.block(self.me, height, View(view + hand.chance.choice((1, 5))))
        return hand.proposal(self.me, height, view, block, nullifications=full)

    def _repeat(self, height: Height, view: View) -> Proposal:
        hand, known = self.hand, self.hand.knowledge.at(height)
        for (kind, at, name), certificate in known.certificates.items():
            if kind is VoteKind.NOTARIZE and at < view and name in known.blocks:
                return hand.proposal(
                    self.me, height, view, known.blocks[name], notarization=certificate
                )
        return hand.proposal(self.me, height, view, hand.block(self.me, height, view))


class Nullifier(Actor):
    """Ends every view as fast as it can, its own as leader first of all."""

    def view_began(self, height: Height, view: View) -> None:
        """Nullify at once."""
        vote = self.hand.vote(self.me, VoteKind.NULLIFY, height, view, ZERO_DIGEST)
        self.hand.say(self.me, vote, self.hand.honest)
