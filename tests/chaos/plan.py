"""Which faults come, in which order: a function of the seed alone, so that a run can be repeated.

Processes and disks keep their own time, so the same plan meets them in other moments; but every
choice that the harness makes is in here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final


class Fault(Enum):
    """What happens in an episode."""

    PARTITION = "partition"
    ONE_WAY = "one way"
    DELAY = "delay"
    LOSS = "loss"
    KILL = "kill"
    STOP = "stop"
    CLOCK = "clock"
    WAL_DAMAGE = "log damage"
    FULL_DISK = "full disk"
    TWIN = "two machines"
    ROLLING_RESTART = "rolling restart"
    SET_CHANGE = "change of the set"
    POWER_CUT = "power cut"


WEIGHTS: Final = {
    Fault.PARTITION: 5,
    Fault.ONE_WAY: 3,
    Fault.DELAY: 4,
    Fault.LOSS: 3,
    Fault.KILL: 5,
    Fault.STOP: 3,
    Fault.CLOCK: 3,
    Fault.WAL_DAMAGE: 1,
    Fault.FULL_DISK: 2,
    Fault.TWIN: 1,
    Fault.ROLLING_RESTART: 1,
    Fault.SET_CHANGE: 2,
}
"""How often each comes between two power cuts, which come at fixed places."""

SECONDS: Final = {
    Fault.PARTITION: (4.0, 20.0),
    Fault.ONE_WAY: (4.0, 20.0),
    Fault.DELAY: (6.0, 20.0),
    Fault.LOSS: (6.0, 20.0),
    Fault.KILL: (0.0, 4.0),
    Fault.STOP: (1.0, 60.0),
    Fault.CLOCK: (5.0, 20.0),
    Fault.WAL_DAMAGE: (1.0, 8.0),
    Fault.FULL_DISK: (4.0, 15.0),
    Fault.TWIN: (5.0, 15.0),
    Fault.ROLLING_RESTART: (0.0, 1.0),
    Fault.SET_CHANGE: (1.0, 5.0),
    Fault.POWER_CUT: (0.0, 3.0),
}
"""Shortest and longest time between a fault and its end."""

CUT_EVERY: Final = 2
"""Each so manyth episode is a power cut: twenty of them fit into half an hour."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault, whom it meets (in a random order), for how long, and how badly (0 to 1)."""

    number: int
    fault: Fault
    order: tuple[str, ...]
    seconds: float
    amount: float
    seed: int

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.number} {self.fault.value} {self.seconds:.1f} s, {self.order[0]} first"


def episodes(seed: int, labels: Sequence[str], *, seconds_max: float) -> Iterator[Episode]:
    """Yield episodes for ever; none is longer than ``seconds_max``."""
    rng = Random(seed)
    kinds = [fault for fault, weight in WEIGHTS.items() for _ in range(weight)]
    waiting: list[Fault] = []
    number = 0
    while True:
        number += 1
        if number % CUT_EVERY == 0:
            fault = Fault.POWER_CUT
        else:
            if not waiting:
                # Shuffled packs, not dice: every fault comes before any comes far too often.
                waiting = rng.sample(kinds, len(kinds))
            fault = waiting.pop()
        shortest, longest = SECONDS[fault]
        yield Episode(
            number=number,
            fault=fault,
            order=tuple(rng.sample(labels, len(labels))),
            seconds=min(rng.uniform(shortest, longest), seconds_max),
            amount=rng.random(),
            seed=rng.getrandbits(32),
        )
