"""The gate of planted bugs: how many schedules until the oracle finds each one.

A gate that lets a planted bug through is blind to the real one of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.sim.batch import Job, Result, run_all


@dataclass(frozen=True, slots=True)
class Caught:
    """The first run that showed a planted bug; ``schedules`` counts it and those before it."""

    schedules: int
    result: Result


def hunt(
    name: str,
    sizes: tuple[int, ...],
    *,
    first: int,
    budget: int,
    processes: int,
    sees_disks: bool = True,
) -> Caught | None:
    """Run schedules with the bug ``name`` planted until one is caught, at most ``budget``.

    Args:
        name: one of ``MUTANTS``.
        sizes: cluster sizes, taken in turn.
        first: the first seed.
        budget: most schedules to run.
        processes: how many run at a time.
        sees_disks: False hunts by consequences alone: see ``Oracle``.
    """
    jobs = (
        Job(
            seed=first + position // len(sizes),
            n=sizes[position % len(sizes)],
            mutant=name,
            sees_disks=sees_disks,
        )
        for position in range(budget)
    )
    results = run_all(jobs, processes=processes)
    for number, result in enumerate(results, start=1):
        if result.rule:
            return Caught(number, result)
    return None
