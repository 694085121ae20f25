"""The worker's jobs: a bounded number runs at once, a bounded number is remembered.

A job is queued, runs, and is done or failed; whatever a build does, it ends in one of the two.
Jobs live in memory alone: after a restart the core asks again, and the answer is "not found".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import BuildFailure, BuildpipelinesError
from buildpipelines.spec.messages import (
    LOG_TAIL_CHARACTERS,
    BuildResult,
    JobFailure,
    JobState,
    JobStatus,
)
from buildpipelines.worker.machine import Report
from buildpipelines.worker.workspace import JobFolder, Workspace

JOBS_MAX: Final = 256
DETAIL_CHARACTERS_MAX: Final = 1000
_CANCELLED: Final = ("TIMEOUT", "cancelled", "the job was cancelled")

Work = Callable[[JobFolder, Report], Awaitable[BuildResult]]
"""What a job does, given its folder and a place to report to."""

_log = logging.getLogger(__name__)


class UnknownJobError(BuildpipelinesError):
    """No job of that name is remembered."""


class JobExistsError(BuildpipelinesError):
    """A job of that name is remembered already."""


class TooManyJobsError(BuildpipelinesError):
    """The worker remembers as many jobs as it may; forget some."""


@dataclass(slots=True)
class _Job:
    name: str
    folder: JobFolder
    report: Report
    state: JobState = "queued"
    result: BuildResult | JobFailure | None = None
    task: asyncio.Task[None] | None = None


class Jobs:
    """All jobs of one worker."""

    def __init__(self, workspace: Workspace, *, parallel: int) -> None:
        """Run up to ``parallel`` jobs at once in folders of ``workspace``."""
        self._workspace = workspace
        self._slots = asyncio.Semaphore(parallel)
        self._jobs: dict[str, _Job] = {}

    def start(self, name: str, work: Work, *, seconds_max: float) -> None:
        """Queue a job. Its time begins when it leaves the queue.

        Raises:
            JobExistsError: the name is taken.
            TooManyJobsError: the bound is reached.
        """
        if name in self._jobs:
            raise JobExistsError(f"job {name!r} exists")
        if len(self._jobs) >= JOBS_MAX:
            raise TooManyJobsError(f"{JOBS_MAX} jobs are remembered; forget some")
        job = _Job(name, self._workspace.create(name), Report())
        self._jobs[name] = job
        job.task = asyncio.create_task(self._run(job, work, seconds_max), name=f"job {name}")
        job.task.add_done_callback(lambda _: _end_unbegun(job))

    def status(self, name: str) -> JobStatus:
        """Return where a job stands; raises UnknownJobError."""
        job = self._get(name)
        return JobStatus(
            job=name,
            state=job.state,
            stage=job.report.current_stage()[:64],
            detail=job.report.detail[:DETAIL_CHARACTERS_MAX],
            log_tail=job.folder.log_tail(LOG_TAIL_CHARACTERS),
            result=job.result,
        )

    async def wait(self, name: str) -> BuildResult | JobFailure:
        """Return what a job ends with, once it has; raises UnknownJobError."""
        job = self._get(name)
        if job.task is not None:
            await asyncio.wait((job.task,))
        assert job.result is not None, "a job that has ended has a result"
        return job.result

    async def cancel(self, name: str) -> None:
        """End a job and wait until its sandbox is gone; raises UnknownJobError."""
        job = self._get(name)
        if job.task is not None and not job.task.done():
            job.task.cancel()
            await asyncio.wait((job.task,))

    async def forget(self, name: str) -> None:
        """End a job and remove its folder; raises UnknownJobError."""
        await self.cancel(name)
        job = self._jobs.pop(name, None)
        if job is not None:
            await asyncio.to_thread(self._workspace.remove, name)

    async def close(self) -> None:
        """End every job."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _get(self, name: str) -> _Job:
        job = self._jobs.get(name)
        if job is None:
            raise UnknownJobError(f"no job {name!r}")
        return job

    async def _run(self, job: _Job, work: Work, seconds_max: float) -> None:
        failure: BuildFailure | None = None
        try:
            async with self._slots:
                job.state = "running"
                async with asyncio.timeout(seconds_max):
                    job.result = await work(job.folder, job.report)
        except BuildFailure as error:
            failure = error
        except TimeoutError:
            failure = BuildFailure("TIMEOUT", "time limit", f"not done after {seconds_max:.0f} s")
        except asyncio.CancelledError:
            failure = BuildFailure(*_CANCELLED)
        except Exception as error:  # noqa: BLE001 - no build may find the error that ends us
            _log.exception("job %s", job.name)
            failure = BuildFailure("BUILD_FAILED", "worker error", repr(error))
        _end(job, failure)


def _end_unbegun(job: _Job) -> None:
    """End a job whose task was cancelled before its first step, and ran no line of its own."""
    if job.result is None:
        _end(job, BuildFailure(*_CANCELLED))


def _end(job: _Job, failure: BuildFailure | None) -> None:
    job.folder.clear_temporary()
    if failure is not None:
        job.result = JobFailure(failure.outcome, failure.cause, failure.detail)
        job.folder.note(f"{failure.outcome}: {failure.cause}")
    job.state = "done" if failure is None else "failed"
    job.report.enter(job.state)
