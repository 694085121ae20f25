"""What the parts of a simulated node share: the world, who looks on, and what power cannot take.

Plain data and interfaces; nothing here acts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from consensus.effects import Record, ReportEvidence
from consensus.sim.clock import Clock, NodeClock
from consensus.sim.disk import Disk
from consensus.sim.keys import KeyFile, Verify
from consensus.sim.machine import GENESIS, Machine, State
from consensus.timing import Timing
from consensus.types import Certificate, Digest, Height, MemberSet, Message, NodeId


@dataclass(frozen=True, slots=True)
class Stored:
    """One committed block, as the durable chain keeps it."""

    name: Digest
    block: bytes
    certificate: Certificate
    transcript: tuple[Certificate, ...] | None
    """Other certificates of its height, kept against forks; None if it came by catch-up."""


class Watcher(Protocol):
    """Who looks on: the oracle for an honest node, nobody for a traitor's twin."""

    def said(self, node: NodeId, message: Message, frame: bytes, *, members: int) -> None:
        """``node`` lets go of a consensus frame under a set of ``members``."""

    def sent(self, node: NodeId, target: NodeId, size: int) -> None:
        """``node`` puts ``size`` bytes on the way to ``target``."""

    def durable(self, node: NodeId, records: tuple[Record, ...]) -> None:
        """``records`` of ``node`` are on its platter."""

    def committed(self, node: NodeId, stored: Stored, after: State, next_set: MemberSet) -> None:
        """``node`` commits a block; ``after`` is the state machine's view of the result.

        ``next_set`` is the set with which the node goes on.
        """

    def refused(self, node: NodeId, height: Height, reason: str) -> None:
        """``node`` was about to commit a block that its state machine calls invalid."""

    def accused(self, node: NodeId, report: ReportEvidence) -> None:
        """``node`` reports two statements that contradict each other."""

    def booted(
        self, node: NodeId, chain: list[Digest], records: tuple[Record, ...], *, forgot: bool
    ) -> None:
        """``node`` found this on its disk; ``forgot``: its log was damaged since."""

    def note(self, node: NodeId, text: str) -> None:
        """Something worth telling happened to ``node``."""


@dataclass(frozen=True, slots=True)
class World:
    """What every node of one run shares."""

    clock: Clock
    chance: random.Random
    machine: Machine
    chain_id: Digest
    verify: Verify
    timing: Timing
    send: Callable[[NodeId, NodeId, bytes], None]
    """Puts a frame on the network: source, target, frame."""
    slowness: Callable[[], int]
    """Factor by which building and judging bodies take longer at this moment."""
    rekeying_us: Callable[[], int]
    """How long after its key was rotated a node starts again with the new one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A silence that outlives a life: why, and from which height on to vote again, if known."""

    reason: str
    first_height: Height | None


@dataclass(slots=True)
class Durable:
    """What survives a power loss: identity, disk and chain.

    ``chain`` stands for the product's store, in which block, certificate and state change in one
    synced write: an append is all or nothing.
    """

    me: NodeId
    key: KeyFile
    clock: NodeClock
    own_keys: Callable[[], list[bytes]]
    """Returns every public key that the node has or had."""
    disk: Disk = field(default_factory=Disk)
    chain: list[Stored] = field(default_factory=list)
    mark: Mark | None = None
    is_damaged: bool = False
    """Somebody has damaged the log: it may look like lost memory."""
    is_restored: bool = False
    """An older image of disk and chain was put back; from then on nobody vouches for it."""
    is_new: bool = True
    """The node has never run: it has nothing to forget, and its keys were made just now."""

    @property
    def height(self) -> Height:
        """Return the height at which the node works."""
        return Height(len(self.chain) + 1)

    @property
    def tip(self) -> Digest:
        """Return the hash of the newest committed block."""
        return self.chain[-1].name if self.chain else GENESIS

    def members_at(self, height: Height, machine: Machine) -> MemberSet | None:
        """Return the set of a height up to the working one, or None beyond."""
        if not 1 <= height <= self.height:
            return None
        if height == self.height:
            return machine.state(self.tip).members
        return machine.state(self.chain[height - 1].name).block_members
