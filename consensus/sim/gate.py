"""The gate of planted bugs: how many schedules until the oracle finds each one.

A gate that lets a planted bug through is blind to the real one of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from consensus.sim.batch import Job, Result, run_all


@dataclass(frozen=True, slots=True)
class Caught:
    """The first run that showed a planted bug; ``schedules`` counts it and those before it."""

    schedules: int
    result: Result


def hunt(
    name: str, sizes: tuple[int, ...], *, first: int, budget: int, processes: int
) -> Caught | None:
    """Run schedules with the bug ``name`` planted until one is caught, at most ``budget``."""
    results = run_all(_jobs(name, sizes, first, budget), processes=processes)
    for number, result in enumerate(results, start=1):
        if result.rule:
            return Caught(number, result)
    return None


def _jobs(name: str, sizes: tuple[int, ...], first: int, budget: int) -> Iterator[Job]:
    for position in range(budget):
        yield Job(seed=first + position // len(sizes), n=sizes[position % len(sizes)], mutant=name)
