"""What a running node asks of others and gives to them: bodies and decisions.

The product does this over its ``ask`` protocol; here it is frames on the simulated network. One
question for a body is open per hash, it goes to one peer after the other, and a new request starts
with the next peer, so that no liar can stand in front of the queue for ever.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from consensus.effects import RequestBody, ServeDecisions
from consensus.errors import DecodeError
from consensus.events import BodyReceived, DecisionApplied, Event
from consensus.ingress import verify_certificate
from consensus.sim.clock import SECOND
from consensus.sim.frames import (
    SideKind,
    body_asked_frame,
    body_frame,
    decision_frame,
    decisions_asked_frame,
    read_body_asked,
    read_height,
)
from consensus.types import Certificate, Digest, Height, NodeId, VoteKind
from consensus.wire import (
    MessageKind,
    block_hash,
    decode_certificate,
    encode_certificate,
    join_decision,
    split_decision,
)

if TYPE_CHECKING:
    from consensus.sim.life import Life

DECISIONS_PER_HELP: Final = 4
HELP_PAUSE_US: Final = SECOND
PULL_PAUSE_US: Final = 3 * SECOND
BODY_TIMEOUT_US: Final = SECOND


class Errands:
    """The side business of one life of one node."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._fetches: dict[Digest, list[NodeId]] = {}
        self._turns: dict[Digest, int] = {}
        self._served: dict[tuple[SideKind | MessageKind, NodeId], int] = {}

    # -- bodies -------------------------------------------------------------------------------

    def fetch(self, effect: RequestBody) -> None:
        """Ask one peer after the other for a body, unless that is already going on."""
        if effect.block_hash in self._fetches:
            return
        others = self._life.others()
        holders = [one for one in effect.holders if one in others]
        peers = holders + [one for one in others if one not in holders]
        turn = self._turns.get(effect.block_hash, 0)
        self._turns[effect.block_hash] = turn + 1
        first = turn % len(peers) if peers else 0
        self._fetches[effect.block_hash] = peers[first:] + peers[:first]
        self._ask_next(effect.height, effect.block_hash)

    def _ask_next(self, height: Height, name: Digest) -> None:
        peers = self._fetches.get(name)
        if not peers:
            self._fetches.pop(name, None)
            return
        self._life.send(peers.pop(0), body_asked_frame(height, name))
        self._life.later(BODY_TIMEOUT_US, partial(self._asked_in_vain, height, name))

    def _asked_in_vain(self, height: Height, name: Digest) -> list[Event]:
        if name in self._fetches:
            self._ask_next(height, name)
        return []

    def answer_body(self, source: NodeId, frame: bytes) -> None:
        """Send the body that a peer asks for, if it is here."""
        asked = read_body_asked(frame)
        if asked is None:
            return
        height, name = asked
        body = self._life.body(name)
        if body is not None:
            self._life.send(source, body_frame(height, body))

    def take_body(self, frame: bytes) -> list[Event]:
        """Pass on a body that was asked for; its name must be right, the rest is judged later."""
        answer = read_height(frame)
        if answer is None:
            return []
        height, block = answer
        try:
            name = block_hash(block)
        except DecodeError:
            return []
        if self._fetches.pop(name, None) is None:
            return []
        return [BodyReceived(height, block)]

    # -- decisions ----------------------------------------------------------------------------

    def serve(self, effect: ServeDecisions) -> None:
        """Help a member that is behind with the decisions that it lacks (R9)."""
        for decision in self._decisions(MessageKind.DECISION, effect.to, effect.first):
            self._life.send(effect.to, bytes([MessageKind.DECISION]) + decision)

    def answer_decisions(self, source: NodeId, frame: bytes) -> None:
        """Send the decisions that a peer pulls."""
        asked = read_height(frame)
        if asked is None:
            return
        for decision in self._decisions(SideKind.DECISION, source, asked[0]):
            self._life.send(source, decision_frame(decision))

    def _decisions(self, kind: SideKind | MessageKind, to: NodeId, first: Height) -> list[bytes]:
        """Return what one answer may carry; empty within the pause after the last one."""
        durable, now_us = self._life.durable, self._life.world.clock.now_us
        if not 1 <= first < durable.height:
            return []
        if now_us - self._served.get((kind, to), -HELP_PAUSE_US) < HELP_PAUSE_US:
            return []
        self._served[kind, to] = now_us
        decisions = []
        for height in range(first, min(first + DECISIONS_PER_HELP, durable.height)):
            members = durable.members_at(Height(height), self._life.world.machine)
            assert members is not None, "a committed height has a set"
            stored = durable.chain[height - 1]
            certificate = encode_certificate(stored.certificate, n=len(members.members))
            decisions.append(join_decision(stored.block, certificate))
        return decisions

    def pull_for_ever(self) -> list[Event]:
        """Ask some peer every few seconds whether there is more than is known here."""
        others = self._life.others()
        if others:
            self.pull(self._life.world.chance.choice(others))
        self._life.later(PULL_PAUSE_US, self.pull_for_ever)
        return []

    def pull(self, source: NodeId) -> None:
        """Ask one peer for the decisions that follow the own tip."""
        self._life.send(source, decisions_asked_frame(self._life.durable.height))

    def take_decision(self, source: NodeId, decision: bytes) -> list[Event]:
        """Apply a pulled decision if it is the next one and all of it holds."""
        found = self._verify(decision)
        if found is None:
            return []
        block, certificate = found
        height = certificate.height
        after = self._life.apply(certificate, block)
        if after is None:
            return []
        applied = DecisionApplied(height, after.tip, after.members, after.signers, certificate)
        entered = self._life.enter()
        if self._life.durable.height % DECISIONS_PER_HELP == 1:
            self.pull(source)
        return [applied, *entered]

    def _verify(self, decision: bytes) -> tuple[bytes, Certificate] | None:
        members = self._life.members()
        try:
            block, encoded = split_decision(decision)
            certificate = decode_certificate(encoded, n=len(members.members))
        except DecodeError:
            return None
        is_next = (
            certificate.kind is VoteKind.FINALIZE
            and certificate.height == self._life.durable.height
            and certificate.block_hash == block_hash(block)
        )
        world = self._life.world
        if not is_next or not verify_certificate(
            certificate, members, world.chain_id, world.verify
        ):
            return None
        return block, certificate
