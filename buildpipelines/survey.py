"""Try releases one after another and write down what came out: ``python -m buildpipelines survey``.

Each release is recorded by one worker and replayed by a second one with a work folder and a cache
of its own, as two nodes would do it. The rows are those of docs/rebuilds.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    OutputFile,
    RebuildParams,
    TrialParams,
)
from buildpipelines.worker.service import Options, running

HEADER = (
    "| release | back end | wheel | level | two nodes | trial s | rebuild s | remarks |\n"
    "|---|---|---|---|---|---|---|---|"
)
_REMARK_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Row:
    """What one release gave. ``trial`` and ``rebuild`` are results or why there is none."""

    release: str
    trial: BuildResult | JobFailure
    rebuild: BuildResult | JobFailure | None

    def agreement(self) -> str:
        """Return at which level the two builds equal each other: L0, L1, L2 or "differ"."""
        if not isinstance(self.trial, BuildResult) or not isinstance(self.rebuild, BuildResult):
            return "-"
        ours, theirs = rebuilt_file(self.trial), rebuilt_file(self.rebuild)
        for level, name in (("L0", "sha256"), ("L1", "l1"), ("L2", "l2")):
            if getattr(ours, name) == getattr(theirs, name):
                return level
        return "differ"

    def markdown(self) -> str:
        """Return the row of the table."""
        if isinstance(self.trial, JobFailure):
            return f"| {self.release} | | | {self.trial.outcome} | | | | {self.trial.cause} |"
        file = rebuilt_file(self.trial)
        pins = self.trial.recipe["constraints"]
        assert isinstance(pins, tuple)
        level = "no such file upstream" if file.level is None else f"L{file.level}"
        seconds = f"{self.rebuild.seconds:.1f}" if isinstance(self.rebuild, BuildResult) else "-"
        remark = file.differences[0][:_REMARK_CHARACTERS] if file.differences else ""
        if isinstance(self.rebuild, JobFailure):
            remark = f"rebuild: {self.rebuild.outcome}: {self.rebuild.cause}"
        tag = file.name.split("-", 2)[2].removesuffix(".whl")
        cells = [self.release, " ".join(pins) or "unpinned", tag, level, self.agreement()]
        cells += [f"{self.trial.seconds:.1f}", seconds, remark.replace("|", "/")]
        return f"| {' | '.join(cells)} |"


def rebuilt_file(result: BuildResult) -> OutputFile:
    """Return the file that a build made."""
    return next(file for file in result.files if file.claim == "rebuilt")


async def survey(releases: Sequence[str], options: Options) -> AsyncIterator[Row]:
    """Yield a row for every release of the form NAME==VERSION.

    Raises:
        BuildFailure: this machine cannot build.
    """
    first = replace(options, work=options.work / "first")
    second = replace(options, work=options.work / "second")
    async with running(first) as one, running(second) as other:
        for number, release in enumerate(releases):
            name, _, version = release.partition("==")
            job = f"release-{number}"
            seconds = int(options.limits.seconds)
            one.trial(TrialParams(job, "pypi", name, version, seconds))
            trial = await one.jobs.wait(job)
            rebuild = None
            if isinstance(trial, BuildResult):
                other.rebuild(replay_of(trial, job, seconds))
                rebuild = await other.jobs.wait(job)
                await other.jobs.forget(job)
            await one.jobs.forget(job)
            yield Row(release, trial, rebuild)


def replay_of(result: BuildResult, job: str, seconds_max: int) -> RebuildParams:
    """Return the request that replays a recorded result."""
    return RebuildParams(
        job=job,
        purl=result.purl,
        source=result.source,
        lock=result.lock,
        recipe=result.recipe,
        toolchain=result.toolchain,
        seconds_max=seconds_max,
    )
