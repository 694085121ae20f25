"""The omniscient traitor: one mind that owns every traitor's key and hears every honest word.

It plays what the safety proof must withstand (CONSENSUS.md 3.5): it completes certificates as soon
as the votes of honest nodes and all its own suffice, keeps them to itself, and lets each out later
to a part of the nodes, so that some advance by a notarization and others by the nullification of
the same view. It gives single nodes the finalizations that let them commit alone, shows different
blocks to as many as it takes, keeps bodies back, and justifies proposals by what is out of date.
"""

from __future__ import annotations

from typing import Final

from consensus.sim.faults import Actor
from consensus.sim.hand import Hand, VoteKey
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
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

HOARD_MAX: Final = 64
"""Most certificates kept back at a time."""


class Puppeteer(Actor):
    """Plays all traitors at once; several of them are several minds over the same keys."""

    def __init__(self, me: NodeId, hand: Hand) -> None:
        super().__init__(me, hand)
        self._hoard: dict[tuple[Height, VoteKey], Certificate] = {}
        self._done: set[tuple[Height, VoteKey]] = set()
        self._keeps_bodies = hand.chance.random() < 0.5

    def view_began(self, height: Height, view: View) -> None:
        """Let something out of the hoard, and lead if any traitor does."""
        if height != self.hand.knowledge.height:
            return
        self._hoard = {key: one for key, one in self._hoard.items() if key[0] == height}
        for key in sorted(self._hoard, key=lambda one: (one[1][1], one[1][0], one[1][2])):
            if self.hand.chance.random() < 0.4:
                self.hand.say(self.me, self._hoard.pop(key), self._few())
        for traitor in self.hand.traitors:
            if self.hand.leads(traitor, height, view):
                self._lead(traitor, height, view)

    def overheard(self, message: Message) -> None:
        """Complete certificates with every vote; help some to what they wait for."""
        if isinstance(message, Vote) and message.height == self.hand.knowledge.height:
            self._complete(message.height, (message.kind, message.view, message.block_hash))
            if message.kind is VoteKind.NOTARIZE:
                self._complete(message.height, (VoteKind.NULLIFY, message.view, ZERO_DIGEST))
        elif isinstance(message, Certificate) and message.kind is VoteKind.NOTARIZE:
            # Whoever finalizes may soon decide alone; everybody else is pushed out of the view.
            finals, others = self.hand.halves()
            name = message.block_hash
            self._vote(VoteKind.FINALIZE, message.height, message.view, name, finals)
            self._vote(VoteKind.NULLIFY, message.height, message.view, ZERO_DIGEST, others)

    def body_for(self, height: Height, name: Digest) -> bytes | None:
        """Give bodies to nobody, or to everybody."""
        return None if self._keeps_bodies else super().body_for(height, name)

    def _few(self) -> list[NodeId]:
        """Return one honest node, or some."""
        if self.hand.chance.random() < 0.5:
            return [self.hand.chance.choice(self.hand.honest)]
        return self.hand.some()

    def _complete(self, height: Height, key: VoteKey) -> None:
        if (height, key) in self._done or len(self._hoard) >= HOARD_MAX:
            return
        certificate = self.hand.complete(height, key)
        if certificate is None:
            return
        self._done.add((height, key))
        if self.hand.chance.random() < 0.3:
            self.hand.say(self.me, certificate, self._few())
        else:
            self._hoard[height, key] = certificate

    def _lead(self, leader: NodeId, height: Height, view: View) -> None:
        """Propose one thing to just enough nodes for a certificate, and another to the rest."""
        for side in self.hand.just_enough(height):
            if side and self.hand.chance.random() < 0.8:
                proposal = self._proposal(leader, height, view)
                self.hand.say(leader, proposal, side)
                name = block_hash(proposal.block)
                self._vote(VoteKind.NOTARIZE, height, view, name, side)

    def _proposal(self, leader: NodeId, height: Height, view: View) -> Proposal:
        """Repeat some notarized block, not always the newest, or begin something new."""
        hand, known = self.hand, self.hand.knowledge.at(height)
        notarized = [
            one
            for one in (*known.certificates.values(), *self._hoard.values())
            if one.kind is VoteKind.NOTARIZE
            and (one.height, one.view < view) == (height, True)
            and one.block_hash in known.blocks
        ]
        skipped = {
            one.view: one
            for one in (*self._hoard.values(), *self.justification(height, view))
            if one.kind is VoteKind.NULLIFY and one.height == height and one.view < view
        }
        nullifications = tuple(skipped[at] for at in sorted(skipped))[-64:]
        if notarized and hand.chance.random() < 0.6:
            old = hand.chance.choice(notarized)
            block = known.blocks[old.block_hash]
            return hand.proposal(
                leader,
                height,
                view,
                block,
                notarization=old,
                nullifications=tuple(one for one in nullifications if one.view > old.view),
            )
        block = hand.block(leader, height, view)
        return hand.proposal(leader, height, view, block, nullifications=nullifications)

    def _vote(
        self, kind: VoteKind, height: Height, view: View, name: Digest, side: list[NodeId]
    ) -> None:
        for traitor in self.hand.traitors:
            self.hand.say(traitor, self.hand.vote(traitor, kind, height, view, name), side)
