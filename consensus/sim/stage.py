"""Plays one scenario of the Twins method with the unmodified core, and judges it by the oracle.

A round is the view that a copy is in at height 1, or, where nobody gets further, the time that has
passed. The script decides who leads it and to whom a copy's frames go while it is in that round:
what a copy says after it has learned of a certificate already falls under the next round. When the
script is over everybody hears everybody, and the honest members must finish their work.
"""

from __future__ import annotations

import hashlib
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from consensus import quorum, state
from consensus.effects import Record, ReportEvidence
from consensus.ingress import verify_certificate
from consensus.quorum import History
from consensus.sim import keys
from consensus.sim.clock import MILLISECOND, SECOND, Clock, NodeClock
from consensus.sim.keys import KeyFile
from consensus.sim.liveness import Work
from consensus.sim.machine import Machine, State, TransactionKind, transaction
from consensus.sim.node import Node
from consensus.sim.oracle import Oracle, Violation
from consensus.sim.planting import Patch, patched
from consensus.sim.trace import describe, short, stamp
from consensus.sim.twin import Nobody
from consensus.sim.twins import Cast
from consensus.sim.world import Durable, Stored, Watcher, World
from consensus.timing import Timing
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Height,
    MemberSet,
    Message,
    NodeId,
    View,
)
from consensus.wire import split_block

ROUND_US: Final = SECOND
"""A copy that is stuck in a view goes on to the next round after so long."""

DELAY_US: Final = 2 * MILLISECOND

PATIENCE_US: Final = 120 * SECOND
"""How long after the script the honest members may take to finish."""

TIMING: Final = Timing(delta_start_ms=300, delta_min_ms=300, delta_max_ms=2_000, view_max_ms=2_000)


@dataclass(frozen=True, slots=True)
class Played:
    """What a scenario came to."""

    violation: Violation | None
    frames: int
    events: int
    view_max: int
    digest: str
    """Hash over every frame delivered, with its time."""


