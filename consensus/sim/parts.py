"""The parts of the long run: what one chunk of each does, and when a part is complete.

A chunk is a pure function of part and number, and returns ``Counts``, plain JSON. Chunks add up by
``merged``: numbers are added, except those named in ``MAXIMA``; lists are joined; tables are added
key by key.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from consensus.sim.batch import Job, run_job
from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.conspiracy import conspiracy
from consensus.sim.gate import hunt
from consensus.sim.mutants import MUTANTS
from consensus.sim.schedule import Schedule, Signatures
from consensus.sim.stage import Stage
from consensus.sim.twins import Cast

Value = int | float | str | list[str] | dict[str, int]

Counts = dict[str, Value]
"""What a chunk, or many of them, came to."""

MAXIMA: Final = frozenset(
    {"view_max", "recovery_us_max", "footprint_bytes", "link_bytes_per_second"}
)
SCHEDULES_PER_CHUNK: Final = 100
REAL_PER_CHUNK: Final = 20
FORKS_PER_CHUNK: Final = 20
SIZES: Final = (4, 7, 4, 7, 4, 7, 4, 7, 5, 10)
"""Sizes of clusters, in turn."""

CONSPIRACIES: Final = ((4, 2), (7, 3), (10, 4))
"""Members and traitors, in turn: one traitor more than can be borne."""

REAL_FIRST_SEED: Final = 1_000_000
BUDGET: Final = 800
"""Schedules for one planted bug."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the long run."""

    name: str
    counted: str
    """Which of the counts must reach ``target``."""
    target: int
    chunks_max: int
    """How many chunks there are at most."""
    run: Callable[[int], Counts] = field(repr=False)

    def scaled(self, scale: float) -> Part:
        """Return a part of the same chunks with a lower target."""
        return replace(self, target=max(1, int(self.target * scale)))

    def failures(self, counts: Counts, scale: float) -> list[str]:
        """Return what is wrong with what the part came to."""
        found = list(texts(counts, "violations"))
        part = self.scaled(scale)
        if not is_complete(part, counts):
            found.append(f"incomplete: {number(counts, self.counted)} of {part.target}")
        return found


def run_chunk(name: str, chunk: int) -> Counts:
    """Run one chunk of the part ``name`` in this process; ``cpu_s`` is what it cost."""
    part = next(one for one in PARTS if one.name == name)
    began = time.process_time()
    counts = part.run(chunk)
    return {**counts, "cpu_s": round(time.process_time() - began, 3)}


def is_complete(part: Part, counts: Counts) -> bool:
    """Say whether a part needs no further chunk."""
    return number(counts, part.counted) >= part.target


def number(counts: Counts, name: str) -> int:
    """Return one of the numbers of counts; 0 if it is not among them."""
    value = counts.get(name, 0)
    assert isinstance(value, int)
    return value


def texts(counts: Counts, name: str) -> list[str]:
    """Return one of the lists of counts; empty if it is not among them."""
    value = counts.get(name, [])
    assert isinstance(value, list)
    return value


def table(counts: Counts, name: str) -> dict[str, int]:
    """Return one of the tables of counts; empty if it is not among them."""
    value = counts.get(name, {})
    assert isinstance(value, dict)
    return value


def merged(many: Iterable[Counts]) -> Counts:
    """Return what chunks came to together."""
    total: Counts = {"violations": []}
    for counts in many:
        for name, value in counts.items():
            total[name] = _joined(name, total.get(name), value)
    return total


def _joined(name: str, one: Value | None, two: Value) -> Value:
    match one, two:
        case None, str():
            return two
        case None, dict():
            return dict(two)
        case None, list():
            return list(two)
        case None, _:
            return two
        case str(), str():
            return hashlib.blake2b((one + two).encode(), digest_size=16).hexdigest()
        case list(), list():
            return one + two
        case dict(), dict():
            for key, count in two.items():
                one[key] = one.get(key, 0) + count
            return one
        case ((int() | float()), (int() | float())):
            return max(one, two) if name in MAXIMA else one + two
        case _:
            raise TypeError(f"{name} is of two kinds")


# -- schedules ------------------------------------------------------------------------------------


def _schedules(chunk: int) -> Counts:
    first = chunk * SCHEDULES_PER_CHUNK
    return _runs(
        Job(position, SIZES[position % len(SIZES)])
        for position in range(first, first + SCHEDULES_PER_CHUNK)
    )


def _real(chunk: int) -> Counts:
    first = chunk * REAL_PER_CHUNK
    return _runs(
        Job(REAL_FIRST_SEED + position, (4, 7)[position % 2], signatures=Signatures.REAL)
        for position in range(first, first + REAL_PER_CHUNK)
    )


def _runs(jobs: Iterable[Job]) -> Counts:
    return merged(_run_counts(job.schedule(), run_job(job), job.command()) for job in jobs)


