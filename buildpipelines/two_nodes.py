"""Build at the shell as two nodes would: one worker records, a second one replays.

The second has a work folder and a cache of its own. What came out is a table with a row for every
file; docs/rebuilds.md shows some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    OutputFile,
    TrialParams,
    parse_trial,
)
from buildpipelines.survey import replay_of
from buildpipelines.worker.service import Options, running

HEADER = "| part | bytes | claim | level | two nodes | what differs |\n|---|---|---|---|---|---|"
_REMARK_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class TwoNodes:
    """What two nodes made of one request: results, or why there is none."""

    trial: BuildResult | JobFailure
    rebuild: BuildResult | JobFailure | None

    def lines(self, order: Callable[[OutputFile], tuple[int, str]]) -> Iterator[str]:
        """Yield the table, its rows by ``order``, or one line that says why there is none."""
        if isinstance(self.trial, JobFailure):
            yield f"trial: {self.trial.outcome}: {self.trial.cause}"
            return
        yield HEADER
        for file in sorted(self.trial.files, key=order):
            remark = "; ".join(file.differences[:2])[:_REMARK_CHARACTERS].replace("|", "/")
            level = "none" if file.level is None else f"L{file.level}"
            cells = [file.name, str(file.size), file.claim, level, self._agreement(file), remark]
            yield f"| {' | '.join(cells)} |"
        replayed = self.rebuild
        if isinstance(replayed, JobFailure):
            yield f"rebuild: {replayed.outcome}: {replayed.cause}"
        elif replayed is not None:
            yield f"trial {self.trial.seconds:.1f} s, rebuild {replayed.seconds:.1f} s"

    def _agreement(self, file: OutputFile) -> str:
        """Return at which level the second node made the same part: L0, L1, L2 or "differs"."""
        if not isinstance(self.rebuild, BuildResult):
            return "-"
        other = next((each for each in self.rebuild.files if each.name == file.name), None)
        for level, name in (("L0", "sha256"), ("L1", "l1"), ("L2", "l2")):
            if other is not None and getattr(other, name) == getattr(file, name):
                return level
        return "differs"


async def build_twice(params: TrialParams, settings: Options) -> TwoNodes:
    """Record a build and replay it.

    Args:
        params: What to build.
        settings: How the workers run; each gets a folder of its own below ``work``.

    Raises:
        BuildFailure: this machine cannot build.
        FormatError: a name or an option is out of form.
    """
    # Through the reader of the link, so that a shell is told what a node would be told.
    params = parse_trial(params.document())
    first = replace(settings, work=settings.work / "first")
    second = replace(settings, work=settings.work / "second")
    async with running(first) as one, running(second) as other:
        one.trial(params)
        trial = await one.jobs.wait(params.job)
        rebuilt = None
        if isinstance(trial, BuildResult):
            other.rebuild(replay_of(trial, params.job, params.seconds_max))
            rebuilt = await other.jobs.wait(params.job)
    return TwoNodes(trial, rebuilt)
