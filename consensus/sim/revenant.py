"""The traitor that speaks for sets of the past: removed members, and keys that were replaced.

A member that has left keeps its key, and whoever stole a key before it was rotated still has it.
From the moment in which the set at work no longer names a key, this actor signs with it, for the
present height, as a member of the set that once named it. After a few changes such keys are a
quorum of an old set (CONSENSUS.md 3.8): nothing of what they certify may count.
"""

from __future__ import annotations

from consensus.sim.faults import Actor
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Digest,
    Height,
    MemberSet,
    Message,
    Proposal,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import block_hash, encode_message


class Revenant(Actor):
    """Votes and certifies under sets that are over; votes as expected where it is a member."""

    def view_began(self, height: Height, view: View) -> None:
        """End the view, or decide a block of its own, by the voices of the past."""
        if height != self.hand.knowledge.height:
            return
        for old in self.hand.old_sets(height)[:3]:
            kind = self.hand.chance.choice(tuple(VoteKind))
            name = ZERO_DIGEST
            if kind is not VoteKind.NULLIFY:
                name = block_hash(self.hand.block(self.me, height, view))
            self._speak(old, kind, height, view, name)

    def overheard(self, message: Message) -> None:
        """Join every vote with voices of the past."""
        self.vote_as_expected(message)
        if isinstance(message, Proposal) and message.height == self.hand.knowledge.height:
            for old in self.hand.old_sets(message.height)[:1]:
                name = block_hash(message.block)
                for kind in (VoteKind.NOTARIZE, VoteKind.FINALIZE):
                    self._speak(old, kind, message.height, message.view, name)

    def _speak(
        self, old: MemberSet, kind: VoteKind, height: Height, view: View, name: Digest
    ) -> None:
        """Send the own vote of old, and all old votes together as a certificate."""
        hand, n = self.hand, len(old.members)
        votes = hand.votes_of_the_past(old, kind, height, view, name)
        targets = hand.some()
        index = old.index_of(self.me)
        if index is not None and index in votes:
            vote = Vote(kind, height, view, name, index, votes[index])
            hand.raw(self.me, encode_message(vote, n=n), targets)
        signers = tuple(sorted(votes))
        signatures = tuple(votes[signer] for signer in signers)
        if signers:
            certificate = Certificate(kind, height, view, name, signers, signatures)
            hand.raw(self.me, encode_message(certificate, n=n), targets)
