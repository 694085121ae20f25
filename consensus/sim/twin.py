"""The Twin: one key, two copies of the honest core, each believing that it is alone.

From the Twins method (OPODIS 2021): everything that Byzantine behaviour can do with consistent
local logic is two honest programs under one identity, if somebody else decides who talks to which.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Final

from consensus.effects import Record, ReportEvidence
from consensus.sim.clock import SECOND, NodeClock
from consensus.sim.faults import Actor
from consensus.sim.frames import CONSENSUS_KINDS
from consensus.sim.hand import Hand
from consensus.sim.keys import KeyFile, KeyRing
from consensus.sim.machine import State
from consensus.sim.node import Node
from consensus.sim.world import Durable, Stored, World
from consensus.types import Digest, Height, MemberSet, Message, NodeId

SHIFT_US: Final = 4 * SECOND
"""How long each honest node keeps talking to the same twin."""


class Nobody:
    """Looks on and says nothing: traitors answer to no oracle."""

    def said(self, node: NodeId, message: Message, frame: bytes, *, members: int) -> None:
        """Ignore it."""

    def sent(self, node: NodeId, target: NodeId, size: int) -> None:
        """Ignore it."""

    def durable(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """Ignore it."""

    def committed(self, node: NodeId, stored: Stored, after: State, next_set: MemberSet) -> None:
        """Ignore it."""

    def refused(self, node: NodeId, height: Height, reason: str) -> None:
        """Ignore it."""

    def accused(self, node: NodeId, report: ReportEvidence) -> None:
        """Ignore it."""

    def booted(
        self, node: NodeId, chain: list[Digest], records: tuple[Record, ...], *, forgot: bool
    ) -> None:
        """Ignore it."""

    def note(self, node: NodeId, text: str) -> None:
        """Ignore it."""


class Twin(Actor):
    """Runs two nodes under one identity; who hears which changes every few seconds."""

    def __init__(self, me: NodeId, hand: Hand, ring: KeyRing) -> None:
        super().__init__(me, hand)
        world = hand.world
        self._sides: dict[tuple[int, NodeId], int] = {}
        self._nodes = tuple(self._node(number, ring, world) for number in range(2))

    def start(self) -> None:
        """Boot both."""
        for node in self._nodes:
            node.boot()

    def received(self, source: NodeId, frame: bytes) -> None:
        """Hand consensus frames to the twins that ``source`` talks to now, all others to both."""
        side = self._side(source)
        for number, node in enumerate(self._nodes):
            if side in {number, 2} or (frame[:1] and frame[0] not in CONSENSUS_KINDS):
                node.receive(source, frame)

    def _node(self, number: int, ring: KeyRing, world: World) -> Node:
        clock = NodeClock(world.clock, offset_ms=0, timer_permille=1_000 + number * 37)
        own = replace(
            world,
            send=partial(self._send, number),
            chance=random.Random(self.hand.chance.randrange(2**32)),
        )
        durable = Durable(self.me, KeyFile(self.me, ring), clock, list)
        return Node(durable, own, Nobody(), recalls=False)

    def _send(self, number: int, source: NodeId, target: NodeId, frame: bytes) -> None:
        if self._side(target) in {number, 2}:
            self.hand.world.send(source, target, frame)

    def _side(self, node: NodeId) -> int:
        """Return which twin a node talks to now: 0, 1, or 2 for both."""
        key = (self.hand.world.clock.now_us // SHIFT_US, node)
        if key not in self._sides:
            self._sides[key] = self.hand.chance.choice((0, 0, 1, 1, 2))
        return self._sides[key]