def _run_counts(schedule: Schedule, outcome: Outcome, command: str) -> Counts:
    found = outcome.violation
    actors = sorted({name for names in schedule.actors for name in names})
    # A log that may wait for ever tells nothing of how soon others are done.
    recovery_us = 0 if schedule.may_stop else outcome.recovery_us
    return {
        "runs": 1,
        "with_changes": int(schedule.has_changes),
        "with_traitors": int(bool(schedule.traitors)),
        "with_blackouts": int(bool(schedule.blackouts)),
        "with_sick_disks": int(bool(schedule.sick_disks)),
        "with_lost_logs": int(bool(schedule.lost_logs)),
        "with_images": int(bool(schedule.restored)),
        "exempt": int(schedule.may_stop),
        "unfinished": int(outcome.is_unfinished),
        "heights": outcome.heights,
        "events": outcome.events,
        "frames": outcome.frames,
        "view_max": outcome.view_max,
        "recovery_us_max": recovery_us,
        "recovery_tenths": {} if schedule.may_stop else {str(recovery_us // 100_000): 1},
        "footprint_bytes": outcome.footprint_bytes,
        "link_bytes_per_second": outcome.link_bytes_per_second,
        "by_actor": dict.fromkeys(actors, 1),
        "by_size": {str(len(schedule.sets[0])): 1},
        "digest": outcome.digest,
        "violations": [] if found is None else [f"{found.rule}: {found.detail}; {command}"],
    }


# -- twins ----------------------------------------------------------------------------------------


def _twins(cast: Cast, positions: int) -> Callable[[int], Counts]:
    def run(chunk: int) -> Counts:
        start = chunk * positions
        return merged(_played(cast, at) for at in cast.walk(start, start + positions))

    return run


def _played(cast: Cast, scenario: int) -> Counts:
    played = Stage(cast, scenario).play()
    found = played.violation
    options = f"--twins {cast.n},{cast.pairs},{cast.rounds} --seed {scenario}"
    command = f"python -m consensus.sim {options}"
    return {
        "runs": 1,
        "events": played.events,
        "frames": played.frames,
        "view_max": played.view_max,
        "digest": played.digest,
        "violations": [] if found is None else [f"{found.rule}: {found.detail}; {command}"],
    }


def _twins_part(cast: Cast, target: int, positions: int) -> Part:
    return Part(
        name=f"twins_{cast.n}_{cast.rounds}",
        counted="runs",
        target=target,
        chunks_max=-(-cast.size // positions),
        run=_twins(cast, positions),
    )


# -- forks and planted bugs -----------------------------------------------------------------------


def _forks(chunk: int) -> Counts:
    first = chunk * FORKS_PER_CHUNK
    return merged(_conspired(seed) for seed in range(first, first + FORKS_PER_CHUNK))


def _conspired(seed: int) -> Counts:
    n, traitors = CONSPIRACIES[seed % len(CONSPIRACIES)]
    schedule = conspiracy(seed, n=n, traitors=traitors)
    outcome = Cluster(schedule).run()
    found, convicted = outcome.violation, outcome.culprits
    honest = set(convicted) - set(schedule.traitors)
    is_fork = bool(convicted) or (found is not None and found.rule.startswith("fork"))
    return {
        "runs": 1,
        "forks": int(is_fork),
        "forks_by_size": {str(n): 1} if is_fork else {},
        "culprits_named": {f"{len(convicted)} of {traitors} at n = {n}": 1} if is_fork else {},
        "honest_accused": len(honest),
        "violations": [] if found is None else [f"{found}; conspiracy({seed}, n={n})"],
    }


def _planted(chunk: int) -> Counts:
    name = sorted(MUTANTS)[chunk]
    caught = hunt(name, (4, 7), first=0, budget=BUDGET, processes=1)
    if caught is None:
        return {"caught": 0, "violations": [f"{name} survived {BUDGET} schedules"]}
    return {
        "caught": 1,
        "caught_after": {name: caught.schedules},
        "violations": [],
        "caught_as": [f"{name}: {caught.result.rule}"],
    }


PARTS: Final = (
    Part("planted_bugs", "caught", len(MUTANTS), len(MUTANTS), _planted),
    Part("forks", "forks", 240, 100, _forks),
    Part("real_signatures", "runs", 500, 500 // REAL_PER_CHUNK, _real),
    _twins_part(Cast(4, 1, 2), 2_853, 1_000),
    _twins_part(Cast(4, 1, 3), 40_000, 1_000),
    _twins_part(Cast(4, 1, 4), 40_000, 1_000),
    _twins_part(Cast(7, 2, 4), 18_500, 50),
    Part("schedules", "runs", 100_000, 1_000, _schedules),
)
"""All of it, the quick parts first."""