class Stage:
    """One performance. ``play`` may be called once."""

    def __init__(self, cast: Cast, number: int, tell: Callable[[str], None] | None = None) -> None:
        self._cast = cast
        self._tell = tell
        self._rounds = cast.scenario(number)
        self._clock = Clock()
        self._names = tuple(NodeId(f"n{member}") for member in range(cast.n))
        self._keys = keys.keyed(self._names, seed=number)
        members = keys.member_set(self._names, self._keys, epoch=0)
        self._chain_id = Digest(hashlib.sha256(b"simulated stage").digest())
        honest = self._names[cast.pairs :]
        self._oracle = Oracle(
            chain_id=self._chain_id,
            genesis_set=members,
            honest=frozenset(honest),
            verify=self._keys.verify,
        )
        self._work = Work(honest)
        self._digest = hashlib.blake2b(digest_size=16)
        self._frames = self._view_max = 0
        world = World(
            clock=self._clock,
            chance=random.Random(number),
            machine=Machine(
                members, certificate_holds=self._certificate_holds, successor=lambda one: one
            ),
            chain_id=self._chain_id,
            verify=self._keys.verify,
            timing=TIMING,
            send=_nowhere,
            slowness=lambda: 1,
            rekeying_us=lambda: 0,
        )
        self._nodes = tuple(self._node(copy, world) for copy in range(cast.copies))

    def _node(self, copy: int, world: World) -> Node:
        name = self._names[self._cast.member(copy)]
        clock = NodeClock(self._clock, offset_ms=0, timer_permille=1_000)
        durable = Durable(name, KeyFile(name, self._keys.ring), clock, own_keys=list)
        own = replace(world, send=partial(self._send, copy))
        watcher: Watcher = self if self._is_honest(copy) else Nobody()
        return Node(durable, own, watcher, recalls=False)

    def _is_honest(self, copy: int) -> bool:
        return self._cast.member(copy) >= self._cast.pairs

    def play(self) -> Played:
        """Play the scenario to its end."""
        violation: Violation | None = None
        try:
            with patched((Patch(state, "leader", self._leader),)):
                self._play()
        except Violation as found:
            violation = found
        except Exception as error:  # noqa: BLE001 - whatever the core raises is a finding
            text = "".join(traceback.format_exception(error)[-4:])
            violation = Violation(f"{type(error).__name__} raised", text)
        return Played(
            violation, self._frames, self._clock.events, self._view_max, self._digest.hexdigest()
        )

    def _play(self) -> None:
        for node in self._nodes:
            node.boot()
        for copy, node in enumerate(self._nodes):
            # Each copy has work of its own, so that twins that lead propose different blocks.
            wanted = transaction(TransactionKind.PLAIN, copy)
            if self._is_honest(copy):
                self._work.submit(wanted)
            node.submit(wanted)
        end_us = len(self._rounds) * ROUND_US + PATIENCE_US
        while not self._work.is_done:
            if not self._clock.advance() or self._clock.now_us > end_us:
                raise Violation("stall", self._work.story())

    # -- the script ---------------------------------------------------------------------------

    def _leader(self, height: Height, view: View, members: MemberSet, history: History) -> NodeId:
        if height == 1 and view < len(self._rounds):
            return self._names[self._rounds[view].leader]
        return quorum.leader(height, view, members, history)

    def _round(self, copy: int) -> int:
        """Return the round that a copy is in, at or beyond the last one if the script is over."""
        life = self._nodes[copy].life
        assert life is not None, "nobody loses power on the stage"
        if life.replica.height > 1:
            return len(self._rounds)
        return max(life.replica.view, self._clock.now_us // ROUND_US)

    def _send(self, copy: int, source: NodeId, target: NodeId, frame: bytes) -> None:
        number = self._round(copy)
        parts = self._rounds[number].parts if number < len(self._rounds) else None
        for other, node in enumerate(self._nodes):
            if node.me == target and (parts is None or parts[copy] == parts[other]):
                self._frames += 1
                self._clock.after(DELAY_US, partial(self._deliver, other, source, frame))

    def _deliver(self, copy: int, source: NodeId, frame: bytes) -> None:
        self._digest.update(f"{self._clock.now_us} {source} {copy} {len(frame)} ".encode() + frame)
        node = self._nodes[copy]
        node.receive(source, frame)
        if node.life is not None:
            self._view_max = max(self._view_max, node.life.replica.view)

    def _certificate_holds(self, certificate: Certificate, members: MemberSet) -> bool:
        return verify_certificate(certificate, members, self._chain_id, self._keys.verify)

    # -- Watcher ------------------------------------------------------------------------------

    def said(self, node: NodeId, message: Message, frame: bytes, *, members: int) -> None:
        """Judge a frame that leaves an honest node."""
        if self._tell is not None:
            self._tell(f"{stamp(self._clock.now_us)}  {node:6s} {describe(message)}")
        self._oracle.frame_left(node, frame, members=members)

    def sent(self, node: NodeId, target: NodeId, size: int) -> None:
        """Count egress."""
        self._oracle.bytes_left(node, target, size, second=self._clock.now_us // SECOND)

    def durable(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """Tell the oracle what is on the platter."""
        self._oracle.became_durable(node, records)

    def committed(self, node: NodeId, stored: Stored, after: State, next_set: MemberSet) -> None:
        """Judge a commit."""
        self.note(node, f"COMMITS {after.height} {short(after.tip)}")
        assert after.parent is not None
        self._oracle.committed(
            node,
            Decision(stored.block, stored.certificate),
            parent=after.parent.tip,
            next_set=next_set,
            transcript=stored.transcript,
        )
        self._work.commit(node, split_block(stored.block).transactions)

    def refused(self, node: NodeId, height: Height, reason: str) -> None:
        """Report that an invalid block was decided."""
        raise Violation("invalid block committed", f"{node} at height {height}: {reason}")

    def accused(self, node: NodeId, report: ReportEvidence) -> None:
        """Judge evidence."""
        self._oracle.evidence(node, report)

    def booted(
        self, node: NodeId, chain: list[Digest], records: tuple[Record, ...], *, forgot: bool
    ) -> None:
        """Note the start."""
        self._oracle.restarted(node, chain, records, forgot=forgot)

    def note(self, node: NodeId, text: str) -> None:
        """Tell it."""
        if self._tell is not None:
            self._tell(f"{stamp(self._clock.now_us)}  {node:6s} {text}")


def _nowhere(source: NodeId, target: NodeId, frame: bytes) -> None:
    raise AssertionError(f"{source} sends {len(frame)} bytes to {target} past the script")
