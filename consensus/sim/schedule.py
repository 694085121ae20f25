"""What a run is made of: everything that will go wrong in it, as plain data.

A schedule is decided before the run starts (``consensus.sim.plan`` draws it from a seed), so a run
can be told, repeated and reduced. Nothing here draws or runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    traitors: tuple[NodeId, ...]
    actors: tuple[tuple[str, ...], ...]
    """For each traitor the names of the fault classes that it mixes."""
    gst_us: int
    weather: Weather
    cuts: tuple[Cut, ...]
    outages: tuple[Outage, ...]
    blackouts: tuple[Blackout, ...]
    clocks: tuple[Wrongness, ...]
    timing: Timing
    work: tuple[Submission, ...]

    @property
    def honest(self) -> tuple[NodeId, ...]:
        """Return the nodes that are no traitors, in order."""
        return tuple(node for node in self.nodes if node not in self.traitors)

    @property
    def has_too_many_traitors(self) -> bool:
        """Return whether no protocol could keep agreement in some set of this run."""
        return any(len(self.traitors) > (len(one) - 1) // 3 for one in self.sets)
