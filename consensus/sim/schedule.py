"""What a run is made of: everything that will go wrong in it, as plain data.

A schedule is decided before the run starts (``consensus.sim.plan`` draws it from a seed), so a run
can be told, repeated and reduced. Nothing here draws or runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from consensus.sim.network import Cut, Weather
from consensus.timing import Timing
from consensus.types import NodeId


class Signatures(Enum):
    """What signs votes: real Ed25519, or the keyed hash that stands for it."""

    REAL = "real"
    KEYED = "keyed"


@dataclass(frozen=True, slots=True)
class Outage:
    """Power loss of one node after it performed ``steps`` more effects (or parts of them).

    With ``in_write`` it waits for the next moment at which something is written but not synced.
    """

    node: NodeId
    armed_us: int
    steps: int
    down_us: int
    in_write: bool


@dataclass(frozen=True, slots=True)
class Blackout:
    """Power loss of every honest node at once, some of them inside a write."""

    at_us: int
    down_us: int


@dataclass(frozen=True, slots=True)
class Wrongness:
    """How wrong a node's clock is; the offset goes once the network has settled."""

    offset_ms: int
    settled_offset_ms: int
    timer_permille: int


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock of a node jumps to another offset, as when somebody sets it."""

    node: NodeId
    at_us: int
    offset_ms: int


class DiskTrouble(Enum):
    """What a sick disk refuses: room for anything new, or to make anything durable."""

    FULL = "full"
    SYNC_FAILS = "sync fails"


@dataclass(frozen=True, slots=True)
class SickDisk:
    """A node's disk is sick for a time; the node dies of it and is started again and again."""

    node: NodeId
    trouble: DiskTrouble
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class LostLog:
    """A node loses power, and its write-ahead log comes back cut short."""

    node: NodeId
    at_us: int
    down_us: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A node loses power, and disk and chain come back as they were at an earlier moment."""

    node: NodeId
    taken_us: int
    at_us: int
    down_us: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A client asks ``node`` for a transaction."""

    at_us: int
    node: NodeId
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run: who takes part, what goes wrong, what is asked for."""

    seed: int
    signatures: Signatures
    nodes: tuple[NodeId, ...]
    """All nodes: members of some set, or spares that only watch until they join."""
    sets: tuple[tuple[NodeId, ...], ...]
    """Member sets: the genesis set, then what each change of the set makes of it, in a circle."""
    rotations: tuple[NodeId | None, ...]
    """For each of ``sets`` the member that has a new key from then on, if any."""
    arrivals_us: tuple[int, ...]
    """When each node starts for the first time, at the latest when the network settles."""
    traitors: tuple[NodeId, ...]
    actors: tuple[tuple[str, ...], ...]
    """For each traitor the names of the fault classes that it mixes."""
    gst_us: int
    weather: Weather
    cuts: tuple[Cut, ...]
    outages: tuple[Outage, ...]
    blackouts: tuple[Blackout, ...]
    sick_disks: tuple[SickDisk, ...]
    lost_logs: tuple[LostLog, ...]
    restored: tuple[Restored, ...]
    clocks: tuple[Wrongness, ...]
    clock_jumps: tuple[ClockJump, ...]
    timing: Timing
    work: tuple[Submission, ...]

    @property
    def honest(self) -> tuple[NodeId, ...]:
        """Return the nodes that are no traitors, in order."""
        return tuple(node for node in self.nodes if node not in self.traitors)

    @property
    def has_too_many_traitors(self) -> bool:
        """Return whether no protocol could keep agreement in some set of this run."""
        return any(
            sum(node in self.traitors for node in one) > (len(one) - 1) // 3 for one in self.sets
        )

    @property
    def may_stop(self) -> bool:
        """Return whether the log may wait for ever for those who are silent for a good reason."""
        return self.has_too_many_traitors or bool(self.restored)

    @property
    def has_changes(self) -> bool:
        """Return whether the member set changes in this run."""
        return len(self.sets) > 1

    def with_one_set(self) -> Schedule:
        """Return this run with the genesis set for ever, and nobody beside it."""
        members = self.sets[0]
        troubled = {one.node for one in self.outages} | {one.node for one in self.sick_disks}
        troubled |= {one.node for one in self.clock_jumps}
        troubled |= {one.node for one in self.lost_logs} | {one.node for one in self.restored}
        assert troubled <= set(members), "trouble of others goes first"
        return replace(
            self,
            nodes=members,
            sets=(members,),
            rotations=(None,),
            arrivals_us=(0,) * len(members),
            clocks=self.clocks[: len(members)],
        )

    def without_trouble(self) -> Schedule:
        """Return this run with no cut, no crash and no clock that is wrong, in the same weather."""
        return replace(
            self,
            cuts=(),
            outages=(),
            blackouts=(),
            sick_disks=(),
            lost_logs=(),
            restored=(),
            clocks=(Wrongness(0, 0, 1_000),) * len(self.nodes),
            clock_jumps=(),
        )

    def generations(self, epoch: int) -> dict[NodeId, int]:
        """Return how often each node has rotated its key when ``epoch`` begins."""
        found: dict[NodeId, int] = {}
        for at in range(1, epoch + 1):
            node = self.rotations[at % len(self.rotations)]
            if node is not None:
                found[node] = found.get(node, 0) + 1
        return found
