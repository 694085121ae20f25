"""Rebuild an image at the shell and write down what came out: ``python -m buildpipelines docker``.

One worker records, a second one with a work folder and a cache of its own replays, as two nodes
would do it. The table has a row for every part of the image; docs/rebuilds.md shows some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from buildpipelines.errors import FormatError
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    OutputFile,
    RecipeValue,
    TrialParams,
    parse_trial,
)
from buildpipelines.survey import job_result, replay_of
from buildpipelines.worker.service import Options, running

HEADER = "| part | bytes | claim | level | two nodes | what differs |\n|---|---|---|---|---|---|"
_JOB = "image"
_REMARK_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class ImageRebuild:
    """What an image gave: results, or why there is none."""

    trial: BuildResult | JobFailure
    rebuild: BuildResult | JobFailure | None

    def lines(self) -> Iterator[str]:
        """Yield the table, or one line that says why there is none."""
        if isinstance(self.trial, JobFailure):
            yield f"trial: {self.trial.outcome}: {self.trial.cause}"
            return
        yield HEADER
        for file in sorted(self.trial.files, key=_order):
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


def parse_image(text: str) -> tuple[str, str]:
    """Return (HOST/REPOSITORY, tag or digest) of ``HOST/REPOSITORY:TAG`` or ``…@sha256:HEX``.

    Raises:
        FormatError: neither.
    """
    name, at, digest = text.partition("@")
    if at:
        return name, digest
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        raise FormatError(f"{text!r:.200} is neither HOST/REPOSITORY:TAG nor …@sha256:DIGEST")
    return name, tag


async def rebuild_image(
    image: str, options: Mapping[str, RecipeValue], settings: Options
) -> ImageRebuild:
    """Record an image's build and replay it.

    Args:
        image: The published image.
        options: What only the requester knows: context, target and so on.
        settings: How the workers run.

    Raises:
        BuildFailure: this machine cannot build.
        FormatError: the image's name or an option is out of form.
    """
    name, version = parse_image(image)
    seconds = int(settings.limits.seconds)
    # Through the reader of the link, so that a shell is told what a node would be told.
    params = parse_trial(TrialParams(_JOB, "docker", name, version, seconds, options).document())
    first = replace(settings, work=settings.work / "first")
    second = replace(settings, work=settings.work / "second")
    async with running(first) as one, running(second) as other:
        one.trial(params)
        trial = await job_result(one, _JOB)
        rebuilt = None
        if isinstance(trial, BuildResult):
            other.rebuild(replay_of(trial, _JOB, seconds))
            rebuilt = await job_result(other, _JOB)
    return ImageRebuild(trial, rebuilt)


def _order(file: OutputFile) -> tuple[int, str]:
    return ("root", "config", "layer").index(file.name.partition("-")[0]), file.name
