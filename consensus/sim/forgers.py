"""Traitors that forge: signatures of others, frames of no format, pages of somebody's log.

Each owns its real key and misuses everything else. See ``faults`` for how an actor acts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from consensus.effects import Record, RecordKind
from consensus.sim.faults import Actor
from consensus.sim.machine import TransactionKind
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Height,
    Message,
    View,
    Vote,
    VoteKind,
)
from consensus.wal import PAGE_BYTES, encode_batch
from consensus.wire import MessageKind, block_hash, encode_vote


class Forger(Actor):
    """Speaks in the name of others: votes and certificates that nobody signed."""

    def view_began(self, height: Height, view: View) -> None:
        """Send certificates with borrowed, repeated and invented signatures."""
        hand = self.hand
        members = hand.members(height).members
        kind = hand.chance.choice(tuple(VoteKind))
        name = ZERO_DIGEST
        if kind is not VoteKind.NULLIFY:
            name = block_hash(hand.block(self.me, height, view))
        own = hand.vote(self.me, kind, height, view, name)
        signers = tuple(range(len(members)))
        signatures = tuple(
            own.signature if hand.chance.random() < 0.5 else hand.chance.randbytes(64)
            for _ in signers
        )
        hand.say(self.me, Certificate(kind, height, view, name, signers, signatures), hand.honest)
        other = hand.chance.randrange(len(members))
        forged = Vote(kind, height, view, name, other, own.signature)
        hand.say(self.me, forged, hand.honest)

    def decisions_for(self, first: Height) -> list[Decision] | None:
        """Answer with a decision of its own making, claiming to be far ahead."""
        hand, working = self.hand, self.hand.knowledge.height
        if first > working:
            return None
        block = hand.block(self.me, working, View(0))
        own = hand.vote(self.me, VoteKind.FINALIZE, working, View(0), block_hash(block))
        signers = tuple(range(len(hand.members(first).members)))
        signatures = (own.signature,) * len(signers)
        certificate = Certificate(
            VoteKind.FINALIZE, first, View(0), block_hash(block), signers, signatures
        )
        return [Decision(block, certificate)]

    def overheard(self, message: Message) -> None:
        """Pass honest votes on as if they were its own to send."""
        if isinstance(message, Vote) and self.hand.chance.random() < 0.2:
            self.hand.say(self.me, message, self.hand.some())


class Flooder(Actor):
    """Sends garbage: random bytes, damaged frames, far views, heights to come."""

    FRAMES_PER_TICK: ClassVar[int] = 12

    def tick(self) -> None:
        """Send a handful of each."""
        for _ in range(self.FRAMES_PER_TICK):
            self.hand.raw(self.me, self._garbage(), self.hand.some())

    def _garbage(self) -> bytes:
        hand, chance = self.hand, self.hand.chance
        frames = hand.knowledge.frames
        shape = chance.randrange(5)
        if shape == 0 or not frames:
            return bytes([chance.randrange(20)]) + chance.randbytes(chance.randint(0, 300))
        frame = bytearray(chance.choice(frames))
        if shape == 1:
            return bytes(frame[: chance.randrange(len(frame))])
        if shape == 2:
            frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
            return bytes(frame)
        height = Height(hand.knowledge.height + chance.randrange(3))
        view = View(chance.choice((0, 15, 16, 17, 1_000, 2**32 - 1)))
        known = Height(min(height, hand.knowledge.height))
        vote = hand.vote(self.me, VoteKind.NULLIFY, known, view, ZERO_DIGEST)
        if shape == 3:
            return bytes([MessageKind.VOTE]) + encode_vote(replace(vote, height=height))
        return bytes([MessageKind.DECISION]) + chance.randbytes(4_000)


class PageForger(Actor):
    """Proposes bodies that hold the bytes of a later log batch where a page begins.

    A log that trusted such a page after a power cut would take itself for damaged, or worse.
    """

    PAGES: ClassVar[int] = 3

    def view_began(self, height: Height, view: View) -> None:
        """Propose a valid block with a forged batch inside."""
        hand = self.hand
        if not hand.leads(self.me, height, view):
            return
        marker = bytes([TransactionKind.PLAIN]) + hand.chance.randbytes(31)
        room = marker + bytes((self.PAGES + 1) * PAGE_BYTES)
        block = hand.block(self.me, height, view, extra=(room,))
        start = encode_batch(1, (Record(RecordKind.BODY, block),)).find(marker)
        forged = encode_batch(2**40, (Record(RecordKind.VOTE, b"forged"),))
        gap = -(start + len(marker)) % PAGE_BYTES
        extra = (marker + bytes(gap) + forged * self.PAGES).ljust(len(room), b"\0")
        block = hand.block(self.me, height, view, extra=(extra,))
        nullifications = self.justification(height, view)
        proposal = hand.proposal(self.me, height, view, block, nullifications=nullifications)
        hand.say(self.me, proposal, hand.honest)

    def overheard(self, message: Message) -> None:
        """Vote as expected."""
        self.vote_as_expected(message)
