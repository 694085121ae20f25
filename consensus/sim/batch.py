"""Many runs: on several processes, in order of seeds, with a summary at the end.

A run is named by its ``Job`` alone, so a result can always be repeated by one command line.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

from consensus.sim.cluster import Cluster, Outcome, Tell
from consensus.sim.mutants import planted
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Schedule, Signatures


@dataclass(frozen=True, slots=True)
class Job:
    """One run, fully named."""

    seed: int
    n: int
    signatures: Signatures = Signatures.KEYED
    traitors_max: int | None = None
    mutant: str | None = None
    sees_disks: bool = True

    def command(self) -> str:
        """Return the line that tells the story of this run."""
        line = f"python -m consensus.sim --seed {self.seed} --n {self.n}"
        if self.signatures is not Signatures.KEYED:
            line += f" --signatures {self.signatures.value}"
        if self.traitors_max is not None:
            line += f" --byzantine {self.traitors_max}"
        if self.mutant is not None:
            line += f" --mutant {self.mutant}"
        if not self.sees_disks:
            line += " --blind"
        return f"{line} --trace"

    def schedule(self) -> Schedule:
        """Return the plan of this run."""
        return plan(
            self.seed,
            n=self.n,
            actors=ACTOR_NAMES,
            signatures=self.signatures,
            traitors_max=self.traitors_max,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """What one job came to; small, so that processes can hand it on."""

    job: Job
    rule: str
    """Name of the rule that was broken, or nothing."""
    detail: str
    events: int
    frames: int
    heights: int
    view_max: int
    recovery_us: int
    link_bytes_per_second: int
    footprint_bytes: int
    forked: bool
    is_exempt: bool
    """Whether the log may wait for ever, so that a late end is no stall."""
    is_unfinished: bool
    digest: str
    actors: tuple[str, ...]


@dataclass(slots=True)
class Summary:
    """Sums and extremes over many results."""

    runs: int = 0
    events: int = 0
    frames: int = 0
    heights: int = 0
    view_max: int = 0
    recovery_us_max: int = 0
    link_bytes_per_second: int = 0
    footprint_bytes: int = 0
    with_traitors: int = 0
    forks: int = 0
    exempt: int = 0
    unfinished: int = 0
    actors: dict[str, int] = field(default_factory=dict)
    failures: list[Result] = field(default_factory=list)
    _recoveries: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.runs += 1
        self.events += result.events
        self.frames += result.frames
        self.heights += result.heights
        self.view_max = max(self.view_max, result.view_max)
        self.recovery_us_max = max(self.recovery_us_max, result.recovery_us)
        self.link_bytes_per_second = max(self.link_bytes_per_second, result.link_bytes_per_second)
        self.footprint_bytes = max(self.footprint_bytes, result.footprint_bytes)
        self.with_traitors += bool(result.actors)
        self.forks += result.forked
        self.exempt += result.is_exempt
        self.unfinished += result.is_unfinished
        self._recoveries.append(result.recovery_us)
        for actor in result.actors:
            self.actors[actor] = self.actors.get(actor, 0) + 1
        if result.rule:
            self.failures.append(result)

    def recovery_us(self, percent: int) -> int:
        """Return the time to drain that ``percent`` of the runs did not exceed."""
        ranked = sorted(self._recoveries)
        return ranked[min(len(ranked) - 1, len(ranked) * percent // 100)] if ranked else 0


def exempt(jobs: Iterable[Job]) -> int:
    """Return how many of ``jobs`` cannot stall, for their log may wait for ever.

    Draws the plans and runs nothing: so it can be told of a run that was made long ago.
    """
    return sum(job.schedule().may_stop for job in jobs)


def run_job(job: Job, tell: Tell | None = None) -> Outcome:
    """Run one job in this process, its mutant planted if it names one."""
    with planted(job.mutant) if job.mutant is not None else nullcontext():
        return Cluster(job.schedule(), tell, sees_disks=job.sees_disks).run()


def run_all(jobs: Iterable[Job], *, processes: int) -> Iterator[Result]:
    """Run jobs on ``processes`` processes and yield their results, in the order of the jobs."""
    if processes <= 1:
        yield from map(_result, jobs)
        return
    # Fresh interpreters: nothing that this process holds can leak into a run.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        yield from pool.imap(_result, jobs, chunksize=4)


def _result(job: Job) -> Result:
    outcome = run_job(job)
    violation = outcome.violation
    schedule = job.schedule()
    return Result(
        job=job,
        rule=violation.rule if violation else "",
        detail=violation.detail if violation else "",
        events=outcome.events,
        frames=outcome.frames,
        heights=outcome.heights,
        view_max=outcome.view_max,
        recovery_us=0 if schedule.may_stop else outcome.recovery_us,
        link_bytes_per_second=outcome.link_bytes_per_second,
        footprint_bytes=outcome.footprint_bytes,
        forked=bool(outcome.culprits),
        is_exempt=schedule.may_stop,
        is_unfinished=outcome.is_unfinished,
        digest=outcome.digest,
        actors=tuple(sorted({name for names in schedule.actors for name in names})),
    )
