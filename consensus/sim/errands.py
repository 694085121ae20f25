"""What a running node asks of others and gives to them: bodies and decisions.

The product does this over its ``ask`` protocol; here it is frames on the simulated network. Whom to
ask for decisions is planned by ``consensus.catchup``. One question for a body is open per hash, it
goes to one peer after the other, and a new request starts with the next peer, so that no liar can
stand in front of the queue for ever.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from consensus.catchup import Ask, Catchup
from consensus.effects import RequestBody, ServeDecisions, StartCatchup
from consensus.errors import DecodeError
from consensus.events import BodyReceived, DecisionApplied, Event
from consensus.ingress import verify_decision
from consensus.sim.clock import SECOND
from consensus.sim.frames import (
    body_asked_frame,
    body_frame,
    decisions_asked_frame,
    decisions_frame,
    read_body_asked,
    read_decisions,
    read_height,
)
from consensus.types import Decision, Digest, Height, NodeId
from consensus.wire import MessageKind, block_hash, decode_decision, encode_decision

if TYPE_CHECKING:
    from consensus.sim.life import Life

DECISIONS_PER_HELP: Final = 4
HELP_PAUSE_US: Final = SECOND
POLL_PAUSE_US: Final = 3 * SECOND
BODY_TIMEOUT_US: Final = SECOND
DECISIONS_TIMEOUT_US: Final = 2 * SECOND


class Errands:
    """The side business of one life of one node."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._fetches: dict[Digest, list[NodeId]] = {}
        self._turns: dict[Digest, int] = {}
        self._helped: dict[NodeId, int] = {}
        self._catchup = Catchup(life.durable.height)
        self._open: Ask | None = None

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

    # -- decisions, given ---------------------------------------------------------------------

    def serve(self, effect: ServeDecisions) -> None:
        """Help a member that is behind with the decisions that it lacks (R9), once a second."""
        now_us = self._life.world.clock.now_us
        if now_us - self._helped.get(effect.to, -HELP_PAUSE_US) >= HELP_PAUSE_US:
            self._helped[effect.to] = now_us
            for decision in self._decisions(effect.first):
                self._life.send(effect.to, bytes([MessageKind.DECISION]) + decision)

    def answer_decisions(self, source: NodeId, frame: bytes) -> None:
        """Answer a peer that asks what follows its tip; nothing is an answer too."""
        asked = read_height(frame)
        if asked is not None:
            self._life.send(source, decisions_frame(self._decisions(asked[0])))

    def _decisions(self, first: Height) -> list[bytes]:
        durable = self._life.durable
        decisions = []
        for height in range(max(1, first), min(first + DECISIONS_PER_HELP, durable.height)):
            members = durable.members_at(Height(height), self._life.world.machine)
            assert members is not None, "a committed height has a set"
            stored = durable.chain[height - 1]
            decision = Decision(stored.block, stored.certificate)
            decisions.append(encode_decision(decision, n=len(members.members)))
        return decisions

    # -- decisions, sought --------------------------------------------------------------------

    def poll_for_ever(self) -> list[Event]:
        """Ask some peer every few seconds whether there is more than is known here.

        A node outside the set has no retries of its own, so it pushes what waits with it here.
        """
        if self._life.members().index_of(self._life.durable.me) is None:
            self._life.push_oldest()
        for peer in self._life.others():
            self._catchup.joined(peer)
        self._ask(self._catchup.next_ask(is_poll=True))
        self._life.later(POLL_PAUSE_US, self.poll_for_ever)
        return []

    def start_catchup(self, effect: StartCatchup) -> None:
        """Follow a hint that there is more to know."""
        self._catchup.heard(effect.source, effect.seen)
        self._ask(self._catchup.next_ask())

    def entered(self, height: Height) -> None:
        """Note that everything below ``height`` is committed, by whatever means."""
        self._catchup.applied(height)

    def _ask(self, ask: Ask | None) -> None:
        if ask is not None:
            self._open = ask
            self._life.send(ask.peer, decisions_asked_frame(ask.first))
            self._life.later(DECISIONS_TIMEOUT_US, partial(self._give_up, ask))

    def _give_up(self, ask: Ask) -> list[Event]:
        if self._open is ask:
            self._open = None
            self._catchup.failed()
            self._ask(self._catchup.next_ask())
        return []

    def take_decisions(self, source: NodeId, frame: bytes) -> list[Event]:
        """Apply as much of an answer as is next and holds."""
        if self._open is None or self._open.peer != source:
            return []
        self._open = None
        decisions = read_decisions(frame)
        if decisions is None:
            self._catchup.failed()
            return []
        before = self._life.durable.height
        events: list[Event] = []
        for decision in decisions:
            applied = self._apply(decision)
            if not applied:
                break
            events += applied
        has_progressed = self._life.durable.height > before
        if decisions and not has_progressed:  # something, and none of it held
            self._catchup.failed()
        else:
            self._catchup.answered()
        self._ask(self._catchup.next_ask(is_poll=has_progressed))
        return events

    def _apply(self, encoded: bytes) -> list[Event]:
        """Commit one decision if it is the next and all of it holds; else return nothing."""
        members, world = self._life.members(), self._life.world
        try:
            decision = decode_decision(encoded, n=len(members.members))
        except DecodeError:
            return []
        certificate = decision.certificate
        is_next = certificate.height == self._life.durable.height
        if not is_next or not verify_decision(decision, members, world.chain_id, world.verify):
            return []
        if self._life.refusal(decision.block):  # other transactions under a true header
            return []
        after = self._life.apply(certificate, decision.block)
        applied = DecisionApplied(
            certificate.height, after.tip, after.members, after.signers, certificate
        )
        return [applied, *self._life.enter()]
